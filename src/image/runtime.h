/* The two parts that every box shares, made from one set of Debian packages: the runtime tree (the jail's root: QEMU,
 * virtiofsd, the image tools and their libraries, nothing else) and the kernel (ELF vmlinux and the modules to load). */
#pragma once
#include "base/error.h"
#include "image/store.h"

struct runtime {
        char *tree, *tree_digest;     /* folder; "sha256:…" */
        char *kernel, *kernel_digest; /* folder with vmlinux, modules.list, *.ko; "sha256:…" */
};
/** Finds both, building what is missing. */
int runtime_ensure(const struct store *s, const struct image_progress *progress, struct runtime *ret, struct nb_error *err);
/** The same without building: false if something is missing. */
bool runtime_find(const struct store *s, struct runtime *ret);
/** File name of the record of both. New string. */
char *runtime_ref_name(void);
void runtime_clear(struct runtime *r);
/** Fills an empty folder with the runtime tree, from an unpacked set of packages. */
int runtime_prune(const char *raw, const char *tree, struct nb_error *err);
/** Fills an empty folder with the kernel, from an unpacked kernel package below `raw`. */
int kernel_make(const char *raw, const char *dir, struct nb_error *err);
/** Where a file of the downloaded packages goes in `raw`; NULL: not needed. New string. */
char *runtime_want(const char *name);
