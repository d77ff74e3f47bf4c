/* Images: what a box boots from. The runtime (QEMU, virtiofsd and the tools that decide bits), the kernel and initramfs,
 * and the root file system a config asks for; built when missing, kept by digest in the data folder, never changed. */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"

struct image {
        char *runtime; /* folder: the jail's root, holds usr/bin/qemu-system-x86_64, usr/libexec/virtiofsd, … */
        char *vmlinux; /* ELF kernel (PVH) */
        char *modules; /* EROFS file with the kernel's modules, the layer under rootfs */
        char *initrd;  /* initramfs: modules and agent */
        char *rootfs;  /* EROFS file */
        char *digest;  /* "sha256:…" of the root file system */
        char *runtime_digest, *kernel_digest;
        /* What the inodes said when the digests were checked (base/seal.h); NULL: not checked. */
        char *rootfs_seal, *vmlinux_seal, *modules_seal, *initrd_seal;
        int *marks; /* descriptors that keep everything above in place until the image is freed */
        size_t n_marks;
        char **env;    /* PATH and the like from the image ("NAME=value"); may be NULL */
        char *workdir; /* where commands start if the caller's folder is not in the box; NULL: in the home folder */
};

/** Called with what is going on, for a progress line: step name, detail (may be NULL), bytes done and expected (0: unknown). */
struct image_progress {
        void (*step)(void *user, const char *step, const char *detail, unsigned long long done, unsigned long long total);
        void *user;
};

/** Builds what is missing, checks that what is there still has its digest, and returns paths. With `force`, builds the guest
 * image again, and whatever was changed. Two callers at once share the work. */
int image_ensure(struct config *c, bool force, const struct image_progress *progress, struct image **ret, struct nb_error *err);
void image_free(struct image *i);
static inline void image_freep(struct image **i) {
        image_free(*i);
}

/** Every image in the store: an array of {"digest","base","packages","built","size","path","key"}. */
int image_list(json_t **ret, struct nb_error *err);
/** Removes images, each named by its digest or the start of it. -EBUSY for one that a box uses, unless with `force` (the box
 *  keeps what it has open); `boxes`, from digest to an array of names, says which box, as far as that is known. */
int image_remove(char *const *digests, bool force, const json_t *boxes, struct nb_error *err);
/** Removes images, runtimes and kernels of older versions that no box uses, unfinished work, and downloaded packages. */
int image_prune(unsigned long long *ret_freed, struct nb_error *err);

/** Argument vector that runs a program of a runtime tree on this host, through the tree's own loader: "usr/sbin/mke2fs",
 *  "usr/bin/mkfs.erofs". A new list; add the program's arguments to it. */
char **image_tool(const char *runtime, const char *program);
