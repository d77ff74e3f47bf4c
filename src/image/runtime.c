/* Building the runtime tree and the kernel, and finding them again (see runtime.h). */
#include "image/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "image/build.h"
#include "image/fetch.h"
#include "image/folder.h"

#define BUILDER "5" /* raise whenever what is built from the same packages changes */
#define KIND "runtime"
#define STEP "building the runtime (QEMU, virtiofsd, kernel)"

char *const runtime_packages[] = { "qemu-system-x86", "virtiofsd", "seabios", "erofs-utils", "e2fsprogs", "kmod", NULL };

void runtime_clear(struct runtime *r) {
        free(r->tree);
        free(r->tree_digest);
        free(r->kernel);
        free(r->kernel_digest);
        *r = (struct runtime){ 0 };
}

/* The folder and digest that a record names, if they are there. */
static bool find_one(const struct store *s, const json_t *ref, const char *kind, const char *probe, char **ret_dir,
                     char **ret_digest) {
        const char *digest = json_string_value(json_object_get(ref, kind));
        if (!digest || strncmp(digest, STORE_DIGEST_PREFIX, strlen(STORE_DIGEST_PREFIX)) != 0)
                return false;
        NB_AUTO_FREE char *dir = store_path(s, kind, digest + strlen(STORE_DIGEST_PREFIX)), *file = nb_path_join(dir, probe);
        if (access(file, R_OK) < 0)
                return false;
        *ret_dir = nb_steal(&dir);
        *ret_digest = nb_strdup(digest);
        return true;
}

void runtime_key(const struct lock *l, char ret[NB_SHA256_HEX]) {
        char kernel[NB_SHA256_HEX];
        lock_set_key(&l->kernel, BUILDER, kernel);
        lock_set_key(&l->runtime, kernel, ret);
}

bool runtime_is_current(const json_t *ref) {
        const char *builder = json_string_value(json_object_get(ref, "builder"));
        return builder && strcmp(builder, "runtime " BUILDER) == 0;
}

bool runtime_find(const struct store *s, const struct lock *l, struct runtime *ret) {
        char key[NB_SHA256_HEX];
        runtime_key(l, key);
        struct runtime found = { 0 };
        json_t *ref = store_ref_get(s, KIND, key);
        bool both = find_one(s, ref, "runtime", "usr/bin/qemu-system-x86_64", &found.tree, &found.tree_digest) &&
                    find_one(s, ref, "kernel", "vmlinux", &found.kernel, &found.kernel_digest);
        json_decref(ref);
        if (both)
                *ret = found;
        else
                runtime_clear(&found);
        return both;
}

/* Seals a finished folder, moves it to its place by digest, and adds it to the record. */
static int put_away(const struct store *s, const char *dir, const char *kind, json_t *ref, struct nb_error *err) {
        NB_AUTO_FREE char *listing = NULL;
        char digest[NB_SHA256_HEX];
        int r = folder_seal(dir, &listing, digest, err);
        if (r < 0)
                return r;
        NB_AUTO_FREE char *to = store_path(s, kind, digest), *manifest = nb_asprintf("%s.manifest", to);
        r = nb_write_file_atomic(manifest, listing, strlen(listing), 0444);
        /* A folder can only be moved while its owner may write to it; one that is there already has the same content. */
        if (r == 0 && rename(dir, to) < 0 && errno != ENOTEMPTY && errno != EEXIST)
                r = -errno;
        if (r == 0 && chmod(to, 0555) < 0)
                r = -errno;
        if (r < 0) {
                nb_fail_errno(err, -r, "cannot store %s", to);
                return store_hint(s, err);
        }
        store_mark(s, to);
        NB_AUTO_FREE char *full = nb_asprintf(STORE_DIGEST_PREFIX "%s", digest);
        return json_object_set_new(ref, kind, json_string(full)) < 0 ? nb_fail(err, ENOMEM, "out of memory") : 0;
}

/* The kernel's package unpacked apart from the others. */
static char *kernel_want(const char *name) {
        size_t len = strlen(name);
        return len == 0 || name[len - 1] == '/' ? NULL : nb_asprintf("kernel/%s", name);
}

