/* The guest's root file system: what a lock names, as a read-only EROFS file named after its digest. */
#pragma once
#include "base/error.h"
#include "config/config.h"
#include "image/lock.h"
#include "image/meta.h"
#include "image/runtime.h"
#include "image/store.h"

/** What every guest image of Debian holds besides the essential packages and apt; ends with NULL. */
extern const char *const rootfs_standard[];

/** Checks what can be checked of the description without building. */
int rootfs_check(const struct config_image *c, struct nb_error *err);
/** The file of a digest ("sha256:…"). New string. */
char *rootfs_path(const struct store *s, const char *digest);
/** Was this record made by this version's builder? */
bool rootfs_is_current(const json_t *ref);

struct rootfs_job {
        const struct store *store;
        const struct runtime *rt; /* writes the file system; its digests are recorded */
        const struct lock *lock;
        const struct config_image *config; /* what the lock was made from */
        const struct image_progress *progress;
        bool anew; /* without what the cache has of earlier builds */
};
struct rootfs {
        char *path, *digest; /* "sha256:…" */
        struct image_meta meta;
};
void rootfs_clear(struct rootfs *r);
/** All that decides what is built, as the key of its record. A folder and a Nix file decide nothing until they were built:
 *  for them it is the digest of the result (NULL: not known yet). */
void rootfs_key(const struct rootfs_job *job, const char *digest, char ret[NB_SHA256_HEX]);
/** Finds or builds it. -EBADMSG: the result is not what the lock says. */
int rootfs_ensure(const struct rootfs_job *job, bool force, struct rootfs *ret, struct nb_error *err);
/** Builds it in a folder for temporary files, whatever the store has: its tar and the file system of that. */
int rootfs_make(const struct rootfs_job *job, const char *work, const char *tar, const char *erofs, struct image_meta *meta,
                struct nb_error *err);
/** "sha256:…" of a file. New string. */
int rootfs_digest(const char *erofs, char **ret, struct nb_error *err);
