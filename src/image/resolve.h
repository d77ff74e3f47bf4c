/* From what a config asks for to a lock: which Debian packages, in which versions, in which order. Versions and hashes come
 * from the archive's signed lists (see apt.h); npm packages are in npm.h, other bases are resolved elsewhere. */
#pragma once
#include "base/error.h"
#include "config/config.h"
#include "image/lock.h"
#include "image/store.h"

/** Resolves everything anew: the runtime and kernel, and for a Debian base its packages and the config's. The lock has no
 * digest yet. With `refresh` the archive's lists are fetched even if they are recent. */
int resolve_all(const struct store *s, const struct config_image *c, bool refresh, const struct image_progress *progress,
                struct lock **ret, struct nb_error *err);
/** A copy of `old` in which these packages are in the versions that the archive has now, and with them only what they need; all
 *  else stays as it is. The name of an npm package that `c` asks for moves all npm packages. The digests are gone where
 *  something changed. -ENOENT if the lock has no such package. */
int resolve_some(const struct store *s, const struct config_image *c, const struct lock *old, char *const *names,
                 const struct image_progress *progress, struct lock **ret, struct nb_error *err);
