/* Reading nixbox.lock (see lock.h): JSON to values by the tables of lock_fields.h. Anything that the tables do not know, or
 * that their grammar refuses, is an error that names where it stands. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/lock_fields.h"

#define FILE_SIZE_MAX (64ll << 30) /* bytes of one file to download */
#define STRINGS_MAX 256u           /* in a small list */
#define LINES_MAX 20000u
#define BLOBS_MAX 1000u

struct reader {
        const char *file;
        const char *list; /* the array that is being read, or NULL */
        size_t entry;     /* in it, from 1 */
        struct nb_error *err;
};

static int bad(const struct reader *r, const char *key, const char *what) {
        NB_AUTO_FREE char *entry = r->list ? nb_asprintf("%s, entry %zu", r->list, r->entry) : NULL;
        NB_AUTO_FREE char *clean = nb_text_clean(key ? key : "", 0);
        nb_fail(r->err, EBADMSG, "%s: %s%s%s: %s", r->file, entry ? entry : "", entry && key ? ", " : "", clean, what);
        (void)nb_hint(r->err, "restore the file, or make a new one: nixbox image lock");
        return -EBADMSG;
}

static int read_fields(struct reader *r, const json_t *object, const struct lock_table *table, void *out);

/* The value's own text; NULL after an error. */
static const char *read_text(const struct reader *r, const json_t *value, const struct lock_field *f) {
        const char *text = json_string_value(value);
        if (text && f->valid(text))
                return text;
        (void)bad(r, f->key, text ? "no lock has this value" : "must be a string");
        return NULL;
}

static int read_own_text(const struct reader *r, const json_t *value, const struct lock_field *f, char **ret) {
        *ret = nb_strdup(read_text(r, value, f));
        return *ret ? 0 : -EBADMSG;
}

/* The array that a field holds, with no more than `max` entries. */
static int check_array(const struct reader *r, const json_t *value, const struct lock_field *f, size_t max) {
        if (!json_is_array(value))
                return bad(r, f->key, "must be a list");
        return json_array_size(value) > max ? bad(r, f->key, "is too long") : 0;
}

static int read_lines(const struct reader *r, const json_t *value, const struct lock_field *f, char **ret) {
        NB_AUTO_BUF text = { 0 };
        size_t i;
        json_t *one;
        int e = check_array(r, value, f, LINES_MAX);
        if (e < 0)
                return e;
        json_array_foreach(value, i, one) {
                const char *line = read_text(r, one, f);
                if (!line)
                        return -EBADMSG;
                nb_buf_add(&text, line, strlen(line));
                nb_buf_add(&text, "\n", 1);
        }
        *ret = nb_strndup(text.len ? (const char *)nb_buf_bytes(&text) : "", text.len);
        return 0;
}

static int read_strings(const struct reader *r, const json_t *value, const struct lock_field *f, char ***ret) {
        size_t i;
        json_t *one;
        int e = check_array(r, value, f, STRINGS_MAX);
        if (e < 0)
                return e;
        json_array_foreach(value, i, one) {
                const char *text = read_text(r, one, f);
                if (!text)
                        return -EBADMSG;
                nb_strv_add(ret, text);
        }
        return 0;
}

static int read_hash(const struct reader *r, const json_t *value, const struct lock_field *f, char *ret) {
        const char *text = read_text(r, value, f);
        if (!text)
                return -EBADMSG;
        memcpy(ret, text, NB_SHA256_HEX);
        return 0;
}

static int read_size(const struct reader *r, const json_t *value, const struct lock_field *f, uint64_t *ret) {
        json_int_t n = json_integer_value(value);
        if (!json_is_integer(value) || n < 1 || n > FILE_SIZE_MAX)
                return bad(r, f->key, "must be a number of bytes");
        *ret = (uint64_t)n;
        return 0;
}

static int by_package(const void *a, const void *b) {
        return strcmp((*(const struct lock_package *const *)a)->name, (*(const struct lock_package *const *)b)->name);
}

/* No package may be there twice, in one list or in two that are installed together. */
static int check_unique(const struct reader *r, const struct lock_set *first, const struct lock_set *second) {
        size_t n = first->n + second->n;
        NB_AUTO_FREE const struct lock_package **all = nb_calloc(n, sizeof(struct lock_package *));
        for (size_t i = 0; i < n; i++)
                all[i] = i < first->n ? &first->packages[i] : &second->packages[i - first->n];
        if (n > 0)
                qsort(all, n, sizeof(const struct lock_package *), by_package);
        for (size_t i = 1; i < n; i++)
                if (strcmp(all[i - 1]->name, all[i]->name) == 0)
                        return bad(r, all[i]->name, "this package is listed twice");
        return 0;
}

static int read_set(struct reader *r, const json_t *value, const struct lock_field *f, struct lock_set *ret) {
        size_t i;
        json_t *one;
        int e = check_array(r, value, f, LOCK_PACKAGES_MAX);
        if (e < 0)
                return e;
        ret->packages = nb_calloc(json_array_size(value), sizeof *ret->packages);
        json_array_foreach(value, i, one) {
                r->list = f->key;
                r->entry = i + 1;
                e = read_fields(r, one, &lock_table_package, &ret->packages[ret->n++]);
                r->list = NULL;
                if (e < 0)
                        return e;
        }
        return 0;
}

