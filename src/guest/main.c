/* The guest agent: PID 1 of the box. Starts the system, then serves the host: one loop, one thread, nothing in it waits. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "guest/boot.h"
#include "guest/jobs.h"
#include "guest/memory.h"
#include "guest/network.h"
#include "guest/phases.h"
#include "guest/power.h"
#include "guest/session.h"
#include "guest/share.h"
#include "guest/spawn.h"
#include "guest/system.h"

#define EVENTS_PER_TURN 64
#define OPEN_FILES 524288u
#define OUT_QUEUE_MAX (1024u * 1024u) /* then requests wait until the host has read answers */
#define FRAMES_PER_TURN 64u
#define TERM_GRACE_MS 2000u
#define KILL_GRACE_MS 1000u
#define BYE_WAIT_MS 1000u
#define STEP_NS 500000000ll /* the clock is stepped when it is this far off, else slewed */
#define CHORES_DELAY_MS 1000u
#define IGNORE_NS 2000000ll /* as much as the message may have been on its way */

enum ending { RUNNING, TERMINATING, KILLING };

struct agent {
        int epoll, signals, old_root, cgroup;
        struct port port;
        struct sessions *sessions;
        struct jobs *jobs;
        struct setup *setup;
        struct phases phases;
        bool was_set_up;
        uint64_t chores_ms; /* when to do what nobody waits for; 0: not now */
        enum ending ending;
        const char *end_reason;
        uint64_t end_ms; /* of the present step of ending */
};

void phase_end(struct phases *p, const char *name) {
        uint64_t now = nb_now_ns();
        if (p->n < PHASES_MAX) {
                p->phase[p->n].name = name;
                p->phase[p->n++].us = (now - p->last_ns) / 1000u;
        }
        p->last_ns = now;
}

static void begin_end(struct agent *a, const char *reason) {
        if (a->ending != RUNNING)
                return;
        a->ending = TERMINATING;
        a->end_reason = reason;
        a->end_ms = nb_now_ms() + TERM_GRACE_MS;
        /* interactive shells take no notice of SIGTERM; what is stopped must go on to hear it */
        (void)kill(-1, SIGTERM);
        (void)kill(-1, SIGHUP);
        (void)kill(-1, SIGCONT);
}

/* A host that does not keep to the protocol cannot be served: the box ends. */
static void protocol_error(struct agent *a, const char *what) {
        nb_log(NB_LOG_ERROR, "the host broke the protocol: %s", what);
        begin_end(a, "protocol error");
}

static void send_ready(struct agent *a, const struct nb_error *failed) {
        NB_AUTO_BUF p = { 0 };
        wire_tlv_u32(&p, WIRE_T_VERSION, WIRE_VERSION);
        if (failed) {
                NB_AUTO_FREE char *text =
                    nb_asprintf("%s%s%s", failed->what, failed->hint ? "\n" : "", failed->hint ? failed->hint : "");
                nb_log(NB_LOG_ERROR, "%s", text);
                wire_tlv_u32(&p, WIRE_T_ERRNO, (uint32_t)failed->code);
                wire_tlv_str(&p, WIRE_T_TEXT, text);
        }
        for (size_t i = 0; i < a->phases.n; i++) {
                NB_AUTO_FREE char *text =
                    nb_asprintf("%s=%llu", a->phases.phase[i].name, (unsigned long long)a->phases.phase[i].us);
                wire_tlv_str(&p, WIRE_T_PHASE, text);
        }
        wire_put(&a->port.out, WIRE_READY, 0, 0, nb_buf_bytes(&p), p.len);
}

/* In a process of its own where there can be one; *ret is the result where there cannot. */
static pid_t start_network(const struct setup *s, int *ret) {
        pid_t pid = spawn_helper();
        if (pid > 0)
                return pid;
        int r = network_raise(s);
        if (pid == 0)
                _exit(-r);
        *ret = r;
        return 0;
}

static int wait_network(pid_t pid, int result, struct nb_error *err) {
        int status = 0;
        if (pid > 0 && waitpid(pid, &status, 0) == pid)
                result = WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
        return result < 0 ? nb_fail_errno(err, -result, "setting up the network device") : 0;
}

/* What later starts cannot do without, above all who root is, is on the kept disk before anything can happen to this one. */
static void sync_root(void) {
        NB_AUTO_CLOSE int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (root < 0 || syncfs(root) < 0)
                nb_warn("cannot write the disk: %s", strerror(errno));
}

