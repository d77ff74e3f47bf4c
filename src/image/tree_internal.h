/* What the files of the tree share (see tree.h): its nodes, and the few things that are done with them. Names in a folder are
 * kept sorted by glibc's tsearch(), so that no order of entries makes adding them slow. */
#pragma once
#include <sys/types.h>

#include "image/tree.h"

#define TREE_NAME_MAX 255u   /* bytes of one part of a path */
#define TREE_PATH_MAX 4095u  /* bytes of a path, and of a link's target */
#define TREE_DEPTH_MAX 256u  /* folders in each other */
#define TREE_LINKS_MAX 40u   /* symbolic links followed for one path, as in the kernel */
#define TREE_XATTRS_MAX 64u  /* extended attributes of one entry */
#define TREE_XATTR_MAX 4096u /* bytes of one */
#define TREE_ID_MAX 0xfffffffeu
#define TREE_BLOCK (128u * 1024u)

struct tree_xattr {
        struct tree_xattr *next;
        char *name;
        size_t len;
        unsigned char value[];
};

/* What hard links share. */
struct tree_inode {
        unsigned refs;
        mode_t mode; /* with the type */
        uint32_t uid, gid;
        char *target;              /* of a symbolic link */
        uint64_t offset, size;     /* of a file: where its content lies in the temporary file */
        struct tree_xattr *xattrs; /* sorted by name */
        char *written;             /* while a tar is written: the path that has the content */
};

struct tree_node {
        char *name;
        struct tree_node *parent;
        struct tree_inode *inode;
        void *kids; /* of a folder, see tsearch(3) */
        size_t n_kids;
        unsigned layer; /* when it was last put here */
        unsigned depth;
        size_t path_len;
};

struct tree {
        struct tree_limits limits;
        int data;       /* the temporary file */
        uint64_t bytes; /* used of it; what was replaced counts, too */
        size_t entries; /* added, whether they are still there or not */
        unsigned layer; /* of what is being added */
        struct tree_node *root;
};

struct tree_inode *tree_inode_new(mode_t mode, uint32_t uid, uint32_t gid);
void tree_inode_unref(struct tree_inode *i);
static inline void tree_inode_unrefp(struct tree_inode **i) {
        tree_inode_unref(*i);
}
/** Keeps an attribute if it is one that a guest needs ("user.*", "security.capability"). Returns 0 or -errno. */
int tree_inode_xattr(struct tree_inode *i, const char *name, const void *value, size_t len);

struct tree_node *tree_kid(const struct tree_node *dir, const char *name);
/** The entries of a folder in order; a new list that ends with NULL. */
struct tree_node **tree_kids(const struct tree_node *dir);
/** Puts an inode below a folder, in place of what has the name; a folder in place of a folder keeps what is in it. The
 *  reference is the caller's still. Returns 0 or -errno. */
int tree_put(struct tree *t, struct tree_node *dir, const char *name, struct tree_inode *inode, struct tree_node **ret);
void tree_drop(struct tree_node *node);
/** Text from outside as a path without ".", ".." and "", and without its first `strip` parts: new string, "" for the root,
 *  NULL if nothing is left after stripping. -EBADMSG: leads out of its root; -ENAMETOOLONG. */
int tree_clean(const char *name, unsigned strip, char **ret);
/** The folder that holds the last part of a clean path, `*ret_name` (into `path`). Symbolic links on the way are followed as
 *  if `base` were the root folder. With `make`, missing folders are made. Returns 0 or -errno. */
int tree_parent(struct tree *t, struct tree_node *base, const char *path, bool make, struct tree_node **ret,
                const char **ret_name);
/** The same for a whole path that is to be a folder. */
int tree_folder(struct tree *t, struct tree_node *base, const char *path, bool make, struct tree_node **ret);
/** Counts one more entry. */
int tree_count(struct tree *t);
/** Begins a file's content of a known size at the end of the temporary file; then its pieces, then its end. */
int tree_data_begin(struct tree *t, struct tree_inode *i, uint64_t size);
int tree_data_piece(struct tree *t, const struct tree_inode *i, uint64_t at, const void *bytes, size_t len);
int tree_data_end(struct tree *t, const struct tree_inode *i);
/** Reads a piece of it. */
int tree_data_read(const struct tree *t, const struct tree_inode *i, uint64_t at, void *bytes, size_t len);
/** Says why an entry cannot be added. `code` is negative. */
int tree_fail(const struct tree *t, struct nb_error *err, int code, const char *name);
