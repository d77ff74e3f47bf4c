/* The supervisor process of one box: the way up (namespaces, share tree, virtiofsd, QEMU, SETUP, conduit), the states in
 * between, and the one way down. What it watches and what it answers live beside it, see supervisor_impl.h. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/conduit.h"
#include "box/supervisor_gateway.h"
#include "box/supervisor_impl.h"
#include "jail/userns.h"

#define LOG_LIMIT (4u * 1024u * 1024u) /* box.log, console.log: rotated once, so twice this is kept */
#define BOOT_SECONDS_KVM 60            /* from QEMU's start until the guest must have said that it is ready */
#define BOOT_SECONDS_TCG 240
#define GRACE_SECONDS_KVM 10 /* for the guest to end its sessions and power off */
#define GRACE_SECONDS_TCG 20
#define QUIT_SECONDS 3             /* for QEMU to end on request */
#define LAST_WORDS_MS 300          /* for conduit and gateway to report how things ended after QEMU has gone */
#define UNUSED_ID_BASE 1879048192u /* with the supervisor's pid added: an id for this box's jails that nobody has */
#define UNUSED_ID_STEP 4194304u    /* as many as there are pids: the next kind of process has the next block */

static bool is_tcg(const struct supervisor *s) {
        return s->m.accel.kind == ACCEL_TCG;
}

static void tell_starter(struct supervisor *s, json_t *line) {
        if (s->start_fd >= 0)
                (void)control_send(s->start_fd, line, NULL, 0, NULL);
        json_decref(line);
}

void super_phase_done(struct supervisor *s, const char *name) {
        uint64_t now = nb_now_ms();
        unsigned long ms = (unsigned long)(now - s->phase_ms);
        s->phase_ms = now;
        nb_info("%s: %lu ms", name, ms);
        tell_starter(s, json_pack("{s:s, s:I}", "phase", name, "ms", (json_int_t)ms));
        control_phase(s, name, ms);
}

/* ---- the way down */

bool super_all_dead(const struct supervisor *s) {
        for (size_t i = 0; i < CHILD_COUNT; i++)
                if (s->child[i].proc.pid > 0)
                        return false;
        return true;
}

static bool any_died(const struct supervisor *s) {
        for (size_t i = 0; i < CHILD_VITAL; i++)
                if (s->child[i].died)
                        return true;
        return false;
}

/* Those that have something to say before they go. */
static bool any_talker(const struct supervisor *s) {
        return s->child[CHILD_CONDUIT].proc.pid > 0 || s->child[CHILD_GATEWAY].proc.pid > 0;
}

static void kill_child(struct child *c) {
        if (c->proc.pid > 0)
                (void)syscall(SYS_pidfd_send_signal, c->proc.pidfd, SIGKILL, NULL, 0);
}

static void arm_end(struct supervisor *s, unsigned long ms) {
        (void)event_add(s->end_timer,
                        &(struct timeval){ .tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000) * 1000 });
}

void super_kill(struct supervisor *s) {
        bool qemu = s->child[CHILD_QEMU].proc.pid > 0;
        if (s->phase < SUPER_KILLING) {
                s->phase = SUPER_KILLING;
                egress_over(s);
                if (qemu && s->monitor) {
                        vmm_monitor_quit(s->monitor);
                        arm_end(s, QUIT_SECONDS * 1000);
                } else if (any_talker(s) && !qemu) {
                        arm_end(s, LAST_WORDS_MS);
                } else {
                        s->phase = SUPER_OVER;
                }
        } else if (!qemu && s->phase == SUPER_KILLING) {
                if (any_talker(s))
                        arm_end(s, LAST_WORDS_MS);
                else
                        s->phase = SUPER_OVER;
        }
        for (size_t i = 0; s->phase == SUPER_OVER && i < CHILD_COUNT; i++)
                kill_child(&s->child[i]);
        if (super_all_dead(s))
                (void)event_base_loopbreak(s->base);
}

static void on_end_timer(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct supervisor *s = user;
        if (s->phase == SUPER_BOOTING) {
                super_end(s, ETIMEDOUT, "the guest did not get ready in time%s%s",
                          s->last_console ? "; its console said last: " : "", s->last_console ? s->last_console : "");
        } else if (s->phase == SUPER_ENDING) {
                nb_warn("the guest did not power off in time");
                super_kill(s);
        } else if (s->phase >= SUPER_KILLING) {
                s->phase = SUPER_OVER;
                super_kill(s);
        }
}

