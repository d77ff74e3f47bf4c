/* The child's side of a jail: the phases from the first instruction in the new namespaces to exec. Each gives something up;
 * none is skipped; the first that fails ends the child, and the parent is told which it was. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/io.h"
#include "base/mem.h"
#include "jail/jail_internal.h"
#include "jail/notify.h"

/* Signals as at the start of a program; the parent's handlers and mask are its own business. Then waits until the parent
 * has written the id maps. */
static int phase_wait(struct jail_run *run, struct nb_error *err) {
        for (int sig = 1; sig < NSIG; sig++)
                if (sig != SIGKILL && sig != SIGSTOP)
                        (void)signal(sig, SIG_DFL);
        sigset_t none;
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        char go = 0;
        if (nb_read_full(run->go_fd, &go, 1) != 1)
                return nb_fail(err, ECHILD, "the parent gave up");
        run->drop_groups = go == 'g';
        close(run->go_fd);
        /* only now, when it is in its cgroup: that becomes the root of what it sees. A kernel may have no cgroups. */
        if (unshare(CLONE_NEWCGROUP) < 0 && errno != EINVAL)
                return nb_fail_errno(err, errno, "cannot make a cgroup namespace");
        return 0;
}

/* Sources are opened while the credentials are still the creator's: folders above them may be closed to the new id. */
static int phase_sources(struct jail_run *run, struct nb_error *err) {
        run->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (run->null_fd < 0)
                return nb_fail_errno(err, errno, "cannot open /dev/null");
        return jail_open_sources(run, err);
}

static int phase_identity(struct jail_run *run, struct nb_error *err) {
        if (run->drop_groups && setgroups(0, NULL) < 0)
                return nb_fail_errno(err, errno, "cannot drop supplementary groups");
        if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
                return nb_fail_errno(err, errno, "cannot take the new id");
        if (sethostname("box", 3) < 0)
                return nb_fail_errno(err, errno, "cannot hide the host's name");
        if (setsid() < 0)
                return nb_fail_errno(err, errno, "cannot leave the caller's terminal");
        return 0;
}

/* In a pid namespace of its own the child cannot ask who its parent is. It asks whether anybody still holds the other end
 * of the report pipe instead: nobody does if the parent died before the tether held. */
static int phase_tether(struct jail_run *run, struct nb_error *err) {
        int r = jail_tether(err);
        if (r < 0)
                return r;
        struct pollfd p = { .fd = run->report_fd, .events = POLLOUT };
        if (poll(&p, 1, 0) < 0 || (p.revents & (POLLERR | POLLHUP | POLLNVAL)))
                return nb_fail(err, ECHILD, "the parent is gone");
        return 0;
}

/* Moves `fd` out of the way of every number that the plan names. */
static int lift(int fd, int above) {
        return fcntl(fd, F_DUPFD_CLOEXEC, above);
}

static int phase_descriptors(struct jail_run *run, struct nb_error *err) {
        const struct jail_plan *plan = run->plan;
        NB_AUTO_FREE int *lifted = nb_calloc(plan->n_fds + 1, sizeof *lifted);
        NB_AUTO_FREE int *keep = nb_calloc(plan->n_fds + 5, sizeof *keep);
        size_t n = 0;
        int top = STDERR_FILENO;
        for (size_t i = 0; i < plan->n_fds; i++)
                if (plan->fds[i].as > top)
                        top = plan->fds[i].as;
        run->report_fd = lift(run->report_fd, top + 1);
        run->null_fd = lift(run->null_fd, top + 1);
        if (run->listener_sock >= 0)
                run->listener_sock = lift(run->listener_sock, top + 1);
        if (run->report_fd < 0 || run->null_fd < 0 || (plan->listener_sock >= 0 && run->listener_sock < 0))
                return nb_fail_errno(err, errno, "cannot arrange descriptors");
        for (size_t i = 0; i < plan->n_fds; i++)
                if ((lifted[i] = lift(plan->fds[i].fd, top + 1)) < 0)
                        return nb_fail_errno(err, errno, "cannot arrange descriptor %d", plan->fds[i].fd);
        for (int fd = 0; fd <= STDERR_FILENO; fd++)
                if (dup2(run->null_fd, keep[n++] = fd) < 0)
                        return nb_fail_errno(err, errno, "cannot arrange descriptor %d", fd);
        for (size_t i = 0; i < plan->n_fds; i++) {
                if (dup2(lifted[i], plan->fds[i].as) < 0)
                        return nb_fail_errno(err, errno, "cannot arrange descriptor %d", plan->fds[i].as);
                keep[n++] = plan->fds[i].as;
        }
        keep[n++] = run->report_fd;
        if (run->listener_sock >= 0)
                keep[n++] = run->listener_sock;
        return jail_close_others(keep, n, err);
}

