/* image_ensure(): from a config to everything that a box boots from (see image.h). */
#include "image/image.h"

#include "base/mem.h"
#include "base/paths.h"
#include "image/initrd.h"
#include "image/rootfs.h"
#include "image/runtime.h"
#include "image/store.h"

void image_free(struct image *i) {
        if (!i)
                return;
        free(i->runtime);
        free(i->vmlinux);
        free(i->initrd);
        free(i->rootfs);
        free(i->digest);
        free(i->runtime_digest);
        free(i->kernel_digest);
        nb_strv_free(i->env);
        free(i);
}

int image_ensure(const struct config *c, bool force, const struct image_progress *progress, struct image **ret,
                 struct nb_error *err) {
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        __attribute__((cleanup(image_freep))) struct image *i = nb_calloc(1, sizeof *i);
        __attribute__((cleanup(runtime_clear))) struct runtime rt = { 0 };
        int r = rootfs_check(&c->image, err);
        if (r == 0)
                r = store_open(&s, err);
        if (r == 0)
                r = runtime_ensure(s, progress, &rt, err);
        if (r == 0)
                r = initrd_ensure(s, rt.kernel, &i->initrd, err);
        if (r == 0)
                r = rootfs_ensure(s, &rt, &c->image, force, progress, &i->rootfs, &i->digest, err);
        if (r < 0)
                return r;
        i->runtime = nb_steal(&rt.tree);
        i->runtime_digest = nb_steal(&rt.tree_digest);
        i->vmlinux = nb_path_join(rt.kernel, "vmlinux");
        i->kernel_digest = nb_steal(&rt.kernel_digest);
        *ret = nb_steal(&i);
        return 0;
}
