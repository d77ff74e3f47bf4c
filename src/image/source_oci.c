/* OCI images (see source.h): from the name in the config to a manifest's digest and its blobs in the cache, and from there to
 * a tree. Every blob is what its digest and size say, or nothing is built. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "image/source_internal.h"

#define INDEX_DEPTH 4u /* an index may name an index; nobody needs more than one in another */
#define STEP "fetching the image"

/* Where an image's files lie: a layout has them below blobs/sha256/, a folder of skopeo's side by side. */
struct place {
        const char *dir;
        bool layout;
};

static char *file_of(const struct place *p, const struct lock_blob *blob) {
        return nb_asprintf("%s/%s%s", p->dir, p->layout ? "blobs/sha256/" : "", blob->sha256);
}

/* A small blob's content, checked. */
static int read_checked(const char *path, const struct lock_blob *blob, char **ret, struct nb_error *err) {
        NB_AUTO_FREE char *text = NULL;
        size_t len = 0;
        char hex[NB_SHA256_HEX];
        if (blob->size > OCI_DOCUMENT_MAX)
                return nb_fail(err, EFBIG, "a document of the image has %llu bytes; at most %u are read",
                               (unsigned long long)blob->size, OCI_DOCUMENT_MAX);
        int r = nb_read_regular(path, OCI_DOCUMENT_MAX, &text, &len);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", path);
        nb_sha256(text, len, hex);
        if (len != blob->size || strcmp(hex, blob->sha256) != 0)
                return nb_fail(err, EBADMSG, "%s is damaged: its SHA-256 or size is not that of its description", path);
        *ret = nb_steal(&text);
        return 0;
}

/* ---- finding the manifest */

static int find_in_layout(const struct place *p, const char *tag, struct lock_blob *ret, struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_path_join(p->dir, "index.json"), *text = NULL;
        size_t len = 0;
        int r = nb_read_regular(path, OCI_DOCUMENT_MAX, &text, &len);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", path);
        for (unsigned depth = 0; depth < INDEX_DEPTH; depth++) {
                struct oci_entry entry;
                r = oci_choose(text, len, depth == 0 ? tag : NULL, &entry, err);
                if (r < 0)
                        return nb_context(err, "%s", p->dir);
                *ret = entry.blob;
                if (!entry.is_index)
                        return 0;
                NB_AUTO_FREE char *below = file_of(p, &entry.blob);
                free(nb_steal(&text));
                r = read_checked(below, &entry.blob, &text, err);
                if (r < 0)
                        return r;
                len = entry.blob.size;
        }
        return nb_fail(err, ELOOP, "%s: an index in an index, more than %u deep", p->dir, INDEX_DEPTH);
}

static int find_in_folder(const struct place *p, struct lock_blob *ret, struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_path_join(p->dir, "manifest.json"), *text = NULL, *named = NULL;
        size_t len = 0;
        int r = nb_read_regular(path, OCI_DOCUMENT_MAX, &text, &len);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", path);
        nb_sha256(text, len, ret->sha256);
        ret->size = len;
        named = file_of(p, ret); /* like the other blobs */
        return rename(path, named) < 0 ? nb_fail_errno(err, errno, "cannot rename %s", path) : 0;
}

/* A layout may still have what its index names no longer. */
static bool still_in_layout(const struct place *p, struct lock_blob *manifest) {
        struct stat st;
        NB_AUTO_FREE char *path = file_of(p, manifest);
        if (!p->layout || !*manifest->sha256 || stat(path, &st) < 0)
                return false;
        manifest->size = (uint64_t)st.st_size;
        return true;
}

/* ---- into the cache */

