/* The guard process (see guard.h): its jail, what the supervisor tells it, and the loop that answers. It keeps the rights of
 * the user over the files of the mounts, which it reaches through virtiofsd's descriptors only; nothing else of the file system
 * is left to it, and of all processes it sees virtiofsd and itself. virtiofsd sees it as well, and can do nothing to it but end
 * it: it is not dumpable, and belongs to the user namespace above virtiofsd's. */
#include "box/guard.h"

#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/guard_impl.h"
#include "box/helper.h"
#include "policy/gitconfig.h"

#define TEXTS_MAX 4
#define CAP(c) (1ull << (c))
#define GUARD_CAPS (CAP(CAP_DAC_OVERRIDE) | CAP(CAP_FOWNER)) /* as virtiofsd has them, for the calls that are made here */

/* What is needed after set-up: the listener, virtiofsd's memory and descriptors, and the calls that are made for it. */
static const char *const allowed_calls[] = {
        "ioctl",
        "poll",
        "ppoll",
        "read",
        "write",
        "recvfrom",
        "sendto",
        "close",
        "fcntl",
        "process_vm_readv",
        "openat",
        "readlinkat",
        "fstat",
        "newfstatat",
        "lseek",
        "symlinkat",
        "linkat",
        "renameat",
        "renameat2",
        "unlinkat",
        "brk",
        "mmap",
        "munmap",
        "mremap",
        "madvise",
        "futex",
        "getrandom",
        "gettid",
        "getpid",
        "tgkill",
        "exit",
        "exit_group",
        "rt_sigprocmask",
        "rt_sigreturn",
        "restart_syscall",
        "clock_gettime",
        "gettimeofday",
        NULL,
};

/* ---- messages */

static size_t cut(char *message, size_t len, char *texts[TEXTS_MAX]) {
        size_t n = 0;
        for (size_t at = 1; at < len && n < TEXTS_MAX; at += strlen(message + at) + 1)
                texts[n++] = message + at;
        return n;
}

/* An id that was told before was not used then. */
static void add_mount(struct guard *g, const char *id, const char *source) {
        for (size_t i = 0; i < g->n_mounts; i++) {
                if (strcmp(g->mounts[i].id, id) != 0)
                        continue;
                free(g->mounts[i].source);
                g->mounts[i].source = nb_strdup(source);
                return;
        }
        g->mounts = nb_realloc(g->mounts, g->n_mounts + 1, sizeof *g->mounts);
        g->mounts[g->n_mounts++] = (struct guard_mount){ .id = nb_strdup(id), .source = nb_strdup(source) };
}

/* Returns 1, 0 at the end, -errno. */
static int take_message(struct guard *g, struct nb_error *err) {
        char message[GUARD_MESSAGE_MAX + 1];
        char *texts[TEXTS_MAX];
        ssize_t len = recv(GUARD_FD_SUPER, message, GUARD_MESSAGE_MAX, 0);
        if (len <= 0)
                return len == 0 ? 0 : errno == EINTR ? 1 : -errno;
        message[len] = 0;
        size_t n = cut(message, (size_t)len, texts);
        switch (message[0]) {
        case GUARD_SAYS_PATTERN:
                if (n == 1)
                        nb_strv_add(&g->patterns, texts[0]);
                return 1;
        case GUARD_SAYS_MOUNT:
                if (n == 1 || n == 2)
                        add_mount(g, texts[0], n == 2 ? texts[1] : NULL);
                return 1;
        case GUARD_SAYS_ALLOW:
                if (n == 1)
                        nb_strv_add(&g->allowed, texts[0]);
                return 1;
        case GUARD_SAYS_GO: g->started = true; return protect_new(g->patterns, &g->protect, err) < 0 ? -EINVAL : 1;
        default: return -EPROTO;
        }
}

static int take_start(struct guard *g, struct nb_error *err) {
        int r = 1;
        while (r > 0 && !g->started)
                r = take_message(g, err);
        if (r <= 0 && !err->what)
                return nb_fail(err, ECHILD, "the supervisor did not say what to protect");
        return r < 0 ? r : 0;
}

