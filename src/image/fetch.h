/* Downloading files whose hash is known: in parallel, resumable, into the cache folder by hash (cache/blobs/sha256-HEX or
 * sha512-HEX), checked before they get that name, shared by all images. What is there already is not fetched again; it was
 * checked when it came. Uses libcurl; proxies come from the environment as usual. */
#pragma once
#include "base/error.h"
#include "image/lock.h"
#include "image/store.h"

struct fetch_item {
        const char *label;       /* for progress and errors: "tree 2.1.1-1" */
        const char *const *urls; /* tried in order, NULL-terminated; http, https or file */
        const char *hash;        /* "sha256:HEX" or "sha512:HEX" */
        uint64_t size;           /* expected bytes; 0: unknown, then at most FETCH_UNKNOWN_MAX */
};
#define FETCH_UNKNOWN_MAX (1024ull * 1024 * 1024)

/** Brings all of them into the cache. Nothing half-downloaded ever has a final name. -ENETUNREACH, -ENOENT (no longer at any
 *  address), -EBADMSG (hash or size is another) name the item; -ENOSPC as usual. */
int fetch_all(const struct store *s, const struct fetch_item *items, size_t n, const struct image_progress *progress,
              struct nb_error *err);
/** The cached file of a hash, whether it is there or not. New string. */
char *fetch_path(const struct store *s, const char *hash);
/** Fetches all packages of the sets (NULL-terminated) from the configured mirrors, then, if a version is gone there, from the
 *  Debian snapshot archive (NIXBOX_SNAPSHOT names another), as it was at the lock's time `resolved`. An error names the package
 *  and `nixbox image update`. */
int fetch_packages(const struct store *s, const struct lock_set *const *sets, const char *resolved,
                   const struct image_progress *progress, struct nb_error *err);
/** The cached file of a package. New string. */
char *fetch_package_path(const struct store *s, const struct lock_package *p);
