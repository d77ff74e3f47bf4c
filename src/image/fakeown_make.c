/* Calls that make files. What a process with ids of its own makes is its own, and what is made in a folder with the
 * set-group-id bit gets the folder's group. The kernel would give both to id 0, so such a call (few are) is done by the
 * builder, which records the owner before the child can see the file; all others pass. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/fakeown_internal.h"

/* A file to be made: where, and whose it will be. */
struct making {
        const char *dir, *name; /* parts of `path` */
        char *path;
        int parent;
        uid_t uid;
        gid_t gid;
};

static void making_clear(struct making *m) {
        free(m->path);
        nb_close(m->parent);
}
#define AUTO_MAKING __attribute__((cleanup(making_clear))) struct making

/* Cuts the path before its last name. What has no name to make at its end ("", "..", "x/" for what is no folder) is left to the
 * kernel to refuse. */
static bool split(struct making *m, bool folder) {
        size_t len = strlen(m->path);
        while (folder && len > 1 && m->path[len - 1] == '/')
                m->path[--len] = 0;
        char *slash = strrchr(m->path, '/');
        m->name = slash ? slash + 1 : m->path;
        if (!*m->name || strcmp(m->name, ".") == 0 || strcmp(m->name, "..") == 0)
                return false;
        m->dir = slash == m->path ? "/" : slash ? m->path : ".";
        if (slash)
                *slash = 0;
        return true;
}

/* Whose a new file in the open folder will be. */
static int find_owner(const struct fakeown_call *c, struct making *m) {
        const struct fakeown_ids *ids = fakeown_ids_of(c);
        struct stat st;
        uid_t uid;
        bool found;
        m->uid = ids->uid.effective;
        m->gid = ids->gid.effective;
        if (fstat(m->parent, &st) < 0)
                return -errno;
        return st.st_mode & S_ISGID ? fakeown_record_get(m->parent, st.st_mode, &uid, &m->gid, &found) : 0;
}

/* Returns 0 if the file must be made here, FAKEOWN_CONTINUE if the kernel can, or fails. */
static int prepare(const struct fakeown_call *c, int dirfd, uint64_t path, bool folder, struct making *m) {
        *m = (struct making){ .parent = -1 };
        if (notify_read_path(&c->call, path, &m->path) < 0)
                return FAKEOWN_CONTINUE;
        if (strcmp(m->path, "/dev/null") == 0 || !split(m, folder))
                return FAKEOWN_CONTINUE;
        m->parent = fakeown_open_path(c, dirfd, m->dir, 0);
        if (!notify_alive(&c->call))
                return -ESRCH;
        if (m->parent < 0 || find_owner(c, m) < 0)
                return FAKEOWN_CONTINUE;
        return m->uid == 0 && m->gid == 0 ? FAKEOWN_CONTINUE : 0;
}