/* ---- the loop */

/* What the supervisor says comes first: a mount is told before anything in it can be asked about. */
static int serve(struct guard *g, struct nb_error *err) {
        struct pollfd p[] = { { .fd = GUARD_FD_SUPER, .events = POLLIN }, { .fd = g->notify.fd, .events = POLLIN } };
        for (;;) {
                if (poll(p, NB_ARRAY_LEN(p), -1) < 0 && errno != EINTR)
                        return -errno;
                if (p[0].revents) {
                        int r = take_message(g, err);
                        if (r <= 0)
                                return r;
                } else if (p[1].revents & POLLIN) {
                        struct notify_call call;
                        int r = notify_next(&g->notify, &call);
                        if (r > 0)
                                r = notify_answer(&call, guard_decide(g, &call), 0);
                        if (r < 0)
                                return r;
                } else if (p[1].revents) {
                        return 0; /* virtiofsd is gone */
                }
        }
}

/* The only /proc it will have, made while it still may. */
static int begin(struct guard *g, struct nb_error *err) {
        int proc = jail_processes(err);
        return proc < 0 ? nb_context(err, "cannot see virtiofsd") : notify_begin(GUARD_FD_LISTENER, proc, &g->notify, err);
}

static int lock_down(struct nb_error *err, int proc_fd) {
        const int keep[] = { STDIN_FILENO,   STDOUT_FILENO, STDERR_FILENO, GUARD_FD_LISTENER,
                             GUARD_FD_SUPER, GUARD_FD_LOG,  proc_fd };
        struct jail_self self = { .keep_fds = keep,
                                  .n_keep = NB_ARRAY_LEN(keep),
                                  .allow_syscalls = allowed_calls,
                                  .keep_user = true,
                                  .keep_caps = GUARD_CAPS };
        return jail_enter_self(&self, err);
}

int guard_main(int argc, char **argv) {
        (void)argv;
        struct guard *g = nb_calloc(1, sizeof *g);
        NB_AUTO_ERROR err = { 0 };
        (void)prctl(PR_SET_NAME, "nixbox-guard", 0, 0, 0);
        nb_log_to(GUARD_FD_LOG, "guard");
        tzset(); /* not after the lock-down */
        (void)umask(0);
        for (size_t i = 0; i < GUARD_LOCKS_MAX; i++)
                g->locks[i].fd = -1;
        if (argc != 1 || begin(g, &err) < 0 || take_start(g, &err) < 0 || lock_down(&err, g->notify.proc_fd) < 0) {
                nb_log(NB_LOG_ERROR, "%s", err.what ? err.what : "started with wrong arguments");
                return 1;
        }
        int r = serve(g, &err);
        if (r < 0)
                nb_log(NB_LOG_ERROR, "%s", err.what ? err.what : strerror(-r));
        return r < 0; /* the kernel takes back the rest */
}

/* A lock of git's is a descriptor; what it writes is a config. */
const struct helper_limits guard_limits = { .memory = 256ull << 20, .files = GUARD_LOCKS_MAX + 256, .file = GITCONFIG_MAX };

int guard_spawn(const struct guard_spec *spec, struct jail_child *ret, struct nb_error *err) {
        char *argv[] = { "nixbox", "@guard", NULL };
        NB_AUTO_CLOSE int program = helper_open("/proc/self/exe", err);
        if (program < 0)
                return program;
        const struct jail_fd fds[] = { { spec->listener_fd, GUARD_FD_LISTENER },
                                       { spec->super_fd, GUARD_FD_SUPER },
                                       { spec->log_fd, GUARD_FD_LOG } };
        struct helper_spec helper = { .name = "the guard",
                                      .program = program,
                                      .argv = argv,
                                      .fds = fds,
                                      .n_fds = NB_ARRAY_LEN(fds),
                                      .fd_end = GUARD_FD_LISTENER,
                                      .limits = guard_limits,
                                      .network = -1,
                                      .among = spec->virtiofsd };
        return helper_spawn(&helper, ret, err);
}
