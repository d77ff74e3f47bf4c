/* Finding and keeping locks (see pin.h). */
#include "image/pin.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "image/resolve.h"
#include "image/source.h"

#define REF_KIND "lock"

/* Of the record of what a description was resolved to: on this machine, so what it names here is part of it. */
static void make_key(const struct config_image *c, char ret[NB_SHA256_HEX]) {
        NB_AUTO_FREE char *spec = lock_spec(c);
        NB_AUTO_FREE char *text = nb_asprintf("builder " LOCK_BUILDER "\nat %s\n%s", c->base, spec);
        nb_sha256(text, strlen(text), ret);
}

static time_t time_of(const struct lock *l) {
        struct tm tm = { 0 };
        return strptime(l->resolved, "%Y-%m-%dT%H:%M:%SZ", &tm) ? timegm(&tm) : 0;
}

/* What this machine resolved lately, or NULL. */
static struct lock *find_recent(const struct store *s, const struct config_image *c) {
        NB_AUTO_ERROR err = { 0 };
        char key[NB_SHA256_HEX];
        if (c->kind == CONFIG_BASE_DIR || c->kind == CONFIG_BASE_NIX) /* nothing to look up, and it may have changed since */
                return NULL;
        make_key(c, key);
        json_t *ref = store_ref_get(s, REF_KIND, key);
        const char *text = json_string_value(json_object_get(ref, "text"));
        struct lock *l = NULL;
        time_t now = time(NULL);
        if (text && lock_parse(text, strlen(text), LOCK_FILE, &l, &err) == 0 &&
            (lock_matches(l, c, LOCK_FILE, &err) < 0 || time_of(l) > now || now - time_of(l) > PIN_AGE_MAX)) {
                lock_free(l);
                l = NULL;
        }
        json_decref(ref);
        return l;
}

/* Debian's and npm's packages, and the base where that is another. */
static int resolve(const struct store *s, const struct config_image *c, bool refresh, const struct image_progress *progress,
                   struct lock **ret, struct nb_error *err) {
        __attribute__((cleanup(lock_freep))) struct lock *l = NULL;
        int r = resolve_all(s, c, refresh, progress, &l, err);
        if (r == 0 && c->kind != CONFIG_BASE_DEBIAN)
                r = source_resolve(s, c, l, progress, err);
        if (r == 0)
                *ret = nb_steal(&l);
        return r;
}

int pin_get(const struct store *s, const struct config *c, const struct image_progress *progress, struct lock **ret,
            struct nb_error *err) {
        __attribute__((cleanup(lock_freep))) struct lock *l = NULL;
        if (!c->lock.path) {
                *ret = find_recent(s, &c->image);
                return *ret ? 0 : resolve(s, &c->image, false, progress, ret, err);
        }
        int r = lock_parse(c->lock.bytes, c->lock.len, c->lock.path, &l, err);
        if (r == 0)
                r = lock_matches(l, &c->image, c->lock.path, err);
        if (r == 0)
                *ret = nb_steal(&l);
        return r;
}

int pin_renew(const struct store *s, const struct config *c, const struct image_progress *progress, struct lock **ret,
              struct nb_error *err) {
        return resolve(s, &c->image, true, progress, ret, err);
}

/* For other configs that ask for the same. Only a convenience: one too large for a record is not kept. */
static void record(const struct store *s, const struct config_image *c, const char *text) {
        NB_AUTO_ERROR err = { 0 };
        char key[NB_SHA256_HEX];
        make_key(c, key);
        json_t *ref = json_pack("{s:s}", "text", text);
        if (ref)
                (void)store_ref_put(s, REF_KIND, key, ref, &err);
        json_decref(ref);
}

static int write_file(const char *path, const char *text, struct nb_error *err) {
        /* A link there may be a box's doing: it is not followed. */
        int r = nb_replace_file(path, text, strlen(text));
        if (r == -ENOENT)
                r = nb_write_file_atomic(path, text, strlen(text), 0644);
        if (r == 0)
                return 0;
        nb_fail_errno(err, -r, "cannot write %s, which pins what the image is made of", path);
        if (r == -ELOOP)
                return nb_hint(err, "replace the symbolic link by the file itself");
        return nb_hint(err, "make the folder of the config writable for you, or put a copy of the config where you can write");
}

int pin_keep(const struct store *s, struct config *c, const struct lock *l, bool *ret_written, struct nb_error *err) {
        NB_AUTO_FREE char *text = lock_format(l);
        size_t len = strlen(text);
        record(s, &c->image, text);
        if (ret_written)
                *ret_written = false;
        if (!c->file || (c->lock.path && c->lock.len == len && memcmp(c->lock.bytes, text, len) == 0))
                return 0;
        NB_AUTO_FREE char *path = nb_path_join(c->dir, LOCK_FILE);
        int r = write_file(path, text, err);
        if (r < 0)
                return r;
        if (!c->lock.path)
                c->lock.path = realpath(path, NULL); /* as loading the config gives it */
        free(c->lock.bytes);
        c->lock.len = len;
        nb_sha256(text, len, c->lock.sha256);
        c->lock.bytes = nb_steal(&text);
        if (ret_written)
                *ret_written = true;
        return 0;
}
