/* Following log files (see follow.h): inotify on the folder says when to look, stat() says what happened. */
#include "cli/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/paths.h"

#define LINE_MAX_BYTES (512u * 1024u) /* more of one line is dropped */
#define READ_SIZE (64u * 1024u)
#define FILES_MAX 4

struct follow {
        char *path, *old_path;
        int fd, watch;
        off_t at;            /* bytes read of the file that is open */
        struct nb_buf ahead; /* read, not yet given out */
        size_t given;        /* bytes of `ahead` that were given out last time */
        bool skipping;       /* inside a line that was cut */
};

int follow_new(const char *dir, const char *name, struct follow **ret, struct nb_error *err) {
        struct follow *f = nb_calloc(1, sizeof *f);
        f->path = nb_path_join(dir, name);
        f->old_path = nb_asprintf("%s.1", f->path);
        f->fd = open(f->old_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
        f->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (f->watch < 0 || inotify_add_watch(f->watch, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE) < 0) {
                int r = nb_fail_errno(err, errno, "cannot watch the folder %s", dir);
                follow_free(f);
                return r;
        }
        *ret = f;
        return 0;
}

void follow_free(struct follow *f) {
        if (!f)
                return;
        nb_close(f->fd);
        nb_close(f->watch);
        nb_buf_clear(&f->ahead);
        free(f->path);
        free(f->old_path);
        free(f);
}

/* At the end of the open file: goes on with the one that has taken its name, if there is one. */
static bool next_file(struct follow *f) {
        struct stat here, now;
        int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
                return false;
        if (f->fd >= 0 && fstat(f->fd, &here) == 0 && fstat(fd, &now) == 0 && here.st_dev == now.st_dev &&
            here.st_ino == now.st_ino) {
                nb_close(fd);
                if (now.st_size >= f->at)
                        return false;
                if (lseek(f->fd, 0, SEEK_SET) < 0) /* it was made anew in place */
                        return false;
        } else {
                nb_close(f->fd);
                f->fd = fd;
        }
        f->at = 0;
        return true;
}

static bool read_more(struct follow *f) {
        do {
                ssize_t n = f->fd < 0 ? 0 : read(f->fd, nb_buf_reserve(&f->ahead, READ_SIZE), READ_SIZE);
                if (n > 0) {
                        nb_buf_commit(&f->ahead, (size_t)n);
                        f->at += n;
                        return true;
                }
        } while (next_file(f));
        return false;
}

/* Gives out the first `len` bytes as a line; `used` bytes go with it. */
static bool give(struct follow *f, size_t len, size_t used, const char **ret_line, size_t *ret_len) {
        f->given = used;
        *ret_line = (const char *)nb_buf_bytes(&f->ahead);
        *ret_len = len;
        return true;
}

bool follow_line(struct follow *f, bool last, const char **ret_line, size_t *ret_len) {
        nb_buf_consume(&f->ahead, f->given);
        f->given = 0;
        for (size_t seen = 0;;) {
                const uint8_t *bytes = nb_buf_bytes(&f->ahead);
                const uint8_t *end = f->ahead.len > seen ? memchr(bytes + seen, '\n', f->ahead.len - seen) : NULL;
                size_t len = end ? (size_t)(end - bytes) : f->ahead.len;
                if (f->skipping) {
                        nb_buf_consume(&f->ahead, end ? len + 1 : len);
                        f->skipping = !end;
                        seen = 0;
                        if (end)
                                continue;
                } else if (end) {
                        return give(f, len, len + 1, ret_line, ret_len);
                } else if (len >= LINE_MAX_BYTES) {
                        f->skipping = true;
                        return give(f, len, len, ret_line, ret_len);
                } else {
                        seen = len;
                }
                if (!read_more(f))
                        return last && f->ahead.len > 0 && give(f, f->ahead.len, f->ahead.len, ret_line, ret_len);
        }
}

int follow_wait(struct follow *const *files, size_t n_files) {
        struct pollfd fds[FILES_MAX + 1] = { { .fd = STDOUT_FILENO } };
        for (size_t i = 0; i < n_files; i++)
                fds[i + 1] = (struct pollfd){ .fd = files[i]->watch, .events = POLLIN };
        if (poll(fds, n_files + 1, -1) < 0)
                return errno == EINTR ? 0 : -errno;
        for (size_t i = 0; i < n_files; i++) {
                char drop[4096];
                while (fds[i + 1].revents && read(files[i]->watch, drop, sizeof drop) > 0)
                        ;
        }
        return fds[0].revents & (POLLERR | POLLHUP) ? -EPIPE : 0;
}
