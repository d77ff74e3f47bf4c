/* Unpacking and sealing folders (see folder.h). */
#include "image/folder.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/seal.h"
#include "base/text.h"

#define TAR_BLOCK (128u * 1024u)
#define FOLDER_ENTRIES_MAX 20000u /* files in a sealed folder */
#define FOLDER_DEPTH_MAX 32u

static void archive_readp(struct archive **a) {
        if (*a)
                archive_read_free(*a);
}
#define AUTO_ARCHIVE __attribute__((cleanup(archive_readp))) struct archive

static int make_parents(const char *path) {
        NB_AUTO_FREE char *copy = nb_strdup(path);
        char *slash = strrchr(copy, '/');
        if (!slash || slash == copy)
                return 0;
        *slash = 0;
        return nb_mkdirs(copy, 0755);
}

/* Opens the folder that is to hold `path`, making what is missing; never through a symbolic link. `*ret_name` is the last
 * part. */
static int open_parent(int dirfd, const char *path, char **ret_name, int *ret_fd) {
        NB_AUTO_CLOSE int at = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
        for (;;) {
                size_t n = strcspn(path, "/");
                if (n == 0 || (n == 1 && path[0] == '.') || (n == 2 && strncmp(path, "..", 2) == 0))
                        return -EBADMSG;
                if (at < 0)
                        return errno > 0 ? -errno : -EIO;
                NB_AUTO_FREE char *part = nb_strndup(path, n);
                if (path[n] == 0) {
                        *ret_name = nb_steal(&part);
                        *ret_fd = nb_steal_fd(&at);
                        return 0;
                }
                if (mkdirat(at, part, 0755) < 0 && errno != EEXIST)
                        return errno > 0 ? -errno : -EIO;
                int next = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                nb_close(at);
                at = next;
                path += n + 1;
        }
}

static int unpack_file(struct archive *a, struct archive_entry *e, int parent, const char *name) {
        mode_t mode = (archive_entry_perm(e) & 0111) ? 0755 : 0644;
        NB_AUTO_CLOSE int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
        if (fd < 0)
                return -errno;
        if (archive_read_data_into_fd(a, fd) != ARCHIVE_OK)
                return archive_errno(a) > 0 ? -archive_errno(a) : -EIO;
        return 0;
}

static const char *strip(const char *name) {
        while (name && (nb_starts_with(name, "./") || name[0] == '/'))
                name += name[0] == '/' ? 1 : 2;
        return name;
}

static int unpack_link(int dirfd, const char *target, int parent, const char *name) {
        NB_AUTO_FREE char *from = NULL;
        NB_AUTO_CLOSE int from_parent = -1;
        int r = target ? open_parent(dirfd, target, &from, &from_parent) : -EBADMSG;
        if (!from) /* set on success only */
                return r;
        return linkat(from_parent, from, parent, name, 0) < 0 ? -errno : 0;
}

static int unpack_entry(struct archive *a, struct archive_entry *e, int dirfd, char *(*want)(const char *)) {
        const char *name = strip(archive_entry_pathname(e)), *hard = strip(archive_entry_hardlink(e));
        NB_AUTO_FREE char *to = name ? want(name) : NULL, *base = NULL;
        if (!to)
                return 0;
        NB_AUTO_CLOSE int parent = -1;
        int r = open_parent(dirfd, to, &base, &parent);
        if (!base) /* set on success only */
                return r;
        if (hard) {
                NB_AUTO_FREE char *target = want(hard);
                return unpack_link(dirfd, target, parent, base);
        }
        if (archive_entry_filetype(e) == AE_IFREG)
                return unpack_file(a, e, parent, base);
        if (archive_entry_filetype(e) == AE_IFLNK)
                return symlinkat(archive_entry_symlink(e), parent, base) < 0 ? -errno : 0;
        return 0;
}

int folder_unpack_open(struct archive *a, const char *tar, int dirfd, const char *dir, char *(*want)(const char *name),
                       struct nb_error *err) {
        for (;;) {
                struct archive_entry *e = NULL;
                int r = archive_read_next_header(a, &e);
                if (r == ARCHIVE_EOF)
                        return 0;
                if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
                        return nb_fail(err, EIO, "cannot read %s: %s", tar, archive_error_string(a));
                r = unpack_entry(a, e, dirfd, want);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot unpack %s to %s", archive_entry_pathname(e), dir);
        }
}

int folder_unpack(const char *tar, const char *dir, char *(*want)(const char *name), struct nb_error *err) {
        AUTO_ARCHIVE *a = archive_read_new();
        archive_read_support_format_tar(a);
        NB_AUTO_CLOSE int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dirfd < 0)
                return nb_fail_errno(err, errno, "cannot open %s", dir);
        if (archive_read_open_filename(a, tar, TAR_BLOCK) != ARCHIVE_OK)
                return nb_fail(err, EIO, "cannot read %s: %s", tar, archive_error_string(a));
        return folder_unpack_open(a, tar, dirfd, dir, want, err);
}

int folder_copy(const char *from, const char *to, mode_t mode, struct nb_error *err) {
        int r = make_parents(to);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot make the folder of %s", to);
        NB_AUTO_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
        if (in < 0)
                return nb_fail_errno(err, errno, "cannot open %s", from);
        NB_AUTO_CLOSE int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (out < 0)
                return nb_fail_errno(err, errno, "cannot make %s", to);
        NB_AUTO_FREE char *block = nb_calloc(1, TAR_BLOCK);
        for (;;) {
                ssize_t n = nb_read_full(in, block, TAR_BLOCK);
                if (n < 0)
                        return nb_fail_errno(err, (int)-n, "cannot read %s", from);
                if (n == 0)
                        return 0;
                r = nb_write_all(out, block, (size_t)n);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot write %s", to);
        }
}

