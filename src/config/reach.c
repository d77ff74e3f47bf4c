/* Grants and differences (see reach.h). */
#include "config/reach.h"

#include <string.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "policy/protect.h"

struct reach *reach_add(struct reach_list *l, bool beyond, char *text) {
        l->items = nb_realloc(l->items, l->n + 1, sizeof *l->items);
        l->items[l->n] = (struct reach){ .text = text, .beyond = beyond };
        return &l->items[l->n++];
}

static const char *string_of(json_t *object, const char *key) {
        const char *text = json_string_value(json_object_get(object, key));
        return text ? text : "";
}

static void add_mounts(struct reach_list *l, json_t *mounts, const char *dir) {
        size_t i;
        json_t *m;
        json_array_foreach(mounts, i, m) {
                const char *source = string_of(m, "source"), *target = string_of(m, "target");
                bool beyond = !nb_path_below(source, dir);
                char *write = nb_asprintf("see and change %s (as %s)", source, target);
                if (json_is_true(json_object_get(m, "write"))) {
                        reach_add(l, beyond, write);
                        continue;
                }
                nb_strv_add(&reach_add(l, beyond, nb_asprintf("see %s (as %s)", source, target))->wider, write);
                free(write);
        }
}

/* What one box leaves there, another of a different config takes for its own. */
static void add_volumes(struct reach_list *l, json_t *volumes) {
        const char *name;
        json_t *target;
        json_object_foreach(volumes, name, target) {
                reach_add(l, true,
                          nb_asprintf("keep the volume %s (as %s), which every box shares whose config names it", name,
                                      json_string_value(target)));
        }
}

/* What an owner took out of the default list. */
static void add_unprotected(struct reach_list *l, json_t *protect) {
        NB_AUTO_STRV char **words = NULL;
        NB_AUTO_STRV char **left = NULL;
        NB_AUTO_FREE char *all =
            nb_strdup("change files that programs of this host run, such as .git/hooks (protect is empty)");
        size_t i;
        json_t *word;
        if (!protect) /* approved when there was no such key */
                return;
        json_array_foreach(protect, i, word) {
                nb_strv_add(&words, json_string_value(word));
        }
        (void)protect_resolve(words, &left, NULL); /* it was checked when the config was */
        if (!left || !left[0]) {
                reach_add(l, true, nb_steal(&all));
                return;
        }
        for (const char *const *d = protect_defaults(); *d; d++)
                if (!nb_strv_has(left, *d))
                        nb_strv_add(&reach_add(l, true, nb_asprintf("change %s, which programs of this host run", *d))->wider,
                                    all);
}

static void add_hooks(struct reach_list *l, json_t *hooks) {
        const char *when;
        json_t *list, *hook;
        json_object_foreach(hooks, when, list) {
                size_t i;
                json_array_foreach(list, i, hook) {
                        const char *dir = string_of(hook, "dir"), *command = string_of(hook, "command");
                        reach_add(l, true, nb_asprintf("run on this host, %s, in %s: %s", when, dir, command));
                }
        }
}

static void add_secrets(struct reach_list *l, json_t *secrets) {
        size_t i, k;
        json_t *s, *host;
        json_array_foreach(secrets, i, s) {
                NB_AUTO_FREE char *what = nb_asprintf("have the secret %s from %s", string_of(s, "name"), string_of(s, "from"));
                const char *dir = json_string_value(json_object_get(s, "dir"));
                json_t *hosts = json_object_get(s, "hosts");
                NB_AUTO_FREE char *whole = dir ? nb_asprintf("%s (run in %s)", what, dir) : nb_strdup(what);
                if (!hosts)
                        reach_add(l, true, nb_strdup(whole));
                json_array_foreach(hosts, k, host) {
                        char *text = nb_asprintf("%s, used at %s only", whole, json_string_value(host));
                        nb_strv_add(&reach_add(l, true, text)->wider, whole);
                }
        }
}

