/* Writing nixbox.lock (see lock.h) by the tables of lock_fields.h: one key a line in the table's order, and one line for each
 * entry of a list, so that a difference between two locks reads as a list of what changed. */
#include <jansson.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/lock_fields.h"

static void add(struct nb_buf *b, const char *text) {
        nb_buf_add(b, text, strlen(text));
}

static void add_string(struct nb_buf *b, const char *text) {
        NB_AUTO_FREE char *clean = nb_text_clean(text, 0); /* jansson wants UTF-8 */
        json_t *value = json_string(clean);
        char *quoted = json_dumps(value, JSON_ENCODE_ANY);
        add(b, quoted ? quoted : "\"\"");
        free(quoted);
        json_decref(value);
}

static void add_object(struct nb_buf *b, const struct lock_table *table, const void *from);

/* Begins an entry of a list on a line of its own. */
static void add_entry(struct nb_buf *b, size_t i) {
        add(b, i > 0 ? ",\n  " : "\n  ");
}

static void add_lines(struct nb_buf *b, const char *text) {
        size_t i = 0;
        add(b, "[");
        for (const char *p = text; *p;) {
                size_t n = strcspn(p, "\n");
                NB_AUTO_FREE char *line = nb_strndup(p, n);
                add_entry(b, i++);
                add_string(b, line);
                p += n + (p[n] == '\n');
        }
        add(b, "\n ]");
}

static void add_strings(struct nb_buf *b, char *const *list) {
        for (size_t i = 0; list[i]; i++) {
                add(b, i > 0 ? ", " : "[");
                add_string(b, list[i]);
        }
        add(b, "]");
}

static void add_set(struct nb_buf *b, const struct lock_set *set) {
        add(b, "[");
        for (size_t i = 0; i < set->n; i++) {
                add_entry(b, i);
                add_object(b, &lock_table_package, &set->packages[i]);
        }
        add(b, "\n ]");
}

static void add_npm(struct nb_buf *b, const struct lock_npm *npm) {
        size_t i = 0;
        add(b, "[");
        for (; npm; npm = npm->next) {
                add_entry(b, i++);
                add_object(b, &lock_table_npm, npm);
        }
        add(b, "\n ]");
}

static void add_blobs(struct nb_buf *b, const struct lock_blob *blobs, size_t n) {
        add(b, "[");
        for (size_t i = 0; i < n; i++) {
                add_entry(b, i);
                add_object(b, &lock_table_blob, &blobs[i]);
        }
        add(b, "\n ]");
}

static size_t n_blobs(const char *at) {
        return *(const size_t *)(at + sizeof(struct lock_blob *));
}

/* Is there anything to write? What is not optional is always written. */
static bool is_set(const struct lock_field *f, const char *at) {
        switch (f->kind) {
        case LOCK_TEXT: return *(char *const *)at != NULL;
        case LOCK_STRINGS: return nb_strv_len(*(char **const *)at) > 0;
        case LOCK_FLAG: return *(const bool *)at;
        case LOCK_SET: return !f->optional || ((const struct lock_set *)at)->n > 0;
        case LOCK_NPM: return *(struct lock_npm *const *)at != NULL;
        case LOCK_BLOBS: return n_blobs(at) > 0;
        default: return true;
        }
}

static void add_number(struct nb_buf *b, uint64_t n) {
        NB_AUTO_FREE char *text = nb_asprintf("%llu", (unsigned long long)n);
        add(b, text);
}

static void add_value(struct nb_buf *b, const struct lock_field *f, const char *at) {
        switch (f->kind) {
        case LOCK_VERSION_NUMBER: add_number(b, LOCK_VERSION); break;
        case LOCK_TEXT: add_string(b, *(char *const *)at); break;
        case LOCK_LINES: add_lines(b, *(char *const *)at); break;
        case LOCK_HASH: add_string(b, at); break;
        case LOCK_SIZE: add_number(b, *(const uint64_t *)at); break;
        case LOCK_FLAG: add(b, "true"); break;
        case LOCK_STRINGS: add_strings(b, *(char **const *)at); break;
        case LOCK_SET: add_set(b, (const struct lock_set *)at); break;
        case LOCK_NPM: add_npm(b, *(struct lock_npm *const *)at); break;
        case LOCK_BLOBS: add_blobs(b, *(struct lock_blob *const *)at, n_blobs(at)); break;
        }
}

/* `between` goes before each key but the first. */
static void add_keys(struct nb_buf *b, const struct lock_table *table, const void *from, const char *between) {
        bool first = true;
        for (size_t i = 0; i < table->n; i++) {
                const struct lock_field *f = &table->fields[i];
                const char *at = (const char *)from + f->offset;
                if (!is_set(f, at))
                        continue;
                NB_AUTO_FREE char *key = nb_asprintf("%s\"%s\": ", first ? "" : between, f->key);
                add(b, key);
                add_value(b, f, at);
                first = false;
        }
}

static void add_object(struct nb_buf *b, const struct lock_table *table, const void *from) {
        add(b, "{");
        add_keys(b, table, from, ", ");
        add(b, "}");
}

char *lock_format(const struct lock *l) {
        NB_AUTO_BUF b = { 0 };
        add(&b, "{\n ");
        add_keys(&b, &lock_table_file, l, ",\n ");
        add(&b, "\n}\n");
        return nb_strndup((const char *)nb_buf_bytes(&b), b.len);
}
