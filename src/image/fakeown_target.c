/* What a waiting call is about: the child's memory, and its paths as it would see them. A path is walked by the kernel with the
 * child's own root as ours and from the child's own working folder or descriptor, so that "..", absolute links and whatever
 * is renamed meanwhile lead nowhere that the child could not go itself; links of /proc, which would mean our own process, are
 * not followed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "image/fakeown_internal.h"

#define STATUS_MAX (16 * 1024) /* of /proc/TID/status */

int fakeown_open_fd(const struct fakeown_call *c, int fd) {
        return notify_open_fd(&c->call, fd);
}

static int open_start(const struct fakeown_call *c, int dirfd) {
        return dirfd == AT_FDCWD ? notify_open_proc(&c->call, "cwd", O_PATH) : fakeown_open_fd(c, dirfd);
}

static int open_root(const struct fakeown_call *c) {
        return notify_open_proc(&c->call, "root", O_PATH | O_DIRECTORY);
}

static int walk(int start, const char *path, int flags, uint64_t resolve) {
        struct open_how how = { .flags = O_PATH | O_CLOEXEC | (flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0),
                                .resolve = resolve | RESOLVE_NO_MAGICLINKS };
        int fd = (int)syscall(SYS_openat2, start, path, &how, sizeof how);
        return fd < 0 ? -errno : fd;
}

/* What leads up from where it starts, or to an absolute link, needs the child's root: for the time of one lookup it is ours.
 * Our own /proc stays in reach by descriptors. */
static int walk_in_root(const struct fakeown_call *c, int start, const char *path, int flags) {
        NB_AUTO_CLOSE int root = open_root(c);
        if (root < 0)
                return root;
        if (fchdir(root) < 0 || chroot(".") < 0 || fchdir(c->f->own_fds) < 0)
                return -errno;
        return walk(start, path, flags, 0);
}

int fakeown_open_path(const struct fakeown_call *c, int dirfd, const char *path, int flags) {
        if (!*path)
                return flags & AT_EMPTY_PATH ? open_start(c, dirfd) : -ENOENT;
        bool absolute = *path == '/';
        NB_AUTO_CLOSE int start = absolute ? open_root(c) : open_start(c, dirfd);
        if (start < 0)
                return start;
        int fd = walk(start, path, flags, absolute ? RESOLVE_IN_ROOT : RESOLVE_BENEATH);
        return fd == -EXDEV || fd == -EAGAIN ? walk_in_root(c, start, path, flags) : fd;
}

int fakeown_open_at(const struct fakeown_call *c, int dirfd, uint64_t address, int flags) {
        NB_AUTO_FREE char *path = NULL;
        int r = 0;
        if (address == 0 && flags & AT_EMPTY_PATH)
                path = nb_strdup("");
        else
                r = notify_read_path(&c->call, address, &path);
        NB_AUTO_CLOSE int fd = r < 0 ? r : fakeown_open_path(c, dirfd, path, flags);
        if (!notify_alive(&c->call))
                return -ESRCH;
        return nb_steal_fd(&fd);
}

int fakeown_umask(const struct fakeown_call *c) {
        static const char label[] = "\nUmask:";
        NB_AUTO_CLOSE int fd = notify_open_proc(&c->call, "status", O_RDONLY);
        NB_AUTO_FREE char *text = NULL;
        int r = fd < 0 ? fd : nb_read_fd(fd, STATUS_MAX, &text, NULL);
        if (r < 0)
                return r;
        const char *line = strstr(text, label);
        return line ? (int)(strtoul(line + sizeof label - 1, NULL, 8) & 0777) : -EBADMSG;
}
