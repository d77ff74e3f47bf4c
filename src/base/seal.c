/* Seals and marks of use (see seal.h). */
#include "base/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "base/mem.h"

char *nb_seal_of(const struct stat *st) {
        return nb_asprintf("%llu:%lld:%lld.%09ld:%lld.%09ld", (unsigned long long)st->st_ino, (long long)st->st_size,
                           (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec,
                           st->st_ctim.tv_nsec);
}

char *nb_seal_fd(int fd) {
        struct stat st;
        return fstat(fd, &st) < 0 ? NULL : nb_seal_of(&st);
}

/* Is the open file still what has this name? */
static int still_there(int fd, const char *path) {
        struct stat opened, named;
        if (fstat(fd, &opened) < 0 || stat(path, &named) < 0)
                return -errno;
        return opened.st_ino == named.st_ino && opened.st_dev == named.st_dev ? 0 : -ENOENT;
}

int nb_use_open(const char *path, int *ret_fd) {
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
        if (fd < 0)
                return -errno;
        while (flock(fd, LOCK_SH) < 0 && errno == EINTR)
                ;
        int r = still_there(fd, path);
        if (r == 0)
                *ret_fd = nb_steal_fd(&fd);
        return r;
}

int nb_use_claim(const char *path, int *ret_fd) {
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return -EBUSY;
        int r = still_there(fd, path);
        if (r == 0)
                *ret_fd = nb_steal_fd(&fd);
        return r;
}