/* What the lock says of a result; NULL if it was never built before. */
static int compare(const json_t *ref, const char *kind, const char *locked, struct nb_error *err) {
        const char *digest = json_string_value(json_object_get(ref, kind));
        if (!locked || !digest || strcmp(locked, digest) == 0)
                return 0;
        nb_fail(err, EBADMSG, "the %s was built to %s, and the lock says %s", kind, digest, locked);
        return nb_hint(err, "if " LOCK_FILE " was not changed by hand, another version of nixbox made it: nixbox image lock");
}

int runtime_make(const struct store *s, const struct lock *l, const char *work, const struct image_progress *progress,
                 char **ret_tree, char **ret_kernel, struct nb_error *err) {
        NB_AUTO_FREE char *raw = nb_path_join(work, "raw"), *tree = nb_path_join(work, "tree"),
                          *kernel = nb_path_join(work, "boot");
        const struct lock_set *const sets[] = { &l->runtime, &l->kernel, NULL };
        if (mkdir(raw, 0755) < 0 || mkdir(tree, 0755) < 0 || mkdir(kernel, 0755) < 0) {
                nb_fail_errno(err, errno, "cannot make folders in %s", work);
                return store_hint(s, err);
        }
        int r = fetch_packages(s, sets, l->resolved, progress, err);
        store_step(progress, STEP, "unpacking", 0, 0);
        if (r == 0)
                r = build_extract(s, &l->runtime, raw, runtime_want, err);
        if (r == 0)
                r = build_extract(s, &l->kernel, raw, kernel_want, err);
        if (r == 0)
                r = runtime_prune(raw, tree, err);
        if (r == 0)
                r = kernel_make(raw, tree, kernel, err);
        if (r < 0)
                return store_hint(s, err);
        *ret_tree = nb_steal(&tree);
        *ret_kernel = nb_steal(&kernel);
        return 0;
}

static int make_both(const struct store *s, const struct lock *l, const char *work, const struct image_progress *progress,
                     struct nb_error *err) {
        NB_AUTO_FREE char *tree = NULL, *kernel = NULL;
        NB_AUTO_CLOSE int lock = -1;
        char key[NB_SHA256_HEX];
        runtime_key(l, key);
        int r = runtime_make(s, l, work, progress, &tree, &kernel, err);
        if (r == 0)
                r = store_lock(s, STORE_LOCK_ALL, NULL, &lock, err);
        if (r < 0)
                return r;
        json_t *ref = json_pack("{s:s}", "builder", "runtime " BUILDER);
        r = put_away(s, tree, "runtime", ref, err);
        if (r == 0)
                r = put_away(s, kernel, "kernel", ref, err);
        if (r == 0)
                r = compare(ref, "runtime", l->runtime_digest, err);
        if (r == 0)
                r = compare(ref, "kernel", l->kernel_digest, err);
        if (r == 0)
                r = store_ref_put(s, KIND, key, ref, err);
        json_decref(ref);
        return r < 0 ? store_hint(s, err) : 0;
}

int runtime_ensure(const struct store *s, const struct lock *l, const struct image_progress *progress, struct runtime *ret,
                   struct nb_error *err) {
        *ret = (struct runtime){ 0 };
        if (runtime_find(s, l, ret))
                return 0;
        char key[NB_SHA256_HEX];
        runtime_key(l, key);
        NB_AUTO_FREE char *name = nb_asprintf("runtime-%s", key);
        NB_AUTO_CLOSE int lock = -1;
        int r = store_lock(s, name, progress, &lock, err);
        if (r < 0)
                return r;
        if (runtime_find(s, l, ret)) /* somebody else has built it meanwhile */
                return 0;
        store_sweep(s);
        struct store_temp work;
        r = store_temp_new(s, &work, err);
        if (r < 0)
                return r;
        r = make_both(s, l, work.path, progress, err);
        store_temp_remove(&work);
        if (r < 0)
                return nb_context(err, "cannot build the runtime");
        return runtime_find(s, l, ret) ? 0 : nb_fail(err, EIO, "the runtime was built but cannot be found in %s", s->data);
}