static int phase_limits(struct jail_run *run, struct nb_error *err) {
        for (size_t i = 0; i < run->plan->n_limits; i++) {
                const struct jail_limit *l = &run->plan->limits[i];
                struct rlimit now;
                if (getrlimit((__rlimit_resource_t)l->resource, &now) < 0)
                        return nb_fail_errno(err, errno, "cannot read limit %d", l->resource);
                rlim_t value = l->value < now.rlim_max ? l->value : now.rlim_max;
                struct rlimit want = { .rlim_cur = value, .rlim_max = value };
                if (setrlimit((__rlimit_resource_t)l->resource, &want) < 0)
                        return nb_fail_errno(err, errno, "cannot set limit %d", l->resource);
        }
        return jail_no_core(err);
}

static int phase_privileges(struct jail_run *run, struct nb_error *err) {
        return jail_drop_privileges(run->plan->keep_caps, err);
}

static int phase_landlock(struct jail_run *run, struct nb_error *err) {
        return landlock_enter(&run->plan->landlock, run->plan->landlock_abi, err);
}

static int phase_filter(struct jail_run *run, struct nb_error *err) {
        int r = run->filter.len ? jail_filter_load(&run->filter, err) : 0;
        if (r < 0 || run->asking.len == 0)
                return r;
        NB_AUTO_CLOSE int listener = notify_load(&run->asking);
        if (listener < 0)
                return nb_fail_errno(err, -listener, "cannot have its system calls watched");
        ssize_t n = nb_send_fds(run->listener_sock, "L", 1, &listener, 1);
        return n == 1 ? 0 : nb_fail_errno(err, n < 0 ? (int)-n : EPIPE, "cannot hand on the listener for its system calls");
}

static int phase_exec(struct jail_run *run, struct nb_error *err) {
        static char *const nothing[] = { NULL };
        struct jail_report ready = { .code = 0 };
        (void)nb_write_all(run->report_fd, &ready, sizeof ready);
        execve(run->plan->argv[0], run->plan->argv, run->plan->env ? run->plan->env : nothing);
        return nb_fail_errno(err, errno, "cannot run %s", run->plan->argv[0]);
}

_Noreturn void jail_child_main(struct jail_run *run) {
        static const struct {
                const char *name;
                int (*step)(struct jail_run *run, struct nb_error *err);
        } phases[] = {
                { "namespaces", phase_wait },   { "sources", phase_sources },
                { "identity", phase_identity }, { "tether", phase_tether },
                { "root", jail_enter_root },    { "descriptors", phase_descriptors },
                { "limits", phase_limits },     { "privileges", phase_privileges },
                { "landlock", phase_landlock }, { "filter", phase_filter },
                { "exec", phase_exec },
        };
        struct nb_error err = { 0 };
        for (size_t i = 0; i < NB_ARRAY_LEN(phases); i++) {
                if (phases[i].step(run, &err) == 0)
                        continue;
                struct jail_report report = { .code = err.code ? err.code : EIO };
                (void)snprintf(report.phase, sizeof report.phase, "%s", phases[i].name);
                (void)snprintf(report.text, sizeof report.text, "%s", err.what ? err.what : "failed");
                (void)nb_write_all(run->report_fd, &report, sizeof report);
                break;
        }
        _exit(127);
}