static int set_up(struct agent *a, const struct wire_frame *f, struct nb_error *err) {
        __attribute__((cleanup(setup_freep))) struct setup *s = NULL;
        int r = setup_parse(f->payload, f->len, &s, err);
        if (r == 0)
                r = system_check_timers(err);
        if (r < 0)
                return r;
        system_seed(s);
        int network_result = 0;
        pid_t network = start_network(s, &network_result);
        r = boot_root(s->disk, s->keep_disk, &a->old_root, err);
        phase_end(&a->phases, "root");
        if (r == 0)
                r = system_apply(s, a->old_root, err);
        if (r == 0 && s->keep_disk)
                sync_root();
        a->cgroup = memory_make_group();
        phase_end(&a->phases, "system");
        if (r == 0)
                r = wait_network(network, network_result, err);
        phase_end(&a->phases, "network");
        for (size_t i = 0; r == 0 && i < s->n_mounts; i++)
                r = share_mount(a->old_root, s, &s->mounts[i], err);
        phase_end(&a->phases, "mounts");
        if (r < 0)
                return r;
        a->setup = nb_steal(&s);
        a->chores_ms = nb_now_ms() + CHORES_DELAY_MS;
        struct session_host host = { .port = &a->port, .epoll = a->epoll, .cgroup = a->cgroup, .setup = a->setup };
        sessions_set(a->sessions, &host);
        return 0;
}

static void handle_setup(struct agent *a, const struct wire_frame *f) {
        NB_AUTO_ERROR err = { 0 };
        if (a->was_set_up) {
                protocol_error(a, "a second SETUP");
                return;
        }
        a->was_set_up = true;
        phase_end(&a->phases, "waiting");
        send_ready(a, set_up(a, f, &err) < 0 ? &err : NULL);
}

static void handle_time(struct agent *a, const struct wire_frame *f) {
        uint64_t host_ns;
        struct timespec now;
        if (wire_get_u64(f, &host_ns) < 0) {
                protocol_error(a, "TIME");
                return;
        }
        clock_gettime(CLOCK_REALTIME, &now);
        int64_t off = (int64_t)host_ns - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
        if (off > STEP_NS || off < -STEP_NS) {
                struct timespec to = { .tv_sec = (time_t)(host_ns / 1000000000u), .tv_nsec = (long)(host_ns % 1000000000u) };
                (void)clock_settime(CLOCK_REALTIME, &to);
        } else if (off > IGNORE_NS || off < -IGNORE_NS) {
                struct timex slew = { .modes = ADJ_OFFSET_SINGLESHOT, .offset = (long)(off / 1000) };
                (void)adjtimex(&slew);
        }
}

static void handle_frame(struct agent *a, const struct wire_frame *f) {
        NB_AUTO_BUF payload = { 0 };
        switch (f->type) {
        case WIRE_SETUP: handle_setup(a, f); break;
        case WIRE_TIME: handle_time(a, f); break;
        case WIRE_MOUNT:
        case WIRE_UNMOUNT:
        case WIRE_RECLAIM: jobs_add(a->jobs, f, a->setup, a->old_root, a->cgroup); break;
        case WIRE_STATS:
                memory_stats(&payload);
                wire_put(&a->port.out, WIRE_STATS_REPLY, 0, f->stream, nb_buf_bytes(&payload), payload.len);
                break;
        case WIRE_SHUTDOWN: begin_end(a, "shutdown"); break;
        case WIRE_READY:
        case WIRE_REPLY:
        case WIRE_STATS_REPLY:
        case WIRE_STARTED:
        case WIRE_EXIT:
        case WIRE_BYE: protocol_error(a, "a frame that only the guest sends"); break;
        default:
                if (sessions_frame(a->sessions, f) < 0)
                        protocol_error(a, "a session's frame");
        }
}

/* True if there may be more to handle at once. */
static bool serve_port(struct agent *a) {
        if (a->port.out.len >= OUT_QUEUE_MAX)
                return false;
        port_fill(&a->port);
        for (unsigned i = 0; i < FRAMES_PER_TURN && a->port.out.len < OUT_QUEUE_MAX; i++) {
                struct wire_frame f;
                int n = port_next(&a->port, &f);
                if (n < 0) {
                        protocol_error(a, "not a frame");
                        nb_buf_clear(&a->port.in);
                        port_init(&a->port, a->port.fd);
                        a->port.readable = false;
                        return false;
                }
                if (n == 0)
                        return a->port.readable;
                handle_frame(a, &f);
                port_done(&a->port, (size_t)n, f.type == WIRE_SETUP || f.type == WIRE_OPEN);
        }
        return a->port.out.len < OUT_QUEUE_MAX;
}

static void reap(struct agent *a) {
        int status;
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                if (!jobs_reaped(a->jobs, pid))
                        (void)sessions_reaped(a->sessions, pid, status);
}

static void take_signals(struct agent *a) {
        struct signalfd_siginfo info;
        while (read(a->signals, &info, sizeof info) == (ssize_t)sizeof info) {
                const char *reason = power_reason((int)info.ssi_signo);
                if (reason)
                        begin_end(a, reason);
        }
        reap(a);
}

