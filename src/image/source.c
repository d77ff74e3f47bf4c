/* Which kind of source is which (see source.h). */
#include "image/source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/source_internal.h"

int source_check(const struct config_image *c, struct nb_error *err) {
        __attribute__((cleanup(oci_ref_clear))) struct oci_ref ref = { 0 };
        if (c->packages && c->packages[0]) {
                nb_fail(err, ENOTSUP, "image.packages are Debian's, and the image base '%s' is not Debian's", c->base);
                return nb_hint(err, "put them into that image, or set image.base: debian-13");
        }
        return c->kind == CONFIG_BASE_OCI ? oci_ref_parse(c->base, &ref, err) : 0;
}

int source_resolve(const struct store *s, const struct config_image *c, struct lock *l, const struct image_progress *progress,
                   struct nb_error *err) {
        int r = source_check(c, err);
        if (r < 0 || c->kind != CONFIG_BASE_OCI)
                return r;
        r = source_oci_resolve(s, c->base, l, progress, err);
        return r < 0 ? nb_context(err, "cannot resolve image.base: %s", c->base) : 0;
}

static int add_base(const struct store *s, const struct lock *l, const struct config_image *c, struct tree *t,
                    struct image_meta *ret, const struct image_progress *progress, struct nb_error *err) {
        switch (c->kind) {
        case CONFIG_BASE_OCI: return source_oci_add(s, l, c->base, t, ret, progress, err);
        case CONFIG_BASE_NIX: return source_nix_add(c->base, t, progress, err);
        case CONFIG_BASE_DIR: {
                /* only root's view of owners is the one the folder was unpacked with */
                long owner = geteuid() == 0 ? -1 : 0;
                store_step(progress, "reading the folder", c->base + strlen("dir:"), 0, 0);
                return tree_add_dir(t, c->base + strlen("dir:"), NULL, owner, owner, err);
        }
        case CONFIG_BASE_DEBIAN: break;
        }
        return nb_fail(err, EINVAL, "the image base '%s' is built from packages", c->base);
}

int source_tar(const struct store *s, const struct lock *l, const struct config_image *c, const char *work, const char *layer,
               const char *to_tar, struct image_meta *ret, const struct image_progress *progress, struct nb_error *err) {
        static const struct tree_limits limits = { .bytes = SOURCE_BYTES_MAX, .entries = SOURCE_ENTRIES_MAX };
        static const struct tree_add over = { 0 };
        __attribute__((cleanup(tree_freep))) struct tree *t = NULL;
        __attribute__((cleanup(image_meta_clear))) struct image_meta meta = { 0 };
        int r = tree_new(work, &limits, &t, err);
        if (r == 0)
                r = add_base(s, l, c, t, &meta, progress, err);
        if (r == 0 && layer)
                r = tree_add_tar(t, layer, &over, err);
        if (r == 0)
                r = tree_write(t, to_tar, err);
        if (r < 0) {
                nb_context(err, "cannot use image.base: %s", c->base);
                return store_hint(s, err);
        }
        *ret = meta;
        meta = (struct image_meta){ 0 };
        return 0;
}
