/* Writing and reading the tree's tar (see build_tar.h). Names are at most PATH_MAX long, as the tree was made by names. */
#include "image/build_tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/fakeown.h"

#define BLOCK (128u * 1024u)
#define XATTRS_MAX 65536u

/* A file with more than one name, by its first. */
struct seen {
        dev_t dev;
        ino_t ino;
        char *name;
};

struct writer {
        struct archive *out;
        const struct build_tar *how;
        void *links; /* of struct seen */
        dev_t dev;
        char *block;
        struct nb_error *err;
};

static int by_inode(const void *a, const void *b) {
        const struct seen *x = a, *y = b;
        if (x->ino != y->ino)
                return x->ino < y->ino ? -1 : 1;
        return x->dev < y->dev ? -1 : x->dev > y->dev;
}

static void free_seen(void *p) {
        struct seen *s = p;
        free(s->name);
        free(s);
}

/* The name under which this file is in the tar already, or NULL. */
static const char *first_name(struct writer *w, const struct stat *st, const char *name) {
        if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
                return NULL;
        struct seen key = { .dev = st->st_dev, .ino = st->st_ino };
        void *found = tfind(&key, &w->links, by_inode);
        if (found)
                return (*(struct seen *const *)found)->name;
        struct seen *new = nb_calloc(1, sizeof *new);
        *new = (struct seen){ st->st_dev, st->st_ino, nb_strdup(name) };
        (void)tsearch(new, &w->links, by_inode);
        return NULL;
}