static int import_all(const struct store *s, const struct place *p, const struct lock_blob *manifest,
                      const struct image_progress *progress, struct oci_manifest *ret, struct nb_error *err) {
        NB_AUTO_FREE char *path = file_of(p, manifest), *text = NULL;
        int r = read_checked(path, manifest, &text, err);
        if (r == 0)
                r = oci_parse_manifest(text, manifest->size, ret, err);
        if (r < 0)
                return r;
        uint64_t done = 0, total = ret->config.size;
        for (size_t i = 0; i < ret->n_layers; i++)
                total += ret->layers[i].size;
        for (size_t i = 0; r == 0 && i < ret->n_layers; i++) {
                NB_AUTO_FREE char *from = file_of(p, &ret->layers[i]);
                store_step(progress, STEP, "layers", done, total);
                r = blob_import(s, from, &ret->layers[i], err);
                done += ret->layers[i].size;
        }
        NB_AUTO_FREE char *config = file_of(p, &ret->config);
        if (r == 0)
                r = blob_import(s, config, &ret->config, err);
        return r < 0 ? r : blob_import(s, path, manifest, err); /* last: where it is, the rest is */
}

/* Brings the image into the cache: `*manifest` is filled in, or says which one it has to be where its hash is set. */
static int bring(const struct store *s, const struct oci_ref *ref, const char *work, struct lock_blob *manifest,
                 const struct image_progress *progress, struct oci_manifest *ret, struct nb_error *err) {
        NB_AUTO_FREE char *folder = nb_path_join(work, "oci");
        struct place p = { .dir = ref->place == OCI_LAYOUT ? ref->at : folder, .layout = ref->place == OCI_LAYOUT };
        NB_AUTO_FREE char *digest = *manifest->sha256 ? nb_asprintf(STORE_DIGEST_PREFIX "%s", manifest->sha256) : NULL;
        struct lock_blob found;
        store_step(progress, STEP, ref->at, 0, 0);
        if (still_in_layout(&p, manifest))
                return import_all(s, &p, manifest, progress, ret, err);
        int r = p.layout ? 0 : skopeo_copy(ref, digest, work, folder, err);
        if (r == 0)
                r = p.layout ? find_in_layout(&p, ref->tag, &found, err) : find_in_folder(&p, &found, err);
        if (r < 0)
                return r;
        if (digest && strcmp(found.sha256, manifest->sha256) != 0) {
                nb_fail(err, ESTALE, "%s is now another image (" STORE_DIGEST_PREFIX "%s) than the lock says", ref->at,
                        found.sha256);
                return nb_hint(err, "run `nixbox image update` to use it as it is now");
        }
        *manifest = found;
        return import_all(s, &p, manifest, progress, ret, err);
}

int source_oci_resolve(const struct store *s, const char *base, struct lock *l, const struct image_progress *progress,
                       struct nb_error *err) {
        __attribute__((cleanup(oci_ref_clear))) struct oci_ref ref = { 0 };
        __attribute__((cleanup(oci_manifest_clear))) struct oci_manifest m = { 0 };
        struct lock_blob manifest = { 0 };
        struct store_temp work = { .fd = -1 };
        int r = oci_ref_parse(base, &ref, err);
        if (r == 0)
                r = store_temp_new(s, &work, err);
        if (r < 0)
                return r;
        r = bring(s, &ref, work.path, &manifest, progress, &m, err);
        store_temp_remove(&work);
        if (r < 0)
                return r;
        free(l->source);
        free(l->layers);
        l->source = nb_asprintf(STORE_DIGEST_PREFIX "%s", manifest.sha256);
        l->layers = nb_steal(&m.layers);
        l->n_layers = m.n_layers;
        return 0;
}

/* ---- from the cache */

/* The manifest that the lock names, from the cache; -ENOENT if anything of the image is not there. */
static int from_cache(const struct store *s, const char *hex, struct oci_manifest *ret, struct nb_error *err) {
        struct lock_blob blob = { 0 };
        memcpy(blob.sha256, hex, sizeof blob.sha256);
        NB_AUTO_FREE char *path = blob_path(s, &blob), *text = NULL;
        size_t len = 0;
        if (nb_read_regular(path, OCI_DOCUMENT_MAX, &text, &len) < 0)
                return -ENOENT;
        char is[NB_SHA256_HEX];
        nb_sha256(text, len, is);
        if (strcmp(is, hex) != 0)
                return -ENOENT;
        int r = oci_parse_manifest(text, len, ret, err);
        if (r == 0 && !blob_is_cached(s, &ret->config))
                r = -ENOENT;
        for (size_t i = 0; r == 0 && i < ret->n_layers; i++)
                if (!blob_is_cached(s, &ret->layers[i]))
                        r = -ENOENT;
        return r;
}

