/* npm packages in a config (see npm.h). */
#include "config/npm.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "config/doc.h"

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";

size_t npm_name_len(const char *text) {
        const char *name = text;
        if (*name == '@') {
                size_t scope = strspn(name + 1, letters);
                if (scope == 0 || name[1] == '.' || name[1 + scope] != '/')
                        return 0;
                name += scope + 2;
        }
        size_t len = strspn(name, letters), whole = (size_t)(name - text) + len;
        bool reserved = strncmp(text, "node_modules", whole) == 0 && whole == strlen("node_modules");
        return len == 0 || strchr(".-", *name) || whole > NPM_NAME_MAX || reserved ? 0 : whole;
}

bool npm_valid_command(const char *text) {
        size_t len = strlen(text);
        bool letters_only = true;
        for (const char *p = text; *p; p++)
                letters_only = letters_only && strchr(letters, *p);
        return len > 0 && len <= NPM_COMMAND_MAX && letters_only && *text != '-' && *text != '.';
}

bool npm_valid_file(const char *text) {
        if (!*text || strlen(text) > NPM_FILE_MAX)
                return false;
        for (const char *part = text;; part++) {
                size_t len = strcspn(part, "/");
                if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
                        return false;
                for (size_t i = 0; i < len; i++)
                        if ((unsigned char)part[i] < ' ' || part[i] == 0x7f)
                                return false;
                part += len;
                if (!*part)
                        return true;
        }
}

const char *npm_wanted_version(const char *item) {
        size_t len = npm_name_len(item);
        return item[len] == '@' ? item + len + 1 : NULL;
}

static bool same_package(const char *a, const char *b) {
        size_t len = npm_name_len(a);
        return len == npm_name_len(b) && strncmp(a, b, len) == 0;
}

static int by_name(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_command(const void *a, const void *b) {
        return strcmp(((const struct config_npm_bin *)a)->command, ((const struct config_npm_bin *)b)->command);
}

static void load_packages(struct config_image *c, const struct doc_node *list) {
        for (size_t i = 0; list && i < list->n_kids; i++) {
                bool again = false;
                for (size_t j = i + 1; j < list->n_kids; j++)
                        again = again || same_package(list->kids[i]->text, list->kids[j]->text);
                if (!again)
                        nb_strv_add(&c->npm, list->kids[i]->text);
        }
        if (c->npm)
                qsort(c->npm, nb_strv_len(c->npm), sizeof *c->npm, by_name);
}

void npm_load(struct config_image *c, const struct doc_node *image) {
        const struct doc_node *scripts = doc_get(image, "npm-scripts"), *bin = doc_get(image, "npm-bin");
        load_packages(c, doc_get(image, "npm"));
        c->n_npm_scripts = scripts ? scripts->n_kids : 0;
        c->npm_scripts = nb_calloc(c->n_npm_scripts, sizeof *c->npm_scripts);
        for (size_t i = 0; i < c->n_npm_scripts; i++) {
                c->npm_scripts[i].package = nb_strdup(scripts->kids[i]->text);
                c->npm_scripts[i].pos = doc_pos(scripts->kids[i]);
        }
        c->n_npm_bin = bin ? bin->n_kids : 0;
        c->npm_bin = nb_calloc(c->n_npm_bin, sizeof *c->npm_bin);
        for (size_t i = 0; i < c->n_npm_bin; i++) {
                const struct doc_node *n = bin->kids[i];
                size_t len = npm_name_len(n->text);
                c->npm_bin[i].command = nb_strdup(n->key);
                c->npm_bin[i].package = nb_strndup(n->text, len);
                c->npm_bin[i].file = nb_strdup(n->text + len + 1);
                c->npm_bin[i].pos = doc_pos(n);
        }
        if (c->n_npm_bin > 0)
                qsort(c->npm_bin, c->n_npm_bin, sizeof *c->npm_bin, by_command);
}

void npm_clear(struct config_image *c) {
        for (size_t i = 0; i < c->n_npm_scripts; i++)
                free(c->npm_scripts[i].package);
        for (size_t i = 0; i < c->n_npm_bin; i++) {
                free(c->npm_bin[i].command);
                free(c->npm_bin[i].package);
                free(c->npm_bin[i].file);
        }
        free(c->npm_scripts);
        free(c->npm_bin);
        nb_strv_free(c->npm);
}

int npm_check_whole(const struct config_image *c, struct nb_error *err) {
        const struct config_pos *scripts = c->n_npm_scripts > 0 ? &c->npm_scripts[0].pos : NULL;
        const struct config_pos *first = scripts ? scripts : c->n_npm_bin > 0 ? &c->npm_bin[0].pos : NULL;
        if (first && !c->npm) {
                nb_fail(err, EINVAL, "%s:%u:%u: there are no npm packages to which this could belong", first->file, first->line,
                        first->column);
                return nb_hint(err, "name the package under image.npm");
        }
        if (scripts && c->kind != CONFIG_BASE_DEBIAN) {
                nb_fail(err, ENOTSUP, "%s:%u:%u: scripts of npm packages run only in images of Debian packages", scripts->file,
                        scripts->line, scripts->column);
                return nb_hint(err, "remove image.npm-scripts, or use the base debian-13");
        }
        return 0;
}
