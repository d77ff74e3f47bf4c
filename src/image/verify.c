/* Building again and comparing (see verify.h). The first file that differs is found in the listings that lie beside everything
 * in the store. */
#include "image/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "image/folder.h"
#include "image/initrd.h"
#include "image/listing.h"
#include "image/pin.h"
#include "image/rootfs.h"
#include "image/runtime.h"
#include "image/store.h"

#define LISTING_MAX (256u * 1024u * 1024u)

void verify_clear(struct verify *v) {
        for (size_t i = 0; i < v->n; i++) {
                free(v->parts[i].was);
                free(v->parts[i].is);
        }
        free(v->first);
        *v = (struct verify){ 0 };
}

static bool add(struct verify *v, const char *name, const char *was, const char *is) {
        v->parts[v->n++] = (struct verify_part){ name, nb_strdup(was), nb_strdup(is) };
        return strcmp(was, is) == 0;
}

/* Remembers the first difference between a listing of the store and a new one. */
static void name_first(struct verify *v, const char *beside, const char *now) {
        NB_AUTO_FREE char *path = nb_asprintf("%s.manifest", beside), *was = NULL;
        if (!v->first && nb_read_file(path, LISTING_MAX, &was, NULL) == 0)
                v->first = listing_difference(was, now);
}

static int add_folder(struct verify *v, const char *name, const char *was, const char *beside, const char *dir, bool *same,
                      struct nb_error *err) {
        char hex[NB_SHA256_HEX];
        NB_AUTO_FREE char *listing = NULL, *digest = NULL;
        int r = folder_seal(dir, &listing, hex, err);
        if (r < 0)
                return r;
        digest = nb_asprintf(STORE_DIGEST_PREFIX "%s", hex);
        if (!add(v, name, was, digest)) {
                *same = false;
                name_first(v, beside, listing);
        }
        return 0;
}

static int add_initrd(struct verify *v, const struct image *i, const char *kernel, const char *work, bool *same,
                      struct nb_error *err) {
        NB_AUTO_FREE char *agent = nb_installed_file("nixbox-agent"), *to = nb_path_join(work, "initrd"), *was = NULL,
                          *is = NULL;
        int r = initrd_write(kernel, agent, to, err);
        if (r == 0)
                r = rootfs_digest(i->initrd, &was, err);
        if (r == 0)
                r = rootfs_digest(to, &is, err);
        if (r == 0 && !add(v, "initramfs", was, is))
                *same = false;
        return r;
}

static int add_rootfs(struct verify *v, const struct rootfs_job *job, const struct image *i, const char *work, bool *same,
                      struct nb_error *err) {
        NB_AUTO_FREE char *tar = nb_path_join(work, "root.tar"), *erofs = nb_path_join(work, "root.erofs"), *is = NULL,
                          *listing = NULL;
        __attribute__((cleanup(image_meta_clear))) struct image_meta meta = { 0 };
        int r = rootfs_make(job, work, tar, erofs, &meta, err);
        if (r == 0)
                r = rootfs_digest(erofs, &is, err);
        if (!is || add(v, "rootfs", i->digest, is)) /* set on success only */
                return r;
        *same = false;
        r = listing_of_tar(tar, &listing, err);
        if (r == 0)
                name_first(v, i->rootfs, listing);
        return r;
}

static int build_all(const struct store *s, const struct config *c, const struct lock *l, const struct image *i,
                     const char *work, const struct image_progress *progress, struct verify *v, bool *same,
                     struct nb_error *err) {
        NB_AUTO_FREE char *tree = NULL, *kernel = NULL, *kernel_was = nb_strdup(i->vmlinux);
        *strrchr(kernel_was, '/') = 0;
        int r = runtime_make(s, l, work, progress, &tree, &kernel, err);
        if (r == 0)
                r = add_folder(v, "runtime", i->runtime_digest, i->runtime, tree, same, err);
        if (r == 0)
                r = add_folder(v, "kernel", i->kernel_digest, kernel_was, kernel, same, err);
        if (r == 0)
                r = add_initrd(v, i, kernel, work, same, err);
        const struct runtime rt = { .tree = tree, .kernel = kernel };
        const struct rootfs_job job = {
                .store = s, .rt = &rt, .lock = l, .config = &c->image, .progress = progress, .anew = true
        };
        return r == 0 ? add_rootfs(v, &job, i, work, same, err) : r;
}

int image_verify_again(struct config *c, const struct image_progress *progress, struct verify *ret, bool *ret_same,
                       struct nb_error *err) {
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        __attribute__((cleanup(lock_freep))) struct lock *l = NULL;
        __attribute__((cleanup(image_freep))) struct image *i = NULL;
        struct store_temp work = { .fd = -1 };
        int r = image_ensure(c, false, progress, &i, err);
        if (r == 0)
                r = store_open(&s, err);
        if (r == 0)
                r = pin_get(s, c, progress, &l, err);
        if (r == 0)
                r = store_temp_new(s, &work, err);
        if (!work.path) /* set on success only */
                return r;
        *ret = (struct verify){ 0 };
        *ret_same = true;
        r = build_all(s, c, l, i, work.path, progress, ret, ret_same, err);
        store_temp_remove(&work);
        if (r < 0)
                verify_clear(ret);
        return r < 0 ? store_hint(s, err) : 0;
}
