/* Nodes of the tree: names to inodes, paths to nodes. Symbolic links are followed inside the tree only, and content is kept in
 * one temporary file (see tree_internal.h). */
#include <errno.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/tree_internal.h"

/* ---- inodes */

struct tree_inode *tree_inode_new(mode_t mode, uint32_t uid, uint32_t gid) {
        struct tree_inode *i = nb_calloc(1, sizeof *i);
        *i = (struct tree_inode){ .refs = 1, .mode = mode, .uid = uid, .gid = gid };
        return i;
}

void tree_inode_unref(struct tree_inode *i) {
        if (!i || --i->refs > 0)
                return;
        for (struct tree_xattr *x = i->xattrs, *next; x; x = next) {
                next = x->next;
                free(x->name);
                free(x);
        }
        free(i->target);
        free(i->written);
        free(i);
}

int tree_inode_xattr(struct tree_inode *i, const char *name, const void *value, size_t len) {
        if (!nb_starts_with(name, "user.") && strcmp(name, "security.capability") != 0)
                return 0;
        if (strlen(name) > TREE_NAME_MAX || len > TREE_XATTR_MAX)
                return -E2BIG;
        size_t n = 0;
        for (const struct tree_xattr *x = i->xattrs; x; x = x->next)
                n++;
        struct tree_xattr **at = &i->xattrs;
        while (*at && strcmp((*at)->name, name) < 0)
                at = &(*at)->next;
        bool same = *at && strcmp((*at)->name, name) == 0; /* one header may say the same in two ways */
        if (!same && n >= TREE_XATTRS_MAX)
                return -E2BIG;
        struct tree_xattr *x = nb_calloc(1, sizeof *x + len);
        x->name = nb_strdup(name);
        x->len = len;
        if (len > 0)
                memcpy(x->value, value, len);
        x->next = *at;
        if (same) {
                struct tree_xattr *old = *at;
                x->next = old->next;
                free(old->name);
                free(old);
        }
        *at = x;
        return 0;
}

/* ---- nodes */

static int by_name(const void *a, const void *b) {
        return strcmp(((const struct tree_node *)a)->name, ((const struct tree_node *)b)->name);
}

struct tree_node *tree_kid(const struct tree_node *dir, const char *name) {
        const struct tree_node key = { .name = (char *)name };
        struct tree_node *const *found = tfind(&key, &dir->kids, by_name);
        return found ? *found : NULL;
}

struct kid_list {
        struct tree_node **kids;
        size_t n;
};

static void collect(const void *at, VISIT which, void *user) {
        struct kid_list *l = user;
        if (which == postorder || which == leaf)
                l->kids[l->n++] = *(struct tree_node *const *)at;
}

struct tree_node **tree_kids(const struct tree_node *dir) {
        struct kid_list l = { .kids = nb_calloc(dir->n_kids + 1, sizeof(struct tree_node *)) };
        twalk_r(dir->kids, collect, &l);
        return l.kids;
}

static void free_node(void *p) {
        struct tree_node *n = p;
        tdestroy(n->kids, free_node);
        tree_inode_unref(n->inode);
        free(n->name);
        free(n);
}

void tree_drop(struct tree_node *node) {
        if (node->parent) {
                (void)tdelete(node, &node->parent->kids, by_name);
                node->parent->n_kids--;
        }
        free_node(node);
}

static void replace(struct tree_node *n, struct tree_inode *inode) {
        if (!S_ISDIR(inode->mode) || !S_ISDIR(n->inode->mode)) {
                tdestroy(n->kids, free_node);
                n->kids = NULL;
                n->n_kids = 0;
        }
        inode->refs++;
        tree_inode_unref(n->inode);
        n->inode = inode;
}

int tree_put(struct tree *t, struct tree_node *dir, const char *name, struct tree_inode *inode, struct tree_node **ret) {
        struct tree_node *n = tree_kid(dir, name);
        if (n) {
                replace(n, inode);
        } else {
                size_t path_len = dir->path_len + 1 + strlen(name);
                if (path_len > TREE_PATH_MAX || dir->depth >= TREE_DEPTH_MAX)
                        return -ENAMETOOLONG;
                n = nb_calloc(1, sizeof *n);
                *n = (struct tree_node){
                        .name = nb_strdup(name), .parent = dir, .inode = inode, .depth = dir->depth + 1, .path_len = path_len
                };
                inode->refs++;
                if (!tsearch(n, &dir->kids, by_name)) {
                        free_node(n);
                        return -ENOMEM;
                }
                dir->n_kids++;
        }
        n->layer = t->layer;
        if (ret)
                *ret = n;
        return 0;
}

int tree_count(struct tree *t) {
        if (t->entries >= t->limits.entries)
                return -EOVERFLOW;
        t->entries++;
        return 0;
}

/* ---- paths */

static void drop_last(char *path) {
        char *slash = strrchr(path, '/');
        *(slash ? slash : path) = 0;
}

int tree_clean(const char *name, unsigned strip, char **ret) {
        size_t len = strlen(name);
        if (len > TREE_PATH_MAX)
                return -ENAMETOOLONG;
        NB_AUTO_FREE char *out = nb_calloc(len + 2, 1);
        bool absolute = name[0] == '/';
        for (size_t n; *name; name += n + (name[n] == '/')) {
                n = strcspn(name, "/");
                if (n > TREE_NAME_MAX)
                        return -ENAMETOOLONG;
                if (n == 0 || (n == 1 && name[0] == '.'))
                        continue;
                if (n == 2 && name[0] == '.' && name[1] == '.') {
                        if (!*out && !absolute) /* of an absolute name, ".." at the root is the root */
                                return -EBADMSG;
                        drop_last(out);
                        continue;
                }
                size_t end = strlen(out);
                if (end > 0)
                        out[end++] = '/';
                memcpy(out + end, name, n);
                out[end + n] = 0;
        }
        const char *rest = out;
        for (; strip > 0; strip--) {
                rest = strchr(rest, '/');
                if (!rest)
                        return 0;
                rest++;
        }
        *ret = nb_strdup(rest);
        return 0;
}

