/* Unpacking a hostile tar stream (see cp_tar.h). libarchive only parses. Files are made here, one descriptor at a time with
 * openat2(): the destination may be a folder that the guest can write as well, so a path that was checked a moment ago
 * means nothing. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/cp_path.h"
#include "cli/cp_tar.h"

#define FOLDERS_MAX 100000u /* whose times and modes are set at the end; those of more stay as they were made */
#define BLOCK_SIZE (64u * 1024u)
#define TRAILER_MAX (1024u * 1024u) /* bytes after the end of the archive; tar sends less than a block of its own */
#define NOTES_MAX 10u               /* warnings about members that were left out */

struct folder {
        char *path;
        mode_t mode;
        struct timespec mtime;
};

struct unpack {
        const char *root, *destination;
        bool as_folder;
        const struct cp_progress *progress;
        int base;     /* the folder everything goes below */
        char *prefix; /* what the root is called in it; "" for the folder itself */
        bool placed;
        mode_t umask;
        struct folder *folders;
        size_t n_folders;
        unsigned left_out;
        uint64_t members;
};

static int open_beneath(int base, const char *path, int flags) {
        struct open_how how = { .flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
                                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
        long fd = syscall(SYS_openat2, base, *path ? path : ".", &how, sizeof how);
        return fd < 0 ? -errno : (int)fd;
}

static void leave_out(struct unpack *u, const char *name, const char *why) {
        if (u->left_out++ < NOTES_MAX)
                nb_warn("left out %s: %s", name, why);
}

/* ---- where things go */

/* Decides by docker cp's rules, once the first member shows whether the source is a folder. */
static int place(struct unpack *u, bool is_folder, struct nb_error *err) {
        struct stat st;
        bool exists = stat(u->destination, &st) == 0, contents = strcmp(u->root, ".") == 0;
        const char *folder = u->destination;
        struct cp_arg arg = { .path = (char *)u->destination };
        NB_AUTO_FREE char *parent = NULL;
        NB_AUTO_FREE char *name = NULL;
        u->placed = true;
        if (exists && S_ISDIR(st.st_mode)) {
                u->prefix = nb_strdup(contents ? "" : u->root);
        } else if (is_folder) {
                if (exists)
                        return nb_fail(err, ENOTDIR, "%s is a file; a folder cannot replace it", u->destination);
                if (mkdir(u->destination, 0777) < 0)
                        return nb_fail_errno(err, errno, "cannot make the folder %s", u->destination);
                u->prefix = nb_strdup("");
        } else {
                if (u->as_folder)
                        return nb_fail(err, ENOTDIR, "there is no folder %s", u->destination);
                cp_split(&arg, &parent, &name);
                folder = parent;
                u->prefix = nb_steal(&name);
        }
        u->base = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return u->base < 0 ? nb_fail_errno(err, errno, "cannot open the folder %s", folder) : 0;
}

static char *join(const char *a, const char *b) {
        return nb_asprintf("%s%s%s", a, *a && *b ? "/" : "", b);
}

/* A member's path below the base. NULL if it may not be there. */
static char *member_path(const struct unpack *u, const char *name) {
        NB_AUTO_FREE char *rest = name ? cp_member(name, u->root) : NULL;
        return rest && u->prefix ? join(u->prefix, rest) : NULL;
}

/* Opens the folder a member goes to, making what is missing. *ret_name points into `path`. */
static int open_parent(struct unpack *u, const char *path, const char **ret_name) {
        const char *slash = strrchr(path, '/');
        *ret_name = slash ? slash + 1 : path;
        NB_AUTO_FREE char *parent = slash ? nb_strndup(path, (size_t)(slash - path)) : nb_strdup("");
        int fd = open_beneath(u->base, parent, O_PATH | O_DIRECTORY);
        if (fd != -ENOENT)
                return fd;
        const char *name;
        NB_AUTO_CLOSE int above = open_parent(u, parent, &name);
        if (above < 0)
                return above;
        if (mkdirat(above, name, 0777) < 0 && errno != EEXIST)
                return -errno;
        return open_beneath(above, name, O_PATH | O_DIRECTORY);
}

/* ---- members */

static int put_folder(struct unpack *u, int parent, const char *name, const char *path, mode_t mode, struct timespec mtime) {
        if (*name && mkdirat(parent, name, (mode | S_IRWXU) & 0777) < 0) {
                struct stat st;
                if (errno != EEXIST)
                        return -errno;
                if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
                        return -ENOTDIR;
                return 0; /* it was there: its mode is its owner's business */
        }
        if (*name && u->n_folders < FOLDERS_MAX) {
                if ((u->n_folders & (u->n_folders + 1)) == 0)
                        u->folders = nb_realloc(u->folders, 2 * (u->n_folders + 1), sizeof *u->folders);
                u->folders[u->n_folders++] = (struct folder){ nb_strdup(path), mode & ~u->umask, mtime };
        }
        return 0;
}

/* Writes the member's data. A hole in the stream stays a hole. */
static int put_data(struct unpack *u, struct archive *in, int fd, const char *path, struct nb_error *err) {
        const void *block;
        size_t len;
        la_int64_t offset;
        for (int r; (r = archive_read_data_block(in, &block, &len, &offset)) != ARCHIVE_EOF;) {
                if (r == ARCHIVE_RETRY)
                        continue;
                if (r < ARCHIVE_WARN)
                        return nb_fail(err, EIO, "the stream from the box broke off: %s", archive_error_string(in));
                for (size_t done = 0; done < len;) {
                        ssize_t n = pwrite(fd, (const char *)block + done, len - done, offset + (la_int64_t)done);
                        if (n < 0 && errno != EINTR)
                                return nb_fail_errno(err, errno, "cannot write %s", path);
                        done += n > 0 ? (size_t)n : 0;
                }
                if (u->progress)
                        u->progress->add(u->progress->user, path, len);
        }
        return 0;
}

static int fill_file(struct unpack *u, struct archive *in, struct archive_entry *e, int fd, const char *path,
                     struct nb_error *err) {
        int r = put_data(u, in, fd, path, err);
        if (r < 0)
                return r;
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
                                     { .tv_sec = archive_entry_mtime(e), .tv_nsec = archive_entry_mtime_nsec(e) } };
        if (archive_entry_size_is_set(e) && ftruncate(fd, archive_entry_size(e)) < 0)
                return nb_fail_errno(err, errno, "cannot write %s", path);
        if (fchmod(fd, archive_entry_perm(e) & 0777 & ~u->umask) < 0)
                return nb_fail_errno(err, errno, "cannot set the mode of %s", path);
        (void)futimens(fd, times);
        return 0;
}

