/* Grants and differences (see reach.h). */
#include "config/reach.h"

#include <string.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"

static const char any_public[] = "connect to any public address";

static struct reach *add(struct reach_list *l, bool beyond, char *text) {
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
                        add(l, beyond, write);
                        continue;
                }
                nb_strv_add(&add(l, beyond, nb_asprintf("see %s (as %s)", source, target))->wider, write);
                free(write);
        }
}

static void add_hooks(struct reach_list *l, json_t *hooks) {
        const char *when;
        json_t *list, *hook;
        json_object_foreach(hooks, when, list) {
                size_t i;
                json_array_foreach(list, i, hook) {
                        const char *dir = string_of(hook, "dir"), *command = string_of(hook, "command");
                        add(l, true, nb_asprintf("run on this host, %s, in %s: %s", when, dir, command));
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
                        add(l, true, nb_strdup(whole));
                json_array_foreach(hosts, k, host) {
                        char *text = nb_asprintf("%s, used at %s only", whole, json_string_value(host));
                        nb_strv_add(&add(l, true, text)->wider, whole);
                }
        }
}

static char *rule_text(const char *host, long long port, bool private, const char *only) {
        return nb_asprintf("connect to %s port %lld%s%s", host, port, private ? ", private addresses too" : "", only);
}

/* Every rule that would include this one: with a wider pattern, private addresses too, all requests. */
static void add_wider(struct reach *r, const char *host, long long port, bool private, const char *only) {
        NB_AUTO_STRV char **hosts = NULL;
        nb_strv_add(&hosts, host);
        const char *dot = strchr(nb_starts_with(host, "*.") ? host + 2 : host, '.');
        for (; dot; dot = strchr(dot + 1, '.'))
                nb_strv_addf(&hosts, "*%s", dot);
        for (char **h = hosts; *h; h++)
                for (int p = private; p <= 1; p++)
                        for (int all = 0; all <= 1; all++) {
                                NB_AUTO_FREE char *text = rule_text(*h, port, p, all ? "" : only);
                                nb_strv_add(&r->wider, text);
                        }
        if (!private)
                nb_strv_add(&r->wider, any_public);
}

static void add_rule(struct reach_list *l, json_t *rule) {
        static const long long usual[] = { 443, 80 };
        json_t *cidr = json_object_get(rule, "cidr"), *ports = json_object_get(rule, "ports");
        json_t *methods = json_object_get(rule, "methods"), *paths = json_object_get(rule, "paths");
        const char *host = json_is_string(rule) ? json_string_value(rule) : string_of(rule, cidr ? "cidr" : "host");
        bool private = json_is_true(json_object_get(rule, "private"));
        NB_AUTO_FREE char *only = nb_strdup("");
        if (methods || paths) {
                json_t *both = json_pack("[O?, O?]", methods, paths);
                char *text = json_dumps(both, JSON_COMPACT);
                free(only);
                only = nb_asprintf(", only %s", text ? text : "some requests");
                free(text);
                json_decref(both);
        }
        size_t n = ports ? json_array_size(ports) : NB_ARRAY_LEN(usual);
        for (size_t i = 0; i < n; i++) {
                long long port = ports ? json_integer_value(json_array_get(ports, i)) : usual[i];
                struct reach *r = add(l, private || cidr, rule_text(host, port, private, only));
                if (!cidr)
                        add_wider(r, host, port, private, only);
        }
}

static void add_network(struct reach_list *l, json_t *network) {
        const char *mode = string_of(network, "mode");
        size_t i;
        json_t *rule;
        if (strcmp(mode, "off") == 0)
                return;
        if (strcmp(mode, "open") == 0)
                add(l, true, nb_strdup(any_public));
        json_array_foreach(json_object_get(network, "allow"), i, rule) {
                add_rule(l, rule);
        }
}

void reach_of(json_t *canonical, const char *dir, struct reach_list *ret) {
        json_t *values = json_object_get(canonical, "values"), *hash;
        const char *path;
        *ret = (struct reach_list){ 0 };
        add_mounts(ret, json_object_get(values, "mounts"), dir);
        add_hooks(ret, json_object_get(values, "hooks"));
        add_secrets(ret, json_object_get(values, "secrets"));
        add_network(ret, json_object_get(values, "network"));
        const char *base = string_of(json_object_get(values, "image"), "base");
        if (strchr(base, ':'))
                add(ret, true, nb_asprintf("boot an image made from %s", base));
        json_object_foreach(json_object_get(canonical, "files"), path, hash) {
                add(ret, true, nb_asprintf("use %s on this host (sha256 %.16s)", path, json_string_value(hash)));
        }
}

void reach_clear(struct reach_list *l) {
        for (size_t i = 0; i < l->n; i++) {
                free(l->items[i].text);
                nb_strv_free(l->items[i].wider);
        }
        free(l->items);
        *l = (struct reach_list){ 0 };
}

bool reach_covered(const struct reach *r, const struct reach_list *granted) {
        for (size_t i = 0; i < granted->n; i++) {
                if (strcmp(granted->items[i].text, r->text) == 0)
                        return true;
                for (char **w = r->wider; w && *w; w++)
                        if (strcmp(granted->items[i].text, *w) == 0)
                                return true;
        }
        return false;
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

static bool has(char *const *lines, const char *line) {
        for (; lines && *lines; lines++)
                if (strcmp(*lines, line) == 0)
                        return true;
        return false;
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
                if (!has(after, *l))
                        nb_strv_addf(&diff, "- %s", shown(*l));
        for (char **l = after; l && *l; l++)
                if (!has(before, *l))
                        nb_strv_addf(&diff, "+ %s", shown(*l));
        return diff;
}
