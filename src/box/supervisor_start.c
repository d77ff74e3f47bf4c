/* The caller's half of a start: takes the box's locks, gathers what only the caller can see (mount trees, secrets), starts
 * the supervisor and follows it until a command can run. If the caller ends, the supervisor ends the box. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/port.h"
#include "box/proxy_env.h"
#include "box/supervisor_impl.h"
#include "box/volume.h"

#define STOP_SECONDS 120  /* longer than the supervisor's own deadlines together */
#define VANISH_TRIES 1000 /* looks after the last word of a box, for its folder to go */
#define VANISH_US 10000
#define VANISH_MS 2000 /* and for its process */
#define BOOT_SECONDS_MAX 3600u
#define BOOTS_MAX 3 /* of a guest whose timers stand still, or whose kernel falls over at once (ETIME) */
#define ZONEINFO "/zoneinfo/"

/* ---- what the box is made of */

static int compare_mounts(const void *a, const void *b) {
        const struct start_mount *x = a, *y = b;
        return strcmp(x->target, y->target);
}

static int gather_volume(const struct config_volume *from, struct start_mount *to, struct nb_error *err) {
        *to = (struct start_mount){
                .target = nb_strdup(from->target), .volume = nb_strdup(from->name), .write = true, .fd = -1, .lock = -1
        };
        int r = volume_open(from->name, &to->source, &to->lock, err);
        return r < 0 ? r : share_open_tree(to->source, &to->fd, &to->is_file, err);
}

static int gather_mounts(const struct config *c, struct start_message *m, struct nb_error *err) {
        if (c->n_mounts + c->n_volumes > SUPER_MOUNTS_MAX)
                return nb_fail(err, E2BIG, "%zu mounts are more than the %u that a box can have", c->n_mounts + c->n_volumes,
                               SUPER_MOUNTS_MAX);
        m->mounts = nb_calloc(c->n_mounts + c->n_volumes + 1, sizeof *m->mounts);
        for (size_t i = 0; i < c->n_mounts; i++) {
                const struct config_mount *from = &c->mounts[i];
                struct start_mount *to = &m->mounts[i];
                *to = (struct start_mount){ .source = nb_strdup(from->source),
                                            .target = nb_strdup(from->target),
                                            .write = from->write,
                                            .fd = -1,
                                            .lock = -1 };
                m->n_mounts++;
                int r = share_open_tree(from->source, &to->fd, &to->is_file, err);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < c->n_volumes; i++) {
                int r = gather_volume(&c->volumes[i], &m->mounts[m->n_mounts++], err);
                if (r < 0)
                        return r;
        }
        /* a target inside another mount comes after it */
        qsort(m->mounts, m->n_mounts, sizeof *m->mounts, compare_mounts);
        return 0;
}

/* With the caller's own rights and before anything runs, so that a port in use is the first thing said. */
static int gather_ports(const struct config *c, struct start_message *m, struct nb_error *err) {
        if (c->n_ports > SUPER_PORTS_MAX)
                return nb_fail(err, E2BIG, "%zu published ports are more than the %u that a box can have", c->n_ports,
                               SUPER_PORTS_MAX);
        m->ports = nb_calloc(c->n_ports + 1, sizeof *m->ports);
        for (size_t i = 0; i < c->n_ports; i++) {
                const struct config_port *from = &c->ports[i];
                struct start_port *to = &m->ports[m->n_ports++];
                *to = (struct start_port){ .address = nb_strdup(from->address),
                                           .host_port = from->host_port,
                                           .guest_port = from->guest_port,
                                           .fd = -1 };
                if (port_listen(from->address, from->host_port, &to->fd, err) < 0)
                        return nb_context(err, "%s:%u:%u", from->pos.file, from->pos.line, from->pos.column);
        }
        return 0;
}

