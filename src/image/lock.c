/* Locks as values (see lock.h): what a config asks for in canonical form, whether a lock was made from it, what changed from
 * one lock to another, and the keys of what a set of packages installs. */
#include "image/lock.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"

#define SHOWN_MAX 3u /* differences that an error names */

/* Lists of the config that decide what is built; a line "WORD ENTRY" for each entry, in the list's order. */
static const struct {
        const char *word;
        size_t offset;
} lists[] = {
        { "package", offsetof(struct config_image, packages) },
        { "npm", offsetof(struct config_image, npm) },
};

static void add_line(struct nb_buf *b, const char *word, const char *value) {
        NB_AUTO_FREE char *line = nb_asprintf("%s %s\n", word, value);
        nb_buf_add(b, line, strlen(line));
}

static char *take(struct nb_buf *b) {
        return nb_strndup(b->len ? (const char *)nb_buf_bytes(b) : "", b->len);
}

char *lock_spec(const struct config_image *c) {
        NB_AUTO_BUF b = { 0 };
        add_line(&b, "base", c->base_name ? c->base_name : c->base);
        for (size_t i = 0; i < NB_ARRAY_LEN(lists); i++) {
                char *const *list = *(char **const *)((const char *)c + lists[i].offset);
                for (size_t k = 0; list && list[k]; k++)
                        if (k == 0 || strcmp(list[k], list[k - 1]) != 0)
                                add_line(&b, lists[i].word, list[k]);
        }
        if (c->locale)
                add_line(&b, "locale", c->locale);
        if (c->docs)
                add_line(&b, "docs", "kept");
        for (size_t i = 0; i < c->n_npm_scripts; i++)
                add_line(&b, "npm-script", c->npm_scripts[i].package);
        for (size_t i = 0; i < c->n_npm_bin; i++) {
                const struct config_npm_bin *bin = &c->npm_bin[i];
                NB_AUTO_FREE char *value = nb_asprintf("%s=%s/%s", bin->command, bin->package, bin->file);
                add_line(&b, "npm-bin", value);
        }
        return take(&b);
}

static bool has_line(const char *text, const char *line, size_t len) {
        for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
                if (strcspn(p, "\n") == len && memcmp(p, line, len) == 0)
                        return true;
        return false;
}

/* Adds the lines of `text` that `other` lacks, as "SAID 'LINE'". */
static void add_missing(struct nb_buf *b, size_t *n, const char *said, const char *text, const char *other) {
        for (const char *p = text; *p && *n <= SHOWN_MAX; p += strcspn(p, "\n"), p += *p == '\n') {
                size_t len = strcspn(p, "\n");
                if (has_line(other, p, len))
                        continue;
                NB_AUTO_FREE char *one =
                    *n < SHOWN_MAX ? nb_asprintf("%s%s '%.*s'", *n ? ", " : "", said, (int)len, p) : nb_strdup(", and more");
                nb_buf_add(b, one, strlen(one));
                (*n)++;
        }
}

int lock_matches(const struct lock *l, const struct config_image *c, const char *file, struct nb_error *err) {
        NB_AUTO_FREE char *spec = lock_spec(c);
        NB_AUTO_BUF b = { 0 };
        size_t n = 0;
        if (strcmp(l->builder, LOCK_BUILDER) != 0) {
                nb_fail(err, ESTALE, "%s is for builder %s of nixbox, and this is builder %s, which makes other bits of it",
                        file, l->builder, LOCK_BUILDER);
                return nb_hint(err, "make a new one: nixbox image lock");
        }
        if (strcmp(l->spec, spec) == 0)
                return 0;
        add_missing(&b, &n, "the config asks for", spec, l->spec);
        add_missing(&b, &n, "the lock was made for", l->spec, spec);
        NB_AUTO_FREE char *differences = take(&b), *clean = nb_text_clean(n ? differences : "the order is another", 0);
        nb_fail(err, ESTALE, "%s does not fit image: %s", file, clean);
        return nb_hint(err, "run nixbox image lock");
}

void lock_set_clear(struct lock_set *s) {
        for (size_t i = 0; i < s->n; i++) {
                free(s->packages[i].name);
                free(s->packages[i].version);
                free(s->packages[i].arch);
                free(s->packages[i].path);
                free(s->packages[i].archive);
                free(s->packages[i].resolved);
        }
        free(s->packages);
        *s = (struct lock_set){ 0 };
}

void lock_npm_free(struct lock_npm *list) {
        for (struct lock_npm *next; list; list = next) {
                next = list->next;
                free(list->path);
                free(list->name);
                free(list->version);
                free(list->url);
                free(list->integrity);
                nb_strv_free(list->bin);
                free(list);
        }
}

void lock_free(struct lock *l) {
        if (!l)
                return;
        char *const texts[] = { l->builder,        l->spec,          l->resolved, l->digest,
                                l->runtime_digest, l->kernel_digest, l->suite,    l->source };
        for (size_t i = 0; i < NB_ARRAY_LEN(texts); i++)
                free(texts[i]);
        lock_set_clear(&l->runtime);
        lock_set_clear(&l->kernel);
        lock_set_clear(&l->base);
        lock_set_clear(&l->packages);
        lock_npm_free(l->npm);
        free(l->layers);
        free(l);
}

void lock_set_key(const struct lock_set *s, const char *salt, char ret[NB_SHA256_HEX]) {
        NB_AUTO_BUF b = { 0 };
        nb_buf_add(&b, salt, strlen(salt) + 1);
        for (size_t i = 0; i < s->n; i++)
                add_line(&b, s->packages[i].name, s->packages[i].sha256);
        nb_sha256(nb_buf_bytes(&b), b.len, ret);
}