/* Records the owner of what was just made, or takes it back. */
static int record(const struct making *m, bool folder) {
        struct stat st;
        NB_AUTO_CLOSE int fd = openat(m->parent, m->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : fakeown_record_set(fd, st.st_mode, m->uid, m->gid);
        if (r < 0)
                (void)unlinkat(m->parent, m->name, folder ? AT_REMOVEDIR : 0);
        return r;
}

static int mkdir_at(const struct fakeown_call *c, int dirfd, uint64_t path, uint64_t mode) {
        AUTO_MAKING m;
        int r = prepare(c, dirfd, path, true, &m), mask = r == 0 ? fakeown_umask(c) : 0;
        if (r != 0 || mask < 0)
                return r != 0 ? r : mask;
        return mkdirat(m.parent, m.name, (mode_t)mode & ~(mode_t)mask) < 0 ? -errno : record(&m, true);
}

static int mknod_at(const struct fakeown_call *c, int dirfd, uint64_t path, uint64_t mode, uint64_t dev) {
        AUTO_MAKING m;
        int r = prepare(c, dirfd, path, false, &m), mask = r == 0 ? fakeown_umask(c) : 0;
        if (r != 0 || mask < 0)
                return r != 0 ? r : mask;
        return mknodat(m.parent, m.name, (mode_t)mode & ~(mode_t)mask, dev) < 0 ? -errno : record(&m, false);
}

static int symlink_at(const struct fakeown_call *c, uint64_t target, int dirfd, uint64_t path) {
        AUTO_MAKING m;
        NB_AUTO_FREE char *text = NULL;
        int r = prepare(c, dirfd, path, false, &m);
        if (r == 0)
                r = notify_read_path(&c->call, target, &text);
        if (r == 0 && !notify_alive(&c->call))
                r = -ESRCH;
        if (r != 0)
                return r;
        return symlinkat(text, m.parent, m.name) < 0 ? -errno : record(&m, false);
}

static int hand_over(struct fakeown_call *c, int fd, int flags) {
        return notify_hand_over(&c->call, fd, flags & O_CLOEXEC);
}

/* A file without a name in the folder `path`. */
static int open_nameless(struct fakeown_call *c, int dirfd, uint64_t path, int flags, mode_t mode) {
        AUTO_MAKING m = { .parent = fakeown_open_at(c, dirfd, path, 0) };
        if (m.parent == -ESRCH)
                return -ESRCH;
        if (m.parent < 0 || find_owner(c, &m) < 0 || (m.uid == 0 && m.gid == 0))
                return FAKEOWN_CONTINUE;
        NB_AUTO_CLOSE int fd = openat(m.parent, ".", flags | O_CLOEXEC, mode);
        if (fd < 0)
                return -errno;
        int r = fakeown_record_set(fd, S_IFREG, m.uid, m.gid);
        return r < 0 ? r : hand_over(c, fd, flags);
}

/* A file that is there already, or behind a link, is opened by the child itself. */
static int open_new(struct fakeown_call *c, int dirfd, uint64_t path, int flags, mode_t mode) {
        AUTO_MAKING m;
        int r = prepare(c, dirfd, path, false, &m), mask = r == 0 ? fakeown_umask(c) : 0;
        if (r != 0 || mask < 0)
                return r != 0 ? r : mask;
        NB_AUTO_CLOSE int fd = openat(m.parent, m.name, flags | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & ~(mode_t)mask);
        if (fd < 0)
                return errno == EEXIST ? FAKEOWN_CONTINUE : -errno;
        r = fakeown_record_set(fd, S_IFREG, m.uid, m.gid);
        if (r == 0)
                r = hand_over(c, fd, flags);
        if (r < 0)
                (void)unlinkat(m.parent, m.name, 0);
        return r;
}

static int open_at(struct fakeown_call *c, int dirfd, uint64_t path, int flags, uint64_t mode) {
        if ((flags & O_TMPFILE) != O_TMPFILE)
                return open_new(c, dirfd, path, flags, (mode_t)mode & 07777);
        int mask = fakeown_umask(c);
        return mask < 0 ? mask : open_nameless(c, dirfd, path, flags, (mode_t)mode & 07777 & ~(mode_t)mask);
}

int fakeown_creat(struct fakeown_call *c) {
        return open_at(c, AT_FDCWD, c->arg[0], O_CREAT | O_WRONLY | O_TRUNC, c->arg[1]);
}

int fakeown_open(struct fakeown_call *c) {
        return open_at(c, AT_FDCWD, c->arg[0], (int)c->arg[1], c->arg[2]);
}

int fakeown_openat(struct fakeown_call *c) {
        return open_at(c, (int)c->arg[0], c->arg[1], (int)c->arg[2], c->arg[3]);
}

int fakeown_mkdir(struct fakeown_call *c) {
        return mkdir_at(c, AT_FDCWD, c->arg[0], c->arg[1]);
}

int fakeown_mkdirat(struct fakeown_call *c) {
        return mkdir_at(c, (int)c->arg[0], c->arg[1], c->arg[2]);
}

int fakeown_mknod(struct fakeown_call *c) {
        return mknod_at(c, AT_FDCWD, c->arg[0], c->arg[1], c->arg[2]);
}

int fakeown_mknodat(struct fakeown_call *c) {
        return mknod_at(c, (int)c->arg[0], c->arg[1], c->arg[2], c->arg[3]);
}

int fakeown_symlink(struct fakeown_call *c) {
        return symlink_at(c, c->arg[0], AT_FDCWD, c->arg[1]);
}

int fakeown_symlinkat(struct fakeown_call *c) {
        return symlink_at(c, c->arg[0], (int)c->arg[1], c->arg[2]);
}