/* A line about one entry that ends with its path. Returns -errno. */
typedef int (*line_fn)(int dirfd, const char *name, const char *path, const struct stat *st, char **ret_line);

static mode_t sealed_mode(const struct stat *st) {
        return S_ISDIR(st->st_mode) || (st->st_mode & 0111) ? 0555 : 0444;
}

/* What it holds. */
static int list_entry(int dirfd, const char *name, const char *path, const struct stat *st, char **ret_line) {
        if (S_ISLNK(st->st_mode)) {
                char target[4096];
                ssize_t n = readlinkat(dirfd, name, target, sizeof target - 1);
                if (n < 0)
                        return -errno;
                target[n] = 0;
                *ret_line = nb_asprintf("link 0777 %s %s", target, path);
                return 0;
        }
        if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
                return -EINVAL;
        if (S_ISDIR(st->st_mode)) {
                *ret_line = nb_asprintf("dir 0555 - %s", path);
                return 0;
        }
        NB_AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        char hex[NB_SHA256_HEX];
        int r = nb_sha256_fd(fd, hex);
        if (r == 0)
                *ret_line = nb_asprintf("file %04o %s %s", sealed_mode(st), hex, path);
        return r;
}

/* The same, made read-only first. */
static int seal_entry(int dirfd, const char *name, const char *path, const struct stat *st, char **ret_line) {
        bool has_mode = S_ISREG(st->st_mode) || S_ISDIR(st->st_mode);
        if (has_mode && fchmodat(dirfd, name, sealed_mode(st), 0) < 0)
                return -errno;
        return list_entry(dirfd, name, path, st, ret_line);
}

/* What its inode says. */
static int inode_entry(int dirfd, const char *name, const char *path, const struct stat *st, char **ret_line) {
        (void)dirfd;
        (void)name;
        NB_AUTO_FREE char *seal = nb_seal_of(st);
        *ret_line = nb_asprintf("%o %s %s", st->st_mode, seal, path);
        return 0;
}

struct listing {
        line_fn line;
        char **lines; /* sorted by path at the end */
        size_t n;
};

static int list_dir(int dirfd, const char *prefix, unsigned depth, struct listing *l) {
        if (depth > FOLDER_DEPTH_MAX)
                return -ELOOP;
        int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* with a position of its own */
        DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        if (!dir) {
                nb_close(copy);
                return -errno;
        }
        int r = 0;
        for (struct dirent *e; r == 0 && (e = readdir(dir));) {
                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                NB_AUTO_FREE char *path = nb_asprintf("%s%s%s", prefix, *prefix ? "/" : "", e->d_name), *line = NULL;
                if (strpbrk(e->d_name, " \n")) /* would make the listing ambiguous */
                        r = -EINVAL;
                struct stat st;
                NB_AUTO_CLOSE int sub = openat(dirfd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (r == 0 && sub >= 0)
                        r = list_dir(sub, path, depth + 1, l);
                if (r == 0 && fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        r = -errno;
                if (r == 0)
                        r = l->line(dirfd, e->d_name, path, &st, &line);
                if (r == 0 && l->n >= FOLDER_ENTRIES_MAX)
                        r = -E2BIG;
                if (r == 0) {
                        nb_strv_add(&l->lines, line);
                        l->n++;
                }
        }
        closedir(dir);
        return r;
}

static int by_path(const void *a, const void *b) {
        const char *x = *(char *const *)a, *y = *(char *const *)b;
        return strcmp(strrchr(x, ' ') + 1, strrchr(y, ' ') + 1);
}

/* All lines as one text, and its digest. */
static int list_all(int dirfd, line_fn line, char **ret_listing, char ret_digest[NB_SHA256_HEX]) {
        struct listing l = { .line = line };
        int r = list_dir(dirfd, "", 0, &l);
        if (r == 0) {
                if (l.n > 1)
                        qsort(l.lines, l.n, sizeof *l.lines, by_path);
                NB_AUTO_BUF text = { 0 };
                for (size_t i = 0; i < l.n; i++) {
                        nb_buf_add(&text, l.lines[i], strlen(l.lines[i]));
                        nb_buf_add(&text, "\n", 1);
                }
                nb_sha256(nb_buf_bytes(&text), text.len, ret_digest);
                *ret_listing = nb_strndup((const char *)nb_buf_bytes(&text), text.len);
        }
        nb_strv_free(l.lines);
        return r;
}

int folder_list(int dirfd, char **ret_listing, char ret_digest[NB_SHA256_HEX]) {
        return list_all(dirfd, list_entry, ret_listing, ret_digest);
}

int folder_seals(int dirfd, char ret_digest[NB_SHA256_HEX]) {
        NB_AUTO_FREE char *lines = NULL;
        return list_all(dirfd, inode_entry, &lines, ret_digest);
}

int folder_seal(const char *dir, char **ret_listing, char ret_digest[NB_SHA256_HEX], struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = fd < 0 ? -errno : list_all(fd, seal_entry, ret_listing, ret_digest);
        return r < 0 ? nb_fail_errno(err, -r, "cannot list %s", dir) : 0;
}
