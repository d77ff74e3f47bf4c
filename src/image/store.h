/* The content-addressed store in the data folder: what is where, who may build, and what a crash leaves behind.
 *   runtime/DIGEST/        tree of QEMU, virtiofsd and the image tools, never changed; DIGEST.manifest beside it
 *   kernel/DIGEST/         vmlinux, modules, initrd-AGENT.cpio
 *   images/DIGEST.erofs    root file systems
 *   refs/KIND-KEY.json     what a description (KEY) was built to; written last, so whatever it names is whole
 *   locks/, tmp/           one builder for each key; unfinished work, removed as soon as nobody holds its lock */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "image/image.h"

#define STORE_DIGEST_PREFIX "sha256:"

struct store_marks;
struct store {
        char *data, *cache;        /* nixbox's folders */
        struct store_marks *marks; /* on what was put in place, see store_mark() */
        int cache_fd;              /* says that the cache is in use */
};

/** Opens the store, making its folders. */
int store_open(struct store **ret, struct nb_error *err);
void store_free(struct store *s);
static inline void store_freep(struct store **s) {
        store_free(*s);
}
/** data/folder/name. New string. */
char *store_path(const struct store *s, const char *folder, const char *name);
/** The record of a key, or NULL if there is none or it cannot be read. The caller's reference. */
json_t *store_ref_get(const struct store *s, const char *kind, const char *key);
/** Writes it. The reference stays the caller's. */
int store_ref_put(const struct store *s, const char *kind, const char *key, const json_t *ref, struct nb_error *err);
/** Removes it. Returns 0 (also if there was none) or -errno. */
int store_ref_remove(const struct store *s, const char *kind, const char *key);
/** Calls `fn` for each name in a folder that does not begin with a dot; it may remove them. */
void store_each(const char *folder, void (*fn)(void *user, const char *folder, const char *name), void *user);
/** Held while something finished is put in place and recorded, and while things are removed. */
#define STORE_LOCK_ALL "store.lock"
/** Marks what was just put in place as in use (base/seal.h) until the store is freed; by then whoever wanted it has marked it
 *  too. Called before STORE_LOCK_ALL is given back, so that nothing is removed in between. */
void store_mark(const struct store *s, const char *path);
/** Waits for the right to build under this name; closing the descriptor gives it back. */
int store_lock(const struct store *s, const char *name, const struct image_progress *progress, int *ret_fd,
               struct nb_error *err);

/** Opens the store and takes STORE_LOCK_ALL, for removing things. */
int store_open_alone(struct store **ret, int *ret_lock, struct nb_error *err);
/** Whether nobody else has a store open that uses this cache; then nobody can open one until this one is freed. */
bool store_cache_alone(const struct store *s);

/* A folder for unfinished work, locked while its maker lives. */
struct store_temp {
        char *path;
        int fd;
};
int store_temp_new(const struct store *s, struct store_temp *ret, struct nb_error *err);
void store_temp_remove(struct store_temp *t);
/** Removes unfinished work whose maker is gone. */
void store_sweep(const struct store *s);
/** Turns a failed write into advice: a full disk names the folder to make room in. Returns -err->code. */
int store_hint(const struct store *s, struct nb_error *err);
/** Shows a step; `progress` may be NULL. */
void store_step(const struct image_progress *progress, const char *step, const char *detail, unsigned long long done,
                unsigned long long total);