static int gather_secrets(const struct config *c, struct start_message *m, struct nb_error *err) {
        m->secrets = nb_calloc(c->n_secrets + 1, sizeof *m->secrets);
        for (size_t i = 0; i < c->n_secrets; i++) {
                const struct config_secret *secret = &c->secrets[i];
                char *value = NULL;
                size_t len = 0;
                int r = config_secret_read(secret, c, &value, &len, err);
                if (r < 0)
                        return r;
                bool text = memchr(value, 0, len) == NULL;
                if (text)
                        m->secrets[i] = nb_asprintf("%s=%.*s", secret->name, (int)len, value);
                explicit_bzero(value, len);
                free(value);
                if (!text) {
                        nb_fail(err, EINVAL, "%s:%u:%u: the secret %s holds a NUL byte, which no variable can hold",
                                secret->pos.file, secret->pos.line, secret->pos.column, secret->name);
                        return nb_hint(err, "encode it, for example with base64");
                }
                nb_strv_add(&m->secret_names, secret->name);
        }
        return 0;
}

static char *timezone_name(void) {
        const char *tz = getenv("TZ");
        if (tz && tz[0] && tz[0] != ':' && tz[0] != '/')
                return nb_strdup(tz);
        char *real = realpath("/etc/localtime", NULL);
        const char *at = real ? strstr(real, ZONEINFO) : NULL;
        char *name = nb_strdup(at ? at + strlen(ZONEINFO) : NULL);
        free(real);
        return name;
}

static void gather_person(struct start_message *m) {
        const struct passwd *pw = getpwuid(getuid());
        m->uid = getuid();
        m->gid = getgid();
        m->user = pw ? nb_strdup(pw->pw_name) : nb_asprintf("u%u", m->uid);
        m->home = nb_home_dir();
        m->timezone = timezone_name();
}

/* NIXBOX_BOOT_TIMEOUT: seconds, for hosts that are slower (or tests that are less patient) than the usual. */
static int gather_timeout(struct start_message *m, struct nb_error *err) {
        const char *text = getenv("NIXBOX_BOOT_TIMEOUT");
        uint64_t seconds = 0;
        if (text && nb_parse_uint(text, BOOT_SECONDS_MAX, &seconds) < 0) {
                nb_fail(err, EINVAL, "NIXBOX_BOOT_TIMEOUT=%s is not a number of seconds", text);
                return nb_hint(err, "unset it, or set it to something up to %u", BOOT_SECONDS_MAX);
        }
        m->boot_seconds = (unsigned)seconds;
        return 0;
}

static int gather(const struct box_start *start, struct start_message *m, struct nb_error *err) {
        const struct config *c = start->config;
        const struct image *i = start->image;
        *m = (struct start_message){
                .name = nb_strdup(start->paths->name),
                .runtime = nb_strdup(start->paths->runtime),
                .state = nb_strdup(start->paths->state),
                .control = nb_strdup(start->paths->control),
                .image = { .runtime = nb_strdup(i->runtime),
                           .vmlinux = nb_strdup(i->vmlinux),
                           .modules = nb_strdup(i->modules),
                           .initrd = nb_strdup(i->initrd),
                           .rootfs = nb_strdup(i->rootfs),
                           .digest = nb_strdup(i->digest),
                           .runtime_digest = nb_strdup(i->runtime_digest),
                           .kernel_digest = nb_strdup(i->kernel_digest),
                           .rootfs_seal = nb_strdup(i->rootfs_seal),
                           .vmlinux_seal = nb_strdup(i->vmlinux_seal),
                           .modules_seal = nb_strdup(i->modules_seal),
                           .initrd_seal = nb_strdup(i->initrd_seal),
                           .env = nb_strv_copy(i->env),
                           .workdir = nb_strdup(i->workdir) },
                .accel = { .kind = start->accel->kind, .why = nb_strdup(start->accel->why), .tsc_khz = start->accel->tsc_khz },
                .cpus = c->cpus,
                .memory = c->memory,
                .disk = c->disk,
                .disk_floor = c->disk_floor,
                .disk_file = c->disk > 0,
                .disk_persistent = c->keep_disk,
                .config_file = nb_strdup(c->file),
                .config_hash = nb_calloc(65, 1),
                .policy = policy_copy(c->policy),
                .env = nb_strv_copy(c->env),
                .protect = nb_strv_copy(c->protect),
        };
        config_hash(c, m->config_hash);
        gather_person(m);
        int r = gather_timeout(m, err);
        if (r == 0 && c->policy->mode != POLICY_OFF)
                r = proxy_settings(&m->proxy, err);
        if (r == 0)
                r = gather_ports(c, m, err);
        if (r == 0)
                r = gather_mounts(c, m, err);
        return r < 0 ? r : gather_secrets(c, m, err);
}