static int put_file(struct unpack *u, struct archive *in, struct archive_entry *e, int parent, const char *name,
                    const char *path, struct nb_error *err) {
        struct cp_file f;
        int r = cp_file_open(parent, &f);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot create %s", path);
        r = fill_file(u, in, e, f.fd, path, err);
        if (r == 0) {
                r = cp_file_keep(&f, name);
                if (r < 0)
                        nb_fail_errno(err, -r, "cannot replace %s", path);
        }
        cp_file_close(&f);
        return r;
}

static int put_symlink(int parent, const char *name, const char *target) {
        if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
                return -errno;
        return symlinkat(target, parent, name) < 0 ? -errno : 0;
}

/* A second name of a file that came before; never of anything outside the base. */
static int put_hardlink(struct unpack *u, int parent, const char *name, const char *target) {
        const char *old_name;
        NB_AUTO_FREE char *old = member_path(u, target);
        if (!old || !*old)
                return -EXDEV;
        NB_AUTO_CLOSE int old_parent = open_parent(u, old, &old_name);
        if (old_parent < 0)
                return old_parent;
        if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
                return -errno;
        return linkat(old_parent, old_name, parent, name, 0) < 0 ? -errno : 0;
}

static int put_member(struct unpack *u, struct archive *in, struct archive_entry *e, struct nb_error *err) {
        const char *shown = archive_entry_pathname(e), *hardlink = archive_entry_hardlink(e);
        mode_t type = archive_entry_filetype(e);
        if (!u->placed) {
                int r = place(u, type == S_IFDIR, err);
                if (r < 0)
                        return r;
        }
        NB_AUTO_FREE char *path = member_path(u, shown);
        if (!path || (!*path && type != S_IFDIR)) {
                leave_out(u, shown ? shown : "a file", "its name leads outside the folder");
                return 0;
        }
        if (!hardlink && type != S_IFREG && type != S_IFDIR && type != S_IFLNK) {
                leave_out(u, path, "it is a device, a pipe or a socket");
                return 0;
        }
        const char *name;
        NB_AUTO_CLOSE int parent = open_parent(u, path, &name);
        int r = parent < 0 ? parent : 0;
        struct timespec mtime = { .tv_sec = archive_entry_mtime(e), .tv_nsec = archive_entry_mtime_nsec(e) };
        if (r == 0 && hardlink)
                r = put_hardlink(u, parent, name, hardlink);
        else if (r == 0 && type == S_IFDIR)
                r = put_folder(u, parent, name, path, archive_entry_perm(e) & 0777, mtime);
        else if (r == 0 && type == S_IFLNK)
                r = put_symlink(parent, name, archive_entry_symlink(e) ? archive_entry_symlink(e) : "");
        else if (r == 0)
                return put_file(u, in, e, parent, name, path, err);
        if (r == -ELOOP || r == -EXDEV) {
                leave_out(u, path, "a symbolic link is in the way");
                return 0;
        }
        return r < 0 ? nb_fail_errno(err, -r, "cannot write %s", path) : 0;
}

