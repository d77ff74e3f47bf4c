/* Nodes and sources of a config's document (see doc.h). No YAML here (yaml.c) and no meaning (check.c). */
#include "config/doc.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"

#define CONFIG_FILE_MAX (256u << 10) /* bytes in nixbox.yaml or a profile */

struct doc_node *doc_new(enum doc_kind kind, const struct doc_node *at, const char *text) {
        struct doc_node *n = nb_calloc(1, sizeof *n);
        n->kind = kind;
        n->text = nb_strdup(text);
        if (at) {
                n->src = at->src;
                n->line = at->line;
                n->column = at->column;
        }
        return n;
}

void doc_free(struct doc_node *n) {
        if (!n)
                return;
        for (size_t i = 0; i < n->n_kids; i++)
                doc_free(n->kids[i]);
        free(n->kids);
        free(n->text);
        free(n->key);
        free(n);
}

struct doc_node *doc_copy(const struct doc_node *n) {
        struct doc_node *copy = doc_new(n->kind, n, n->text);
        copy->key = nb_strdup(n->key);
        copy->key_line = n->key_line;
        copy->key_column = n->key_column;
        for (size_t i = 0; i < n->n_kids; i++)
                doc_append(copy, doc_copy(n->kids[i]));
        return copy;
}

bool doc_equal(const struct doc_node *a, const struct doc_node *b) {
        if (a->kind != b->kind || a->n_kids != b->n_kids)
                return false;
        /* a list or map that was left empty still has the text of the value that was not there */
        if (a->kind != DOC_LIST && a->kind != DOC_MAP && strcmp(a->text, b->text) != 0)
                return false;
        for (size_t i = 0; i < a->n_kids; i++) {
                const struct doc_node *other = a->kind == DOC_MAP ? doc_get(b, a->kids[i]->key) : b->kids[i];
                if (!other || !doc_equal(a->kids[i], other))
                        return false;
        }
        return true;
}

struct doc_node *doc_get(const struct doc_node *map, const char *key) {
        for (size_t i = 0; map && map->kind == DOC_MAP && i < map->n_kids; i++)
                if (strcmp(map->kids[i]->key, key) == 0)
                        return map->kids[i];
        return NULL;
}

struct doc_node *doc_path(const struct doc_node *map, const char *dotted) {
        const char *dot = strchr(dotted, '.');
        if (!dot)
                return doc_get(map, dotted);
        NB_AUTO_FREE char *first = nb_strndup(dotted, (size_t)(dot - dotted));
        return doc_path(doc_get(map, first), dot + 1);
}

const char *doc_text(const struct doc_node *map, const char *key) {
        const struct doc_node *n = doc_get(map, key);
        return n ? n->text : NULL;
}

void doc_append(struct doc_node *list, struct doc_node *kid) {
        list->kids = nb_realloc(list->kids, list->n_kids + 1, sizeof(struct doc_node *));
        list->kids[list->n_kids++] = kid;
}

void doc_put(struct doc_node *map, const char *key, struct doc_node *kid) {
        if (kid->key != key) {
                free(kid->key);
                kid->key = nb_strdup(key);
        }
        doc_append(map, kid);
}

void doc_remove(struct doc_node *parent, const struct doc_node *kid) {
        size_t left = 0;
        for (size_t i = 0; i < parent->n_kids; i++)
                if (parent->kids[i] != kid)
                        parent->kids[left++] = parent->kids[i];
        parent->n_kids = left;
}

void doc_set_text(struct doc_node *n, char *text) {
        free(n->text);
        n->text = text;
}

struct config_pos doc_pos(const struct doc_node *n) {
        if (!n->src)
                return (struct config_pos){ .file = "default" };
        return (struct config_pos){ .file = n->src->label, .line = n->line, .column = n->column };
}

char *doc_origin(const struct doc_node *n) {
        if (!n->src)
                return nb_strdup("default");
        if (n->src->builtin)
                return nb_strdup(n->src->label);
        return nb_asprintf("%s:%u:%u", n->src->label, n->line, n->column);
}

int doc_fail(const struct doc_node *n, struct nb_error *err, int code, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *what = nb_vasprintf(fmt, ap);
        va_end(ap);
        if (!n->src)
                return nb_fail(err, code, "%s", what);
        return nb_fail(err, code, "%s:%u:%u: %s", n->src->label, n->line, n->column, what);
}

struct config_tree *config_tree_new(void) {
        return nb_calloc(1, sizeof(struct config_tree));
}

static void source_free(struct config_source *s) {
        free(s->path);
        free(s->dir);
        free(s->label);
        free(s->bytes);
        free(s);
}

void config_tree_free(struct config_tree *tree) {
        if (!tree)
                return;
        doc_free(tree->root);
        for (size_t i = 0; i < tree->n_sources; i++)
                source_free(tree->sources[i]);
        free(tree->sources);
        free(tree);
}

int doc_file_path(const char *file, char **ret, struct nb_error *err) {
        NB_AUTO_FREE char *cwd = getcwd(NULL, 0);
        NB_AUTO_FREE char *full = nb_path_join(cwd ? cwd : "/", file);
        NB_AUTO_FREE char *normal = nb_path_normalize(full);
        char *slash = strrchr(normal, '/');
        NB_AUTO_FREE char *dir = nb_strndup(normal, slash == normal ? 1 : (size_t)(slash - normal));
        NB_AUTO_FREE char *real = realpath(dir, NULL);
        if (!real) {
                nb_fail_errno(err, errno, "cannot read %s", file);
                return nb_hint(err, "nixbox init writes a config");
        }
        *ret = nb_path_join(real, slash + 1);
        return 0;
}

/* The path as a person in the current folder would write it. */
static char *shorten(const char *path) {
        NB_AUTO_FREE char *cwd = getcwd(NULL, 0);
        if (cwd && strcmp(cwd, "/") != 0 && nb_path_below(path, cwd) && path[strlen(cwd)] == '/')
                return nb_strdup(path + strlen(cwd) + 1);
        return nb_strdup(path);
}

int doc_source(struct config_tree *tree, const char *path, const char *label, struct config_source **ret,
               struct nb_error *err) {
        struct config_source *s = nb_calloc(1, sizeof *s);
        s->path = nb_strdup(path);
        size_t dir_len = (size_t)(strrchr(path, '/') - path);
        s->dir = nb_strndup(path, dir_len ? dir_len : 1);
        s->label = label ? nb_strdup(label) : shorten(path);
        s->builtin = label != NULL;
        int r = nb_read_regular(path, CONFIG_FILE_MAX, &s->bytes, &s->len);
        if (r == -EFBIG)
                nb_fail(err, EFBIG, "%s is larger than %u KiB", s->label, CONFIG_FILE_MAX >> 10);
        else if (r == -EINVAL)
                nb_fail(err, EINVAL, "%s is not a regular file", s->label);
        else if (r < 0)
                nb_fail_errno(err, -r, "cannot read %s", s->label);
        if (r < 0) {
                source_free(s);
                return r;
        }
        tree->sources = nb_realloc(tree->sources, tree->n_sources + 1, sizeof(struct config_source *));
        tree->sources[tree->n_sources++] = s;
        *ret = s;
        return 0;
}