void super_end(struct supervisor *s, int code, const char *fmt, ...) {
        if (s->reason)
                return;
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *text = nb_vasprintf(fmt, ap);
        va_end(ap);
        s->reason = nb_text_clean(text, 0);
        s->end_code = code;
        nb_info("the box ends: %s", s->reason);
        bool booting = s->phase == SUPER_BOOTING;
        s->phase = SUPER_ENDING;
        box_mark(&s->paths, &s->lock, BOX_STOPPING);
        if (booting) {
                super_kill(s);
                return;
        }
        room_end(s);
        if (!s->bye &&
            !any_died(s)) /* a broken box is switched off: its commands must not look as if they had been ended in order */
                guest_send(s, WIRE_SHUTDOWN, 0, NULL, 0);
        arm_end(s, (is_tcg(s) ? GRACE_SECONDS_TCG : GRACE_SECONDS_KVM) * 1000ul);
}

/* ---- ready */

static json_t *manifest(const struct supervisor *s) {
        json_t *secrets = json_array();
        for (size_t i = 0; s->m.secret_names && s->m.secret_names[i]; i++)
                (void)json_array_append_new(secrets, json_string(s->m.secret_names[i]));
        return json_pack("{s:s*, s:s*, s:s*, s:s*, s:s*, s:o, s:s, s:o, s:o, s:o, s:s, s:i, s:I, s:I, s:I}", "image",
                         s->m.image.digest, "runtime", s->m.image.runtime_digest, "kernel", s->m.image.kernel_digest, "config",
                         s->m.config_file, "config_hash", s->m.config_hash, "mounts", super_mounts(s), "network",
                         policy_mode_name(s->m.policy->mode), "rules", policy_words(s->m.policy), "secrets", secrets, "protect",
                         guarding_words(s), "accelerator", is_tcg(s) ? "tcg" : "kvm", "cpus", (int)s->m.cpus, "memory",
                         (json_int_t)s->m.memory, "disk", (json_int_t)s->m.disk, "ms", (json_int_t)(nb_now_ms() - s->began_ms));
}

void super_ready(struct supervisor *s) {
        if (s->phase != SUPER_BOOTING) {
                super_end(s, EPROTO, "the guest said twice that it is ready");
                return;
        }
        (void)event_del(s->end_timer);
        s->phase = SUPER_READY;
        s->ready_ms = nb_now_ms();
        s->served = share_answers(s->child[CHILD_VIRTIOFSD].proc.pid);
        watch_send_time(s); /* SETUP told the time when QEMU started */
        super_phase_done(s, "guest");
        events_add(s->events, "box.up", manifest(s));
        tell_starter(s, json_pack("{s:b}", "ready", 1));
}

