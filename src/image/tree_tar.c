/* Tars into the tree (see tree.h). libarchive only parses; every name, size, owner and link of what it says is checked here. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/text.h"
#include "image/tree_internal.h"

#define WHITEOUT ".wh." /* the OCI image specification's marks in a layer */
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_OTHER ".wh..wh." /* notes of aufs for itself, in old layers */
#define OVERHEAD_MAX 4096u        /* bytes of headers that an entry has at most, on average */

struct reading {
        struct tree *t;
        struct archive *a;
        struct archive_entry *e;
        const struct tree_add *how;
        struct tree_node *base; /* what the tar's root is in the tree */
};

static void archive_readp(struct archive **a) {
        if (*a)
                archive_read_free(*a);
}

/* ---- whiteouts */

/* Removes what is there from layers before this one. A folder stays for what this layer has put into it. */
static void drop_lower(struct tree *t, struct tree_node *n, bool keep) {
        NB_AUTO_FREE struct tree_node **kids = tree_kids(n);
        for (size_t i = 0; kids[i]; i++)
                drop_lower(t, kids[i], false);
        if (keep || n->layer == t->layer)
                return;
        if (n->n_kids == 0) {
                tree_drop(n);
                return;
        }
        struct tree_inode *fresh = tree_inode_new(S_IFDIR | 0755, 0, 0);
        tree_inode_unref(n->inode);
        n->inode = fresh;
}

static int whiteout(struct reading *rd, const char *path, const char *name) {
        const char *hidden = name + strlen(WHITEOUT);
        struct tree_node *dir;
        const char *last;
        bool opaque = strcmp(name, WHITEOUT_OPAQUE) == 0;
        if (!opaque && nb_starts_with(name, WHITEOUT_OTHER))
                return 0;
        if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
                return -EBADMSG;
        int r = tree_parent(rd->t, rd->base, path, false, &dir, &last);
        if (r == -ENOENT || r == -ENOTDIR)
                return 0; /* nothing there to hide */
        if (r < 0)
                return r;
        struct tree_node *kid = opaque ? NULL : tree_kid(dir, hidden);
        if (opaque)
                drop_lower(rd->t, dir, true);
        else if (kid)
                drop_lower(rd->t, kid, false);
        return 0;
}

/* True if the entry is a mark, or belongs to one, and was dealt with; *ret_code says how. */
static bool is_whiteout(struct reading *rd, const char *path, int *ret_code) {
        for (const char *part = path; rd->how->whiteouts && part; part = strchr(part, '/')) {
                part += *part == '/';
                if (!nb_starts_with(part, WHITEOUT))
                        continue;
                if (!strchr(part, '/'))
                        *ret_code = whiteout(rd, path, part);
                else
                        *ret_code = nb_starts_with(part, WHITEOUT_OTHER) ? 0 : -EBADMSG;
                return true;
        }
        return false;
}

/* ---- entries */

static int take_xattrs(struct archive_entry *e, struct tree_inode *i) {
        int r = 0;
        (void)archive_entry_xattr_reset(e);
        for (;;) {
                const char *name = NULL;
                const void *value = NULL;
                size_t len = 0;
                if (r < 0 || archive_entry_xattr_next(e, &name, &value, &len) != ARCHIVE_OK)
                        return r;
                if (name)
                        r = tree_inode_xattr(i, name, value, len);
        }
}

static int take_data(struct reading *rd, struct tree_inode *i) {
        int64_t size = archive_entry_size(rd->e);
        int r = size < 0 ? -EBADMSG : tree_data_begin(rd->t, i, (uint64_t)size);
        while (r == 0) {
                const void *bytes = NULL;
                size_t len = 0;
                int64_t at = 0;
                int status = archive_read_data_block(rd->a, &bytes, &len, &at);
                if (status == ARCHIVE_EOF)
                        return tree_data_end(rd->t, i);
                if (status != ARCHIVE_OK && status != ARCHIVE_WARN)
                        return -EIO;
                r = at < 0 ? -EBADMSG : tree_data_piece(rd->t, i, (uint64_t)at, bytes, len);
        }
        return r;
}

static int take_inode(struct reading *rd, mode_t type, struct tree_inode **ret) {
        int64_t uid = archive_entry_uid(rd->e), gid = archive_entry_gid(rd->e);
        mode_t perm = archive_entry_perm(rd->e) & 07777;
        bool plain = rd->how->root_owned;
        if (uid < 0 || uid > TREE_ID_MAX || gid < 0 || gid > TREE_ID_MAX)
                return -EBADMSG;
        if (plain)
                perm = type == S_IFDIR || (perm & 0111) ? 0755 : 0644;
        if (type == S_IFLNK)
                perm = 0777;
        __attribute__((cleanup(tree_inode_unrefp))) struct tree_inode *i =
            tree_inode_new(type | perm, plain ? 0 : (uint32_t)uid, plain ? 0 : (uint32_t)gid);
        const char *target = archive_entry_symlink(rd->e);
        if (type == S_IFLNK && (!target || !*target))
                return -EBADMSG;
        if (type == S_IFLNK && strlen(target) > TREE_PATH_MAX)
                return -ENAMETOOLONG;
        if (type == S_IFLNK)
                i->target = nb_strdup(target);
        int r = plain || type == S_IFLNK ? 0 : take_xattrs(rd->e, i);
        if (r == 0 && type == S_IFREG)
                r = take_data(rd, i);
        if (r == 0)
                *ret = nb_steal(&i);
        return r;
}

