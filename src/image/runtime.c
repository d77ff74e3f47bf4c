/* Building the runtime tree and the kernel, and finding them again (see runtime.h). */
#include "image/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "image/debian.h"
#include "image/folder.h"

#define RUNTIME_KEY "debian13-2" /* raise the number whenever what is built from the same packages changes */
#define RUNTIME_SUITE "trixie"
#define STEP "building the runtime (QEMU, virtiofsd, kernel)"

static char *const packages[] = { "qemu-system-x86", "virtiofsd", "seabios", "erofs-utils", "e2fsprogs", NULL };
/* The kernel is fetched apart from the others: its dependencies (an initramfs generator, a boot loader) are not wanted. */
static const char fetch_kernel[] =
    "export APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\"\n"
    "mkdir \"$1/kernel\"\n"
    "cd \"$1/kernel\"\n"
    "name=$(apt-cache depends --important linux-image-cloud-amd64 |"
    " sed -n 's/^ *Depends: \\(linux-image-[0-9][^ ]*-cloud-amd64\\)$/\\1/p' | head -n 1)\n"
    "[ -n \"$name\" ] || { echo 'E: linux-image-cloud-amd64 names no kernel' >&2; exit 1; }\n"
    "apt-get download -qq -o APT::Sandbox::User=root -o Dir::Cache::archives=\"$1/var/cache/apt/archives\" \"$name\"\n"
    "set -- \"$1\" ./*.deb\n"
    "dpkg-deb -x \"$2\" .\n"
    "mv \"$2\" \"$1/var/cache/apt/archives/\"\n";

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

char *runtime_ref_name(void) {
        return nb_strdup("runtime-" RUNTIME_KEY ".json");
}

bool runtime_find(const struct store *s, struct runtime *ret) {
        struct runtime found = { 0 };
        json_t *ref = store_ref_get(s, "runtime", RUNTIME_KEY);
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
        NB_AUTO_FREE char *full = nb_asprintf(STORE_DIGEST_PREFIX "%s", digest);
        return json_object_set_new(ref, kind, json_string(full)) < 0 ? nb_fail(err, ENOMEM, "out of memory") : 0;
}

static int make_both(const struct store *s, const char *work, const struct image_progress *progress, struct nb_error *err) {
        NB_AUTO_FREE char *tar = nb_path_join(work, "packages.tar"), *raw = nb_path_join(work, "raw");
        NB_AUTO_FREE char *tree = nb_path_join(work, "tree"), *kernel = nb_path_join(work, "boot");
        if (mkdir(raw, 0755) < 0 || mkdir(tree, 0755) < 0 || mkdir(kernel, 0755) < 0) {
                nb_fail_errno(err, errno, "cannot make folders in %s", work);
                return store_hint(s, err);
        }
        struct debian_job job = { .suite = RUNTIME_SUITE,
                                  .extract = true,
                                  .packages = packages,
                                  .unpacked = fetch_kernel,
                                  .work = work,
                                  .tar = tar,
                                  .step = STEP };
        int r = debian_build(s, &job, progress, err);
        if (r < 0)
                return r;
        store_step(progress, STEP, "unpacking", 0, 0);
        r = folder_unpack(tar, raw, runtime_want, err);
        if (r == 0)
                r = runtime_prune(raw, tree, err);
        if (r == 0)
                r = kernel_make(raw, kernel, err);
        NB_AUTO_CLOSE int lock = -1;
        if (r == 0)
                r = store_lock(s, STORE_LOCK_ALL, NULL, &lock, err);
        json_t *ref = json_object();
        if (r == 0)
                r = put_away(s, tree, "runtime", ref, err);
        if (r == 0)
                r = put_away(s, kernel, "kernel", ref, err);
        if (r == 0)
                r = store_ref_put(s, "runtime", RUNTIME_KEY, ref, err);
        json_decref(ref);
        return r < 0 ? store_hint(s, err) : 0;
}

int runtime_ensure(const struct store *s, const struct image_progress *progress, struct runtime *ret, struct nb_error *err) {
        *ret = (struct runtime){ 0 };
        if (runtime_find(s, ret))
                return 0;
        NB_AUTO_CLOSE int lock = -1;
        int r = store_lock(s, "runtime", progress, &lock, err);
        if (r < 0)
                return r;
        if (runtime_find(s, ret)) /* somebody else has built it meanwhile */
                return 0;
        store_sweep(s);
        struct store_temp work;
        r = store_temp_new(s, &work, err);
        if (r < 0)
                return r;
        r = make_both(s, work.path, progress, err);
        store_temp_remove(&work);
        if (r < 0)
                return nb_context(err, "cannot build the runtime");
        return runtime_find(s, ret) ? 0 : nb_fail(err, EIO, "the runtime was built but cannot be found in %s", s->data);
}