static void on_starter(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct supervisor *s = user;
        char word[SUPER_REASON_MAX] = { 0 }; /* "C": all is well; "X" and a reason: it is not; nothing: the starter is gone */
        ssize_t n = read(fd, word, sizeof word - 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        (void)event_del(s->start_event);
        if (n > 0 && word[0] == 'C' && s->phase == SUPER_READY) {
                s->phase = SUPER_UP;
                box_mark(&s->paths, &s->lock, BOX_RUNNING);
                tell_starter(s, json_pack("{s:b}", "up", 1));
                s->start_fd = nb_close(s->start_fd);
                control_up(s);
        } else if (n > 1 && word[0] == 'X') {
                super_end(s, ECANCELED, "%s", word + 1);
        } else if (s->phase <= SUPER_READY) {
                super_end(s, EINTR, "the start was given up");
        }
}

/* ---- the way up */

static void on_monitor(void *user, enum vmm_event event, const char *detail) {
        struct supervisor *s = user;
        switch (event) {
        case VMM_EVENT_READY: break;
        case VMM_EVENT_SHUTDOWN: nb_info("QEMU: the guest shut down (%s)", detail ? detail : ""); break;
        case VMM_EVENT_RESET:
                if (!s->bye)
                        s->bye = nb_strdup("reboot");
                super_end(s, ESHUTDOWN, "the guest rebooted");
                super_kill(s);
                break;
        case VMM_EVENT_PANIC:
                super_end(s, EIO, "the guest's kernel panicked%s%s", s->last_console ? "; its console said last: " : "",
                          s->last_console ? s->last_console : "");
                super_kill(s);
                break;
        case VMM_EVENT_CLOSED: break; /* QEMU's death follows and says why */
        case VMM_EVENT_PROTOCOL:
                super_end(s, EPROTO, "QEMU's monitor broke the protocol (%s)", detail ? detail : "");
                super_kill(s);
                break;
        }
}

static int spawn(struct supervisor *s, enum child_role role, const char *name, struct jail_plan *plan, struct nb_error *err) {
        s->child[role].name = name;
        int r = jail_spawn(plan, &s->child[role].proc, err);
        if (r < 0)
                s->child[role].proc = (struct jail_child){ 0 };
        return r < 0 ? r : watch_child(s, role, err);
}

/* A listening socket that nobody else can reach, with QEMU's connection in its queue already. */
static int make_vhost_sockets(struct supervisor *s, int *ret_listen, int *ret_connected, struct nb_error *err) {
        NB_AUTO_CLOSE int dir = open(s->m.state, O_PATH | O_DIRECTORY | O_CLOEXEC);
        NB_AUTO_CLOSE int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        NB_AUTO_CLOSE int connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/virtiofs.sock", dir);
        if (dir < 0 || listener < 0 || connected < 0)
                return nb_fail_errno(err, errno, "cannot make virtiofsd's socket");
        (void)unlinkat(dir, "virtiofs.sock", 0);
        int r = 0;
        if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0 ||
            connect(connected, (struct sockaddr *)&address, sizeof address) < 0)
                r = nb_fail_errno(err, errno, "cannot make virtiofsd's socket in %s", s->m.state);
        (void)unlinkat(dir, "virtiofs.sock", 0);
        if (r == 0) {
                *ret_listen = nb_steal_fd(&listener);
                *ret_connected = nb_steal_fd(&connected);
        }
        return r;
}

unsigned super_unused_id(enum child_role role) {
        return UNUSED_ID_BASE + (unsigned)role * UNUSED_ID_STEP + (unsigned)getpid();
}

static int start_virtiofsd(struct supervisor *s, int *ret_connected, struct nb_error *err) {
        NB_AUTO_CLOSE int listener = -1;
        NB_AUTO_CLOSE int log = -1;
        NB_AUTO_CLOSE int asking = -1;
        int r = make_vhost_sockets(s, &listener, ret_connected, err);
        if (r == 0)
                r = guarding_begin(s, &asking, err);
        if (r == 0)
                r = capture_begin(s, CHILD_VIRTIOFSD, "virtiofsd", NULL, &log, err);
        if (r < 0)
                return r;
        struct share_daemon d = { .runtime = s->m.image.runtime,
                                  .listen_fd = listener,
                                  .guest_uid = s->m.uid,
                                  .guest_gid = s->m.gid,
                                  .log_fd = log,
                                  .listener_sock = asking,
                                  .cgroup_fd = s->cgroup.fd };
        struct jail_plan *plan = NULL;
        r = share_daemon_plan(s->share, &d, &plan, err);
        if (r == 0)
                r = spawn(s, CHILD_VIRTIOFSD, "virtiofsd", plan, err);
        if (r == 0)
                share_serves(s->share, s->child[CHILD_VIRTIOFSD].proc.pid);
        jail_plan_free(plan);
        return r < 0 ? r : guarding_start(s, err);
}

static int open_path(const char *path, int flags, struct nb_error *err) {
        int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
        return fd < 0 ? nb_fail_errno(err, errno, "cannot open %s", path) : fd;
}