static int put_hard_link(struct reading *rd, struct tree_node *dir, const char *name, const char *target) {
        NB_AUTO_FREE char *clean = NULL;
        struct tree_node *holds = NULL;
        const char *last;
        int r = tree_clean(target, rd->how->strip, &clean);
        if (r == -EBADMSG || (r == 0 && !clean))
                return -EXDEV;
        if (r == 0)
                r = tree_parent(rd->t, rd->base, clean, false, &holds, &last);
        const struct tree_node *n = r == 0 ? tree_kid(holds, last) : NULL;
        if (r == -ENAMETOOLONG)
                return r;
        if (!n || S_ISDIR(n->inode->mode))
                return -EXDEV;
        struct tree_inode *i = n->inode;
        i->refs++; /* what has the name until now may be the last to hold it */
        r = tree_put(rd->t, dir, name, i, NULL);
        tree_inode_unref(i);
        return r;
}

/* The tar's own root: owners and modes of the folder that is there. */
static int put_root(struct reading *rd, mode_t type) {
        __attribute__((cleanup(tree_inode_unrefp))) struct tree_inode *i = NULL;
        if (type != S_IFDIR)
                return -EBADMSG;
        int r = take_inode(rd, type, &i);
        if (r < 0)
                return r;
        struct tree_inode *old = rd->base->inode;
        rd->base->inode = nb_steal(&i);
        tree_inode_unref(old);
        return 0;
}

static int put_entry(struct reading *rd, const char *path) {
        mode_t type = archive_entry_filetype(rd->e);
        const char *hard = archive_entry_hardlink(rd->e), *name;
        struct tree_node *dir;
        if (!*path)
                return hard ? -EBADMSG : put_root(rd, type);
        if (rd->how->files_only && (hard || (type != S_IFREG && type != S_IFDIR)))
                return 0;
        int r = tree_parent(rd->t, rd->base, path, true, &dir, &name);
        if (r < 0)
                return r;
        if (hard)
                return put_hard_link(rd, dir, name, hard);
        if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK && type != S_IFIFO) {
                /* devices are the guest's kernel's to make, sockets mean nothing without their program */
                struct tree_node *old = tree_kid(dir, name);
                if (old)
                        tree_drop(old);
                return 0;
        }
        __attribute__((cleanup(tree_inode_unrefp))) struct tree_inode *i = NULL;
        r = take_inode(rd, type, &i);
        return r < 0 ? r : tree_put(rd->t, dir, name, i, NULL);
}

static int add_entry(struct reading *rd) {
        const struct tree_limits *max = &rd->t->limits;
        const char *name = archive_entry_pathname(rd->e);
        NB_AUTO_FREE char *path = NULL;
        int r = tree_count(rd->t);
        /* what is skipped has to be decompressed as well */
        if (r == 0 && ((uint64_t)archive_entry_size(rd->e) > max->bytes ||
                       (uint64_t)archive_filter_bytes(rd->a, 0) > max->bytes + (uint64_t)max->entries * OVERHEAD_MAX))
                r = -EFBIG;
        if (r == 0)
                r = name ? tree_clean(name, rd->how->strip, &path) : -EBADMSG;
        if (r < 0 || !path || is_whiteout(rd, path, &r))
                return r;
        return put_entry(rd, path);
}

static int read_all(struct reading *rd, const char *tar, struct nb_error *err) {
        for (;;) {
                int status = archive_read_next_header(rd->a, &rd->e);
                if (status == ARCHIVE_EOF)
                        return 0;
                /* a warning is about the locale, which is none of our business: names are bytes */
                if (status != ARCHIVE_OK && status != ARCHIVE_WARN)
                        return nb_fail(err, EBADMSG, "cannot read %s: %s", tar, archive_error_string(rd->a));
                int r = add_entry(rd);
                if (r == -EIO)
                        return nb_fail(err, EBADMSG, "cannot read %s: %s", tar, archive_error_string(rd->a));
                if (r < 0) {
                        const char *name = archive_entry_pathname(rd->e);
                        tree_fail(rd->t, err, r, name ? name : "");
                        return nb_context(err, "cannot use %s", tar);
                }
        }
}

int tree_add_tar(struct tree *t, const char *tar, const struct tree_add *how, struct nb_error *err) {
        struct reading rd = { .t = t, .how = how, .base = t->root };
        t->layer++;
        if (how->prefix) {
                int r = tree_folder(t, t->root, how->prefix, true, &rd.base);
                if (r < 0)
                        return tree_fail(t, err, r, how->prefix);
        }
        __attribute__((cleanup(archive_readp))) struct archive *a = archive_read_new();
        rd.a = a;
        archive_read_support_format_tar(a);
        archive_read_support_filter_gzip(a);
        archive_read_support_filter_xz(a);
        archive_read_support_filter_zstd(a);
        if (archive_read_open_filename(a, tar, TREE_BLOCK) != ARCHIVE_OK)
                return nb_fail(err, EBADMSG, "cannot read %s: %s", tar, archive_error_string(a));
        return read_all(&rd, tar, err);
}
