/* Showing the resolved config: as text with the origin of each value, as JSON, and in canonical form for hash and diff. */
#include "config/render.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/sha256.h"
#include "base/text.h"
#include "config/doc.h"

#define ORIGIN_COLUMN 44
#define CANONICAL_VERSION 1 /* raise it when the same form comes to mean something else: all approvals are asked for again */

static json_t *value_of(const struct doc_node *n) {
        json_t *v = NULL;
        switch (n->kind) {
        case DOC_NULL: return json_null();
        case DOC_BOOL: return json_boolean(strcmp(n->text, "true") == 0);
        case DOC_INT: return json_integer(strtoll(n->text, NULL, 10));
        case DOC_TEXT:
        case DOC_NUMBER:
        case DOC_AMBIGUOUS: return json_string(n->text);
        case DOC_LIST:
                v = json_array();
                for (size_t i = 0; i < n->n_kids; i++)
                        json_array_append_new(v, value_of(n->kids[i]));
                return v;
        case DOC_MAP:
                v = json_object();
                for (size_t i = 0; i < n->n_kids; i++)
                        json_object_set_new(v, n->kids[i]->key, value_of(n->kids[i]));
                return v;
        }
        return NULL;
}

static void origins_of(const struct doc_node *n, const char *path, json_t *into) {
        for (size_t i = 0; i < n->n_kids; i++) {
                const struct doc_node *kid = n->kids[i];
                NB_AUTO_FREE char *below = n->kind == DOC_LIST ? nb_asprintf("%s[%zu]", path, i)
                                                               : nb_asprintf("%s%s%s", path, *path ? "." : "", kid->key);
                origins_of(kid, below, into);
        }
        if (n->n_kids == 0 && *path) {
                NB_AUTO_FREE char *origin = doc_origin(n);
                json_object_set_new(into, path, json_string(origin));
        }
}

