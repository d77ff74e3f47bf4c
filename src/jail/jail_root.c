/* A jail's file system: a small tmpfs, the planned mounts on it, and the change of root after which nothing else of the
 * host can be named. All with mount descriptors, so that no step depends on a path that another step has covered. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/seal.h"
#include "jail/jail_internal.h"

int jail_restrict_mount(int fd, bool recursive, uint64_t set, uint64_t propagation) {
        struct mount_attr attr = { .attr_set = set, .propagation = propagation };
        return mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof attr) < 0 ? -errno : 0;
}

/* Options are key, value pairs (value NULL: a flag), ended by a NULL key. */
int jail_new_mount(const char *type, const char *const *options, uint64_t attr, struct nb_error *err) {
        NB_AUTO_CLOSE int fs = fsopen(type, FSOPEN_CLOEXEC);
        if (fs < 0)
                return nb_fail_errno(err, errno, "cannot make a %s", type);
        for (const char *const *o = options; o && o[0]; o += 2)
                if (fsconfig(fs, o[1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, o[0], o[1], 0) < 0)
                        return nb_fail_errno(err, errno, "cannot give a %s the option %s", type, o[0]);
        int fd = -1;
        if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 || (fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attr)) < 0)
                return nb_fail_errno(err, errno, "cannot make a %s", type);
        return fd;
}

int jail_tmpfs(const char *const *options, struct nb_error *err) {
        return jail_new_mount("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
}

/* What was opened is what is looked at: a file that was put in its place meanwhile, or written to, is refused. */
static int check_seal(int fd, const struct jail_mount *m, struct nb_error *err) {
        NB_AUTO_FREE char *seal = m->seal ? nb_seal_fd(fd) : NULL;
        if (!m->seal || (seal && strcmp(seal, m->seal) == 0))
                return 0;
        return nb_fail(err, EBADMSG, "%s was changed since it was checked", m->source);
}

int jail_open_sources(struct jail_run *run, struct nb_error *err) {
        const struct jail_plan *plan = run->plan;
        for (size_t i = 0; i < plan->n_mounts; i++) {
                const struct jail_mount *m = &plan->mounts[i];
                run->sources[i] = -1;
                if (m->kind != JAIL_BIND)
                        continue;
                unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (m->recursive ? AT_RECURSIVE : 0);
                run->sources[i] = open_tree(AT_FDCWD, m->source, flags);
                if (run->sources[i] < 0)
                        return nb_fail_errno(err, errno, "cannot open %s", m->source);
                int r = check_seal(run->sources[i], m, err);
                if (r < 0)
                        return r;
                uint64_t set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (m->write ? 0 : MOUNT_ATTR_RDONLY) |
                               (m->exec ? 0 : MOUNT_ATTR_NOEXEC);
                /* only ever adds restrictions: flags that the source has, locked or not, stay */
                r = jail_restrict_mount(run->sources[i], m->recursive, set, m->recursive ? MS_SLAVE : MS_PRIVATE);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot restrict %s", m->source);
        }
        return 0;
}

/* mkdir -p below the new root, of the folder that holds `target`, and of itself unless `is_file`. */
static int make_target(int root, const char *target, bool is_file, struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_strdup(target + 1);
        for (char *slash = path; (slash = strchr(slash, '/')); *slash++ = '/') {
                *slash = 0;
                if (mkdirat(root, path, 0755) < 0 && errno != EEXIST)
                        return nb_fail_errno(err, errno, "cannot make /%s", path);
        }
        if (!is_file)
                return mkdirat(root, path, 0755) < 0 && errno != EEXIST ? nb_fail_errno(err, errno, "cannot make %s", target)
                                                                        : 0;
        NB_AUTO_CLOSE int fd = openat(root, path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        return fd < 0 ? nb_fail_errno(err, errno, "cannot make %s", target) : 0;
}

static int place_file(int root, const struct jail_mount *m, struct nb_error *err) {
        int r = make_target(root, m->target, true, err);
        if (r == 0 && (r = nb_write_string_at(root, m->target + 1, m->source)) < 0)
                r = nb_fail_errno(err, -r, "cannot write %s", m->target);
        return r;
}

static int attach(int root, int tree, const char *target, struct nb_error *err) {
        struct stat st;
        if (fstat(tree, &st) < 0)
                return nb_fail_errno(err, errno, "cannot look at what goes to %s", target);
        int r = make_target(root, target, !S_ISDIR(st.st_mode), err);
        if (r == 0 && move_mount(tree, "", root, target + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                r = nb_fail_errno(err, errno, "cannot attach %s", target);
        return r;
}

int jail_processes(struct nb_error *err) {
        static const char *const processes_only[] = { "subset", "pid", NULL };
        uint64_t attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY;
        return jail_new_mount("proc", processes_only, attr, err);
}

static int place_proc(int root, const struct jail_mount *m, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = jail_processes(err);
        return fd < 0 ? fd : attach(root, fd, m->target, err);
}

static int place(struct jail_run *run, size_t i, struct nb_error *err) {
        const struct jail_mount *m = &run->plan->mounts[i];
        if (m->target[0] != '/' || m->target[1] == 0)
                return nb_fail(err, EINVAL, "%s cannot be a place in a jail", m->target);
        switch (m->kind) {
        case JAIL_BIND: return attach(run->root_fd, run->sources[i], m->target, err);
        case JAIL_PROC: return place_proc(run->root_fd, m, err);
        case JAIL_FILE: return place_file(run->root_fd, m, err);
        case JAIL_SYMLINK:
                if (symlinkat(m->source, run->root_fd, m->target + 1) < 0)
                        return nb_fail_errno(err, errno, "cannot make the link %s", m->target);
                return 0;
        }
        return nb_fail(err, EINVAL, "there is no such kind of mount");
}

/* The new root must be attached somewhere before anything can be attached to it. On top of "/" is the one place that always
 * exists; names keep resolving in the old root until the change. */
int jail_attach_root(int root_fd, struct nb_error *err) {
        if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
                return nb_fail_errno(err, errno, "cannot keep mounts to itself");
        if (move_mount(root_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return nb_fail_errno(err, errno, "cannot attach the new root");
        return 0;
}

int jail_change_root(int root_fd, struct nb_error *err) {
        if (fchdir(root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
                return nb_fail_errno(err, errno, "cannot change the root");
        if (umount2(".", MNT_DETACH) < 0)
                return nb_fail_errno(err, errno, "cannot let go of the old root");
        return chdir("/") < 0 ? nb_fail_errno(err, errno, "cannot enter the new root") : 0;
}

int jail_pivot(int root_fd, struct nb_error *err) {
        int r = jail_attach_root(root_fd, err);
        return r < 0 ? r : jail_change_root(root_fd, err);
}

int jail_enter_root(struct jail_run *run, struct nb_error *err) {
        static const char *const tiny[] = { "size", "64k", "nr_inodes", "256", "mode", "0755", NULL };
        run->root_fd = jail_tmpfs(tiny, err);
        if (run->root_fd < 0)
                return run->root_fd;
        int r = jail_attach_root(run->root_fd, err);
        for (size_t i = 0; r == 0 && i < run->plan->n_mounts; i++)
                r = place(run, i, err);
        if (r < 0)
                return r;
        if ((r = jail_restrict_mount(run->root_fd, false, MOUNT_ATTR_RDONLY, 0)) < 0)
                return nb_fail_errno(err, -r, "cannot make the new root read-only");
        return jail_change_root(run->root_fd, err);
}
