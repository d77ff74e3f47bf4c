/* Removing what nobody needs any more (see image.h). What stays: what a box uses, by its mark; what the records of this
 * version's builder name; and records of what stays. Things go before their records, so a record may name what is gone, never
 * the other way round; who finds such a record builds again. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/seal.h"
#include "base/text.h"
#include "image/image.h"
#include "image/initrd.h"
#include "image/lock.h"
#include "image/rootfs.h"
#include "image/runtime.h"
#include "image/store.h"
#include "image/use.h"

#define MANIFEST ".manifest"

static const char *const things[] = { "images", "runtime", "kernel" };
static const char *const caches[] = { "apt", "base", "blobs" };

struct pruning {
        const struct store *s;
        char **keep; /* names that stay, in any folder of the store */
        unsigned long long freed;
};

static unsigned long long size_of(const char *path) {
        struct stat st;
        if (lstat(path, &st) < 0)
                return 0;
        unsigned long long sum = (unsigned long long)st.st_blocks * 512u;
        DIR *dir = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
        if (!dir)
                return sum;
        for (struct dirent *e; (e = readdir(dir));) {
                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                NB_AUTO_FREE char *sub = nb_path_join(path, e->d_name);
                sum += size_of(sub);
        }
        closedir(dir);
        return sum;
}

/* "NAME" of "PREFIXNAMESUFFIX"; NULL for another name. New string. */
static char *middle(const char *name, const char *prefix, const char *suffix) {
        size_t n = strlen(name), p = strlen(prefix), s = strlen(suffix);
        bool fits = n > p + s && nb_starts_with(name, prefix) && strcmp(name + n - s, suffix) == 0;
        return fits ? nb_strndup(name + p, n - p - s) : NULL;
}

static bool is_there(const struct store *s, const char *name) {
        for (size_t i = 0; i < NB_ARRAY_LEN(things); i++) {
                NB_AUTO_FREE char *path = store_path(s, things[i], name);
                struct stat st;
                if (lstat(path, &st) == 0)
                        return true;
        }
        return false;
}

/* The record "KIND-KEY.json" itself. The caller's reference. */
static json_t *read_record(const struct store *s, const char *name) {
        NB_AUTO_FREE char *base = middle(name, "", ".json");
        char *dash = base ? strchr(base, '-') : NULL;
        if (!dash)
                return NULL;
        *dash = 0;
        return store_ref_get(s, base, dash + 1);
}

/* Everything that a record names by digest: an image, a runtime, a kernel and the initramfs that goes with it. */
static void keep_named(struct pruning *p, const json_t *ref) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)ref, key, value) {
                const char *text = json_string_value(value);
                if (!text || !nb_starts_with(text, STORE_DIGEST_PREFIX))
                        continue;
                const char *hex = text + strlen(STORE_DIGEST_PREFIX);
                NB_AUTO_FREE char *initrd = strchr(hex, '/') ? NULL : initrd_name(hex, NULL);
                nb_strv_add(&p->keep, hex);
                nb_strv_addf(&p->keep, "%s.erofs", hex);
                if (initrd)
                        nb_strv_add(&p->keep, initrd);
        }
}

/* What a description was resolved to, and what that was built to, if this version would build it so again. */
static void keep_lock(struct pruning *p, const char *name, const json_t *ref) {
        const char *text = json_string_value(json_object_get(ref, "text"));
        __attribute__((cleanup(lock_freep))) struct lock *l = NULL;
        if (!text || lock_parse(text, strlen(text), LOCK_FILE, &l, NULL) < 0 || strcmp(l->builder, LOCK_BUILDER) != 0)
                return;
        json_t *named =
            json_pack("{s:s*, s:s*, s:s*}", "digest", l->digest, "runtime", l->runtime_digest, "kernel", l->kernel_digest);
        nb_strv_add(&p->keep, name);
        keep_named(p, named);
        json_decref(named);
}

static void keep_of_record(void *user, const char *folder, const char *name) {
        struct pruning *p = user;
        (void)folder;
        json_t *ref = read_record(p->s, name);
        if (ref && (rootfs_is_current(ref) || runtime_is_current(ref))) {
                nb_strv_add(&p->keep, name);
                keep_named(p, ref);
        } else if (ref) {
                keep_lock(p, name, ref);
        }
        json_decref(ref);
}

static void remove_path(struct pruning *p, const char *path) {
        unsigned long long size = size_of(path);
        if (use_discard(p->s, path) == 0)
                p->freed += size;
}

static void prune_thing(void *user, const char *folder, const char *name) {
        struct pruning *p = user;
        NB_AUTO_FREE char *path = nb_path_join(folder, name), *owner = middle(name, "", MANIFEST);
        NB_AUTO_CLOSE int claim = -1; /* held until it is gone: who wants to use it waits, and then knows */
        if (!owner && !nb_strv_has(p->keep, name) && nb_use_claim(path, &claim) != -EBUSY)
                remove_path(p, path);
}

static void prune_manifest(void *user, const char *folder, const char *name) {
        struct pruning *p = user;
        NB_AUTO_FREE char *path = nb_path_join(folder, name), *owner = middle(name, "", MANIFEST);
        if (owner && !is_there(p->s, owner))
                remove_path(p, path);
}

/* A record that is kept by none of these goes: it is current; what it tells of is there; the image that it names is there. */
static void prune_record(void *user, const char *folder, const char *name) {
        struct pruning *p = user;
        NB_AUTO_FREE char *path = nb_path_join(folder, name), *of = middle(name, USE_RECORD "-", ".json");
        if (!of)
                of = middle(name, INITRD_RECORD "-", ".json");
        if (nb_strv_has(p->keep, name) || (of && is_there(p->s, of)))
                return;
        json_t *ref = of ? NULL : read_record(p->s, name);
        const char *digest = json_string_value(json_object_get(ref, "digest"));
        NB_AUTO_FREE char *image = digest && nb_starts_with(digest, STORE_DIGEST_PREFIX) ? rootfs_path(p->s, digest) : NULL;
        if (!image || access(image, F_OK) < 0)
                remove_path(p, path);
        json_decref(ref);
}

static void prune_cache(void *user, const char *folder, const char *name) {
        struct pruning *p = user;
        NB_AUTO_FREE char *path = nb_path_join(folder, name);
        remove_path(p, path);
}

int image_prune(unsigned long long *ret_freed, struct nb_error *err) {
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        NB_AUTO_CLOSE int lock = -1;
        int r = store_open_alone(&s, &lock, err);
        if (r < 0)
                return r;
        struct pruning p = { .s = s };
        NB_AUTO_FREE char *refs = nb_path_join(s->data, "refs");
        store_sweep(s);
        store_each(refs, keep_of_record, &p);
        for (size_t i = 0; i < NB_ARRAY_LEN(things); i++) {
                NB_AUTO_FREE char *folder = nb_path_join(s->data, things[i]);
                store_each(folder, prune_thing, &p);
                store_each(folder, prune_manifest, &p);
        }
        store_each(refs, prune_record, &p);
        bool alone = store_cache_alone(s);
        if (!alone)
                nb_warn("another nixbox is at work with what was downloaded, so that stays");
        for (size_t i = 0; alone && i < NB_ARRAY_LEN(caches); i++) {
                NB_AUTO_FREE char *folder = nb_path_join(s->cache, caches[i]);
                store_each(folder, prune_cache, &p);
        }
        nb_strv_free(p.keep);
        *ret_freed = p.freed;
        return 0;
}
