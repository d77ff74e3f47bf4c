/* Descriptor and file helpers (see io.h). */
#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "mem.h"

int nb_write_all(int fd, const void *bytes, size_t len) {
        const uint8_t *p = bytes;
        while (len > 0) {
                ssize_t n = write(fd, p, len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        struct pollfd pfd = { .fd = fd, .events = POLLOUT };
                        (void)poll(&pfd, 1, -1);
                        continue;
                }
                if (n < 0)
                        return -errno;
                p += n;
                len -= (size_t)n;
        }
        return 0;
}

ssize_t nb_read_full(int fd, void *bytes, size_t len) {
        size_t have = 0;
        while (have < len) {
                ssize_t n = read(fd, (uint8_t *)bytes + have, len - have);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                have += (size_t)n;
        }
        return (ssize_t)have;
}

int nb_read_fd(int fd, size_t max, char **ret, size_t *ret_len) {
        size_t cap = 4096, have = 0;
        NB_AUTO_FREE char *data = nb_calloc(cap, 1);
        for (;;) {
                if (have + 1 >= cap) {
                        cap *= 2;
                        data = nb_realloc(data, cap, 1);
                }
                ssize_t n = nb_read_full(fd, data + have, cap - have - 1);
                if (n < 0)
                        return (int)n;
                if (n == 0)
                        break;
                have += (size_t)n;
                if (have > max)
                        return -EFBIG;
        }
        data[have] = 0;
        if (ret_len)
                *ret_len = have;
        *ret = nb_steal(&data);
        return 0;
}

int nb_read_file_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len) {
        NB_AUTO_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        return fd < 0 ? -errno : nb_read_fd(fd, max, ret, ret_len);
}

int nb_read_file(const char *path, size_t max, char **ret, size_t *ret_len) {
        return nb_read_file_at(AT_FDCWD, path, max, ret, ret_len);
}

int nb_read_regular(const char *path, size_t max, char **ret, size_t *ret_len) {
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) ? nb_read_fd(fd, max, ret, ret_len) : -EINVAL;
}

/* `like`: a file whose owner and group the new one gets, where that is possible; NULL: the caller's. */
static int write_atomic(const char *path, const void *bytes, size_t len, mode_t mode, const struct stat *like) {
        NB_AUTO_FREE char *tmp = nb_asprintf("%s.tmp-XXXXXX", path);
        NB_AUTO_CLOSE int fd = mkostemp(tmp, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        int r = nb_write_all(fd, bytes, len);
        if (r == 0 && like && fchown(fd, like->st_uid, like->st_gid) < 0 && errno != EPERM)
                r = -errno;
        if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(tmp, path) < 0))
                r = -errno;
        if (r < 0)
                (void)unlink(tmp);
        return r;
}

int nb_write_file_atomic(const char *path, const void *bytes, size_t len, mode_t mode) {
        return write_atomic(path, bytes, len, mode, NULL);
}

int nb_replace_file(const char *path, const void *bytes, size_t len) {
        struct stat st;
        if (lstat(path, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return S_ISLNK(st.st_mode) ? -ELOOP : -EINVAL;
        return write_atomic(path, bytes, len, st.st_mode & 07777, &st);
}

int nb_write_string_at(int dirfd, const char *path, const char *text) {
        NB_AUTO_CLOSE int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        return fd < 0 ? -errno : nb_write_all(fd, text, strlen(text));
}

int nb_mkdirs(const char *path, mode_t mode) {
        NB_AUTO_FREE char *copy = nb_strdup(path);
        for (char *p = copy + 1;; p++) {
                if (*p && *p != '/')
                        continue;
                char was = *p;
                *p = 0;
                if (mkdir(copy, mode) < 0 && errno != EEXIST)
                        return -errno;
                *p = was;
                if (!was)
                        break;
        }
        struct stat st;
        if (stat(path, &st) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* Opens a folder that may be closed to its owner: it is opened to them first, through a descriptor that names this folder and
 * nothing that a link leads to. */
static int open_closed(int dirfd, const char *name) {
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 || errno != EACCES)
                return fd < 0 ? -errno : fd;
        NB_AUTO_CLOSE int at = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (at < 0)
                return -errno;
        NB_AUTO_FREE char *path = nb_asprintf("/proc/self/fd/%d", at);
        if (chmod(path, 0700) < 0)
                return -errno;
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int remove_tree_on(int dirfd, const char *name, dev_t dev) {
        if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR && errno != EPERM)
                return -errno;
        int fd = open_closed(dirfd, name);
        if (fd < 0)
                return fd;
        struct stat st;
        if (fstat(fd, &st) < 0 || (dev && st.st_dev != dev)) {
                nb_close(fd);
                return -EXDEV;
        }
        (void)fchmod(fd, 0700);
        DIR *dir = fdopendir(fd);
        if (!dir) {
                nb_close(fd);
                return -ENOMEM;
        }
        int r = 0;
        for (struct dirent *e; (e = readdir(dir));) {
                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                int one = remove_tree_on(fd, e->d_name, st.st_dev);
                if (one < 0 && r == 0)
                        r = one;
        }
        closedir(dir);
        if (r == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
                r = -errno;
        return r;
}

int nb_remove_tree(int dirfd, const char *name) {
        return remove_tree_on(dirfd, name, 0);
}

ssize_t nb_send_fds(int sock, const void *bytes, size_t len, const int *fds, size_t n_fds) {
        union {
                char space[CMSG_SPACE(NB_FDS_MAX * sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        if (n_fds > NB_FDS_MAX)
                return -E2BIG;
        struct iovec iov = { .iov_base = (void *)bytes, .iov_len = len };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        if (n_fds > 0) {
                msg.msg_control = control.space;
                msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                struct cmsghdr *c = &control.align; /* the first, and the only one */
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        }
        ssize_t n;
        do
                n = sendmsg(sock, &msg, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

static void take_fds(struct msghdr *msg, int *fds, size_t room, size_t *count) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;
                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
                        if (*count < room)
                                fds[(*count)++] = fd;
                        else
                                nb_close(fd);
                }
        }
}

ssize_t nb_recv_fds(int sock, void *bytes, size_t len, int *fds, size_t *ret_n_fds) {
        union {
                char space[CMSG_SPACE(NB_FDS_MAX * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = { .iov_base = bytes, .iov_len = len };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space
        };
        size_t room = *ret_n_fds;
        *ret_n_fds = 0;
        ssize_t n;
        do
                n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        take_fds(&msg, fds, room, ret_n_fds);
        return n;
}

int nb_set_nonblock(int fd, bool on) {
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return -errno;
        flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

uint64_t nb_now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t nb_now_ms(void) {
        return nb_now_ns() / 1000000u;
}
