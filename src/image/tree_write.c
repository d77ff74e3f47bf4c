/* The tree as a tar (see tree.h): folders before what is in them, names in byte order, so that the same content gives the
 * same bytes in whatever order it came. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "image/build.h"
#include "image/tree_internal.h"

struct writing {
        const struct tree *t;
        struct archive *a;
        struct archive_entry *e;
        char *block;
};

static int write_content(struct writing *w, const struct tree_inode *i) {
        for (uint64_t at = 0; at < i->size;) {
                size_t n = i->size - at < TREE_BLOCK ? (size_t)(i->size - at) : TREE_BLOCK;
                int r = tree_data_read(w->t, i, at, w->block, n);
                if (r < 0)
                        return r;
                if (archive_write_data(w->a, w->block, n) != (la_ssize_t)n)
                        return archive_errno(w->a) > 0 ? -archive_errno(w->a) : -EIO;
                at += n;
        }
        return 0;
}

static int write_entry(struct writing *w, const char *path, struct tree_inode *i) {
        bool content = false;
        archive_entry_clear(w->e);
        archive_entry_copy_pathname(w->e, path);
        archive_entry_set_mode(w->e, i->mode);
        archive_entry_set_uid(w->e, i->uid);
        archive_entry_set_gid(w->e, i->gid);
        archive_entry_set_mtime(w->e, strtoll(BUILD_EPOCH, NULL, 10), 0);
        archive_entry_set_size(w->e, 0);
        if (i->written) {
                archive_entry_copy_hardlink(w->e, i->written);
        } else {
                if (i->refs > 1)
                        i->written = nb_strdup(path);
                if (S_ISLNK(i->mode))
                        archive_entry_copy_symlink(w->e, i->target);
                content = S_ISREG(i->mode);
                if (content)
                        archive_entry_set_size(w->e, (int64_t)i->size);
                for (const struct tree_xattr *x = i->xattrs; x; x = x->next)
                        archive_entry_xattr_add_entry(w->e, x->name, x->value, x->len);
        }
        int status = archive_write_header(w->a, w->e);
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN)
                return archive_errno(w->a) > 0 ? -archive_errno(w->a) : -EIO;
        return content ? write_content(w, i) : 0;
}

static int write_node(struct writing *w, const struct tree_node *n, const char *path) {
        int r = write_entry(w, *path ? path : "./", n->inode);
        NB_AUTO_FREE struct tree_node **kids = tree_kids(n);
        for (size_t i = 0; r == 0 && kids[i]; i++) {
                NB_AUTO_FREE char *below = nb_asprintf("%s%s%s", path, *path ? "/" : "", kids[i]->name);
                r = write_node(w, kids[i], below);
        }
        return r;
}

/* The marks of hard links are of one writing only. */
static void forget_written(const struct tree_node *n) {
        free(n->inode->written);
        n->inode->written = NULL;
        NB_AUTO_FREE struct tree_node **kids = tree_kids(n);
        for (size_t i = 0; kids[i]; i++)
                forget_written(kids[i]);
}

int tree_write(const struct tree *t, const char *to, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return nb_fail_errno(err, errno, "cannot make %s", to);
        NB_AUTO_FREE char *block = nb_calloc(1, TREE_BLOCK);
        struct writing w = { .t = t, .a = archive_write_new(), .e = archive_entry_new(), .block = block };
        archive_write_set_format_pax_restricted(w.a);
        /* names as they are, whatever the locale; and each attribute once */
        int r = archive_write_set_options(w.a, "hdrcharset=BINARY,xattrheader=SCHILY") != ARCHIVE_OK ? -ENOTSUP : 0;
        (void)archive_write_set_bytes_per_block(w.a, (int)TREE_BLOCK);
        (void)archive_write_set_bytes_in_last_block(w.a, 1);
        if (r == 0 && archive_write_open_fd(w.a, fd) != ARCHIVE_OK)
                r = -EIO;
        if (r == 0)
                r = write_node(&w, t->root, "");
        if (r == 0 && archive_write_close(w.a) != ARCHIVE_OK)
                r = archive_errno(w.a) > 0 ? -archive_errno(w.a) : -EIO;
        forget_written(t->root);
        archive_entry_free(w.e);
        archive_write_free(w.a);
        return r < 0 ? nb_fail_errno(err, -r, "cannot write %s", to) : 0;
}
