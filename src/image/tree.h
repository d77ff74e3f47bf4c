/* A tree of files in memory, put together from tars, layers of OCI images and folders, and written as one tar that is the same
 * for the same content: sorted, with whole-second times set to one value, without the names of users. Nothing is ever made
 * on the host's file system under a name that comes from outside, so "..", absolute links, devices and whiteouts can do no
 * harm; contents lie in one unnamed temporary file or stay where they were. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct tree;
struct tree_limits {
        uint64_t bytes; /* of all contents */
        size_t entries;
};
/** An empty tree (a root folder, 0755 root). `tmp` is a folder for the temporary file. */
int tree_new(const char *tmp, const struct tree_limits *limits, struct tree **ret, struct nb_error *err);
void tree_free(struct tree *t);
static inline void tree_freep(struct tree **t) {
        tree_free(*t);
}
/** Adds a tar (compressed or not) over what is there. With `whiteouts`, ".wh.NAME" and ".wh..wh..opq" delete as the OCI image
 *  specification says. `prefix` ("usr/local/lib/node_modules/x", may be NULL) goes before every name; `strip` leading parts of
 *  each name are dropped. */
struct tree_add {
        const char *prefix;
        unsigned strip;
        bool whiteouts;
        bool root_owned; /* all owners become 0:0, modes 0644 or 0755 */
        bool files_only; /* links and anything special are left out */
};
int tree_add_tar(struct tree *t, const char *tar, const struct tree_add *how, struct nb_error *err);
/** Adds a folder of this host, not following links and not leaving its file system; owners become `uid`:`gid` where
 *  that is not -1. */
int tree_add_dir(struct tree *t, const char *dir, const char *prefix, long uid, long gid, struct nb_error *err);
/** Adds files, folders and links of this host (NULL-terminated) at the very paths they have here. */
int tree_add_paths(struct tree *t, char *const *paths, long uid, long gid, struct nb_error *err);
int tree_add_file(struct tree *t, const char *path, const void *bytes, size_t len, unsigned mode, struct nb_error *err);
int tree_add_link(struct tree *t, const char *path, const char *target, struct nb_error *err);
int tree_mkdir(struct tree *t, const char *path, unsigned mode, struct nb_error *err);
/** Sets the permissions of a file. -ENOENT if there is none at the path. */
int tree_chmod(struct tree *t, const char *path, unsigned mode);
/** Removes it and what is below; 0 if it is not there. */
int tree_remove(struct tree *t, const char *path, struct nb_error *err);
/** Reads a file's content (following no link) of at most `max` bytes. -ENOENT. New NUL-terminated memory. */
int tree_read(const struct tree *t, const char *path, size_t max, char **ret, size_t *ret_len);
/** Writes the tar. */
int tree_write(const struct tree *t, const char *to, struct nb_error *err);
