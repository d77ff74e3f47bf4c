/* How a child of nixbox's own jails itself, once its libraries are loaded and its descriptors are in place: new namespaces,
 * an empty read-only root, no privileges, and only the system calls that it named. */
#include <errno.h>
#include <grp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "base/mem.h"
#include "jail/jail_internal.h"

static int change_id(unsigned unused_id, struct nb_error *err) {
        if (setgroups(0, NULL) < 0 || setresgid(unused_id, unused_id, unused_id) < 0 ||
            setresuid(unused_id, unused_id, unused_id) < 0)
                return nb_fail_errno(err, errno, "cannot become user %u", unused_id);
        /* a change of id closes /proc/self to the process itself; it still has to write its maps */
        return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 ? nb_fail_errno(err, errno, "cannot write to itself") : 0;
}

static int own_namespaces(const struct jail_self *self, struct nb_error *err) {
        unsigned uid = geteuid(), gid = getegid();
        bool groups;
        int flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (self->keep_network ? 0 : CLONE_NEWNET);
        if (unshare(flags | (self->keep_user ? 0 : CLONE_NEWUSER)) < 0)
                return nb_fail_errno(err, errno, "cannot make namespaces");
        return self->keep_user ? 0 : jail_write_maps("/proc/self", false, uid, gid, false, &groups, err);
}

static int empty_root(struct nb_error *err) {
        static const char *const nothing[] = { "size", "4k", "nr_inodes", "2", "mode", "0555", NULL };
        NB_AUTO_CLOSE int root = jail_tmpfs(nothing, err);
        if (root < 0)
                return root;
        int r = jail_restrict_mount(root, false, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, 0);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot make the empty root read-only");
        return jail_pivot(root, err);
}

/* The code on the caller's stack: giving memory back may take a system call, and then it is too late for those. */
static struct sock_fprog on_stack(struct sock_fprog *made, struct sock_filter *code) {
        struct sock_fprog filter = { .len = made->len, .filter = code };
        memcpy(code, made->filter, made->len * sizeof *code);
        jail_filter_clear(made);
        return filter;
}

/* With an allow-list in force nothing can be said any more, so everything that can fail comes before it. */
static int shut(const int *keep_fds, size_t n_keep, uint64_t keep_caps, const struct landlock_plan *landlock,
                const struct sock_fprog *filter, pid_t parent, struct nb_error *err) {
        int r = jail_close_others(keep_fds, n_keep, err);
        if (r == 0)
                r = jail_no_core(err);
        if (r == 0)
                r = jail_drop_privileges(keep_caps, err);
        if (r == 0)
                r = jail_tether(err);
        if (r == 0 && getppid() != parent)
                r = nb_fail(err, ECHILD, "the parent is gone");
        if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                r = nb_fail_errno(err, errno, "cannot hide its memory");
        if (r == 0)
                r = landlock_enter(landlock, landlock_abi(), err);
        return r == 0 ? jail_filter_load(filter, err) : r;
}

int jail_enter_self(const struct jail_self *self, struct nb_error *err) {
        struct sock_fprog made;
        pid_t parent = getppid();
        enum jail_sockets which = self->ip_sockets     ? JAIL_SOCKETS_IP
                                  : self->tcp4_sockets ? JAIL_SOCKETS_TCP4
                                                       : JAIL_SOCKETS_NONE;
        int r = jail_filter_allow(self->allow_syscalls, which, &made, err);
        if (r < 0)
                return nb_context(err, "cannot enter the jail");
        struct sock_filter code[BPF_MAXINSNS];
        struct sock_fprog filter = on_stack(&made, code);
        if (jail_real_root() && self->unused_id != 0)
                r = change_id(self->unused_id, err);
        if (r == 0)
                r = own_namespaces(self, err);
        if (r == 0)
                r = empty_root(err);
        /* who stays among its user's processes works on files through their descriptors, which Landlock would forbid */
        const struct landlock_plan landlock = { .on = !self->keep_user, .tcp = which != JAIL_SOCKETS_NONE };
        if (r == 0)
                r = shut(self->keep_fds, self->n_keep, self->keep_caps, &landlock, &filter, parent, err);
        return r < 0 ? nb_context(err, "cannot enter the jail") : 0;
}

int jail_lessen_self(unsigned unused_id, const int *keep_fds, size_t n_keep, struct nb_error *err) {
        struct sock_fprog made;
        pid_t parent = getppid();
        int r = jail_filter_deny(JAIL_SECCOMP_READER, &made, err);
        if (r < 0)
                return nb_context(err, "cannot give up its rights");
        struct sock_filter code[BPF_MAXINSNS];
        struct sock_fprog filter = on_stack(&made, code);
        const struct landlock_plan reader = { .on = true, .read = true, .tcp = true, .abstract = true };
        if (jail_real_root() && unused_id != 0) {
                /* no new user namespace follows that would give the rights back with which rights are given up */
                if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0)
                        r = nb_fail_errno(err, errno, "cannot keep its rights for a moment");
                else
                        r = change_id(unused_id, err);
        }
        if (r == 0)
                r = shut(keep_fds, n_keep, 0, &reader, &filter, parent, err);
        return r < 0 ? nb_context(err, "cannot give up its rights") : 0;
}