/* Text as YAML takes it for text: as it is where that is safe, else in double quotes (JSON's are YAML's). */
static char *yaml_text(const struct doc_node *n) {
        static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+=-";
        if (n->kind != DOC_TEXT)
                return nb_strdup(n->text ? n->text : "null");
        bool first = *n->text && !strchr("=-", n->text[0]);
        if (first && n->text[strspn(n->text, safe)] == 0 && doc_plain_kind(n->text) == DOC_TEXT)
                return nb_strdup(n->text);
        json_t *v = json_string(n->text);
        char *quoted = json_dumps(v, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        json_decref(v);
        return quoted;
}

static void write_scalar(FILE *out, int indent, const char *lead, const struct doc_node *n) {
        NB_AUTO_FREE char *value = n->kind == DOC_LIST ? nb_strdup("[]") : n->kind == DOC_MAP ? nb_strdup("{}") : yaml_text(n);
        NB_AUTO_FREE char *origin = doc_origin(n);
        NB_AUTO_FREE char *line = nb_asprintf("%*s%s%s", indent, "", lead, value);
        fprintf(out, "%-*s # %s\n", ORIGIN_COLUMN, line, origin);
}

/* `lead` stands before the node's first line: "- " in a list, "" elsewhere. */
static void write_node(FILE *out, int indent, const struct doc_node *n, bool in_list) {
        for (size_t i = 0; i < n->n_kids; i++) {
                const struct doc_node *kid = n->kids[i];
                bool dash = in_list && i == 0;
                NB_AUTO_FREE char *lead = n->kind == DOC_LIST ? nb_strdup("- ") : nb_asprintf("%s: ", kid->key);
                NB_AUTO_FREE char *full = nb_asprintf("%s%s", dash ? "- " : "", lead);
                int at = dash ? indent - 2 : indent;
                if (kid->n_kids == 0) {
                        write_scalar(out, at, full, kid);
                } else if (n->kind == DOC_LIST) {
                        write_node(out, indent + 2, kid, true);
                } else {
                        fprintf(out, "%*s%.*s\n", at, "", (int)strlen(full) - 1, full);
                        write_node(out, indent + 2, kid, false);
                }
        }
}

char *config_to_text(const struct config *c, bool json) {
        if (json) {
                char hash[NB_SHA256_HEX];
                json_t *origins = json_object();
                config_hash(c, hash);
                origins_of(c->tree->root, "", origins);
                json_t *all = json_pack("{s:s, s:s, s:o, s:o}", "file", c->file, "hash", hash, "values",
                                        value_of(c->tree->root), "origins", origins);
                char *text = json_dumps(all, JSON_INDENT(2) | JSON_ENSURE_ASCII);
                json_decref(all);
                char *line = nb_asprintf("%s\n", text);
                free(text);
                return line;
        }
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        if (!out)
                return nb_strdup("");
        write_node(out, 0, c->tree->root, false);
        (void)fclose(out);
        char *clean = nb_text_clean(text, NB_TEXT_KEEP_NEWLINE);
        free(text);
        return clean;
}

/* Values that follow from this host, not from the config: the word "default" stands for them. */
static void drop_host_values(const struct config *c, json_t *values) {
        static const char *const keys[] = { "cpus", "memory" };
        for (size_t i = 0; i < NB_ARRAY_LEN(keys); i++) {
                const struct doc_node *n = doc_get(doc_get(c->tree->root, "machine"), keys[i]);
                if (n && !n->src)
                        json_object_set_new(json_object_get(values, "machine"), keys[i], json_string("default"));
        }
}

/* Where paths lead, and where host commands run, is part of what a config means. */
static void resolve(const struct config *c, json_t *values) {
        static const char *const names[] = { "pre-up", "post-up", "pre-down", "post-down" };
        const struct config_hook *hooks[] = { c->pre_up, c->post_up, c->pre_down, c->post_down };
        const size_t counts[] = { c->n_pre_up, c->n_post_up, c->n_pre_down, c->n_post_down };
        for (size_t i = 0; i < c->n_mounts; i++)
                json_object_set_new(json_array_get(json_object_get(values, "mounts"), i), "source",
                                    json_string(c->mounts[i].source));
        for (size_t i = 0; i < c->n_secrets; i++) {
                const struct config_secret *s = &c->secrets[i];
                json_t *v = json_array_get(json_object_get(values, "secrets"), i);
                NB_AUTO_FREE char *from = nb_asprintf("file:%s", s->arg);
                if (s->from == CONFIG_SECRET_FILE)
                        json_object_set_new(v, "from", json_string(from));
                if (s->from == CONFIG_SECRET_COMMAND)
                        json_object_set_new(v, "dir", json_string(s->dir));
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++) {
                json_t *list = json_array();
                for (size_t k = 0; k < counts[i]; k++)
                        json_array_append_new(list,
                                              json_pack("{s:s, s:s}", "command", hooks[i][k].command, "dir", hooks[i][k].dir));
                if (counts[i] > 0)
                        json_object_set(json_object_get(values, "hooks"), names[i], list);
                json_decref(list);
        }
}

json_t *render_canonical(const struct config *c) {
        json_t *values = value_of(c->tree->root), *files = json_object(), *profiles = json_object();
        drop_host_values(c, values);
        resolve(c, values);
        for (size_t i = 0; i < c->n_files; i++)
                json_object_set_new(files, c->files[i].path, json_string(c->files[i].sha256));
        for (size_t i = 1; i < c->tree->n_sources; i++) { /* 0 is nixbox.yaml itself: its values are what counts */
                const struct config_source *s = c->tree->sources[i];
                char hash[NB_SHA256_HEX];
                nb_sha256(s->bytes, s->len, hash);
                if (!s->builtin)
                        json_object_set_new(profiles, s->path, json_string(hash));
        }
        /* a lock says which bits the values stand for and lets the box reach nothing more: no reason to ask, but part of what
         * was approved */
        return json_pack("{s:i, s:o, s:o, s:o, s:s*}", "version", CANONICAL_VERSION, "values", values, "files", files,
                         "profiles", profiles, "lock", c->lock.path ? c->lock.sha256 : NULL);
}

void config_hash(const struct config *c, char ret_hex[65]) {
        json_t *canonical = render_canonical(c);
        char *text = json_dumps(canonical, JSON_COMPACT | JSON_SORT_KEYS);
        nb_sha256(text, strlen(text), ret_hex);
        free(text);
        json_decref(canonical);
}