static int by_name(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Labels of the host's own security module are not the tree's, nor are recorded owners. */
static bool wanted_xattr(const char *xattr, const struct stat *st, bool fake) {
        if (fake && (strcmp(xattr, FAKEOWN_XATTR) == 0 || (!S_ISREG(st->st_mode) && strcmp(xattr, FAKEOWN_XATTR_SPECIAL) == 0)))
                return false;
        if (nb_starts_with(xattr, "system.")) /* access lists name users, whom a builder with one id cannot store */
                return false;
        return !nb_starts_with(xattr, "security.") || strcmp(xattr, "security.capability") == 0;
}

static int add_xattrs(struct archive_entry *e, const char *name, const struct stat *st, bool fake) {
        NB_AUTO_FREE char *list = nb_calloc(1, XATTRS_MAX), *value = NULL;
        ssize_t len = llistxattr(name, list, XATTRS_MAX - 1);
        if (len <= 0)
                return len == 0 || errno == ENOTSUP ? 0 : -errno;
        NB_AUTO_STRV char **names = NULL;
        for (const char *p = list; p < list + len; p += strlen(p) + 1)
                nb_strv_add(&names, p);
        if (!names)
                return 0;
        qsort(names, nb_strv_len(names), sizeof *names, by_name);
        value = nb_calloc(1, XATTRS_MAX);
        for (size_t i = 0; names[i]; i++) {
                if (!wanted_xattr(names[i], st, fake))
                        continue;
                ssize_t n = lgetxattr(name, names[i], value, XATTRS_MAX);
                if (n < 0)
                        return -errno;
                archive_entry_xattr_add_entry(e, names[i], value, (size_t)n);
        }
        return 0;
}

static int put_bytes(struct writer *w, const char *name, off_t size) {
        NB_AUTO_CLOSE int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return nb_fail_errno(w->err, errno, "cannot open /%s", name);
        while (size > 0) {
                ssize_t n = nb_read_full(fd, w->block, size < BLOCK ? (size_t)size : BLOCK);
                if (n <= 0)
                        return nb_fail_errno(w->err, n < 0 ? (int)-n : EIO, "cannot read /%s", name);
                if (archive_write_data(w->out, w->block, (size_t)n) < 0)
                        return nb_fail(w->err, archive_errno(w->out), "cannot write the tree: %s",
                                       archive_error_string(w->out));
                size -= n;
        }
        return 0;
}

/* Files made by scripts have the time at which they were made; a tree that comes from the cache must not differ from one
 * just built. */
static int settle(const struct writer *w, const char *name, struct stat *st) {
        if (w->how->set_time) {
                st->st_mtim = (struct timespec){ .tv_sec = w->how->time };
                return 0;
        }
        if (st->st_mtim.tv_sec < w->how->time && st->st_mtim.tv_nsec == 0)
                return 0;
        st->st_mtim.tv_nsec = 0;
        if (st->st_mtim.tv_sec > w->how->time)
                st->st_mtim.tv_sec = w->how->time;
        const struct timespec times[2] = { st->st_mtim, st->st_mtim };
        return utimensat(AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int fill_entry(struct writer *w, struct archive_entry *e, const char *name, struct stat *st) {
        int r = settle(w, name, st);
        if (r == 0 && w->how->fake)
                r = fakeown_owner(AT_FDCWD, name, &st->st_uid, &st->st_gid);
        if (r < 0)
                return r;
        archive_entry_set_pathname(e, name);
        archive_entry_set_filetype(e, st->st_mode & S_IFMT);
        archive_entry_set_perm(e, st->st_mode & 07777);
        archive_entry_set_uid(e, st->st_uid);
        archive_entry_set_gid(e, st->st_gid);
        archive_entry_set_mtime(e, st->st_mtim.tv_sec, 0);
        if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
                archive_entry_set_rdev(e, st->st_rdev);
        const char *first = first_name(w, st, name);
        if (first) {
                archive_entry_set_hardlink(e, first);
                return 0;
        }
        if (S_ISREG(st->st_mode))
                archive_entry_set_size(e, st->st_size);
        if (S_ISLNK(st->st_mode)) {
                char target[PATH_MAX];
                ssize_t n = readlink(name, target, sizeof target - 1);
                if (n < 0)
                        return -errno;
                target[n] = 0;
                archive_entry_set_symlink(e, target);
        }
        return add_xattrs(e, name, st, w->how->fake);
}

static int put_entry(struct writer *w, const char *name, struct stat *st) {
        if (S_ISSOCK(st->st_mode)) /* means nothing without who listens */
                return 0;
        struct archive_entry *e = archive_entry_new();
        int r = fill_entry(w, e, name, st);
        if (r < 0)
                r = nb_fail_errno(w->err, -r, "cannot read /%s", name);
        bool bytes = S_ISREG(st->st_mode) && !archive_entry_hardlink(e);
        if (r == 0 && archive_write_header(w->out, e) < ARCHIVE_WARN)
                r = nb_fail(w->err, archive_errno(w->out), "cannot write the tree: /%s: %s", name,
                            archive_error_string(w->out));
        archive_entry_free(e);
        return r == 0 && bytes ? put_bytes(w, name, st->st_size) : r;
}

/* Where the builder has mounted something lies an empty folder, which was made for that. It is there whenever the tree is
 * unpacked in a builder; an image needs it. */
static int put_mountpoint(struct writer *w, const char *name) {
        if (!w->how->set_time)
                return 0;
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, name);
        archive_entry_set_filetype(e, AE_IFDIR);
        archive_entry_set_perm(e, 0755);
        archive_entry_set_mtime(e, w->how->time, 0);
        int r = archive_write_header(w->out, e) < ARCHIVE_WARN
                    ? nb_fail(w->err, archive_errno(w->out), "cannot write /%s", name)
                    : 0;
        archive_entry_free(e);
        return r;
}

static char **sorted_names(const char *dir) {
        char **names = nb_calloc(1, sizeof *names);
        DIR *d = opendir(*dir ? dir : ".");
        if (!d) {
                nb_strv_free(names);
                return NULL;
        }
        for (const struct dirent *e; (e = readdir(d));)
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        nb_strv_add(&names, e->d_name);
        closedir(d);
        qsort(names, nb_strv_len(names), sizeof *names, by_name);
        return names;
}

static int put_folder(struct writer *w, const char *dir) {
        NB_AUTO_STRV char **names = sorted_names(dir);
        if (!names)
                return nb_fail_errno(w->err, errno, "cannot list /%s", dir);
        int r = 0;
        for (size_t i = 0; r == 0 && names[i]; i++) {
                NB_AUTO_FREE char *name = nb_asprintf("%s%s%s", dir, *dir ? "/" : "", names[i]);
                struct stat st;
                if (lstat(name, &st) < 0)
                        return nb_fail_errno(w->err, errno, "cannot look at /%s", name);
                bool mounted = st.st_dev != w->dev;
                r = mounted ? put_mountpoint(w, name) : put_entry(w, name, &st);
                if (r == 0 && !mounted && S_ISDIR(st.st_mode))
                        r = put_folder(w, name);
        }
        return r;
}

/* Pax, with names as they are. The cached copy is packed as fast as it can be read from a disk. */
static int open_out(struct writer *w, int fd) {
        int r = archive_write_set_format_pax_restricted(w->out);
        if (r == ARCHIVE_OK)
                r = archive_write_set_options(w->out, "hdrcharset=BINARY,xattrheader=SCHILY");
        if (r == ARCHIVE_OK && w->how->packed)
                r = archive_write_add_filter_zstd(w->out);
        if (r == ARCHIVE_OK && w->how->packed)
                r = archive_write_set_filter_option(w->out, "zstd", "compression-level", "1");
        return r == ARCHIVE_OK ? archive_write_open_fd(w->out, fd) : r;
}

int build_tar_write(int fd, const struct build_tar *how, struct nb_error *err) {
        struct stat st;
        if (lstat(".", &st) < 0)
                return nb_fail_errno(err, errno, "cannot look at /");
        struct writer w = { .out = archive_write_new(), .how = how, .dev = st.st_dev, .err = err };
        w.block = nb_calloc(1, BLOCK);
        int r =
            open_out(&w, fd) == ARCHIVE_OK ? 0 : nb_fail(err, EIO, "cannot write the tree: %s", archive_error_string(w.out));
        if (r == 0)
                r = put_entry(&w, ".", &st);
        if (r == 0)
                r = put_folder(&w, "");
        if (r == 0 && archive_write_close(w.out) != ARCHIVE_OK)
                r = nb_fail(err, archive_errno(w.out), "cannot write the tree: %s", archive_error_string(w.out));
        archive_write_free(w.out);
        tdestroy(w.links, free_seen);
        free(w.block);
        return r;
}

static int copy_bytes(struct archive *in, struct archive *out) {
        const void *bytes;
        size_t size;
        la_int64_t offset;
        for (;;) {
                int r = archive_read_data_block(in, &bytes, &size, &offset);
                if (r == ARCHIVE_EOF)
                        return archive_write_finish_entry(out);
                if (r < ARCHIVE_WARN || archive_write_data_block(out, bytes, size, offset) < ARCHIVE_OK)
                        return ARCHIVE_FATAL;
        }
}

/* Owners are numbers here: names would be looked up where there is nothing to look them up in. With one id, everything is
 * unpacked as root's and the owner recorded. */
static int copy_entry(struct archive *in, struct archive *out, struct archive_entry *e, bool fake) {
        uid_t uid = (uid_t)archive_entry_uid(e);
        gid_t gid = (gid_t)archive_entry_gid(e);
        archive_entry_set_uname(e, NULL);
        archive_entry_set_gname(e, NULL);
        if (fake) {
                archive_entry_set_uid(e, 0);
                archive_entry_set_gid(e, 0);
        }
        int r = archive_write_header(out, e);
        if (r == ARCHIVE_OK)
                r = copy_bytes(in, out);
        if (r != ARCHIVE_OK || !fake) /* also where the owner is root: what was there already may have a record */
                return r;
        int recorded = fakeown_record(AT_FDCWD, archive_entry_pathname(e), uid, gid);
        if (recorded < 0)
                archive_set_error(out, -recorded, "cannot record the owner of %s", archive_entry_pathname(e));
        return recorded < 0 ? ARCHIVE_FATAL : ARCHIVE_OK;
}

int build_tar_read(int fd, const char *name, bool fake, struct nb_error *err) {
        struct archive *in = archive_read_new(), *out = archive_write_disk_new();
        struct archive_entry *e = NULL;
        archive_read_support_format_tar(in);
        archive_read_support_filter_all(in);
        int r = archive_read_open_fd(in, fd, BLOCK);
        archive_write_disk_set_options(out, ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
                                                ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
                                                ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS);
        int w = ARCHIVE_OK;
        while (r >= ARCHIVE_WARN && w == ARCHIVE_OK && (r = archive_read_next_header(in, &e)) >= ARCHIVE_WARN &&
               r != ARCHIVE_EOF)
                w = copy_entry(in, out, e, fake);
        if (w == ARCHIVE_OK && r == ARCHIVE_EOF)
                w = archive_write_close(out);
        if (w != ARCHIVE_OK)
                (void)nb_fail(err, archive_errno(out) > 0 ? archive_errno(out) : EIO, "cannot unpack %s: %s", name,
                              archive_error_string(out));
        else if (r != ARCHIVE_EOF)
                (void)nb_fail(err, EBADMSG, "cannot read %s: %s", name, archive_error_string(in));
        archive_read_free(in);
        archive_write_free(out);
        return w == ARCHIVE_OK && r == ARCHIVE_EOF ? 0 : err ? -err->code : -EIO;
}
