/* image_ensure(): from a config to everything that a box boots from (see image.h). */
#include "image/image.h"

#include <errno.h>

#include "base/mem.h"
#include "base/paths.h"
#include "image/initrd.h"
#include "image/pin.h"
#include "image/rootfs.h"
#include "image/runtime.h"
#include "image/store.h"
#include "image/use.h"

#define FIND_TRIES 5u

void image_free(struct image *i) {
        if (!i)
                return;
        free(i->runtime);
        free(i->vmlinux);
        free(i->modules);
        free(i->initrd);
        free(i->rootfs);
        free(i->digest);
        free(i->runtime_digest);
        free(i->kernel_digest);
        nb_strv_free(i->env);
        free(i->rootfs_seal);
        free(i->vmlinux_seal);
        free(i->modules_seal);
        free(i->initrd_seal);
        for (size_t k = 0; k < i->n_marks; k++)
                nb_close(i->marks[k]);
        free(i->marks);
        free(i->workdir);
        free(i);
}

/* The runtime and the kernel, before anything is built with them. */
static int take_runtime(const struct use *u, const struct lock *l, struct image *i, struct runtime *rt, struct nb_error *err) {
        const struct use_part parts[] = { { "vmlinux", &i->vmlinux_seal }, { "modules.erofs", &i->modules_seal }, { 0 } };
        int r = runtime_ensure(u->s, l, u->progress, rt, err);
        if (r == 0)
                r = use_tree(u, "runtime", rt->tree, rt->tree_digest, NULL, err);
        if (r == 0)
                r = use_tree(u, "kernel", rt->kernel, rt->kernel_digest, parts, err);
        if (r < 0)
                return r;
        i->runtime = nb_steal(&rt->tree);
        i->runtime_digest = nb_steal(&rt->tree_digest);
        i->vmlinux = nb_path_join(rt->kernel, "vmlinux");
        i->modules = nb_path_join(rt->kernel, "modules.erofs");
        i->kernel_digest = nb_steal(&rt->kernel_digest);
        return 0;
}

static int take_initrd(const struct use *u, struct image *i, const char *kernel, struct nb_error *err) {
        NB_AUTO_FREE char *digest = NULL;
        int r = initrd_ensure(u->s, kernel, &i->initrd, &digest, err);
        return r < 0 ? r : use_file(u, "initramfs", i->initrd, digest, &i->initrd_seal, err);
}

static int take_all(const struct store *s, const struct config_image *c, const struct lock *l, bool force,
                    const struct image_progress *progress, struct image **ret, struct nb_error *err) {
        __attribute__((cleanup(image_freep))) struct image *i = nb_calloc(1, sizeof *i);
        __attribute__((cleanup(runtime_clear))) struct runtime rt = { 0 };
        __attribute__((cleanup(rootfs_clear))) struct rootfs root = { 0 };
        const struct use u = { .s = s, .progress = progress, .repair = force, .i = i };
        int r = take_runtime(&u, l, i, &rt, err);
        if (r == 0)
                r = take_initrd(&u, i, rt.kernel, err);
        if (r == 0) {
                const struct runtime built_with = { .tree = i->runtime,
                                                    .tree_digest = i->runtime_digest,
                                                    .kernel = rt.kernel,
                                                    .kernel_digest = i->kernel_digest };
                const struct rootfs_job job = { s, &built_with, l, c, progress };
                r = rootfs_ensure(&job, force, &root, err);
        }
        if (r == 0) {
                i->rootfs = nb_steal(&root.path);
                i->digest = nb_steal(&root.digest);
                i->env = nb_steal(&root.meta.env);
                i->workdir = nb_steal(&root.meta.workdir);
        }
        if (r == 0)
                r = use_file(&u, "image", i->rootfs, i->digest, &i->rootfs_seal, err);
        if (r == 0)
                *ret = nb_steal(&i);
        return r;
}

static void set_digest(char **at, const char *digest) {
        free(*at);
        *at = nb_strdup(digest);
}

/* What the lock was built to goes into it. */
static int keep_lock(const struct store *s, struct config *c, struct lock *l, const struct image *i, struct nb_error *err) {
        set_digest(&l->digest, i->digest);
        set_digest(&l->runtime_digest, i->runtime_digest);
        set_digest(&l->kernel_digest, i->kernel_digest);
        return pin_keep(s, c, l, NULL, err);
}

int image_ensure(struct config *c, bool force, const struct image_progress *progress, struct image **ret,
                 struct nb_error *err) {
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        __attribute__((cleanup(lock_freep))) struct lock *l = NULL;
        __attribute__((cleanup(image_freep))) struct image *i = NULL;
        int r = rootfs_check(&c->image, err);
        if (r == 0)
                r = store_open(&s, err);
        if (r == 0)
                r = pin_get(s, c, progress, &l, err);
        if (!l) /* set on success only */
                return r;
        r = -ESTALE;
        /* Between finding something and marking it as in use, somebody may remove it: then it is found or built anew. */
        for (unsigned tries = 0; r == -ESTALE && tries < FIND_TRIES; tries++)
                r = take_all(s, &c->image, l, force, progress, &i, err);
        if (r == -ESTALE)
                return nb_fail(err, EBUSY, "what a box boots from is removed from %s as fast as it is built", s->data);
        if (r == 0)
                r = keep_lock(s, c, l, i, err);
        if (r == 0)
                *ret = nb_steal(&i);
        return r;
}
