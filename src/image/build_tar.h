/* The tree that is being built, as a tar and back: sorted by name, hard links and extended attributes kept, owners as
 * numbers. Used inside the builder's own root, from its working folder. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

struct build_tar {
        bool packed;   /* compressed, for the cache */
        bool set_time; /* every file's time in the tar is `time`; else those after it become it, in the tree as well */
        long time;
        bool fake; /* owners are those on record (fakeown.h) */
};
/** Writes the folder ".", and what of it lies on its file system, to `fd`. */
int build_tar_write(int fd, const struct build_tar *how, struct nb_error *err);
/** Unpacks a tar, compressed or not, over the folder "."; with `fake`, owners are recorded. */
int build_tar_read(int fd, const char *name, bool fake, struct nb_error *err);
