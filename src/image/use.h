/* Taking what lies in the store into use: marks it so that nothing removes it, and makes sure that it still is what its digest
 * says. What the inodes said when the content was last read is on record, so this reads nothing as long as they say the
 * same; otherwise, as in a copied store, everything is read once. */
#pragma once
#include "base/error.h"
#include "image/store.h"

struct use {
        const struct store *s;
        const struct image_progress *progress;
        bool repair;     /* what was changed is removed, so that it is built again */
        struct image *i; /* keeps the marks */
};
/* All return -ESTALE if the thing is not there, or no longer: to be found or built again. -EBADMSG: it was changed. */

/* A file of a folder, and what its inode says. */
struct use_part {
        const char *file;
        char **ret_seal;
};
/** A folder of the store, sealed under its digest. `what` is a word for it: "runtime". `parts` are the files of it that are
 *  opened by themselves, ended by one without a name; NULL: none. */
int use_tree(const struct use *u, const char *what, const char *path, const char *digest, const struct use_part *parts,
             struct nb_error *err);
/** A file of the store. */
int use_file(const struct use *u, const char *what, const char *path, const char *digest, char **ret_seal,
             struct nb_error *err);
/** Removes from the store what nothing may find there any more; a box that has it open keeps it. Returns -errno. */
int use_discard(const struct store *s, const char *path);
/** The record of what the inodes of an entry of the store said. New string: the key; the kind is USE_RECORD. */
#define USE_RECORD "seal"
char *use_key(const char *path);
