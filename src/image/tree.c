/* The tree as its users see it (see tree.h): making one, and single entries. */
#include "image/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "image/tree_internal.h"

int tree_new(const char *tmp, const struct tree_limits *limits, struct tree **ret, struct nb_error *err) {
        __attribute__((cleanup(tree_freep))) struct tree *t = nb_calloc(1, sizeof *t);
        t->limits = *limits;
        t->layer = 1;
        t->data = open(tmp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (t->data < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
                NB_AUTO_FREE char *name = nb_asprintf("%s/.nixbox-tree-XXXXXX", tmp);
                t->data = mkostemp(name, O_CLOEXEC);
                if (t->data >= 0)
                        (void)unlink(name);
        }
        if (t->data < 0)
                return nb_fail_errno(err, errno, "cannot make a temporary file in %s", tmp);
        t->root = nb_calloc(1, sizeof *t->root);
        t->root->name = nb_strdup("");
        t->root->inode = tree_inode_new(S_IFDIR | 0755, 0, 0);
        *ret = nb_steal(&t);
        return 0;
}

void tree_free(struct tree *t) {
        if (!t)
                return;
        if (t->root)
                tree_drop(t->root);
        nb_close(t->data);
        free(t);
}

/* Puts an entry of the caller's own making at a path. */
static int add(struct tree *t, const char *path, struct tree_inode *inode, struct nb_error *err) {
        NB_AUTO_FREE char *clean = NULL;
        struct tree_node *dir;
        const char *name;
        int r = tree_count(t);
        if (r == 0)
                r = tree_clean(path, 0, &clean);
        if (r == 0)
                r = tree_parent(t, t->root, clean, true, &dir, &name);
        if (r == 0)
                r = tree_put(t, dir, name, inode, NULL);
        return r < 0 ? tree_fail(t, err, r, path) : 0;
}

int tree_add_file(struct tree *t, const char *path, const void *bytes, size_t len, unsigned mode, struct nb_error *err) {
        __attribute__((cleanup(tree_inode_unrefp))) struct tree_inode *i = tree_inode_new(S_IFREG | (mode & 07777), 0, 0);
        int r = tree_data_begin(t, i, len);
        if (r == 0)
                r = tree_data_piece(t, i, 0, bytes, len);
        if (r == 0)
                r = tree_data_end(t, i);
        return r < 0 ? tree_fail(t, err, r, path) : add(t, path, i, err);
}

int tree_add_link(struct tree *t, const char *path, const char *target, struct nb_error *err) {
        if (!*target || strlen(target) > TREE_PATH_MAX)
                return tree_fail(t, err, -EBADMSG, path);
        __attribute__((cleanup(tree_inode_unrefp))) struct tree_inode *i = tree_inode_new(S_IFLNK | 0777, 0, 0);
        i->target = nb_strdup(target);
        return add(t, path, i, err);
}

int tree_mkdir(struct tree *t, const char *path, unsigned mode, struct nb_error *err) {
        __attribute__((cleanup(tree_inode_unrefp))) struct tree_inode *i = tree_inode_new(S_IFDIR | (mode & 07777), 0, 0);
        return add(t, path, i, err);
}

/* The node of a path, following no link. NULL if there is none. */
static struct tree_node *look_up(const struct tree *t, const char *path) {
        NB_AUTO_FREE char *clean = NULL;
        if (tree_clean(path, 0, &clean) < 0)
                return NULL;
        struct tree_node *at = t->root;
        char *save = NULL;
        for (const char *part = strtok_r(clean, "/", &save); at && part; part = strtok_r(NULL, "/", &save))
                at = tree_kid(at, part);
        return at;
}

int tree_chmod(struct tree *t, const char *path, unsigned mode) {
        const struct tree_node *n = look_up(t, path);
        if (!n || !S_ISREG(n->inode->mode))
                return -ENOENT;
        n->inode->mode = S_IFREG | (mode & 07777);
        return 0;
}

int tree_remove(struct tree *t, const char *path, struct nb_error *err) {
        struct tree_node *n = look_up(t, path);
        if (n == t->root)
                return tree_fail(t, err, -EBADMSG, path);
        if (n)
                tree_drop(n);
        return 0;
}

int tree_read(const struct tree *t, const char *path, size_t max, char **ret, size_t *ret_len) {
        const struct tree_node *n = look_up(t, path);
        if (!n)
                return -ENOENT;
        if (!S_ISREG(n->inode->mode))
                return -EINVAL;
        if (n->inode->size > max)
                return -EFBIG;
        NB_AUTO_FREE char *bytes = nb_calloc(n->inode->size + 1, 1);
        int r = tree_data_read(t, n->inode, 0, bytes, n->inode->size);
        if (r < 0)
                return r;
        *ret = nb_steal(&bytes);
        if (ret_len)
                *ret_len = n->inode->size;
        return 0;
}
