/* Building a lock again, apart from what the store has, and comparing: the same lock must give the same bits. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"
#include "image/image.h"

struct verify_part {
        const char *name; /* "rootfs", "kernel", "runtime", "initramfs" */
        char *was, *is;   /* digests: of the lock or the store, and of what was built now */
};
struct verify {
        struct verify_part parts[4];
        size_t n;
        char *first; /* the first file that differs; NULL: none, or none can be named */
};
/** Ensures the config's image, builds it again without the cached base, and compares. The result says whether all is the
 *  same. */
int image_verify_again(struct config *c, const struct image_progress *progress, struct verify *ret, bool *ret_same,
                       struct nb_error *err);
void verify_clear(struct verify *v);
