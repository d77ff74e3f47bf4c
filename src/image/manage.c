/* Listing and removing what the store holds (see image.h). Removal never breaks a running box: what it boots from is open
 * already, and a file goes only when its last user closes it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "image/image.h"
#include "image/initrd.h"
#include "image/rootfs.h"
#include "image/runtime.h"
#include "image/store.h"

#define PREFIX_MIN 4u /* digits of a digest that may stand for it */
#define REF_PREFIX "image-"

typedef void (*entry_fn)(void *user, const char *folder, const char *name);

static void each_entry(const char *folder, entry_fn fn, void *user) {
        NB_AUTO_STRV char **names = NULL; /* first all names: `fn` may remove */
        DIR *dir = opendir(folder);
        if (!dir)
                return;
        for (struct dirent *e; (e = readdir(dir));)
                if (e->d_name[0] != '.')
                        nb_strv_add(&names, e->d_name);
        closedir(dir);
        for (size_t i = 0; names && names[i]; i++)
                fn(user, folder, names[i]);
}

static char *ref_key(const char *name, const char *prefix) {
        size_t n = strlen(name), p = strlen(prefix), s = strlen(".json");
        return nb_starts_with(name, prefix) && n > p + s && strcmp(name + n - s, ".json") == 0 ? nb_strndup(name + p, n - p - s)
                                                                                               : NULL;
}

/* Of an entry that list_one() has checked. */
static const char *digest_of(const json_t *one) {
        const char *digest = json_string_value(json_object_get(one, "digest"));
        return digest ? digest : STORE_DIGEST_PREFIX;
}

struct listing {
        const struct store *s;
        json_t *images;
};

static void list_one(void *user, const char *folder, const char *name) {
        struct listing *l = user;
        (void)folder;
        NB_AUTO_FREE char *key = ref_key(name, REF_PREFIX);
        json_t *ref = key ? store_ref_get(l->s, "image", key) : NULL;
        const char *digest = json_string_value(json_object_get(ref, "digest"));
        if (digest && nb_starts_with(digest, STORE_DIGEST_PREFIX)) {
                NB_AUTO_FREE char *path = rootfs_path(l->s, digest);
                struct stat st;
                if (stat(path, &st) == 0) {
                        (void)json_object_set_new(ref, "size", json_integer(st.st_size));
                        (void)json_object_set_new(ref, "path", json_string(path));
                        (void)json_object_set_new(ref, "key", json_string(key));
                        (void)json_array_append(l->images, ref);
                }
        }
        json_decref(ref);
}

static json_t *list_images(const struct store *s) {
        struct listing l = { s, json_array() };
        NB_AUTO_FREE char *refs = nb_path_join(s->data, "refs");
        each_entry(refs, list_one, &l);
        return l.images;
}

int image_list(json_t **ret, struct nb_error *err) {
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        int r = store_open(&s, err);
        if (r == 0)
                *ret = list_images(s);
        return r;
}

/* Removes the image file and all records of it. */
static int remove_image(const struct store *s, const json_t *images, const char *digest, struct nb_error *err) {
        size_t i;
        json_t *one;
        json_array_foreach(images, i, one) {
                if (strcmp(digest_of(one), digest) != 0)
                        continue;
                int r = store_ref_remove(s, "image", json_string_value(json_object_get(one, "key")));
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot remove the record of %s", digest);
        }
        NB_AUTO_FREE char *path = rootfs_path(s, digest);
        return unlink(path) < 0 && errno != ENOENT ? nb_fail_errno(err, errno, "cannot remove %s", path) : 0;
}