static int read_npm(struct reader *r, const json_t *value, const struct lock_field *f, struct lock_npm **ret) {
        struct lock_npm **next = ret;
        const char *before = "";
        size_t i;
        json_t *one;
        int e = check_array(r, value, f, LOCK_PACKAGES_MAX);
        if (e < 0)
                return e;
        json_array_foreach(value, i, one) {
                r->list = f->key;
                r->entry = i + 1;
                struct lock_npm *npm = *next = nb_calloc(1, sizeof *npm);
                e = read_fields(r, one, &lock_table_npm, npm);
                if (e == 0 && strcmp(before, npm->path) >= 0)
                        e = bad(r, "path", "the list must be sorted, with each path once");
                r->list = NULL;
                if (e < 0)
                        return e;
                before = npm->path;
                next = &npm->next;
        }
        return 0;
}

static int read_blobs(struct reader *r, const json_t *value, const struct lock_field *f, struct lock_blob **ret,
                      size_t *ret_n) {
        size_t i;
        json_t *one;
        int e = check_array(r, value, f, BLOBS_MAX);
        if (e < 0)
                return e;
        *ret = nb_calloc(json_array_size(value), sizeof **ret);
        json_array_foreach(value, i, one) {
                r->list = f->key;
                r->entry = i + 1;
                e = read_fields(r, one, &lock_table_blob, &(*ret)[(*ret_n)++]);
                r->list = NULL;
                if (e < 0)
                        return e;
        }
        return 0;
}

static int read_field(struct reader *r, const json_t *value, const struct lock_field *f, char *at) {
        switch (f->kind) {
        case LOCK_VERSION_NUMBER: return 0; /* looked at before everything else */
        case LOCK_TEXT: return read_own_text(r, value, f, (char **)at);
        case LOCK_LINES: return read_lines(r, value, f, (char **)at);
        case LOCK_HASH: return read_hash(r, value, f, at);
        case LOCK_SIZE: return read_size(r, value, f, (uint64_t *)at);
        case LOCK_FLAG:
                *(bool *)at = json_is_true(value);
                return json_is_boolean(value) ? 0 : bad(r, f->key, "must be true or false");
        case LOCK_STRINGS: return read_strings(r, value, f, (char ***)at);
        case LOCK_SET: return read_set(r, value, f, (struct lock_set *)at);
        case LOCK_NPM: return read_npm(r, value, f, (struct lock_npm **)at);
        case LOCK_BLOBS: return read_blobs(r, value, f, (struct lock_blob **)at, (size_t *)(at + sizeof(struct lock_blob *)));
        }
        return bad(r, f->key, "is not known");
}

static int read_fields(struct reader *r, const json_t *object, const struct lock_table *table, void *out) {
        size_t found = 0;
        if (!json_is_object(object))
                return bad(r, NULL, "must be an object");
        for (size_t i = 0; i < table->n; i++) {
                const struct lock_field *f = &table->fields[i];
                const json_t *value = json_object_get(object, f->key);
                if (!value && !f->optional)
                        return bad(r, f->key, "is missing");
                int e = value ? read_field(r, value, f, (char *)out + f->offset) : 0;
                if (e < 0)
                        return e;
                found += value != NULL;
        }
        if (found == json_object_size(object))
                return 0;
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)object, key, value) {
                size_t i = 0;
                while (i < table->n && strcmp(table->fields[i].key, key) != 0)
                        i++;
                if (i == table->n)
                        return bad(r, key, "is not known");
        }
        return 0;
}

static int check_layout_version(const struct reader *r, const json_t *root) {
        const json_t *version = json_object_get(root, "lock_version");
        json_int_t n = json_integer_value(version);
        if (!json_is_integer(version) || n < 1)
                return bad(r, NULL, "this is not a lock file of nixbox");
        if (n <= LOCK_VERSION)
                return 0;
        nb_fail(r->err, ENOTSUP, "%s was written by a newer nixbox (layout %lld, this one knows %d)", r->file, (long long)n,
                LOCK_VERSION);
        return nb_hint(r->err, "use that version, or make a new lock with this one: nixbox image lock");
}

int lock_parse(const char *text, size_t len, const char *file, struct lock **ret, struct nb_error *err) {
        __attribute__((cleanup(lock_freep))) struct lock *l = nb_calloc(1, sizeof *l);
        struct reader r = { .file = file, .err = err };
        json_error_t where;
        if (len > LOCK_MAX)
                return bad(&r, NULL, "is too large to be a lock file");
        json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
        if (!root) {
                NB_AUTO_FREE char *clean = nb_text_clean(where.text, 0);
                nb_fail(err, EBADMSG, "%s:%d:%d: the lock file is damaged: %s", file, where.line, where.column, clean);
                return nb_hint(err, "restore the file, or make a new one: nixbox image lock");
        }
        int e = check_layout_version(&r, root);
        if (e == 0)
                e = read_fields(&r, root, &lock_table_file, l);
        if (e == 0)
                e = check_unique(&r, &l->base, &l->packages);
        if (e == 0)
                e = check_unique(&r, &l->runtime, &(struct lock_set){ 0 });
        if (e == 0 && l->base.n > 0 && !l->suite)
                e = bad(&r, "suite", "is missing");
        json_decref(root);
        if (e == 0)
                *ret = nb_steal(&l);
        return e;
}
