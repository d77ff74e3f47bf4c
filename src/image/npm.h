/* npm packages in an image: resolved by the host's npm to a list of tarballs with their hashes (the only time npm is needed,
 * and none of a package's code runs), fetched by hash, and unpacked to one layer of files, the same for the same list. Scripts
 * of packages run only where the config lists them, inside the tree that is built. */
#pragma once
#include "base/error.h"
#include "config/config.h"
#include "image/lock.h"
#include "image/store.h"
#include "image/tree.h"

#define NPM_LOCK_MAX (16u * 1024u * 1024u) /* bytes of what npm writes */

/** Asks the registry for all that image.npm needs, sorted by path; NULL where there is none. */
int npm_resolve(const struct store *s, const struct config_image *c, const struct image_progress *progress,
                struct lock_npm **ret, struct nb_error *err);
/** npm's package-lock.json (version 2 or 3) as such a list: what Linux on x86-64 with glibc takes of it, marked with what the
 *  config says about names, scripts and commands. Pure. */
int npm_parse(const char *text, size_t len, const struct config_image *c, struct lock_npm **ret, struct nb_error *err);
/** What npm printed when it failed, in one line without its decoration; NULL if there is nothing. New string. Pure. */
char *npm_complaint(const char *output);
/** A package-lock's "sha512-BASE64" as "sha512:HEX"; NULL if it is not one. New string. Pure. */
char *npm_hash(const char *integrity);

/** Brings the tarballs into the cache. */
int npm_fetch(const struct store *s, const struct lock_npm *list, const struct image_progress *progress, struct nb_error *err);
/** Adds the packages, which are in the cache, and links to their commands. */
int npm_add(const struct store *s, const struct lock_npm *list, struct tree *t, struct nb_error *err);
/** The shell script that runs the listed packages' install scripts in such a tree, deepest first; NULL if there is nothing to
 *  run. New string. */
int npm_script(const struct lock_npm *list, const struct tree *t, char **ret, struct nb_error *err);
/** Both for an image of Debian packages: a tar in the folder `work`, and the script. Both NULL if the list is empty. */
int npm_layer(const struct store *s, const struct lock_npm *list, const char *work, char **ret_tar, char **ret_script,
              struct nb_error *err);
