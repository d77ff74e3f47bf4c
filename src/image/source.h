/* Images that are not built from Debian packages: an OCI image (a layout in a folder, a docker archive, a registry), a folder
 * of this host, or what a Nix file builds. Each becomes a tree in memory (tree.h) and then a tar. Programs of others fetch
 * and build (skopeo, nix); what they bring is read as any other bytes from outside. */
#pragma once
#include "base/error.h"
#include "image/lock.h"
#include "image/meta.h"
#include "image/store.h"

#define SOURCE_BYTES_MAX (16ull * 1024 * 1024 * 1024) /* contents of an image */
#define SOURCE_ENTRIES_MAX 1000000u                   /* its files, folders and links */

/** Checks what can be checked of the description without building; for another base than Debian. */
int source_check(const struct config_image *c, struct nb_error *err);
/** Finds out what the base is now, and records it: the manifest's digest and the layers of an OCI image, which are then in the
 *  cache. A folder and a Nix build are recorded by the digest of the result alone. */
int source_resolve(const struct store *s, const struct config_image *c, struct lock *l, const struct image_progress *progress,
                   struct nb_error *err);
/** Writes the tar of what the lock names. `work` is a folder for temporary files; `layer` is a tar that goes over it all, or
 *  NULL. `ret`, what the image says about commands, is for image_meta_clear(). */
int source_tar(const struct store *s, const struct lock *l, const struct config_image *c, const char *work, const char *layer,
               const char *to_tar, struct image_meta *ret, const struct image_progress *progress, struct nb_error *err);
