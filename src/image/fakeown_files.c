/* Calls that change or show the owners of files: chown() and its like, stat() and its like, and the lists of attributes, which
 * must not show the record. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/fakeown_internal.h"

#define LIST_MAX (64 * 1024) /* the kernel's own limit of a list of attributes */

/* Only what is in a tree needs an owner: the ends of pipes and sockets without a name are nowhere. */
static bool nameless(mode_t mode) {
        return S_ISFIFO(mode) || S_ISSOCK(mode);
}

static int set_owner(const struct fakeown_call *c, int fd, uint32_t uid, uint32_t gid) {
        struct stat st;
        uid_t had_uid;
        gid_t had_gid;
        bool found;
        if (fstat(fd, &st) < 0)
                return -errno;
        int r = fakeown_record_get(fd, st.st_mode, &had_uid, &had_gid, &found);
        if (r < 0)
                return r;
        const struct fakeown_ids *ids = fakeown_ids_of(c);
        if (ids->uid.effective != 0 && (ids->uid.effective != had_uid || (uid != FAKEOWN_KEEP && uid != had_uid)))
                return -EPERM;
        /* For the kernel's part: set-id bits and capabilities go, the time of change is set, a file system that is read-only or
         * a file that is not ours says so. */
        if (fchownat(fd, "", uid == FAKEOWN_KEEP ? uid : 0, gid == FAKEOWN_KEEP ? gid : 0, AT_EMPTY_PATH) < 0)
                return -errno;
        r = fakeown_record_set(fd, st.st_mode, uid == FAKEOWN_KEEP ? had_uid : uid, gid == FAKEOWN_KEEP ? had_gid : gid);
        return r == -EOPNOTSUPP && nameless(st.st_mode) ? 0 : r;
}

static int chown_at(const struct fakeown_call *c, int dirfd, uint64_t path, uint64_t uid, uint64_t gid, int flags) {
        if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
                return -EINVAL;
        NB_AUTO_CLOSE int fd = fakeown_open_at(c, dirfd, path, flags);
        return fd < 0 ? fd : set_owner(c, fd, (uint32_t)uid, (uint32_t)gid);
}

int fakeown_chown(struct fakeown_call *c) {
        return chown_at(c, AT_FDCWD, c->arg[0], c->arg[1], c->arg[2], 0);
}

int fakeown_lchown(struct fakeown_call *c) {
        return chown_at(c, AT_FDCWD, c->arg[0], c->arg[1], c->arg[2], AT_SYMLINK_NOFOLLOW);
}

int fakeown_fchownat(struct fakeown_call *c) {
        return chown_at(c, (int)c->arg[0], c->arg[1], c->arg[2], c->arg[3], (int)c->arg[4]);
}

int fakeown_fchown(struct fakeown_call *c) {
        NB_AUTO_CLOSE int fd = fakeown_open_fd(c, (int)c->arg[0]);
        if (!notify_alive(&c->call))
                return -ESRCH;
        return fd < 0 ? fd : set_owner(c, fd, (uint32_t)c->arg[1], (uint32_t)c->arg[2]);
}

/* --- stat: where nothing is recorded, and where anything is wrong, the kernel answers as usual --- */

static bool recorded(int fd, struct stat *ret) {
        uid_t uid;
        gid_t gid;
        bool found;
        if (fd < 0 || fstat(fd, ret) < 0 || fakeown_record_get(fd, ret->st_mode, &uid, &gid, &found) < 0)
                return false;
        ret->st_uid = uid;
        ret->st_gid = gid;
        return found;
}

/* struct stat of the C library is the kernel's own on this architecture. */
static int give_stat(const struct fakeown_call *c, int fd, uint64_t to) {
        struct stat st;
        if (fd == -ESRCH)
                return -ESRCH;
        return recorded(fd, &st) ? notify_write(&c->call, to, &st, sizeof st) : FAKEOWN_CONTINUE;
}

