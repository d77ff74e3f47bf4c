/* Listing and removing what the store holds (see image.h). What a box uses is marked (base/seal.h) and stays, from before the
 * starting command has checked it until the box has ended. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/seal.h"
#include "base/text.h"
#include "image/image.h"
#include "image/rootfs.h"
#include "image/store.h"
#include "image/use.h"

#define PREFIX_MIN 4u /* digits of a digest that may stand for it */
#define REF_PREFIX "image-"

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
        store_each(refs, list_one, &l);
        return l.images;
}

int image_list(json_t **ret, struct nb_error *err) {
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        int r = store_open(&s, err);
        if (r == 0)
                *ret = list_images(s);
        return r;
}

static int refuse_in_use(const char *digest, const json_t *boxes, struct nb_error *err) {
        const char *name = json_string_value(json_array_get(json_object_get(boxes, digest), 0));
        if (name) {
                nb_fail(err, EBUSY, "the box '%s' uses the image %s", name, digest);
                return nb_hint(
                    err, "nixbox -n %s down ends it; with --force the image goes, and the box keeps what it has open", name);
        }
        nb_fail(err, EBUSY, "a box that is starting, or of another session, uses the image %s", digest);
        return nb_hint(err, "wait for its end; with --force the image goes, and the box keeps what it has open");
}

/* Removes the image file and all records of it. */
static int remove_image(const struct store *s, const json_t *images, const char *digest, bool force, const json_t *boxes,
                        struct nb_error *err) {
        size_t i;
        json_t *one;
        NB_AUTO_CLOSE int claim = -1;
        NB_AUTO_FREE char *path = rootfs_path(s, digest);
        if (!force && (nb_use_claim(path, &claim) == -EBUSY || json_object_get(boxes, digest)))
                return refuse_in_use(digest, boxes, err);
        json_array_foreach(images, i, one) {
                if (strcmp(digest_of(one), digest) != 0)
                        continue;
                int r = store_ref_remove(s, "image", json_string_value(json_object_get(one, "key")));
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot remove the record of %s", digest);
        }
        int r = use_discard(s, path);
        return r < 0 ? nb_fail_errno(err, -r, "cannot remove %s", path) : 0;
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

int image_remove(char *const *digests, bool force, const json_t *boxes, struct nb_error *err) {
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        NB_AUTO_CLOSE int lock = -1;
        int r = store_open_alone(&s, &lock, err);
        if (r < 0)
                return r;
        json_t *images = list_images(s);
        for (size_t i = 0; r == 0 && digests[i]; i++) {
                const char *digest = find_image(images, digests[i], err);
                r = digest ? remove_image(s, images, digest, force, boxes, err) : -ENOENT;
        }
        json_decref(images);
        return r;
}