/* Once the box has been ready for a moment, in a process of its own. Returns how long to wait at most, -1: for ever. */
static int do_chores(struct agent *a) {
        if (a->chores_ms == 0)
                return -1;
        uint64_t now = nb_now_ms();
        if (now < a->chores_ms)
                return (int)(a->chores_ms - now);
        a->chores_ms = 0;
        if (spawn_helper() == 0) {
                memory_limit_group(a->cgroup);
                boot_forget_initramfs(a->old_root);
                _exit(0);
        }
        return -1;
}

/* Moves the end on when a step's time is up or there is nobody left to wait for. Returns how long to wait at most. */
static int go_on_ending(struct agent *a) {
        uint64_t now = nb_now_ms();
        siginfo_t info;
        bool alone = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
        if (!alone && now < a->end_ms)
                return (int)(a->end_ms - now);
        if (!alone && a->ending == TERMINATING) {
                a->ending = KILLING;
                a->end_ms = now + KILL_GRACE_MS;
                (void)kill(-1, SIGKILL);
                return (int)KILL_GRACE_MS;
        }
        power_sync(); /* the host may switch the machine off as soon as it hears the farewell */
        NB_AUTO_BUF payload = { 0 };
        wire_tlv_str(&payload, WIRE_T_TEXT, a->end_reason);
        wire_put(&a->port.out, WIRE_BYE, 0, 0, nb_buf_bytes(&payload), payload.len);
        port_drain(&a->port, BYE_WAIT_MS);
        setup_free(a->setup);
        power_off(a->end_reason);
}

static void handle_event(struct agent *a, const struct epoll_event *e) {
        if (e->data.ptr == &a->port) {
                a->port.readable = a->port.readable || e->events & (EPOLLIN | EPOLLHUP);
                a->port.writable = a->port.writable || e->events & EPOLLOUT;
        } else if (e->data.ptr == &a->signals) {
                take_signals(a);
        } else {
                sessions_event(a->sessions, e->data.ptr, e->events);
        }
}

static _Noreturn void serve(struct agent *a) {
        for (bool more = true;;) {
                int wait = a->ending == RUNNING ? do_chores(a) : go_on_ending(a);
                struct epoll_event events[EVENTS_PER_TURN];
                int n = epoll_wait(a->epoll, events, EVENTS_PER_TURN, more ? 0 : wait);
                for (int i = 0; i < n; i++)
                        handle_event(a, &events[i]);
                more = serve_port(a);
                more = sessions_pump(a->sessions) || more;
                port_flush(&a->port);
                sessions_sweep(a->sessions);
                /* a box whose host has gone is nobody's */
                if (a->port.gone && a->was_set_up)
                        begin_end(a, "the host is gone");
                a->port.gone = a->port.gone && a->was_set_up;
        }
}

static void watch(struct agent *a, int fd, void *source, uint32_t events) {
        struct epoll_event e = { .events = events, .data.ptr = source };
        (void)epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &e);
}

static void prepare(struct agent *a) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        for (int sig = 1; sig <= SIGTERM; sig++)
                if (power_reason(sig))
                        sigaddset(&set, sig);
        (void)sigprocmask(SIG_BLOCK, &set, NULL);
        (void)signal(SIGPIPE, SIG_IGN);
        struct rlimit files = { .rlim_cur = OPEN_FILES, .rlim_max = OPEN_FILES };
        (void)setrlimit(RLIMIT_NOFILE, &files);
        (void)prctl(PR_SET_DUMPABLE, 0);
        (void)nb_write_string_at(AT_FDCWD, "/proc/self/oom_score_adj", "-1000");
        a->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        a->epoll = epoll_create1(EPOLL_CLOEXEC);
        watch(a, a->signals, &a->signals, EPOLLIN);
}

static _Noreturn void init(void) {
        struct agent a = { .old_root = -1, .cgroup = -1 };
        NB_AUTO_ERROR err = { 0 };
        int port = -1;
        phase_end(&a.phases, "kernel");
        boot_kernel();
        phase_end(&a.phases, "modules");
        prepare(&a);
        if (boot_open_port(&port, &err) < 0) {
                nb_error_print(&err, stderr);
                power_off("poweroff");
        }
        phase_end(&a.phases, "port");
        port_init(&a.port, port);
        watch(&a, port, &a.port, EPOLLIN | EPOLLOUT | EPOLLET);
        struct session_host host = { .port = &a.port, .epoll = a.epoll, .cgroup = -1 };
        a.sessions = sessions_new(&host);
        a.jobs = jobs_new(&a.port);
        serve(&a);
}

int main(int argc, char **argv) {
        if (argc > 0) {
                int status = power_command(argc, argv);
                if (status >= 0)
                        return status;
        }
        if (getpid() != 1) {
                fputs("nixbox-agent: runs as the first process of a box, not by hand\n", stderr);
                return 2;
        }
        init();
}
