/* Starting nixbox's own children (see helper.h): fork, descriptors in their places, execveat. */
#include "box/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#define EXIT_NOT_STARTED 127
#define FILTER_SIZE 65536 /* a helper makes its system call filter in a memfd */

int helper_open(const char *path, struct nb_error *err) {
        int fd = open(path, O_PATH | O_CLOEXEC);
        return fd < 0 ? nb_fail_errno(err, errno, "cannot open the program %s", path) : fd;
}

/* Out of the way of every number that the child is to have. */
static bool lift(int *fd) {
        *fd = fcntl(*fd, F_DUPFD_CLOEXEC, HELPER_FD_END_MAX);
        return *fd >= 0;
}

/* In the child. */
static bool limit(const struct helper_limits *l) {
        const struct jail_limit all[] = {
                { RLIMIT_AS, l->memory },
                { RLIMIT_NOFILE, l->files },
                { RLIMIT_FSIZE, l->file > FILTER_SIZE ? l->file : FILTER_SIZE },
                { RLIMIT_MEMLOCK, 0 },
                { RLIMIT_MSGQUEUE, 0 },
        };
        bool ok = true;
        for (size_t i = 0; ok && i < NB_ARRAY_LEN(all); i++) {
                struct rlimit now, want;
                ok = getrlimit((__rlimit_resource_t)all[i].resource, &now) == 0;
                want.rlim_cur = want.rlim_max = ok && now.rlim_max < all[i].value ? now.rlim_max : all[i].value;
                ok = ok && setrlimit((__rlimit_resource_t)all[i].resource, &want) == 0;
        }
        return ok;
}

char *helper_describe(const struct helper_limits *limits) {
        NB_AUTO_FREE char *memory = nb_format_size(limits->memory);
        return nb_asprintf("at most %s of address space, %llu open files", memory, (unsigned long long)limits->files);
}

/* In the child. Only calls that are safe after fork(). */
static _Noreturn void become(const struct helper_spec *spec, int report) {
        int lifted[HELPER_FD_END_MAX], program = spec->program;
        char *env[] = { NULL };
        sigset_t none;
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        bool ok = lift(&report) && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && lift(&program);
        if (ok && spec->network >= 0)
                ok = setns(spec->network, CLONE_NEWNET) == 0;
        for (size_t i = 0; i < spec->n_fds; i++) {
                lifted[i] = spec->fds[i].fd;
                ok = ok && lift(&lifted[i]);
        }
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; fd < spec->fd_end; fd++)
                ok = ok && dup2(null, fd) == fd;
        for (size_t i = 0; i < spec->n_fds; i++)
                ok = ok && dup2(lifted[i], spec->fds[i].as) == spec->fds[i].as;
        if (ok && limit(&spec->limits))
                (void)syscall(SYS_execveat, program, "", spec->argv, env, AT_EMPTY_PATH);
        int code = errno;
        (void)!write(report, &code, sizeof code);
        _exit(EXIT_NOT_STARTED);
}

/* As fork(), with the child among the processes of another. Nobody who enters their namespace could be sure to come back: that
 * of the caller may be the host's. So a process between the two enters it, and makes a child that is the caller's. */
static pid_t fork_among(const struct jail_child *other) {
        pid_t pid = 0;
        int says[2];
        if (pipe2(says, O_CLOEXEC) < 0)
                return -1;
        pid_t between = fork();
        if (between == 0) {
                bool entered = setns(other->pidfd, CLONE_NEWPID) == 0;
                pid = entered ? (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL) : -1;
                if (pid == 0)
                        return 0;
                pid = pid < 0 ? -errno : pid;
                (void)!write(says[1], &pid, sizeof pid);
                _exit(0);
        }
        int code = between < 0 ? errno : ECHILD;
        nb_close(says[1]);
        if (between > 0 && nb_read_full(says[0], &pid, sizeof pid) == sizeof pid)
                code = pid < 0 ? -pid : 0;
        nb_close(says[0]);
        while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
                ;
        errno = code;
        return code ? -1 : pid;
}

int helper_spawn(const struct helper_spec *spec, struct jail_child *ret, struct nb_error *err) {
        int report[2], code = 0;
        if (spec->fd_end > HELPER_FD_END_MAX || spec->n_fds > HELPER_FD_END_MAX)
                return nb_fail(err, EINVAL, "cannot start %s: too many descriptors", spec->name);
        if (spec->limits.memory == 0 || spec->limits.files == 0)
                return nb_fail(err, EINVAL, "cannot start %s: it has no limits", spec->name);
        if (pipe2(report, O_CLOEXEC) < 0)
                return nb_fail_errno(err, errno, "cannot make a pipe");
        pid_t pid = spec->among ? fork_among(spec->among) : fork();
        if (pid == 0)
                become(spec, report[1]);
        int r = pid < 0 ? -errno : 0;
        nb_close(report[1]);
        ssize_t n = r == 0 ? nb_read_full(report[0], &code, sizeof code) : 0;
        nb_close(report[0]);
        int pidfd = r == 0 && n == 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
        if (r == 0 && pidfd >= 0) {
                *ret = (struct jail_child){ .pid = pid, .pidfd = pidfd };
                return 0;
        }
        if (r == 0) {
                r = n > 0 ? -code : -errno;
                (void)kill(pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
        }
        return nb_fail_errno(err, -r, "cannot start %s", spec->name);
}
