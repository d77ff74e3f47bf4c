/* The parent's side of a jail: makes the child in its namespaces, gives it its ids, and hears from it how far it came.
 * What the child does is in jail_child.c. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "jail/jail_internal.h"
#include "jail/userns.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#define JAIL_NAMESPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
#define MAP_FILE_MAX 4096

bool jail_real_root(void) {
        NB_AUTO_FREE char *map = NULL;
        unsigned inside, outside, count;
        if (geteuid() != 0 || nb_read_file("/proc/self/uid_map", MAP_FILE_MAX, &map, NULL) < 0)
                return false;
        return sscanf(map, "%u %u %u", &inside, &outside, &count) == 3 && count > 1;
}

int jail_write_maps(const char *proc_pid, bool all, unsigned outside_uid, unsigned outside_gid, bool privileged,
                    bool *ret_groups, struct nb_error *err) {
        NB_AUTO_CLOSE int dir = open(proc_pid, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
                return nb_fail_errno(err, errno, "cannot open %s", proc_pid);
        NB_AUTO_FREE char *uids = all ? userns_identity_map("/proc/self/uid_map") : nb_asprintf("0 %u 1\n", outside_uid);
        NB_AUTO_FREE char *gids = all ? userns_identity_map("/proc/self/gid_map") : nb_asprintf("0 %u 1\n", outside_gid);
        if (!uids || !gids)
                return nb_fail(err, EIO, "cannot read our own id maps");
        int r = privileged ? 0 : nb_write_string_at(dir, "setgroups", "deny");
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot write %s/setgroups", proc_pid);
        if ((r = nb_write_string_at(dir, "uid_map", uids)) < 0)
                return nb_fail_errno(err, -r, "cannot write %s/uid_map", proc_pid);
        if ((r = nb_write_string_at(dir, "gid_map", gids)) < 0)
                return nb_fail_errno(err, -r, "cannot write %s/gid_map", proc_pid);
        NB_AUTO_FREE char *groups = NULL;
        r = nb_read_file_at(dir, "setgroups", MAP_FILE_MAX, &groups, NULL);
        *ret_groups = r == 0 && strncmp(groups, "allow", 5) == 0;
        return 0;
}

static int give_ids(const struct jail_plan *plan, pid_t pid, bool *ret_groups, struct nb_error *err) {
        NB_AUTO_FREE char *proc_pid = nb_asprintf("/proc/%d", (int)pid);
        bool root = jail_real_root();
        bool unused = root && plan->ids == JAIL_IDS_UNUSED;
        if (unused && plan->unused_id == 0)
                return nb_fail(err, EINVAL, "the plan names no unused id");
        return jail_write_maps(proc_pid, root && plan->ids == JAIL_IDS_ALL, unused ? plan->unused_id : geteuid(),
                               unused ? plan->unused_id : getegid(), root, ret_groups, err);
}

/* What only the parent can give the child: while it waits it is still the parent's own, and outside its namespaces. */
static int give_place(const struct jail_plan *plan, pid_t pid, struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/oom_score_adj", (int)pid);
        NB_AUTO_FREE char *score = nb_asprintf("%d", plan->oom_score_adj);
        NB_AUTO_FREE char *number = nb_asprintf("%d", (int)pid);
        int r = plan->oom_score_adj ? nb_write_string_at(AT_FDCWD, path, score) : 0;
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot write %s", path);
        if (plan->cgroup_fd >= 0 && (r = nb_write_string_at(plan->cgroup_fd, "cgroup.procs", number)) < 0)
                return nb_fail_errno(err, -r, "cannot move it into the box's cgroup");
        return 0;
}

static int no_namespaces(const struct jail_plan *plan, int code, struct nb_error *err) {
        nb_fail_errno(err, code, "cannot make the namespaces of the %s jail", plan->name);
        if (code == EPERM || code == ENOSPC || code == EACCES || code == EUSERS)
                return userns_hint(err);
        return -code;
}

/* Hears the child's last words before its program starts. */
static int hear(const struct jail_plan *plan, int fd, struct nb_error *err) {
        struct jail_report report;
        bool ready = false;
        for (;;) {
                ssize_t n = nb_read_full(fd, &report, sizeof report);
                if (n < 0)
                        return nb_fail_errno(err, (int)-n, "cannot hear from the %s jail", plan->name);
                if (n == 0 && ready)
                        return 0;
                if (n != sizeof report)
                        return nb_fail(err, ECHILD, "the %s jail ended before its program started", plan->name);
                if (report.code != 0)
                        break;
                ready = true;
        }
        report.phase[sizeof report.phase - 1] = 0;
        report.text[sizeof report.text - 1] = 0;
        return nb_fail(err, report.code, "cannot start %s in its jail: %s: %s", plan->name, report.phase, report.text);
}

static void discard(pid_t pid, int pidfd) {
        (void)kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        nb_close(pidfd);
}

static int start(struct jail_run *run, struct jail_child *ret, struct nb_error *err) {
        int go[2] = { -1, -1 }, report[2] = { -1, -1 }, pidfd = -1;
        if (pipe2(go, O_CLOEXEC) < 0 || pipe2(report, O_CLOEXEC) < 0) {
                nb_close(go[0]);
                nb_close(go[1]);
                return nb_fail_errno(err, errno, "cannot start the %s jail", run->plan->name);
        }
        run->go_fd = go[0];
        run->report_fd = report[1];
        long pid = syscall(SYS_clone, JAIL_NAMESPACES | CLONE_PIDFD | SIGCHLD, NULL, &pidfd, NULL, NULL);
        if (pid == 0) {
                close(go[1]);
                close(report[0]);
                jail_child_main(run);
        }
        int r = pid < 0 ? no_namespaces(run->plan, errno, err) : 0;
        nb_close(go[0]);
        nb_close(report[1]);
        bool groups = false;
        if (r == 0 && (r = give_ids(run->plan, (pid_t)pid, &groups, err)) < 0)
                r = nb_context(err, "cannot start %s in its jail: ids", run->plan->name);
        if (r == 0 && (r = give_place(run->plan, (pid_t)pid, err)) < 0)
                r = nb_context(err, "cannot start %s in its jail: place", run->plan->name);
        if (r == 0 && (r = nb_write_all(go[1], groups ? "g" : "-", 1)) < 0)
                r = nb_fail_errno(err, -r, "cannot start %s in its jail", run->plan->name);
        if (r == 0)
                r = hear(run->plan, report[0], err);
        nb_close(go[1]);
        nb_close(report[0]);
        if (r < 0 && pid > 0)
                discard((pid_t)pid, pidfd);
        if (r == 0)
                *ret = (struct jail_child){ .pid = (pid_t)pid, .pidfd = pidfd };
        return r;
}

int jail_spawn(const struct jail_plan *plan, struct jail_child *ret, struct nb_error *err) {
        struct jail_run run = { .plan = plan, .root_fd = -1, .null_fd = -1, .listener_sock = plan->listener_sock };
        int r = jail_filter_deny(plan->seccomp, &run.filter, err);
        if (r == 0 && plan->listener_sock >= 0)
                r = jail_filter_asking(&run.asking, err);
        if (r < 0)
                return nb_context(err, "cannot start %s in its jail", plan->name);
        run.sources = nb_calloc(plan->n_mounts + 1, sizeof *run.sources);
        r = start(&run, ret, err);
        free(run.sources);
        jail_filter_clear(&run.filter);
        jail_filter_clear(&run.asking);
        return r;
}
