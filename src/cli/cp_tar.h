/* The host's side of cp: tar streams read into files here, and files here written as tar streams. The stream from a box is
 * hostile: it may write below the folder that was named and nowhere else, through no symbolic link, and leaves no set-id
 * bit, device or foreign owner. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct cp_progress {
        void (*add)(void *user, const char *name, uint64_t bytes);
        void *user;
};

/** Unpacks the stream at `fd`, whose members lie below `root`, to `destination` by docker cp's rules. `*ret_members` counts
 *  what arrived (0: the stream was empty). */
int cp_unpack(int fd, const char *root, const char *destination, bool as_folder, const struct cp_progress *progress,
              uint64_t *ret_members, struct nb_error *err);
/** Packs `source` as members called `name` (and below it). */
int cp_pack(const char *source, const char *name, int fd, const struct cp_progress *progress, struct nb_error *err);
