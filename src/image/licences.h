/* The licences of an image's Debian packages, out of the copyright files that they bring. Read from the downloaded packages
 * once and kept beside the image's record, so that later neither the packages nor a network are needed. */
#pragma once
#include <jansson.h>

#include "base/error.h"
#include "image/lock.h"
#include "image/store.h"

/** From a package's SHA-256 to its SPDX expression, or null where the package does not say. Fetches packages that are no longer
 *  in the cache. The caller's reference. */
int licences_read(const struct store *s, const struct lock *l, const struct image_progress *progress, json_t **ret,
                  struct nb_error *err);
/** One of them, for sbom.h; `user` is that object. */
char *licences_of(void *user, const struct lock_package *p);
