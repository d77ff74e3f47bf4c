/* Building root file systems (see rootfs.h): what the lock names to a tar (build.h, source.h), and that to EROFS by the
 * runtime tree's own mkfs.erofs, which reads owners and modes from the tar. */
#include "image/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "base/text.h"
#include "image/build.h"
#include "image/debian_archive.h"
#include "image/erofs.h"
#include "image/fetch.h"
#include "image/listing.h"
#include "image/npm.h"
#include "image/source.h"

#define STEP "building the guest image"

const char *const rootfs_standard[] = { "bash",   "ca-certificates", "curl",    "git",     "kmod", "login", "mount",
                                        "passwd", "procps",          "python3", "ripgrep", "sudo", NULL };

int rootfs_check(const struct config_image *c, struct nb_error *err) {
        if (c->kind != CONFIG_BASE_DEBIAN)
                return source_check(c, err);
        if (!debian_suite(c->base)) {
                nb_fail(err, ENOTSUP, "there is no image base '%s'", c->base ? c->base : "");
                return nb_hint(err, "set image.base: debian-13");
        }
        for (size_t i = 0; c->packages && c->packages[i]; i++)
                if (!debian_valid_package(c->packages[i])) {
                        nb_fail(err, EINVAL, "'%s' under image.packages is not the name of a Debian package", c->packages[i]);
                        return nb_hint(err, "names are lower-case letters, digits and +-. only");
                }
        return 0;
}

static void add_fact(struct nb_buf *b, const char *name, const char *value) {
        NB_AUTO_FREE char *line = nb_asprintf("%s %s\n", name, value ? value : "");
        nb_buf_add(b, line, strlen(line));
}

/* A folder, and what a Nix file builds, are pinned by what they were built to, and by nothing that is known before. */
static bool is_pinned(const struct rootfs_job *job) {
        return job->config->kind == CONFIG_BASE_DEBIAN || job->config->kind == CONFIG_BASE_OCI;
}

void rootfs_key(const struct rootfs_job *job, const char *digest, char ret[NB_SHA256_HEX]) {
        const struct lock *l = job->lock;
        NB_AUTO_BUF text = { 0 };
        const struct lock_set *const sets[] = { &l->base, &l->packages, &l->runtime };
        add_fact(&text, "builder", LOCK_BUILDER);
        add_fact(&text, "spec", l->spec);
        add_fact(&text, "source", l->source);
        for (size_t i = 0; i < NB_ARRAY_LEN(sets); i++) {
                char key[NB_SHA256_HEX];
                lock_set_key(sets[i], "", key);
                add_fact(&text, "set", key);
        }
        for (size_t i = 0; i < l->n_layers; i++)
                add_fact(&text, "layer", l->layers[i].sha256);
        for (const struct lock_npm *n = l->npm; n; n = n->next) {
                add_fact(&text, n->scripts ? "npm with scripts" : "npm", n->path);
                add_fact(&text, "integrity", n->integrity);
                for (size_t i = 0; n->bin && n->bin[i]; i++)
                        add_fact(&text, "bin", n->bin[i]);
        }
        if (!is_pinned(job)) {
                add_fact(&text, "at", job->config->base);
                add_fact(&text, "digest", digest);
        }
        nb_sha256(nb_buf_bytes(&text), text.len, ret);
}

char *rootfs_path(const struct store *s, const char *digest) {
        NB_AUTO_FREE char *name = nb_asprintf("%s.erofs", digest + strlen(STORE_DIGEST_PREFIX));
        return store_path(s, "images", name);
}

bool rootfs_is_current(const json_t *ref) {
        const char *builder = json_string_value(json_object_get(ref, "builder"));
        return builder && strcmp(builder, LOCK_BUILDER) == 0;
}

void rootfs_clear(struct rootfs *r) {
        free(r->path);
        free(r->digest);
        image_meta_clear(&r->meta);
        *r = (struct rootfs){ 0 };
}

static bool find(const struct store *s, const char *key, struct rootfs *ret) {
        json_t *ref = store_ref_get(s, "image", key);
        const char *digest = json_string_value(json_object_get(ref, "digest"));
        NB_AUTO_FREE char *path = digest && nb_starts_with(digest, STORE_DIGEST_PREFIX) ? rootfs_path(s, digest) : NULL;
        bool found = path && access(path, R_OK) == 0;
        if (found) {
                *ret = (struct rootfs){ .path = nb_steal(&path), .digest = nb_strdup(digest) };
                image_meta_from_json(json_object_get(ref, "meta"), &ret->meta);
        }
        json_decref(ref);
        return found;
}

static int record(const struct rootfs_job *job, const char *key, const char *digest, const struct image_meta *meta,
                  struct nb_error *err) {
        const struct config_image *c = job->config;
        char built[32] = "";
        time_t now = time(NULL);
        struct tm tm;
        (void)strftime(built, sizeof built, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
        json_t *list = json_array();
        for (size_t i = 0; rootfs_standard[i] && c->kind == CONFIG_BASE_DEBIAN; i++)
                (void)json_array_append_new(list, json_string(rootfs_standard[i]));
        for (size_t i = 0; c->packages && c->packages[i]; i++)
                (void)json_array_append_new(list, json_string(c->packages[i]));
        json_t *ref = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:o*}", "digest", digest, "builder", LOCK_BUILDER, "base",
                                c->base, "packages", list, "built", built, "runtime", job->rt->tree_digest, "kernel",
                                job->rt->kernel_digest, "meta", image_meta_json(meta));
        int r = ref ? store_ref_put(job->store, "image", key, ref, err) : nb_fail(err, EINVAL, "cannot describe the image");
        json_decref(ref);
        return r;
}