static int make_folder(struct tree *t, struct tree_node *at, const char *name, struct tree_node **ret) {
        int r = tree_count(t);
        if (r < 0)
                return r;
        __attribute__((cleanup(tree_inode_unrefp))) struct tree_inode *i = tree_inode_new(S_IFDIR | 0755, 0, 0);
        return tree_put(t, at, name, i, ret);
}

/* Goes from `*at` along a path to a folder, as a process does whose root folder is `base`. */
static int walk(struct tree *t, struct tree_node *base, const char *path, bool make, unsigned *links, struct tree_node **at) {
        for (size_t n; *path; path += n + (path[n] == '/')) {
                n = strcspn(path, "/");
                if (n == 0 || (n == 1 && path[0] == '.'))
                        continue;
                if (n == 2 && path[0] == '.' && path[1] == '.') {
                        *at = *at == base ? base : (*at)->parent;
                        continue;
                }
                if (n > TREE_NAME_MAX)
                        return -ENAMETOOLONG;
                char name[TREE_NAME_MAX + 1];
                memcpy(name, path, n);
                name[n] = 0;
                struct tree_node *kid = tree_kid(*at, name);
                int r = kid ? 0 : make ? make_folder(t, *at, name, &kid) : -ENOENT;
                if (r < 0 || !kid)
                        return r;
                if (S_ISDIR(kid->inode->mode)) {
                        *at = kid;
                        continue;
                }
                if (!S_ISLNK(kid->inode->mode))
                        return -ENOTDIR;
                if (++*links > TREE_LINKS_MAX)
                        return -ELOOP;
                if (kid->inode->target[0] == '/')
                        *at = base;
                r = walk(t, base, kid->inode->target, make, links, at);
                if (r < 0)
                        return r;
        }
        return 0;
}

int tree_folder(struct tree *t, struct tree_node *base, const char *path, bool make, struct tree_node **ret) {
        unsigned links = 0;
        *ret = base;
        return walk(t, base, path, make, &links, ret);
}

int tree_parent(struct tree *t, struct tree_node *base, const char *path, bool make, struct tree_node **ret,
                const char **ret_name) {
        const char *slash = strrchr(path, '/');
        *ret_name = slash ? slash + 1 : path;
        NB_AUTO_FREE char *above = nb_strndup(path, slash ? (size_t)(slash - path) : 0);
        return **ret_name ? tree_folder(t, base, above, make, ret) : -EISDIR;
}

/* ---- content */

int tree_data_begin(struct tree *t, struct tree_inode *i, uint64_t size) {
        if (size > t->limits.bytes || t->bytes > t->limits.bytes - size)
                return -EFBIG;
        i->offset = t->bytes;
        i->size = size;
        t->bytes += size;
        return 0;
}

/* EFBIG is the tree's own limit; a limit of the process or its file system is a disk that is full. */
static int no_room(void) {
        return errno == EFBIG ? -ENOSPC : -errno;
}

int tree_data_piece(struct tree *t, const struct tree_inode *i, uint64_t at, const void *bytes, size_t len) {
        const char *p = bytes;
        if (at > i->size || len > i->size - at)
                return -EBADMSG;
        if (len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0))
                return 0; /* a hole: much of nothing takes no room */
        for (off_t to = (off_t)(i->offset + at); len > 0;) {
                ssize_t n = pwrite(t->data, p, len, to);
                if (n < 0 && errno != EINTR)
                        return no_room();
                if (n > 0) {
                        p += n;
                        to += n;
                        len -= (size_t)n;
                }
        }
        return 0;
}

int tree_data_end(struct tree *t, const struct tree_inode *i) {
        return i->size > 0 && ftruncate(t->data, (off_t)t->bytes) < 0 ? no_room() : 0;
}

int tree_data_read(const struct tree *t, const struct tree_inode *i, uint64_t at, void *bytes, size_t len) {
        if (at > i->size || len > i->size - at)
                return -EINVAL;
        for (char *p = bytes; len > 0;) {
                ssize_t n = pread(t->data, p, len, (off_t)(i->offset + at));
                if (n == 0)
                        return -EIO;
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        p += n;
                        at += (uint64_t)n;
                        len -= (size_t)n;
                }
        }
        return 0;
}

int tree_fail(const struct tree *t, struct nb_error *err, int code, const char *name) {
        NB_AUTO_FREE char *limit = nb_format_size(t->limits.bytes);
        switch (-code) {
        case EBADMSG: return nb_fail(err, EBADMSG, "'%s' is not an entry that an image can have", name);
        case EXDEV: return nb_fail(err, EXDEV, "'%s' is a hard link to what is not in the image", name);
        case EFBIG: return nb_fail(err, EFBIG, "'%s' makes the image larger than %s", name, limit);
        case EOVERFLOW: return nb_fail(err, EOVERFLOW, "'%s' is one entry more than %zu", name, t->limits.entries);
        case E2BIG: return nb_fail(err, E2BIG, "'%s' has too many or too large extended attributes", name);
        default: return nb_fail_errno(err, -code, "cannot add '%s' to the image", name);
        }
}