/* ---- the process */

static _Noreturn void exec_supervisor(const char *name, const int *fds, size_t n) {
        int lifted[8];
        NB_AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (size_t i = 0; i < n; i++)
                lifted[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 16);
        for (int fd = 0; fd < SUPER_FD_START; fd++)
                if (dup2(null, fd) < 0)
                        _exit(127);
        for (size_t i = 0; i < n; i++)
                if (lifted[i] < 0 || dup2(lifted[i], SUPER_FD_START + (int)i) < 0)
                        _exit(127);
        (void)close_range(SUPER_FD_START + (unsigned)n, ~0u, 0);
        sigset_t none;
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        /* nothing of the caller's environment: what the box is to know is in the message */
        char *const argv[] = { (char *)"nixbox", (char *)"@supervisor", (char *)name, NULL };
        char *const env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LANG=C.UTF-8", NULL };
        execve("/proc/self/exe", argv, env);
        _exit(127);
}

/* Starts it as nobody's child, in a session of its own, so that it outlives the caller and its terminal. */
static int launch(const char *name, const int *fds, size_t n, struct nb_error *err) {
        pid_t pid = fork();
        if (pid == 0) {
                (void)setsid();
                pid_t inner = fork();
                if (inner == 0)
                        exec_supervisor(name, fds, n);
                _exit(inner < 0 ? 1 : 0);
        }
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
                return nb_fail_errno(err, pid < 0 ? errno : EAGAIN, "cannot start the supervisor");
        return 0;
}

/* ---- following it */

struct follow {
        const struct box_start *start;
        int sock, signals;
        bool interrupted;
};

static int take_signal(struct follow *f) {
        struct signalfd_siginfo info;
        if (read(f->signals, &info, sizeof info) == sizeof info && !f->interrupted) {
                f->interrupted = true;
                (void)shutdown(f->sock, SHUT_WR); /* the supervisor ends the box and says when it is done */
        }
        return 0;
}

static int failed(const struct follow *f, const json_t *line, struct nb_error *err) {
        json_int_t code = json_integer_value(json_object_get(line, "failed"));
        const char *text = json_string_value(json_object_get(line, "error"));
        const char *hint = json_string_value(json_object_get(line, "hint"));
        if (f->interrupted)
                return nb_fail(err, EINTR, "interrupted; the box '%s' was not started", f->start->paths->name);
        nb_fail(err, code > 0 && code < 4096 ? (int)code : EIO, "cannot start the box '%s': %s", f->start->paths->name,
                text ? text : "unknown");
        if (hint)
                return nb_hint(err, "%s", hint);
        return nb_hint(err, "the logs are in %s", f->start->paths->state);
}