int rootfs_digest(const char *erofs, char **ret, struct nb_error *err) {
        char hex[NB_SHA256_HEX];
        NB_AUTO_CLOSE int fd = open(erofs, O_RDONLY | O_CLOEXEC);
        int r = fd < 0 ? -errno : nb_sha256_fd(fd, hex);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", erofs);
        *ret = nb_asprintf(STORE_DIGEST_PREFIX "%s", hex);
        return 0;
}

/* Names the finished file after its digest and records it. */
static int put_away(const struct rootfs_job *job, char key[NB_SHA256_HEX], const char *erofs, const char *listing,
                    const struct image_meta *meta, struct nb_error *err) {
        NB_AUTO_FREE char *digest = NULL;
        NB_AUTO_CLOSE int lock = -1;
        int r = rootfs_digest(erofs, &digest, err);
        if (!digest) /* set on success only */
                return r;
        if (job->lock->digest && strcmp(job->lock->digest, digest) != 0) {
                nb_fail(err, EBADMSG, "the image was built to %s, and the lock says %s", digest, job->lock->digest);
                return nb_hint(err,
                               "the lock or something that it does not pin has changed; take the new image: nixbox image lock");
        }
        NB_AUTO_FREE char *to = rootfs_path(job->store, digest);
        NB_AUTO_CLOSE int fd = open(erofs, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fchmod(fd, 0444) < 0 || fsync(fd) < 0)
                return nb_fail_errno(err, errno, "cannot store %s", to);
        r = store_lock(job->store, STORE_LOCK_ALL, NULL, &lock, err);
        if (r < 0)
                return r;
        if (rename(erofs, to) < 0)
                return nb_fail_errno(err, errno, "cannot store %s", to);
        store_mark(job->store, to);
        NB_AUTO_FREE char *manifest = nb_asprintf("%s.manifest", to);
        r = nb_write_file_atomic(manifest, listing, strlen(listing), 0444);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot store %s", manifest);
        rootfs_key(job, digest, key);
        return record(job, key, digest, meta, err);
}

/* The tar of a Debian image: packages, and npm's above them. */
static int debian_tar(const struct rootfs_job *job, const char *work, const char *layer, const char *script, const char *tar,
                      struct nb_error *err) {
        const struct lock *l = job->lock;
        const struct lock_set *const sets[] = { &l->base, &l->packages, NULL };
        const struct build_job build = { .suite = l->suite,
                                         .base = &l->base,
                                         .packages = &l->packages,
                                         .docs = job->config->docs,
                                         .locale = job->config->locale,
                                         .layer = layer,
                                         .script = script,
                                         .work = work,
                                         .anew = job->anew,
                                         .tar = tar,
                                         .step = STEP };
        int r = fetch_packages(job->store, sets, l->resolved, job->progress, err);
        return r < 0 ? r : build_tree(job->store, &build, job->progress, err);
}

int rootfs_make(const struct rootfs_job *job, const char *work, const char *tar, const char *erofs, struct image_meta *meta,
                struct nb_error *err) {
        static const char *const pack[] = { "-zlz4hc,level=3", "-C16384", "-Eztailpacking", NULL };
        NB_AUTO_FREE char *layer = NULL, *script = NULL;
        const struct lock *l = job->lock;
        int r = l->npm ? npm_fetch(job->store, l->npm, job->progress, err) : 0;
        if (r == 0)
                r = npm_layer(job->store, l->npm, work, &layer, &script, err);
        if (r == 0)
                r = l->suite ? debian_tar(job, work, layer, script, tar, err)
                             : source_tar(job->store, l, job->config, work, layer, tar, meta, job->progress, err);
        if (r < 0)
                return r;
        store_step(job->progress, STEP, "writing the file system", 0, 0);
        return erofs_make(job->rt->tree, tar, erofs, pack, err);
}

static int make(const struct rootfs_job *job, char key[NB_SHA256_HEX], const char *work, struct nb_error *err) {
        NB_AUTO_FREE char *tar = nb_path_join(work, "root.tar"), *erofs = nb_path_join(work, "root.erofs");
        __attribute__((cleanup(image_meta_clear))) struct image_meta meta = { 0 };
        int r = rootfs_make(job, work, tar, erofs, &meta, err);
        NB_AUTO_FREE char *listing = NULL;
        if (r == 0)
                r = listing_of_tar(tar, &listing, err);
        if (r == 0)
                r = put_away(job, key, erofs, listing, &meta, err);
        return r < 0 ? store_hint(job->store, err) : 0;
}

int rootfs_ensure(const struct rootfs_job *job, bool force, struct rootfs *ret, struct nb_error *err) {
        const struct store *s = job->store;
        char key[NB_SHA256_HEX];
        bool known = is_pinned(job) || job->lock->digest;
        rootfs_key(job, job->lock->digest, key);
        if (!force && known && find(s, key, ret))
                return 0;
        NB_AUTO_FREE char *name = nb_asprintf("image-%s", key);
        NB_AUTO_CLOSE int lock = -1;
        int r = store_lock(s, name, job->progress, &lock, err);
        if (r < 0)
                return r;
        if (!force && known && find(s, key, ret)) /* somebody else has built it meanwhile */
                return 0;
        store_sweep(s);
        struct store_temp work;
        r = store_temp_new(s, &work, err);
        if (r < 0)
                return r;
        r = make(job, key, work.path, err);
        store_temp_remove(&work);
        if (r < 0)
                return nb_context(err, "cannot build the guest image");
        return find(s, key, ret) ? 0 : nb_fail(err, EIO, "the image was built but cannot be found in %s", s->data);
}
