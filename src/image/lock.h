/* nixbox.lock as values: what a config's `image:` was resolved to, exactly, down to the hash of every file that is downloaded,
 * and the digests that building it gives. Reading checks everything that comes from the file (it may have been edited by a
 * guest); writing gives the same bytes for the same values, one line for each package, so that differences read well.
 * Pure: text in, value out. Resolving is in resolve.h, downloading in fetch.h, building in rootfs.h and runtime.h. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sha256.h"
#include "config/config.h"

#define LOCK_VERSION 1
#define LOCK_BUILDER "1" /* of locks made now: raise it whenever the same lock would be built to something else */
#define LOCK_FILE "nixbox.lock"
#define LOCK_MAX (4u * 1024u * 1024u) /* bytes of the file */
#define LOCK_PACKAGES_MAX 10000u      /* in one set */

/* One Debian package. Names, versions and paths are checked against Debian's own grammar when they are read. */
struct lock_package {
        char *name, *version, *arch;
        char *path;    /* below the archive: "pool/main/t/tree/tree_2.1.1-1_amd64.deb" */
        char *archive; /* "debian" or "debian-security" */
        char sha256[NB_SHA256_HEX];
        uint64_t size; /* bytes of the file */
        char
            *resolved; /* when this version was the archive's, if that was not when all of the lock was resolved; may be NULL */
};
/* Packages in the order in which they are installed. */
struct lock_set {
        struct lock_package *packages;
        size_t n;
};

/* One npm package as npm's own package-lock.json has it. */
struct lock_npm {
        char *path;      /* where it goes: "node_modules/a/node_modules/@scope/b" */
        char *name;      /* as asked for in image.npm, or the name of a package that only image.npm-bin asks for; else NULL */
        char *version;   /* "1.2.3" */
        char *url;       /* of the tarball */
        char *integrity; /* "sha512-BASE64" */
        char **bin;      /* "COMMAND=FILE" for each command it brings (top level only); in PATH where `name` is set */
        bool scripts;    /* its install scripts run when the image is built (it is listed in image.npm-scripts) */
        struct lock_npm *next;
};

/* A layer of an OCI image, or NULL-terminated by n. */
struct lock_blob {
        char sha256[NB_SHA256_HEX];
        uint64_t size;
};

struct lock {
        char *builder;                        /* what turns the rest into bits: LOCK_BUILDER of the nixbox that made it */
        char *spec;                           /* the canonical description that was resolved, see lock_spec() */
        char *resolved;                       /* when, RFC 3339 */
        char *digest;                         /* "sha256:…" of the root file system; NULL until it was built once */
        char *runtime_digest, *kernel_digest; /* "sha256:…"; NULL until they were built once */
        char *suite;                          /* of base and packages: "trixie", "bookworm"; NULL for other bases */
        struct lock_set runtime, kernel;      /* always from RUNTIME_SUITE */
        struct lock_set base;                 /* essential and standard packages of the base, resolved without the config's */
        struct lock_set packages;             /* what image.packages adds to it */
        struct lock_npm *npm;                 /* sorted by path */
        char *source;             /* oci: the manifest's digest; dir, nix: NULL (their digest is that of the result) */
        struct lock_blob *layers; /* oci: in order */
        size_t n_layers;
};

/** The canonical description of an image: all of the config that decides what is built, one fact a line. New string. */
char *lock_spec(const struct config_image *c);
/** Reads and checks a lock. `file` is for messages only, which name line and column, or list, entry and key. -EBADMSG: not a
 *  lock, damaged or with values that no lock has; -ENOTSUP: of a newer version of nixbox. */
int lock_parse(const char *text, size_t len, const char *file, struct lock **ret, struct nb_error *err);
/** The file's text: canonical. New string. */
char *lock_format(const struct lock *l);
/** Was it made from this description? -ESTALE with what differs and the command that updates the lock. */
int lock_matches(const struct lock *l, const struct config_image *c, const char *file, struct nb_error *err);
/** What changed from one to the other, for people: "tree 2.1.1-1 -> 2.1.2-1 (security)", a line each. New string, "" for none.
 */
char *lock_changes(const struct lock *before, const struct lock *after);
void lock_free(struct lock *l);
static inline void lock_freep(struct lock **l) {
        lock_free(*l);
}
/** Frees a whole list. */
void lock_npm_free(struct lock_npm *list);
void lock_set_clear(struct lock_set *s);
/** SHA-256 over what a set installs (names, hashes, order), for the keys of caches. */
void lock_set_key(const struct lock_set *s, const char *salt, char ret[NB_SHA256_HEX]);
