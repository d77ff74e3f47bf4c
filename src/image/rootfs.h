/* The guest's root file system: a Debian release with the packages a config asks for, as a read-only EROFS file named after
 * its digest. */
#pragma once
#include "base/error.h"
#include "config/config.h"
#include "image/runtime.h"
#include "image/store.h"

/** Checks what can be checked of the description without building. */
int rootfs_check(const struct config_image *c, struct nb_error *err);
/** The description as text: all that decides what is built, in one canonical form. Its SHA-256 is the key. New string. */
char *rootfs_spec(const struct config_image *c);
/** The file of a digest ("sha256:…"). New string. */
char *rootfs_path(const struct store *s, const char *digest);
/** Was this record made by this version's builder? */
bool rootfs_is_current(const json_t *ref);
/** Finds or builds it. Returns the file and its digest ("sha256:…"). */
int rootfs_ensure(const struct store *s, const struct runtime *rt, const struct config_image *c, bool force,
                  const struct image_progress *progress, char **ret_path, char **ret_digest, struct nb_error *err);