static int start_qemu(struct supervisor *s, int vhost_fd, struct nb_error *err) {
        NB_AUTO_CLOSE int console = -1;
        NB_AUTO_CLOSE int log = -1;
        NB_AUTO_CLOSE int disk = -1;
        NB_AUTO_CLOSE int kvm = -1;
        NB_AUTO_CLOSE int tap = egress_take_tap(s);
        NB_AUTO_CLOSE int rootfs = image_open(s, s->m.image.rootfs, s->m.image.rootfs_seal, err);
        NB_AUTO_CLOSE int modules = rootfs < 0 ? -1 : image_open(s, s->m.image.modules, s->m.image.modules_seal, err);
        int agent[2] = { -1, -1 }, qmp[2] = { -1, -1 };
        int r = rootfs < 0 ? rootfs : modules < 0 ? modules : 0;
        if (r == 0 && s->m.disk_file) {
                NB_AUTO_FREE char *path = disk_file(&s->m);
                disk = open_path(path, O_RDWR | O_NOFOLLOW, err);
                r = disk < 0 ? disk : 0;
        }
        if (r == 0 && !is_tcg(s)) {
                kvm = open_path("/dev/kvm", O_RDWR, err);
                r = kvm < 0 ? kvm : 0;
        }
        if (r == 0)
                r = capture_begin(s, CHILD_QEMU, "qemu", NULL, &log, err);
        if (r == 0)
                r = capture_begin(s, CHILD_COUNT, "console", &s->console, &console, err);
        if (r == 0 && (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent) < 0 ||
                       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp) < 0))
                r = nb_fail_errno(err, errno, "cannot make QEMU's sockets");
        s->guest_fd = agent[0];
        struct jail_plan *plan = NULL;
        struct vmm_spec spec = { .accel = &s->m.accel,
                                 .image = &s->m.image,
                                 .cpus = s->m.cpus,
                                 .memory = s->m.memory,
                                 .rootfs_fd = rootfs,
                                 .modules_fd = modules,
                                 .disk_fd = disk,
                                 .disk_flush = s->m.disk_persistent,
                                 .agent_fd = agent[1],
                                 .console_fd = console,
                                 .qmp_fd = qmp[1],
                                 .vhost_fd = vhost_fd,
                                 .kvm_fd = kvm,
                                 .tap_fd = tap,
                                 .log_fd = log,
                                 .cgroup_fd = s->cgroup.fd,
                                 .unused_id = super_unused_id(CHILD_QEMU) };
        if (r == 0)
                r = vmm_plan(&spec, &plan, err);
        if (r == 0)
                r = spawn(s, CHILD_QEMU, "QEMU", plan, err);
        jail_plan_free(plan);
        nb_close(agent[1]);
        nb_close(qmp[1]);
        static const struct vmm_monitor_ops no_ops = { 0 };
        struct vmm_monitor_ops ops = no_ops;
        ops.event = on_monitor;
        ops.user = s;
        if (r == 0)
                r = vmm_monitor_new(s->base, qmp[0], &ops, &s->monitor, err);
        else
                nb_close(qmp[0]);
        return r;
}

static int start_conduit(struct supervisor *s, struct nb_error *err) {
        int super[2] = { -1, -1 }, clients[2] = { -1, -1 };
        NB_AUTO_CLOSE int log = -1;
        int r = capture_begin(s, CHILD_CONDUIT, "conduit", NULL, &log, err);
        if (r == 0 && (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, super) < 0 ||
                       socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, clients) < 0))
                r = nb_fail_errno(err, errno, "cannot make the conduit's sockets");
        s->super_fd = super[0];
        s->clients_fd = clients[0];
        struct conduit_spec spec = { .guest_fd = s->guest_fd,
                                     .super_fd = super[1],
                                     .clients_fd = clients[1],
                                     .log_fd = log,
                                     .unused_id = super_unused_id(CHILD_CONDUIT) };
        s->child[CHILD_CONDUIT].name = "the conduit";
        if (r == 0)
                r = conduit_spawn(&spec, &s->child[CHILD_CONDUIT].proc, err);
        if (r == 0)
                r = watch_child(s, CHILD_CONDUIT, err);
        nb_close(super[1]);
        nb_close(clients[1]);
        s->guest_fd = nb_close(s->guest_fd);
        if (r == 0)
                (void)nb_set_nonblock(s->clients_fd, true);
        /* all children run: no namespace has to be made any more, and nobody of the same user needs to look in here */
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        return r < 0 ? r : guest_begin(s, err);
}

