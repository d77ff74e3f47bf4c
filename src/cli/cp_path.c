/* Names for cp (see cp_path.h). */
#include "cli/cp_path.h"

#include <string.h>

#include "base/mem.h"
#include "base/text.h"

static bool ends_with(const char *text, const char *end) {
        size_t n = strlen(text), m = strlen(end);
        return n >= m && strcmp(text + n - m, end) == 0;
}

void cp_parse(const char *text, struct cp_arg *ret) {
        *ret = (struct cp_arg){ .stream = strcmp(text, "-") == 0 };
        const char *colon = strchr(text, ':'), *path = text;
        NB_AUTO_FREE char *before = colon ? nb_strndup(text, (size_t)(colon - text)) : NULL;
        if (before && (!before[0] || nb_valid_box_name(before))) {
                ret->in_box = true;
                ret->box = before[0] ? nb_steal(&before) : NULL;
                path = colon + 1;
        }
        ret->path = nb_strdup(*path ? path : ".");
        ret->contents = strcmp(ret->path, ".") == 0 || ends_with(ret->path, "/.");
        ret->as_folder =
            ret->contents || ends_with(ret->path, "/") || strcmp(ret->path, "..") == 0 || ends_with(ret->path, "/..");
}

void cp_arg_clear(struct cp_arg *a) {
        free(a->box);
        free(a->path);
        *a = (struct cp_arg){ 0 };
}

void cp_split(const struct cp_arg *a, char **ret_folder, char **ret_name) {
        NB_AUTO_FREE char *path = nb_strdup(a->path);
        size_t len = strlen(path);
        while (len > 1 && path[len - 1] == '/')
                path[--len] = 0;
        char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
                *ret_folder = nb_strdup(path);
                *ret_name = nb_strdup(".");
                return;
        }
        *ret_name = nb_strdup(name);
        *ret_folder = !slash ? nb_strdup(".") : slash == path ? nb_strdup("/") : nb_strndup(path, (size_t)(slash - path));
}

/* Appends the components of `name` to a clean relative path. False if there is one that may not be. */
static bool clean_parts(const char *name, char **ret) {
        NB_AUTO_FREE char *copy = nb_strdup(name);
        char *save = NULL;
        *ret = nb_strdup("");
        for (char *part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
                if (strcmp(part, ".") == 0)
                        continue;
                if (strcmp(part, "..") == 0)
                        return false;
                char *joined = nb_asprintf("%s%s%s", *ret, **ret ? "/" : "", part);
                free(*ret);
                *ret = joined;
        }
        return true;
}

char *cp_member(const char *name, const char *root) {
        NB_AUTO_FREE char *path = NULL;
        if (name[0] == '/' || !clean_parts(name, &path))
                return NULL;
        if (strcmp(root, ".") == 0)
                return nb_steal(&path);
        size_t n = strlen(root);
        if (strncmp(path, root, n) != 0 || (path[n] != 0 && path[n] != '/'))
                return NULL;
        return nb_strdup(path[n] ? path + n + 1 : "");
}