/* Runs until the line with `key` comes. */
static int follow_until(struct follow *f, const char *key, struct nb_error *err) {
        for (;;) {
                struct pollfd p[2] = { { f->sock, POLLIN, 0 }, { f->signals, POLLIN, 0 } };
                if (poll(p, 2, -1) < 0 && errno != EINTR)
                        return nb_fail_errno(err, errno, "cannot wait for the supervisor");
                if (p[1].revents)
                        (void)take_signal(f);
                if (!p[0].revents)
                        continue;
                json_t *line = NULL;
                NB_AUTO_ERROR gone = { 0 };
                if (control_read(f->sock, &line, &gone) < 0) {
                        if (f->interrupted)
                                return nb_fail(err, EINTR, "interrupted; the box '%s' was not started", f->start->paths->name);
                        nb_fail(err, ECHILD, "the supervisor of the box '%s' ended while it was starting",
                                f->start->paths->name);
                        return nb_hint(err, "the logs are in %s", f->start->paths->state);
                }
                const char *phase = json_string_value(json_object_get(line, "phase"));
                int r = json_object_get(line, key) ? 1 : json_object_get(line, "failed") ? failed(f, line, err) : 0;
                if (phase && f->start->phase)
                        f->start->phase(f->start->user, phase, (unsigned long)json_integer_value(json_object_get(line, "ms")));
                json_decref(line);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
}

/* Waits for the supervisor's last word, so that nothing is left when the caller says that the start failed. */
static void wait_for_end(struct follow *f) {
        (void)shutdown(f->sock, SHUT_WR);
        char junk[256];
        while (read(f->sock, junk, sizeof junk) > 0)
                ;
}

static int follow(struct follow *f, const sigset_t *old, struct nb_error *err) {
        int r = follow_until(f, "ready", err);
        if (r < 0 || f->interrupted) {
                wait_for_end(f);
                return r < 0 ? r : nb_fail(err, EINTR, "interrupted; the box '%s' was not started", f->start->paths->name);
        }
        if (f->start->ready) {
                sigset_t blocked;
                (void)sigprocmask(SIG_SETMASK, old, &blocked);
                r = f->start->ready(f->start->user, err);
                (void)sigprocmask(SIG_SETMASK, &blocked, NULL);
        }
        if (r == 0 && nb_write_all(f->sock, "C", 1) < 0)
                r = nb_fail(err, EPIPE, "the supervisor of the box '%s' is gone", f->start->paths->name);
        if (r < 0) {
                /* the reason, for the event log */
                NB_AUTO_FREE char *text = nb_asprintf("X%.*s", SUPER_REASON_MAX - 2, err && err->what ? err->what : "");
                (void)nb_write_all(f->sock, text, strlen(text));
                wait_for_end(f);
                return r;
        }
        return follow_until(f, "up", err);
}

static int hand_over(struct follow *f, const struct start_message *m, struct box_lock *lock, int *listener,
                     struct nb_error *err) {
        int sock[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) < 0)
                return nb_fail_errno(err, errno, "cannot make a socket for the supervisor");
        f->sock = sock[0];
        const int fds[] = { sock[1], lock->runtime, lock->state, *listener };
        int r = launch(m->name, fds, NB_ARRAY_LEN(fds), err);
        nb_close(sock[1]);
        if (r == 0)
                r = start_message_send(f->sock, m, err);
        return r;
}

static void record_failure(const struct box_paths *p, const struct nb_error *err) {
        struct events *events = NULL;
        if (events_open(p->state, p->name, &events, NULL) < 0)
                return;
        events_add(events, "error", json_pack("{s:s}", "reason", err && err->what ? err->what : "the start failed"));
        events_close(events);
}

static int start_owned(const struct box_start *start, bool again, struct box_lock *lock, struct follow *f,
                       struct nb_error *err) {
        NB_AUTO_CLOSE int listener = -1;
        struct start_message m = { 0 };
        int r = box_listen(start->paths, &listener, err);
        if (r == 0 && start->owned && !again)
                r = start->owned(start->user, err);
        if (r == 0)
                r = gather(start, &m, err);
        if (r == 0)
                r = disk_take(start, &m, err);
        if (r == 0)
                r = hand_over(f, &m, lock, &listener, err);
        start_message_clear(&m);
        if (r < 0) {
                record_failure(start->paths, err);
                if (f->sock < 0)
                        box_release(start->paths, lock);
        }
        lock->runtime = nb_close(lock->runtime);
        lock->state = nb_close(lock->state);
        return r;
}