/* SETUP goes into the guest's channel; when all of it is in, the conduit takes over. */
static void on_setup_writable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct supervisor *s = user;
        ssize_t n = write(fd, nb_buf_bytes(&s->setup), s->setup.len);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n > 0)
                nb_buf_consume(&s->setup, (size_t)n);
        if (n > 0 && s->setup.len > 0)
                return;
        (void)event_del(s->setup_event);
        nb_buf_wipe(&s->setup);
        if (n < 0 || s->phase != SUPER_BOOTING)
                return; /* QEMU is gone: its death says why */
        NB_AUTO_ERROR err = { 0 };
        if (start_conduit(s, &err) < 0)
                super_end(s, err.code, "%s", err.what);
}

static int begin_setup(struct supervisor *s, struct nb_error *err) {
        int r = setup_build(s, &s->setup, err);
        start_message_wipe_secrets(&s->m);
        if (r < 0)
                return r;
        (void)nb_set_nonblock(s->guest_fd, true);
        s->setup_event = event_new(s->base, s->guest_fd, EV_WRITE | EV_PERSIST, on_setup_writable, s);
        if (!s->setup_event || event_add(s->setup_event, NULL) < 0)
                return nb_fail(err, ENOMEM, "cannot watch the guest's channel");
        on_setup_writable(s->guest_fd, EV_WRITE, s);
        return 0;
}

static int make_share(struct supervisor *s, struct nb_error *err) {
        NB_AUTO_FREE char *dir = nb_path_join(s->m.state, "share");
        if (mkdir(dir, 0700) < 0 && errno != EEXIST)
                return nb_fail_errno(err, errno, "cannot make the folder %s", dir);
        int r = share_new(dir, &s->share, err);
        for (size_t i = 0; r == 0 && i < s->m.n_mounts; i++) {
                struct start_mount *m = &s->m.mounts[i];
                r = share_attach(s->share, nb_steal_fd(&m->fd), m->is_file, m->write, m->id, err);
                if (r == 0)
                        r = room_begin(s, m, err);
                if (r < 0)
                        (void)nb_context(err, "mount %s", m->source);
        }
        return r;
}

static int open_logs(struct supervisor *s, struct nb_error *err) {
        int r = log_file_open(&s->log, s->m.state, "box.log", LOG_LIMIT, err);
        if (r == 0)
                r = log_file_open(&s->console, s->m.state, "console.log", LOG_LIMIT, err);
        if (r < 0)
                return r;
        nb_log_to(s->log.fd, "supervisor");
        nb_log_set_level(NB_LOG_INFO);
        return events_open(s->m.state, s->m.name, &s->events, err);
}

/* A namespace of its own for mounts, so that nothing the box mounts is seen outside, while what the host mounts and unmounts
 * later is seen inside. */
static int own_namespaces(struct nb_error *err) {
        int r = userns_enter(CLONE_NEWNS | CLONE_NEWIPC, err);
        if (r == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) {
                nb_fail_errno(err, errno, "cannot make the mount namespace private");
                r = userns_hint(err);
        }
        return r;
}

static int begin_loop(struct supervisor *s, struct nb_error *err) {
        s->base = event_base_new();
        if (!s->base)
                return nb_fail(err, ENOMEM, "cannot make an event loop");
        s->end_timer = evtimer_new(s->base, on_end_timer, s);
        (void)nb_set_nonblock(s->start_fd, false);
        s->start_event = event_new(s->base, s->start_fd, EV_READ | EV_PERSIST, on_starter, s);
        if (!s->end_timer || !s->start_event || event_add(s->start_event, NULL) < 0)
                return nb_fail(err, ENOMEM, "cannot watch the starting command");
        int r = watch_begin(s, err);
        return r < 0 ? r : control_begin(s, err);
}

