/* The two parts that every box shares, made from one set of Debian packages: the runtime tree (the jail's root: QEMU,
 * virtiofsd, the image tools and their libraries, nothing else) and the kernel (ELF vmlinux and the modules to load). */
#pragma once
#include "base/error.h"
#include "image/lock.h"
#include "image/store.h"

#define RUNTIME_SUITE "trixie"
#define RUNTIME_KERNEL "linux-image-cloud-amd64" /* depends on the current kernel and on nothing else */
extern char *const runtime_packages[];           /* without the kernel; ends with NULL */

struct runtime {
        char *tree, *tree_digest;     /* folder; "sha256:…" */
        char *kernel, *kernel_digest; /* folder with vmlinux, modules.list, *.ko, modules.erofs; "sha256:…" */
};
/** Finds both, building what is missing from the lock's packages. -EBADMSG: the result is not what the lock says. */
int runtime_ensure(const struct store *s, const struct lock *l, const struct image_progress *progress, struct runtime *ret,
                   struct nb_error *err);
/** The same without building: false if something is missing. */
bool runtime_find(const struct store *s, const struct lock *l, struct runtime *ret);
/** Builds both in a folder for temporary files, whatever the store has. New strings: the two folders, not yet sealed. */
int runtime_make(const struct store *s, const struct lock *l, const char *work, const struct image_progress *progress,
                 char **ret_tree, char **ret_kernel, struct nb_error *err);
/** What decides both, as the key of their record. */
void runtime_key(const struct lock *l, char ret[NB_SHA256_HEX]);
/** Was this record of both made by this version? */
bool runtime_is_current(const json_t *ref);
void runtime_clear(struct runtime *r);
/** Fills an empty folder with the runtime tree, from an unpacked set of packages. */
int runtime_prune(const char *raw, const char *tree, struct nb_error *err);
/** Fills an empty folder with the kernel, from an unpacked kernel package below `raw`, with the tools of the runtime tree. */
int kernel_make(const char *raw, const char *runtime, const char *dir, struct nb_error *err);
/** Where a file of the downloaded packages goes in `raw`; NULL: not needed. New string. */
char *runtime_want(const char *name);
