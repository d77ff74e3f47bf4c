/* Folders of this host into the tree (see tree.h): read through descriptors, following no link and staying on one file
 * system. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/mem.h"
#include "image/tree_internal.h"

/* A file with more than one name. */
struct seen {
        dev_t dev;
        ino_t ino;
        struct tree_inode *inode;
};

struct copying {
        struct tree *t;
        dev_t dev;
        long uid, gid;
        void *seen; /* tsearch() tree */
        char *block;
        char *at; /* what is being read, for messages */
};

static int by_ino(const void *a, const void *b) {
        const struct seen *x = a, *y = b;
        if (x->dev != y->dev)
                return x->dev < y->dev ? -1 : 1;
        return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void free_seen(void *p) {
        struct seen *s = p;
        tree_inode_unref(s->inode);
        free(s);
}

static int copy_xattrs(int fd, struct tree_inode *i) {
        NB_AUTO_FREE char *names = nb_calloc(1, XATTR_LIST_MAX + 1);
        NB_AUTO_FREE char *value = nb_calloc(1, TREE_XATTR_MAX);
        ssize_t len = flistxattr(fd, names, XATTR_LIST_MAX);
        if (len < 0)
                return errno == ENOTSUP ? 0 : -errno;
        int r = 0;
        for (const char *name = names; r == 0 && name < names + len; name += strlen(name) + 1) {
                ssize_t n = fgetxattr(fd, name, value, TREE_XATTR_MAX);
                if (n >= 0)
                        r = tree_inode_xattr(i, name, value, (size_t)n);
                else if (errno == ERANGE) /* an error only if it is one to keep */
                        r = tree_inode_xattr(i, name, NULL, TREE_XATTR_MAX + 1);
        }
        return r;
}

static int copy_content(struct copying *c, int fd, struct tree_inode *i, uint64_t size) {
        int r = tree_data_begin(c->t, i, size);
        for (uint64_t at = 0; r == 0 && at < size;) {
                size_t want = size - at < TREE_BLOCK ? (size_t)(size - at) : TREE_BLOCK;
                ssize_t n = read(fd, c->block, want);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -ESTALE; /* shorter than it was a moment ago */
                r = tree_data_piece(c->t, i, at, c->block, (size_t)n);
                at += (uint64_t)n;
        }
        return r == 0 ? tree_data_end(c->t, i) : r;
}

static struct tree_inode *inode_of(const struct copying *c, const struct stat *st) {
        return tree_inode_new(st->st_mode, c->uid < 0 ? st->st_uid : (uint32_t)c->uid,
                              c->gid < 0 ? st->st_gid : (uint32_t)c->gid);
}

static int copy_link(int dirfd, const char *name, struct tree_inode *i) {
        char target[TREE_PATH_MAX + 1];
        ssize_t n = readlinkat(dirfd, name, target, sizeof target);
        if (n < 0 || (size_t)n == sizeof target)
                return n < 0 ? -errno : -ENAMETOOLONG;
        i->target = nb_strndup(target, (size_t)n);
        return 0;
}

/* A file opened only to be read; what lies there now may be another one than a moment ago. */
static int copy_file(struct copying *c, int dirfd, const char *name, struct tree_inode **ret) {
        struct stat st;
        NB_AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ESTALE;
        struct seen key = { .dev = st.st_dev, .ino = st.st_ino }, *const *before = tfind(&key, &c->seen, by_ino);
        if (st.st_nlink > 1 && before) {
                (*before)->inode->refs++;
                *ret = (*before)->inode;
                return 0;
        }
        __attribute__((cleanup(tree_inode_unrefp))) struct tree_inode *i = inode_of(c, &st);
        int r = copy_xattrs(fd, i);
        if (r == 0)
                r = copy_content(c, fd, i, (uint64_t)st.st_size);
        if (r < 0)
                return r;
        if (st.st_nlink > 1) {
                struct seen *s = nb_calloc(1, sizeof *s);
                *s = (struct seen){ .dev = st.st_dev, .ino = st.st_ino, .inode = i };
                i->refs++;
                if (!tsearch(s, &c->seen, by_ino)) {
                        free_seen(s);
                        return -ENOMEM;
                }
        }
        *ret = nb_steal(&i);
        return 0;
}

static int copy_folder(struct copying *c, int dirfd, struct tree_node *to);

static int copy_entry(struct copying *c, int dirfd, const char *name, struct tree_node *to) {
        struct stat st;
        __attribute__((cleanup(tree_inode_unrefp))) struct tree_inode *i = NULL;
        int r = tree_count(c->t);
        if (r < 0)
                return r;
        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode)) {
                NB_AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0 || fstat(fd, &st) < 0)
                        return -errno;
                struct tree_node *n = NULL;
                i = inode_of(c, &st);
                r = copy_xattrs(fd, i);
                if (r == 0)
                        r = tree_put(c->t, to, name, i, &n);
                /* a mount point is an empty folder */
                return r < 0 || st.st_dev != c->dev ? r : copy_folder(c, fd, n);
        }
        if (S_ISREG(st.st_mode)) {
                r = copy_file(c, dirfd, name, &i);
        } else if (S_ISLNK(st.st_mode) || S_ISFIFO(st.st_mode)) {
                i = inode_of(c, &st);
                r = S_ISLNK(st.st_mode) ? copy_link(dirfd, name, i) : 0;
        }
        return r == 0 && i ? tree_put(c->t, to, name, i, NULL) : r;
}