/* The one image a person means by (the start of) a digest; NULL after an error. */
static const char *find_image(const json_t *images, const char *text, struct nb_error *err) {
        const char *digits = nb_starts_with(text, STORE_DIGEST_PREFIX) ? text + strlen(STORE_DIGEST_PREFIX) : text;
        const char *found = NULL;
        size_t i;
        json_t *one;
        json_array_foreach(images, i, one) {
                const char *digest = digest_of(one);
                if (strlen(digits) < PREFIX_MIN || !nb_starts_with(digest + strlen(STORE_DIGEST_PREFIX), digits))
                        continue;
                if (found && strcmp(found, digest) != 0) {
                        nb_fail(err, EINVAL, "more than one image begins with '%s'", text);
                        nb_hint(err, "give more of its digits; nixbox image ls --json shows all");
                        return NULL;
                }
                found = digest;
        }
        if (!found) {
                nb_fail(err, ENOENT, "there is no image '%s'", text);
                nb_hint(err, "nixbox image ls lists the images; give at least %u digits", PREFIX_MIN);
        }
        return found;
}

int image_remove(char *const *digests, struct nb_error *err) {
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        NB_AUTO_CLOSE int lock = -1;
        int r = store_open(&s, err);
        if (r == 0)
                r = store_lock(s, STORE_LOCK_ALL, NULL, &lock, err);
        if (r < 0)
                return r;
        json_t *images = list_images(s);
        for (size_t i = 0; r == 0 && digests[i]; i++) {
                const char *digest = find_image(images, digests[i], err);
                r = digest ? remove_image(s, images, digest, err) : -ENOENT;
        }
        json_decref(images);
        return r;
}

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

static void prune_one(void *user, const char *folder, const char *name) {
        struct pruning *p = user;
        for (size_t i = 0; p->keep && p->keep[i]; i++)
                if (strcmp(p->keep[i], name) == 0)
                        return;
        NB_AUTO_FREE char *path = nb_path_join(folder, name);
        unsigned long long size = size_of(path);
        if (nb_remove_tree(AT_FDCWD, path) == 0)
                p->freed += size;
}

/* What stays: the images of this version's builder, the runtime and kernel in use, and the initramfs of this agent. */
static void keep_current(struct pruning *p) {
        json_t *images = list_images(p->s);
        size_t i;
        json_t *one;
        json_array_foreach(images, i, one) {
                if (!rootfs_is_current(one))
                        continue;
                nb_strv_addf(&p->keep, "%s.erofs",
                             json_string_value(json_object_get(one, "digest")) + strlen(STORE_DIGEST_PREFIX));
                nb_strv_addf(&p->keep, REF_PREFIX "%s.json", json_string_value(json_object_get(one, "key")));
        }
        json_decref(images);
        struct runtime rt = { 0 };
        if (runtime_find(p->s, &rt)) {
                const char *const dirs[] = { strrchr(rt.tree, '/') + 1, strrchr(rt.kernel, '/') + 1 };
                for (i = 0; i < NB_ARRAY_LEN(dirs); i++) {
                        nb_strv_add(&p->keep, dirs[i]);
                        nb_strv_addf(&p->keep, "%s.manifest", dirs[i]);
                }
                NB_AUTO_FREE char *ref = runtime_ref_name(), *initrd = initrd_name(rt.kernel, NULL);
                nb_strv_add(&p->keep, ref);
                if (initrd)
                        nb_strv_add(&p->keep, initrd);
        }
        runtime_clear(&rt);
}

int image_prune(unsigned long long *ret_freed, struct nb_error *err) {
        static const char *const folders[] = { "refs", "images", "runtime", "kernel" };
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        NB_AUTO_CLOSE int lock = -1;
        int r = store_open(&s, err);
        if (r == 0)
                r = store_lock(s, STORE_LOCK_ALL, NULL, &lock, err);
        if (r < 0)
                return r;
        struct pruning p = { .s = s };
        store_sweep(s);
        keep_current(&p);
        for (size_t i = 0; i < NB_ARRAY_LEN(folders); i++) {
                NB_AUTO_FREE char *folder = nb_path_join(s->data, folders[i]);
                each_entry(folder, prune_one, &p);
        }
        NB_AUTO_FREE char *packages = nb_path_join(s->cache, "apt");
        nb_strv_free(p.keep);
        p.keep = NULL;
        each_entry(packages, prune_one, &p);
        *ret_freed = p.freed;
        return 0;
}