void reach_of(json_t *canonical, const char *dir, struct reach_list *ret) {
        json_t *values = json_object_get(canonical, "values"), *hash;
        const char *path;
        *ret = (struct reach_list){ 0 };
        add_mounts(ret, json_object_get(values, "mounts"), dir);
        add_volumes(ret, json_object_get(values, "volumes"));
        add_unprotected(ret, json_object_get(values, "protect"));
        add_hooks(ret, json_object_get(values, "hooks"));
        add_secrets(ret, json_object_get(values, "secrets"));
        reach_network(ret, json_object_get(values, "network"), json_object_get(values, "ports"));
        const char *base = string_of(json_object_get(values, "image"), "base");
        if (strchr(base, ':'))
                reach_add(ret, true, nb_asprintf("boot an image made from %s", base));
        json_object_foreach(json_object_get(canonical, "files"), path, hash) {
                reach_add(ret, true, nb_asprintf("use %s on this host (sha256 %.16s)", path, json_string_value(hash)));
        }
}

void reach_clear(struct reach_list *l) {
        for (size_t i = 0; i < l->n; i++) {
                free(l->items[i].text);
                nb_strv_free(l->items[i].wider);
        }
        free(l->items);
        policy_free(l->policy);
        *l = (struct reach_list){ 0 };
}

static bool covered(const struct reach *r, const struct reach_list *granted) {
        for (size_t i = 0; i < granted->n; i++) {
                if (strcmp(granted->items[i].text, r->text) == 0)
                        return true;
                for (char **w = r->wider; w && *w; w++)
                        if (strcmp(granted->items[i].text, *w) == 0)
                                return true;
        }
        return false;
}

void reach_widening(const struct reach_list *now, const struct reach_list *granted, struct reach_list *ret) {
        *ret = (struct reach_list){ 0 };
        for (size_t i = 0; i < now->n; i++)
                if (!now->items[i].connect && !covered(&now->items[i], granted))
                        reach_add(ret, now->items[i].beyond, nb_strdup(now->items[i].text));
        reach_connections(now->policy, granted->policy, ret);
}

/* A canonical form as lines "path: value", an item of a list a line; empty ones have none. */
static void flatten(json_t *v, const char *path, char ***lines) {
        const char *key;
        json_t *kid;
        size_t i;
        if (json_is_object(v)) {
                json_object_foreach(v, key, kid) {
                        NB_AUTO_FREE char *below = nb_asprintf("%s%s%s", path, *path ? "." : "", key);
                        flatten(kid, below, lines);
                }
                return;
        }
        if (json_is_array(v)) {
                json_array_foreach(v, i, kid) {
                        NB_AUTO_FREE char *text = json_dumps(kid, JSON_ENCODE_ANY | JSON_SORT_KEYS);
                        nb_strv_addf(lines, "%s: %s", path, json_is_string(kid) ? json_string_value(kid) : text);
                }
                return;
        }
        NB_AUTO_FREE char *text = json_dumps(v, JSON_ENCODE_ANY);
        nb_strv_addf(lines, "%s: %s", path, json_is_string(v) ? json_string_value(v) : text);
}

static const char *shown(const char *line) {
        return nb_starts_with(line, "values.") ? line + 7 : line;
}

char **reach_diff(json_t *old, json_t *now) {
        NB_AUTO_STRV char **before = NULL;
        NB_AUTO_STRV char **after = NULL;
        char **diff = NULL;
        flatten(old, "", &before);
        flatten(now, "", &after);
        for (char **l = before; l && *l; l++)
                if (!nb_strv_has(after, *l))
                        nb_strv_addf(&diff, "- %s", shown(*l));
        for (char **l = after; l && *l; l++)
                if (!nb_strv_has(before, *l))
                        nb_strv_addf(&diff, "+ %s", shown(*l));
        return diff;
}
