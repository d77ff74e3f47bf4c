/* Packing files as a tar stream (see cp_tar.h). The tree is walked by descriptors and never through a symbolic link: a
 * folder that the guest can write as well may change while it is read, and nothing beyond it must reach the guest. */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cp_tar.h"

#define DEPTH_MAX 256u /* folders below each other: each holds a descriptor */
#define BLOCK_SIZE (64 * 1024)

struct pack {
        struct archive *out;
        const struct cp_progress *progress;
        unsigned depth;
};

static int put_header(struct pack *p, const char *name, const struct stat *st, const char *link, struct nb_error *err) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, name);
        archive_entry_set_filetype(e, st->st_mode & S_IFMT);
        archive_entry_set_perm(e, st->st_mode & 0777); /* no set-id bits; owners are the receiver's business */
        archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
        archive_entry_set_size(e, S_ISREG(st->st_mode) ? st->st_size : 0);
        if (link)
                archive_entry_set_symlink(e, link);
        int r = archive_write_header(p->out, e);
        if (r < ARCHIVE_WARN)
                r = nb_fail(err, archive_errno(p->out) == EPIPE ? EPIPE : EIO, "cannot send %s: %s", name,
                            archive_error_string(p->out));
        archive_entry_free(e);
        return r < ARCHIVE_WARN ? r : 0;
}

static int put_file(struct pack *p, int fd, const char *name, const struct stat *st, struct nb_error *err) {
        int r = put_header(p, name, st, NULL, err);
        NB_AUTO_FREE char *block = nb_calloc(BLOCK_SIZE, 1);
        for (off_t left = st->st_size; r == 0 && left > 0;) {
                ssize_t n = read(fd, block, left < BLOCK_SIZE ? (size_t)left : BLOCK_SIZE);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return nb_fail_errno(err, errno, "cannot read %s", name);
                if (n == 0) {
                        nb_warn("%s became shorter while it was read", name);
                        return 0; /* the rest is zeros: the stream already says how long it is */
                }
                if (archive_write_data(p->out, block, (size_t)n) < 0)
                        return nb_fail(err, archive_errno(p->out) == EPIPE ? EPIPE : EIO, "cannot send %s: %s", name,
                                       archive_error_string(p->out));
                left -= n;
                if (p->progress)
                        p->progress->add(p->progress->user, name, (uint64_t)n);
        }
        return r;
}

static int put_any(struct pack *p, int at, const char *file, const char *name, bool follow, struct nb_error *err);

static int put_folder(struct pack *p, int fd, const char *name, const struct stat *st, struct nb_error *err) {
        int r = put_header(p, name, st, NULL, err);
        if (r < 0)
                return r;
        if (++p->depth > DEPTH_MAX)
                return nb_fail(err, ELOOP, "%s: folders are nested too deeply", name);
        int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        DIR *dir = own < 0 ? NULL : fdopendir(own);
        if (!dir) {
                nb_close(own);
                return nb_fail_errno(err, errno, "cannot read the folder %s", name);
        }
        for (const struct dirent *d; r == 0 && (d = readdir(dir));) {
                if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
                        continue;
                NB_AUTO_FREE char *below = nb_asprintf("%s/%s", name, d->d_name);
                r = put_any(p, dirfd(dir), d->d_name, below, false, err);
        }
        closedir(dir);
        p->depth--;
        return r;
}

static int put_link(struct pack *p, int at, const char *file, const char *name, const struct stat *st, struct nb_error *err) {
        char target[PATH_MAX + 1];
        ssize_t n = readlinkat(at, file, target, PATH_MAX);
        if (n < 0)
                return nb_fail_errno(err, errno, "cannot read the link %s", name);
        target[n] = 0;
        return put_header(p, name, st, target, err);
}

static int put_any(struct pack *p, int at, const char *file, const char *name, bool follow, struct nb_error *err) {
        struct stat st;
        if (fstatat(at, file, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
                return nb_fail_errno(err, errno, "cannot read %s", name);
        if (S_ISLNK(st.st_mode))
                return put_link(p, at, file, name, &st, err);
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
                nb_warn("left out %s: it is a device, a pipe or a socket", name);
                return 0;
        }
        NB_AUTO_CLOSE int fd = openat(at, file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW));
        if (fd < 0 || fstat(fd, &st) < 0)
                return nb_fail_errno(err, errno, "cannot read %s", name);
        if (S_ISDIR(st.st_mode))
                return put_folder(p, fd, name, &st, err);
        return S_ISREG(st.st_mode) ? put_file(p, fd, name, &st, err) : 0;
}

int cp_pack(const char *source, const char *name, int fd, const struct cp_progress *progress, struct nb_error *err) {
        struct pack p = { .out = archive_write_new(), .progress = progress };
        if (!p.out || archive_write_set_format_gnutar(p.out) != ARCHIVE_OK ||
            archive_write_set_bytes_per_block(p.out, BLOCK_SIZE) != ARCHIVE_OK ||
            archive_write_set_bytes_in_last_block(p.out, 1) != ARCHIVE_OK || archive_write_open_fd(p.out, fd) != ARCHIVE_OK) {
                (void)archive_write_free(p.out);
                return nb_fail(err, EIO, "cannot begin a tar stream");
        }
        size_t len = strlen(source);
        bool follow = len > 0 && source[len - 1] == '/'; /* "link/" is what it points at */
        int r = put_any(&p, AT_FDCWD, source, name, follow, err);
        if (archive_write_close(p.out) != ARCHIVE_OK && r == 0)
                r = nb_fail(err, archive_errno(p.out) == EPIPE ? EPIPE : EIO, "cannot send %s: %s", name,
                            archive_error_string(p.out));
        (void)archive_write_free(p.out);
        return r;
}
