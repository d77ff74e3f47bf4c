/* Where packages' scripts run (see stage.h). The child of userns_start() makes the namespaces and waits; its own child is
 * pid 1 in them, puts the file system together and runs the body. Each of them is killed when the one before it ends. */
#include "jail/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "jail/jail_internal.h"

#define HOST_NAME "box"
#define CAP(c) (1ull << (c))
/* What installing packages takes. Nothing over mounts, the network, the kernel or other processes' memory. */
#define SCRIPT_CAPS                                                                                                    \
        (CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_FOWNER) | CAP(CAP_FSETID) |       \
         CAP(CAP_KILL) | CAP(CAP_SETGID) | CAP(CAP_SETUID) | CAP(CAP_SETPCAP) | CAP(CAP_SYS_CHROOT) | CAP(CAP_MKNOD) | \
         CAP(CAP_SETFCAP))
#define SAY_FAILED "!" /* begins a line that tells of the end: code, what, hint, separated by \x1f */
#define SAY_DONE "."
#define LINE_LENGTH_MAX 8192u

struct inner {
        const struct stage *stage;
        int say_fd;
};

static int attach_file(int root, const char *from, const char *to, uint64_t attr, struct nb_error *err) {
        NB_AUTO_CLOSE int tree = open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        NB_AUTO_CLOSE int place = openat(root, to, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (tree < 0 || place < 0)
                return nb_fail_errno(err, errno, "cannot show %s to the builder", from);
        int r = attr ? jail_restrict_mount(tree, false, attr, MS_PRIVATE) : 0;
        if (r == 0 && move_mount(tree, "", root, to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                r = -errno;
        return r < 0 ? nb_fail_errno(err, -r, "cannot show %s to the builder", from) : 0;
}

/* A few devices, and the packages. */
static int fill_dev(const struct stage *s, int root, struct nb_error *err) {
        static const char *const devices[] = { "null", "zero", "full", "random", "urandom" };
        static const char *const links[][2] = {
                { "/proc/self/fd", "dev/fd" },
                { "/proc/self/fd/0", "dev/stdin" },
                { "/proc/self/fd/1", "dev/stdout" },
                { "/proc/self/fd/2", "dev/stderr" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(devices); i++) {
                NB_AUTO_FREE char *from = nb_asprintf("/dev/%s", devices[i]);
                int r = attach_file(root, from, from + 1, 0, err);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(links); i++)
                if (symlinkat(links[i][0], root, links[i][1]) < 0)
                        return nb_fail_errno(err, errno, "cannot make /%s", links[i][1]);
        if (mkdirat(root, "dev/shm", 01777) < 0 || fchmodat(root, "dev/shm", 01777, 0) < 0 ||
            mkdirat(root, &STAGE_FILES[1], 0755) < 0)
                return nb_fail_errno(err, errno, "cannot make " STAGE_FILES);
        uint64_t attr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        for (size_t i = 0; i < s->n_files; i++) {
                NB_AUTO_FREE char *to = nb_asprintf(STAGE_FILES "/%s", s->files[i].name);
                int r = attach_file(root, s->files[i].path, to + 1, attr, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int attach_new(int root, const char *type, const char *const *options, const char *to, struct nb_error *err) {
        NB_AUTO_CLOSE int fs = jail_new_mount(type, options, MOUNT_ATTR_NOSUID, err);
        if (fs < 0)
                return fs;
        if ((mkdirat(root, to, 0755) < 0 && errno != EEXIST) || move_mount(fs, "", root, to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return nb_fail_errno(err, errno, "cannot attach /%s", to);
        return 0;
}

static int enter_root(const struct stage *s, struct nb_error *err) {
        static const char *const dev[] = { "mode", "0755", NULL };
        NB_AUTO_CLOSE int root = open_tree(AT_FDCWD, s->root, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (root < 0)
                return nb_fail_errno(err, errno, "cannot open %s", s->root);
        int r = jail_attach_root(root, err);
        if (r == 0)
                r = attach_new(root, "proc", NULL, "proc", err);
        if (r == 0)
                r = attach_new(root, "tmpfs", dev, "dev", err);
        if (r == 0)
                r = fill_dev(s, root, err);
        return r == 0 ? jail_change_root(root, err) : r;
}

static int take_output(int log_fd) {
        NB_AUTO_CLOSE int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0)
                return -errno;
        return 0;
}

static int prepare(const struct stage *s, struct nb_error *err) {
        (void)umask(022); /* before anything is made inside */
        int r = jail_tether(err);
        if (r == 0)
                r = enter_root(s, err);
        if (r < 0)
                return r;
        r = take_output(s->log_fd);
        if (r < 0 || sethostname(HOST_NAME, strlen(HOST_NAME)) < 0)
                return nb_fail_errno(err, r < 0 ? -r : errno, "cannot set the builder's name");
        (void)setsid();
        return 0;
}

/* An error's texts are one line each by their own rules; whatever is not becomes a blank. */
static void say_end(int fd, int r, const struct nb_error *err) {
        NB_AUTO_FREE char *line = r == 0 ? nb_strdup(SAY_DONE "\n")
                                         : nb_asprintf(SAY_FAILED "%d\x1f%.2000s\x1f%.1000s\n", err->code ? err->code : EIO,
                                                       err->what ? err->what : "", err->hint ? err->hint : "");
        for (char *c = line; c[0] && c[1]; c++)
                if (*c == '\n')
                        *c = ' ';
        (void)nb_write_all(fd, line, strlen(line));
}

static _Noreturn void first_main(const struct inner *in) {
        struct nb_error err = { 0 };
        int r = prepare(in->stage, &err);
        if (r == 0)
                r = in->stage->body(in->stage->user, in->say_fd, &err);
        say_end(in->say_fd, r, &err);
        _exit(r < 0 ? 1 : 0);
}

static int make_first(void *user) {
        const struct inner *in = user;
        pid_t pid = fork();
        if (pid == 0)
                first_main(in);
        nb_close(in->say_fd);
        return pid < 0 ? 127 : userns_wait(pid) == 0 ? 0 : 1;
}

/* True at a line that tells of the end. */
static bool take_end(char *line, bool *ret_done, struct nb_error *err) {
        if (strcmp(line, SAY_DONE) == 0)
                *ret_done = true;
        if (line[0] != SAY_FAILED[0])
                return *ret_done;
        char *rest = line + 1;
        const char *code = strsep(&rest, "\x1f"), *what = strsep(&rest, "\x1f"), *hint = strsep(&rest, "\x1f");
        int number = (int)strtol(code, NULL, 10);
        nb_fail(err, number > 0 ? number : EIO, "%s", what ? what : "the builder failed");
        if (hint && *hint)
                nb_hint(err, "%s", hint);
        return true;
}

/* Hears the lines until everything inside has ended. Returns 0 if the body said that all is well. */
static int hear(const struct stage *s, int fd, struct nb_error *err) {
        NB_AUTO_FCLOSE FILE *in = fdopen(fd, "r");
        if (!in) {
                nb_close(fd);
                return nb_fail_errno(err, errno, "cannot hear from the builder");
        }
        NB_AUTO_FREE char *line = nb_calloc(1, LINE_LENGTH_MAX);
        bool done = false, ended = false;
        while (fgets(line, LINE_LENGTH_MAX, in)) {
                line[strcspn(line, "\n")] = 0;
                if (!ended)
                        ended = take_end(line, &done, err);
                if (!ended && s->heard)
                        s->heard(s->user, line);
        }
        if (!ended)
                return nb_fail(err, ECHILD, "the builder was killed");
        return done ? 0 : err ? -err->code : -EIO;
}

int stage_run(const struct stage *s, struct nb_error *err) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return nb_fail_errno(err, errno, "cannot make a pipe");
        struct inner in = { s, ends[1] };
        struct userns_child child = { .ids = s->ids,
                                      .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
                                      .body = make_first,
                                      .user = &in };
        pid_t pid = -1;
        int r = userns_start(&child, &pid, err);
        nb_close(ends[1]);
        if (r < 0) {
                nb_close(ends[0]);
                return r;
        }
        r = hear(s, ends[0], err);
        (void)userns_wait(pid);
        return r;
}

struct program {
        char *const *argv, *const *env;
        int pass_fd;
        const struct stage_watch *watch;
        struct sock_fprog filter;
        int sock; /* the child's end; -1: nobody watches */
};

/* Under the watcher's filter, and its descriptor sent to pid 1. */
static int enter_watch(const struct program *p, struct nb_error *err) {
        int fd = -1;
        int r = p->watch->enter(&fd, err);
        if (r == 0 && nb_send_fds(p->sock, "", 1, &fd, 1) != 1)
                r = nb_fail_errno(err, errno, "cannot be watched");
        nb_close(fd);
        return r;
}

static _Noreturn void exec_child(const struct program *p) {
        struct nb_error err = { 0 };
        int r = p->pass_fd >= 0 && fcntl(p->pass_fd, F_SETFD, 0) < 0 ? -1 : 0;
        if (r == 0)
                r = jail_drop_privileges(SCRIPT_CAPS, &err);
        if (r == 0)
                r = jail_filter_load(&p->filter, &err);
        if (r == 0 && p->watch)
                r = enter_watch(p, &err);
        if (r == 0)
                execve(p->argv[0], p->argv, p->env);
        dprintf(STDERR_FILENO, "cannot run %s: %s\n", p->argv[0], err.what ? err.what : strerror(errno));
        _exit(127);
}

static int serve(const struct program *p, int sock, pid_t pid, struct nb_error *err) {
        NB_AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        char byte;
        int fd = -1;
        size_t n = 1;
        if (pidfd < 0)
                return nb_fail_errno(err, errno, "cannot watch %s", p->argv[0]);
        if (nb_recv_fds(sock, &byte, 1, &fd, &n) != 1 || n != 1)
                return 0; /* it has ended, and said why */
        return p->watch->serve(fd, pidfd, err);
}

static int reap(pid_t pid, int *ret_status) {
        int status = -1;
        for (pid_t got; (got = waitpid(-1, &status, 0)) != pid;) /* others are orphans */
                if (got < 0 && errno != EINTR)
                        return -errno;
        *ret_status = status;
        (void)kill(-1, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
                ;
        return 0;
}

static int start_and_wait(struct program *p, int *ret_status, struct nb_error *err) {
        int ends[2] = { -1, -1 };
        if (p->watch && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
                return nb_fail_errno(err, errno, "cannot make a socket");
        NB_AUTO_CLOSE int mine = ends[0];
        p->sock = ends[1];
        pid_t pid = fork();
        if (pid == 0)
                exec_child(p);
        int r = pid < 0 ? nb_fail_errno(err, errno, "cannot run %s", p->argv[0]) : 0;
        nb_close(ends[1]);
        if (pid < 0)
                return r;
        if (p->watch && (r = serve(p, mine, pid, err)) < 0)
                (void)kill(pid, SIGKILL);
        int reaped = reap(pid, ret_status);
        return r == 0 && reaped < 0 ? nb_fail_errno(err, -reaped, "cannot wait for %s", p->argv[0]) : r;
}

int stage_exec(char *const *argv, char *const *env, int pass_fd, const struct stage_watch *watch, struct nb_error *err) {
        struct program p = { .argv = argv, .env = env, .pass_fd = pass_fd, .watch = watch, .sock = -1 };
        int status = 0, r = jail_filter_scripts(&p.filter, err);
        if (r == 0)
                r = start_and_wait(&p, &status, err);
        jail_filter_clear(&p.filter);
        if (r < 0)
                return r;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
