/* Which lock an image is built from, and keeping it: the config's own nixbox.lock, else what this description was last resolved
 * to on this machine if that was lately, else a new one. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"
#include "image/lock.h"
#include "image/store.h"

#define PIN_AGE_MAX (7 * 24 * 3600) /* seconds for which a resolution is used for other configs */

/** The lock to build from. Resolves only if it must. -ESTALE: nixbox.lock was made for another `image:`. */
int pin_get(const struct store *s, const struct config *c, const struct image_progress *progress, struct lock **ret,
            struct nb_error *err);
/** Resolves anew, whatever there is. */
int pin_renew(const struct store *s, const struct config *c, const struct image_progress *progress, struct lock **ret,
              struct nb_error *err);
/** Keeps the lock, once it is known what it is built to: for this machine, and as nixbox.lock beside the config where its text
 * is another than that of the file as it was loaded. `c` then has the new file's bytes. *ret_written (may be NULL): it was
 * written. A config without a file has no nixbox.lock. */
int pin_keep(const struct store *s, struct config *c, const struct lock *l, bool *ret_written, struct nb_error *err);