static int boot(struct supervisor *s, struct nb_error *err) {
        NB_AUTO_CLOSE int vhost = -1;
        int r = own_namespaces(err);
        if (r == 0)
                r = image_mark(s, err);
        if (r == 0)
                r = room_cgroup(s, err);
        if (r == 0)
                r = begin_loop(s, err);
        if (r < 0)
                return r;
        super_phase_done(s, "namespaces");
        r = egress_begin(s, err);
        if (r < 0)
                return r;
        if (s->egress)
                super_phase_done(s, "network");
        r = make_share(s, err);
        if (r < 0)
                return r;
        super_phase_done(s, "mounts");
        r = start_virtiofsd(s, &vhost, err);
        if (r < 0)
                return r;
        super_phase_done(s, "virtiofsd");
        r = disk_prepare(s, err);
        if (r < 0)
                return r;
        if (s->m.disk_file)
                super_phase_done(s, "disk");
        r = egress_wait(s, err); /* it has had the time of all of this to get ready */
        if (r < 0)
                return r;
        if (s->egress)
                super_phase_done(s, "gateway");
        r = start_qemu(s, vhost, err);
        if (r == 0)
                r = begin_setup(s, err);
        if (r < 0)
                return r;
        super_phase_done(s, "qemu");
        unsigned usual = is_tcg(s) ? BOOT_SECONDS_TCG : BOOT_SECONDS_KVM;
        arm_end(s, (s->m.boot_seconds ? s->m.boot_seconds : usual) * 1000ul);
        return 0;
}

/* ---- the end */

static void finish(struct supervisor *s, const struct nb_error *err) {
        guest_free(s);
        egress_free(s);
        for (size_t i = 0; i < NB_ARRAY_LEN(s->capture); i++)
                capture_free(&s->capture[i]);
        vmm_monitor_free(s->monitor);
        watch_free(s);
        guarding_free(s);
        share_free(s->share);
        cgroup_remove(&s->cgroup);
        if (s->ready_ms ? s->keep_disk : s->m.disk_kept)
                disk_put_by(&s->m);
        if (s->events) {
                bool up = s->ready_ms != 0;
                json_t *fields = json_pack("{s:s}", "reason", s->reason);
                if (up)
                        (void)json_object_set_new(fields, "ms", json_integer((json_int_t)(nb_now_ms() - s->ready_ms)));
                events_add(s->events, up ? "box.down" : "error", fields);
        }
        nb_info("the box has ended: %s", s->reason);
        box_release(&s->paths, &s->lock);
        if (s->start_fd >= 0)
                tell_starter(s, json_pack("{s:i, s:s, s:s*}", "failed", s->end_code ? s->end_code : EIO, "error", s->reason,
                                          "hint", err->hint));
        control_over(s);
        control_free(s);
        events_close(s->events);
}

static void prepare_process(void) {
        (void)umask(077);
        if (chdir("/") < 0)
                _exit(1);
        for (int signal_number = SIGHUP; signal_number <= SIGQUIT; signal_number++)
                (void)signal(signal_number, SIG_IGN);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        (void)jail_no_core(NULL);
        struct rlimit files;
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
                files.rlim_cur = files.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &files);
        }
        const int fds[] = { SUPER_FD_START, SUPER_FD_LOCK, SUPER_FD_STATE, SUPER_FD_CONTROL };
        for (size_t i = 0; i < NB_ARRAY_LEN(fds); i++)
                (void)fcntl(fds[i], F_SETFD, FD_CLOEXEC);
}

int supervisor_main(void) {
        struct supervisor *s = nb_calloc(1, sizeof *s);
        NB_AUTO_ERROR err = { 0 };
        prepare_process();
        s->start_fd = SUPER_FD_START;
        s->control_fd = SUPER_FD_CONTROL;
        s->lock = (struct box_lock){ .runtime = SUPER_FD_LOCK, .state = SUPER_FD_STATE };
        s->guest_fd = s->super_fd = s->clients_fd = s->clock_fd = s->place_fd = s->log.fd = s->console.fd = s->cgroup.fd = -1;
        s->began_ms = s->phase_ms = nb_now_ms();
        TAILQ_INIT(&s->clients);
        TAILQ_INIT(&s->requests);
        TAILQ_INIT(&s->sessions);
        int r = start_message_receive(s->start_fd, &s->m, &err);
        if (r < 0)
                return 1; /* the starter died before it had said anything; the next command clears what it left */
        s->paths =
            (struct box_paths){ .name = s->m.name, .runtime = s->m.runtime, .state = s->m.state, .control = s->m.control };
        r = open_logs(s, &err);
        if (r == 0) {
                box_mark(&s->paths, &s->lock, BOX_STARTING);
                r = boot(s, &err);
        }
        if (r < 0)
                super_end(s, err.code, "%s", err.what);
        if (s->base && !(s->reason && super_all_dead(s)))
                (void)event_base_dispatch(s->base);
        finish(s, &err);
        return 0;
}