static int start_once(const struct box_start *start, bool again, struct nb_error *err) {
        struct box_lock lock;
        int r = box_claim(start->paths, &lock, err);
        if (r == -EALREADY) {
                nb_error_clear(err);
                r = box_wait(start->paths, err);
                return r < 0 ? r : nb_fail(err, EALREADY, "the box '%s' is running already", start->paths->name);
        }
        if (r < 0)
                return r;
        sigset_t ours, old;
        sigemptyset(&ours);
        sigaddset(&ours, SIGINT);
        sigaddset(&ours, SIGTERM);
        sigaddset(&ours, SIGHUP);
        (void)sigprocmask(SIG_BLOCK, &ours, &old);
        struct follow f = { .start = start, .sock = -1, .signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK) };
        r = start_owned(start, again, &lock, &f, err);
        if (r == 0)
                r = follow(&f, &old, err);
        nb_close(f.sock);
        nb_close(f.signals);
        if (r < 0) { /* should the supervisor have been killed, its remains go now */
                enum box_state state;
                (void)box_probe(start->paths, &state, NULL);
        }
        (void)sigprocmask(SIG_SETMASK, &old, NULL);
        return r;
}

int box_start(const struct box_start *start, struct nb_error *err) {
        if (disk_check(start, err) < 0) /* before a running box is ended for nothing */
                return -err->code;
        if (start->recreate && box_stop(start->paths, false, err) < 0 && err && err->code != ENOENT)
                return -err->code;
        nb_error_clear(err);
        int r = start_once(start, false, err);
        for (unsigned boots = 1; r == -ETIME && boots < BOOTS_MAX; boots++) {
                nb_info("%s: booting again", err && err->what ? err->what : "no timers");
                nb_error_clear(err);
                r = start_once(start, true, err);
        }
        return r;
}

/* ---- waiting for others */

int box_wait(const struct box_paths *paths, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = -1;
        int r = box_connect(paths, &fd, err);
        if (r < 0)
                return r;
        json_t *request = json_pack("{s:s}", "op", "wait");
        r = control_send(fd, request, NULL, 0, err);
        json_decref(request);
        while (r == 0) {
                json_t *line = NULL;
                r = control_read(fd, &line, err);
                if (r < 0)
                        return nb_context(err, "the box '%s' was being started by another command", paths->name);
                const json_t *ok = json_object_get(line, "ok");
                const char *text = json_string_value(json_object_get(line, "error"));
                if (ok && !json_is_true(ok))
                        r = nb_fail(err, ECONNRESET, "the box '%s' was being started by another command, which failed: %s",
                                    paths->name, text ? text : "unknown");
                json_decref(line);
                if (ok)
                        return r;
        }
        return r;
}

/* The process at the other end of the control socket; -1 if it is gone already. */
static int supervisor_pidfd(int control) {
        struct ucred peer = { 0 };
        socklen_t len = sizeof peer;
        if (getsockopt(control, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0)
                return -1;
        return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

int box_stop(const struct box_paths *paths, bool keep_disk, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = -1;
        int r = box_connect(paths, &fd, err);
        if (r < 0)
                return r;
        NB_AUTO_CLOSE int supervisor = supervisor_pidfd(fd);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = STOP_SECONDS }, sizeof(struct timeval));
        json_t *request = json_pack("{s:s, s:b}", "op", "down", "keep_disk", keep_disk);
        r = control_call(fd, request, NULL, 0, NULL, err);
        json_decref(request);
        if (r == -EAGAIN) {
                nb_fail(err, ETIMEDOUT, "the supervisor of the box '%s' does not answer", paths->name);
                return nb_hint(err, "kill the process whose number is in %s/pid", paths->runtime);
        }
        if (r < 0 && r != -ECONNRESET && r != -EPIPE)
                return r;
        nb_error_clear(err);
        for (int i = 0; i < VANISH_TRIES; i++) {
                enum box_state state;
                r = box_probe(paths, &state, err);
                if (r == 0 && state == BOX_NONE) /* its folder is gone; the process follows at once */
                        (void)poll(&(struct pollfd){ .fd = supervisor, .events = POLLIN }, 1, supervisor < 0 ? 0 : VANISH_MS);
                if (r < 0 || state == BOX_NONE)
                        return r;
                (void)usleep(VANISH_US);
        }
        return nb_fail(err, EBUSY, "another command has started the box '%s' again", paths->name);
}
