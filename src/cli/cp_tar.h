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

#define CP_NAME_MAX 32
/* A file in the making; cp_file.c. */
struct cp_file {
        int fd;
        int parent;             /* the folder, borrowed; may be O_PATH */
        char name[CP_NAME_MAX]; /* what it is called meanwhile; "" where it has no name */
};
/** A new file for `parent`, of mode 0600, which nobody sees yet or under a name of its own. Returns 0 or -errno. */
int cp_file_open(int parent, struct cp_file *ret);
/** Puts it in the place of `wanted`, in one step. Returns 0 or -errno. */
int cp_file_keep(struct cp_file *f, const char *wanted);
/** Closes it; what was not kept is gone. */
void cp_file_close(struct cp_file *f);