static int fetch_again(const struct store *s, const char *base, const char *hex, const struct image_progress *progress,
                       struct oci_manifest *ret, struct nb_error *err) {
        __attribute__((cleanup(oci_ref_clear))) struct oci_ref ref = { 0 };
        struct lock_blob manifest = { 0 };
        struct store_temp work = { .fd = -1 };
        memcpy(manifest.sha256, hex, sizeof manifest.sha256);
        int r = oci_ref_parse(base, &ref, err);
        if (r == 0)
                r = store_temp_new(s, &work, err);
        if (r < 0)
                return r;
        r = bring(s, &ref, work.path, &manifest, progress, ret, err);
        store_temp_remove(&work);
        return r;
}

static int same_layers(const struct lock *l, const struct oci_manifest *m, struct nb_error *err) {
        bool same = l->n_layers == m->n_layers;
        for (size_t i = 0; same && i < m->n_layers; i++)
                same = strcmp(l->layers[i].sha256, m->layers[i].sha256) == 0 && l->layers[i].size == m->layers[i].size;
        if (same)
                return 0;
        nb_fail(err, EBADMSG, LOCK_FILE " names other layers than the image %s has", l->source);
        return nb_hint(err, "run `nixbox image lock` to write it anew");
}

/* A disk may have changed what was right when it came. */
static int check_layer(const char *path, const struct lock_blob *blob, struct nb_error *err) {
        char hex[NB_SHA256_HEX] = "";
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        int r = fd < 0 ? -errno : nb_sha256_fd(fd, hex);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", path);
        if (strcmp(hex, blob->sha256) == 0)
                return 0;
        (void)unlink(path);
        nb_fail(err, EBADMSG, "%s was damaged; it has been removed", path);
        return nb_hint(err, "run it again: it will be fetched anew");
}

static int add_layers(const struct store *s, const struct oci_manifest *m, struct tree *t,
                      const struct image_progress *progress, struct nb_error *err) {
        static const struct tree_add how = { .whiteouts = true };
        int r = 0;
        for (size_t i = 0; r == 0 && i < m->n_layers; i++) {
                NB_AUTO_FREE char *path = blob_path(s, &m->layers[i]);
                store_step(progress, "unpacking the image", "layers", i, m->n_layers);
                r = check_layer(path, &m->layers[i], err);
                if (r == 0)
                        r = tree_add_tar(t, path, &how, err);
        }
        return r;
}

int source_oci_add(const struct store *s, const struct lock *l, const char *base, struct tree *t, struct image_meta *ret,
                   const struct image_progress *progress, struct nb_error *err) {
        __attribute__((cleanup(oci_manifest_clear))) struct oci_manifest m = { 0 };
        char hex[NB_SHA256_HEX];
        NB_AUTO_FREE char *path = NULL, *text = NULL;
        int r = oci_digest(l->source ? l->source : "", hex, err);
        if (r < 0)
                return r;
        r = from_cache(s, hex, &m, err);
        if (r == -ENOENT) {
                oci_manifest_clear(&m);
                r = fetch_again(s, base, hex, progress, &m, err);
        }
        if (r == 0)
                r = same_layers(l, &m, err);
        if (r < 0)
                return r;
        path = blob_path(s, &m.config);
        r = read_checked(path, &m.config, &text, err);
        if (r == 0)
                r = oci_parse_config(text, m.config.size, ret, err);
        return r < 0 ? r : add_layers(s, &m, t, progress, err);
}