static int stat_at(const struct fakeown_call *c, int dirfd, uint64_t path, uint64_t to, int flags) {
        NB_AUTO_CLOSE int fd = fakeown_open_at(c, dirfd, path, flags);
        return give_stat(c, fd, to);
}

int fakeown_stat(struct fakeown_call *c) {
        return stat_at(c, AT_FDCWD, c->arg[0], c->arg[1], 0);
}

int fakeown_lstat(struct fakeown_call *c) {
        return stat_at(c, AT_FDCWD, c->arg[0], c->arg[1], AT_SYMLINK_NOFOLLOW);
}

int fakeown_newfstatat(struct fakeown_call *c) {
        return stat_at(c, (int)c->arg[0], c->arg[1], c->arg[2], (int)c->arg[3]);
}

int fakeown_fstat(struct fakeown_call *c) {
        NB_AUTO_CLOSE int fd = fakeown_open_fd(c, (int)c->arg[0]);
        return give_stat(c, notify_alive(&c->call) ? fd : -ESRCH, c->arg[1]);
}

int fakeown_statx(struct fakeown_call *c) {
        NB_AUTO_CLOSE int fd = fakeown_open_at(c, (int)c->arg[0], c->arg[1], (int)c->arg[2]);
        struct stat st;
        struct statx stx;
        if (fd == -ESRCH)
                return -ESRCH;
        if (!recorded(fd, &st))
                return FAKEOWN_CONTINUE;
        int flags = ((int)c->arg[2] & AT_STATX_SYNC_TYPE) | AT_EMPTY_PATH;
        if (statx(fd, "", flags, (unsigned)c->arg[3], &stx) < 0)
                return FAKEOWN_CONTINUE;
        stx.stx_uid = st.st_uid;
        stx.stx_gid = st.st_gid;
        return notify_write(&c->call, c->arg[4], &stx, sizeof stx);
}

/* --- lists of attributes: programs that copy them would copy the record, which is the owner's part and not theirs --- */

static size_t without(char *list, size_t len, const char *name) {
        size_t kept = 0;
        for (size_t at = 0; at < len;) {
                size_t n = strnlen(list + at, len - at) + 1;
                if (at + n > len)
                        break;
                if (strcmp(list + at, name) != 0) {
                        memmove(list + kept, list + at, n);
                        kept += n;
                }
                at += n;
        }
        return kept;
}

static int give_list(struct fakeown_call *c, int fd) {
        struct stat st;
        char name[FAKEOWN_FD_NAME];
        if (fd == -ESRCH)
                return -ESRCH;
        if (!recorded(fd, &st))
                return FAKEOWN_CONTINUE;
        NB_AUTO_FREE char *list = nb_calloc(LIST_MAX, 1);
        (void)snprintf(name, sizeof name, "%d", fd);
        ssize_t n = listxattr(name, list, LIST_MAX);
        if (n < 0)
                return -errno;
        bool special = !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
        size_t len = without(list, (size_t)n, special ? FAKEOWN_XATTR_SPECIAL : FAKEOWN_XATTR), room = c->arg[2];
        c->value = (int64_t)len;
        if (room == 0 || len == 0)
                return 0;
        return len > room ? -ERANGE : notify_write(&c->call, c->arg[1], list, len);
}

static int list_at(struct fakeown_call *c, int flags) {
        NB_AUTO_CLOSE int fd = fakeown_open_at(c, AT_FDCWD, c->arg[0], flags);
        return give_list(c, fd);
}

int fakeown_listxattr(struct fakeown_call *c) {
        return list_at(c, 0);
}

int fakeown_llistxattr(struct fakeown_call *c) {
        return list_at(c, AT_SYMLINK_NOFOLLOW);
}

int fakeown_flistxattr(struct fakeown_call *c) {
        NB_AUTO_CLOSE int fd = fakeown_open_fd(c, (int)c->arg[0]);
        return give_list(c, notify_alive(&c->call) ? fd : -ESRCH);
}