/* Modes and times of folders come last: a read-only folder must still be filled, and filling changes its time. */
static void finish_folders(struct unpack *u) {
        while (u->n_folders > 0) {
                struct folder *f = &u->folders[--u->n_folders];
                NB_AUTO_CLOSE int fd = open_beneath(u->base, f->path, O_RDONLY | O_DIRECTORY);
                struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, f->mtime };
                if (fd >= 0) {
                        (void)futimens(fd, times);
                        (void)fchmod(fd, f->mode);
                }
                free(f->path);
        }
        free(u->folders);
}

static int unpack_all(struct unpack *u, struct archive *in, struct nb_error *err) {
        struct archive_entry *e;
        for (int r; (r = archive_read_next_header(in, &e)) != ARCHIVE_EOF;) {
                if (r == ARCHIVE_RETRY)
                        continue;
                if (r < ARCHIVE_WARN)
                        return nb_fail(err, EPROTO, "the stream from the box is not a tar archive: %s",
                                       archive_error_string(in));
                u->members++;
                r = put_member(u, in, e, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What tar sends after the end mark to fill its last block. If it could not, it would fail at the very end. */
static void take_trailer(int fd) {
        char filling[4096];
        ssize_t n;
        for (size_t taken = 0; taken < TRAILER_MAX && (n = nb_read_full(fd, filling, sizeof filling)) > 0; taken += (size_t)n)
                ;
}

int cp_unpack(int fd, const char *root, const char *destination, bool as_folder, const struct cp_progress *progress,
              uint64_t *ret_members, struct nb_error *err) {
        struct unpack u = {
                .root = root, .destination = destination, .as_folder = as_folder, .progress = progress, .base = -1
        };
        u.umask = umask(0);
        (void)umask(u.umask);
        struct archive *in = archive_read_new();
        int r = 0;
        if (!in || archive_read_support_format_tar(in) != ARCHIVE_OK ||
            archive_read_open_fd(in, fd, BLOCK_SIZE) != ARCHIVE_OK) {
                r = nb_fail(err, EPROTO, "the stream from the box is not a tar archive%s%s", in ? ": " : "",
                            in ? archive_error_string(in) : "");
                /* an empty stream is the business of whoever knows why */
        } else {
                r = unpack_all(&u, in, err);
                if (r == 0)
                        take_trailer(fd);
        }
        finish_folders(&u);
        if (u.left_out > NOTES_MAX)
                nb_warn("left out %u in all", u.left_out);
        *ret_members = u.members;
        nb_close(u.base);
        free(u.prefix);
        (void)archive_read_free(in);
        return r;
}
