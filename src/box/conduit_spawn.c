/* Starting the conduit: the supervisor's own program again, with four descriptors and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/conduit.h"

#define FIRST_FREE 16 /* descriptors are lifted to here and above first, so that none is overwritten */

/* In the child. Only calls that are safe after fork(). */
static _Noreturn void become(const struct conduit_spec *spec, char *const *argv, int report) {
        const int from[] = { spec->guest_fd, spec->super_fd, spec->clients_fd, spec->log_fd };
        const int as[] = { CONDUIT_FD_GUEST, CONDUIT_FD_SUPER, CONDUIT_FD_CLIENTS, CONDUIT_FD_LOG };
        int lifted[NB_ARRAY_LEN(from)];
        char *env[] = { NULL };
        sigset_t none;
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        bool ok = prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0;
        report = fcntl(report, F_DUPFD_CLOEXEC, FIRST_FREE);
        for (size_t i = 0; i < NB_ARRAY_LEN(from); i++)
                ok = ok && (lifted[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FIRST_FREE)) >= 0;
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; fd <= STDERR_FILENO; fd++)
                ok = ok && dup2(null, fd) == fd;
        for (size_t i = 0; i < NB_ARRAY_LEN(from); i++)
                ok = ok && dup2(lifted[i], as[i]) == as[i];
        if (ok)
                execve("/proc/self/exe", argv, env);
        int code = errno;
        (void)!write(report, &code, sizeof code);
        _exit(CONDUIT_EXIT_FAILED);
}

int conduit_spawn(const struct conduit_spec *spec, struct jail_child *ret, struct nb_error *err) {
        NB_AUTO_FREE char *id = nb_asprintf("%u", spec->unused_id);
        char *argv[] = { "nixbox", "@conduit", id, NULL };
        int report[2], code = 0;
        if (pipe2(report, O_CLOEXEC) < 0)
                return nb_fail_errno(err, errno, "cannot make a pipe");
        pid_t pid = fork();
        if (pid == 0)
                become(spec, argv, report[1]);
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
        return nb_fail_errno(err, -r, "cannot start the conduit");
}