static int copy_folder(struct copying *c, int dirfd, struct tree_node *to) {
        int copy = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
        DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        if (!dir) {
                int code = errno;
                nb_close(copy);
                return -code;
        }
        int r = 0;
        size_t len = strlen(c->at);
        for (const struct dirent *e; r == 0 && (e = readdir(dir));) {
                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                char *below = nb_asprintf("%s/%s", c->at, e->d_name);
                free(c->at);
                c->at = below;
                r = copy_entry(c, dirfd, e->d_name, to);
                if (r == 0)
                        c->at[len] = 0;
        }
        closedir(dir);
        return r;
}

static struct copying begin(struct tree *t, long uid, long gid) {
        t->layer++;
        return (struct copying){ .t = t, .uid = uid, .gid = gid, .block = nb_calloc(1, TREE_BLOCK) };
}

static void end(struct copying *c) {
        tdestroy(c->seen, free_seen);
        free(c->block);
        free(c->at);
}

int tree_add_dir(struct tree *t, const char *dir, const char *prefix, long uid, long gid, struct nb_error *err) {
        struct stat st;
        struct tree_node *to;
        NB_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return nb_fail_errno(err, errno, "cannot open the folder %s", dir);
        int r = tree_folder(t, t->root, prefix ? prefix : "", true, &to);
        if (r < 0)
                return tree_fail(t, err, r, prefix);
        __attribute__((cleanup(end))) struct copying c = begin(t, uid, gid);
        c.dev = st.st_dev;
        c.at = nb_strdup(dir);
        tree_inode_unref(to->inode);
        to->inode = inode_of(&c, &st);
        r = copy_xattrs(fd, to->inode);
        if (r == 0)
                r = copy_folder(&c, fd, to);
        return r < 0 ? tree_fail(t, err, r, c.at) : 0;
}

static int add_path(struct copying *c, const char *path) {
        struct stat st;
        struct tree_node *to = NULL;
        const char *name = NULL, *slash = strrchr(path, '/');
        NB_AUTO_FREE char *clean = NULL, *parent = nb_strndup(path, slash ? (size_t)(slash - path) : 0);
        int r = slash ? tree_clean(path, 0, &clean) : -EINVAL;
        if (r == 0)
                r = tree_parent(c->t, c->t->root, clean, true, &to, &name);
        if (!to || !name) /* set on success only */
                return r;
        NB_AUTO_CLOSE int fd = open(*parent ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        c->dev = st.st_dev;
        return copy_entry(c, fd, name, to);
}

int tree_add_paths(struct tree *t, char *const *paths, long uid, long gid, struct nb_error *err) {
        __attribute__((cleanup(end))) struct copying c = begin(t, uid, gid);
        for (size_t i = 0; paths && paths[i]; i++) {
                free(c.at);
                c.at = nb_strdup(paths[i]);
                int r = add_path(&c, paths[i]);
                if (r < 0)
                        return tree_fail(t, err, r, c.at);
        }
        return 0;
}
