/* Profiles and defaults (see merge.h). */
#include "config/merge.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "config/check.h"
#include "policy/protect.h"

#define PROFILE_DEPTH_MAX 8  /* profiles that name profiles */
#define PROFILE_FILES_MAX 32 /* files read for one config, each time counted */
#define CPUS_MAX 255
#define MEMORY_MIN_MB 128
#define BOX_NAME_LEN 40
#define SUGGEST_EDITS 3

struct loader {
        struct config_tree *tree;
        struct check check;
        const char *chain[PROFILE_DEPTH_MAX + 1]; /* files being read, outermost first */
        size_t depth;
        size_t files;
};

static bool list_has(const struct doc_node *list, const struct doc_node *item) {
        for (size_t i = 0; i < list->n_kids; i++)
                if (doc_equal(list->kids[i], item))
                        return true;
        return false;
}

static size_t find_key(const struct doc_node *map, const char *key) {
        size_t i = 0;
        while (i < map->n_kids && strcmp(map->kids[i]->key, key) != 0)
                i++;
        return i;
}

void merge_into(struct doc_node *into, struct doc_node *from) {
        for (size_t i = 0; i < from->n_kids; i++) {
                struct doc_node *kid = from->kids[i];
                if (into->kind == DOC_LIST) {
                        if (list_has(into, kid))
                                doc_free(kid);
                        else
                                doc_append(into, kid);
                        continue;
                }
                size_t at = find_key(into, kid->key);
                struct doc_node *old = at < into->n_kids ? into->kids[at] : NULL;
                if (!old) {
                        doc_append(into, kid);
                } else if (old->kind == kid->kind && (kid->kind == DOC_MAP || kid->kind == DOC_LIST)) {
                        merge_into(old, kid);
                } else {
                        doc_free(old);
                        into->kids[at] = kid;
                }
        }
        from->n_kids = 0;
        doc_free(from);
}

/* Duplicates within one list of one file go the same way as those across profiles. */
static void drop_duplicates(struct doc_node *n) {
        for (size_t i = 0; i < n->n_kids; i++)
                drop_duplicates(n->kids[i]);
        if (n->kind != DOC_LIST)
                return;
        struct doc_node all = { .kind = DOC_LIST };
        for (size_t i = 0; i < n->n_kids; i++) {
                if (list_has(&all, n->kids[i]))
                        doc_free(n->kids[i]);
                else
                        doc_append(&all, n->kids[i]);
        }
        free(n->kids);
        n->kids = all.kids;
        n->n_kids = all.n_kids;
}

static int load_file(struct loader *l, const char *path, const char *label, struct doc_node **ret);

/* The built-in profiles' names, "a, b, c", and the one nearest to `name` (NULL if none is near). */
static char *builtin_names(const char *name, char **ret_near) {
        NB_AUTO_FREE char *dir = nb_installed_file("profiles");
        char *names = nb_strdup("");
        unsigned best = SUGGEST_EDITS + 1;
        DIR *d = opendir(dir);
        for (struct dirent *e; d && (e = readdir(d));) {
                size_t len = strlen(e->d_name);
                if (len <= 5 || strcmp(e->d_name + len - 5, ".yaml") != 0)
                        continue;
                NB_AUTO_FREE char *one = nb_strndup(e->d_name, len - 5);
                unsigned distance = check_distance(name, one, SUGGEST_EDITS);
                if (distance < best) {
                        best = distance;
                        free(*ret_near);
                        *ret_near = nb_strdup(one);
                }
                char *longer = nb_asprintf("%s%s%s", names, *names ? ", " : "", one);
                free(names);
                names = longer;
        }
        if (d)
                closedir(d);
        return names;
}

static int load_profile(struct loader *l, const struct doc_node *named, struct doc_node **ret) {
        struct nb_error *err = l->check.err;
        bool local = named->text[0] == '/';
        NB_AUTO_FREE char *file = local ? NULL : nb_asprintf("profiles/%s.yaml", named->text);
        NB_AUTO_FREE char *path = local ? nb_strdup(named->text) : nb_installed_file(file);
        NB_AUTO_FREE char *label = local ? NULL : nb_asprintf("profile %s", named->text);
        for (size_t i = 0; i < l->depth; i++)
                if (strcmp(l->chain[i], path) == 0) {
                        doc_fail(named, err, ELOOP, "the profile %s leads back to itself", named->text);
                        return nb_hint(err, "remove it here, or the profile that led here");
                }
        if (l->depth > PROFILE_DEPTH_MAX)
                return doc_fail(named, err, ELOOP, "profiles name profiles more than %d deep", PROFILE_DEPTH_MAX);
        if (access(path, F_OK) < 0) {
                doc_fail(named, err, errno, "there is no profile '%s'", named->text);
                if (local)
                        return nb_hint(err, "make the file, or correct the path (it is relative to the file that names it)");
                NB_AUTO_FREE char *near = NULL;
                NB_AUTO_FREE char *names = builtin_names(named->text, &near);
                if (near)
                        return nb_hint(err, "did you mean '%s'? (built in: %s; a file of yours: ./%s.yaml)", near, names,
                                       named->text);
                return nb_hint(err, "built in: %s; a file of yours: ./%s.yaml", *names ? names : "none", named->text);
        }
        return load_file(l, path, label, ret);
}

static int load_file(struct loader *l, const char *path, const char *label, struct doc_node **ret) {
        struct config_source *src = NULL;
        DOC_AUTO *doc = NULL;
        DOC_AUTO *merged = NULL;
        if (++l->files > PROFILE_FILES_MAX)
                return nb_fail(l->check.err, ELOOP, "%s: more than %d profiles", path, PROFILE_FILES_MAX);
        int r = doc_source(l->tree, path, label, &src, l->check.err);
        if (r == 0)
                r = doc_parse(src, &doc, l->check.err);
        if (r == 0)
                r = check_document(&l->check, doc);
        if (r < 0 || !doc)
                return r;
        drop_duplicates(doc);
        merged = doc_new(DOC_MAP, doc, NULL);
        l->chain[l->depth++] = src->path;
        const struct doc_node *profiles = doc_get(doc, "profiles");
        for (size_t i = 0; profiles && i < profiles->n_kids; i++) {
                struct doc_node *one = NULL;
                r = load_profile(l, profiles->kids[i], &one);
                if (r < 0 || !one)
                        return r;
                merge_into(merged, one);
        }
        l->depth--;
        /* of the lists of profiles only the outermost file's is left in the result */
        size_t at = find_key(merged, "profiles");
        if (at < merged->n_kids) {
                doc_free(merged->kids[at]);
                merged->kids[at] = merged->kids[--merged->n_kids];
        }
        merge_into(merged, nb_steal(&doc));
        *ret = nb_steal(&merged);
        return 0;
}

int merge_load(struct config_tree *tree, const char *file, struct nb_error *err) {
        NB_AUTO_FREE char *home = nb_home_dir();
        struct loader l = { .tree = tree, .check = { .home = home, .err = err } };
        return load_file(&l, file, NULL, &tree->root);
}

char *merge_default_name(const char *dir) {
        const char *slash = strrchr(dir, '/');
        NB_AUTO_FREE char *name = nb_strdup(slash ? slash + 1 : dir);
        char *out = name;
        for (const char *p = name; *p && out - name < BOX_NAME_LEN; p++) {
                char ch = (char)tolower((unsigned char)*p);
                bool valid = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
                if (valid)
                        *out++ = ch;
                else if (out > name && out[-1] != '-')
                        *out++ = '-';
        }
        while (out > name && out[-1] == '-')
                out--;
        *out = 0;
        return nb_strdup(nb_valid_box_name(name) ? name : "box");
}

static unsigned host_cpus(void) {
        cpu_set_t set;
        CPU_ZERO(&set);
        long n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
        return n < 1 ? 1 : n > CPUS_MAX ? CPUS_MAX : (unsigned)n;
}

static uint64_t half_memory_mb(void) {
        long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
        uint64_t mb = pages > 0 && size > 0 ? ((uint64_t)pages * (uint64_t)size / 2) >> 20 : 0;
        return mb < MEMORY_MIN_MB ? MEMORY_MIN_MB : mb;
}

static struct doc_node *need_map(struct doc_node *root, const char *key) {
        struct doc_node *map = doc_get(root, key);
        if (!map) {
                map = doc_new(DOC_MAP, NULL, NULL);
                doc_put(root, key, map);
        }
        return map;
}

static void need(struct doc_node *map, const char *key, enum doc_kind kind, const char *text) {
        if (!doc_get(map, key))
                doc_put(map, key, doc_new(kind, NULL, text));
}

static void order(struct doc_node *map, const char *const *keys) {
        size_t done = 0;
        for (; *keys; keys++) {
                size_t at = find_key(map, *keys);
                if (at == map->n_kids)
                        continue;
                struct doc_node *kid = map->kids[at];
                memmove(map->kids + done + 1, map->kids + done, (at - done) * sizeof(struct doc_node *));
                map->kids[done++] = kid;
        }
}

void merge_defaults(struct config_tree *tree, const char *dir) {
        static const char *const top[] = { "name",    "profiles", "image", "machine", "mounts", "volumes", "protect",
                                           "network", "ports",    "env",   "secrets", "setup",  "hooks",   NULL };
        static const char *const image[] = { "base", "packages", "npm", "npm-scripts", "npm-bin", "locale", "docs", NULL };
        static const char *const machine[] = { "cpus", "memory", "disk", "keep", "disk-floor", NULL };
        static const char *const network[] = { "mode", "allow", "deny", NULL };
        static const char *const mount[] = { "source", "target", "write", NULL };
        NB_AUTO_FREE char *name = merge_default_name(dir);
        NB_AUTO_FREE char *cpus = nb_asprintf("%u", host_cpus());
        NB_AUTO_FREE char *memory = nb_asprintf("%luM", (unsigned long)half_memory_mb());
        struct doc_node *root = tree->root;
        need(root, "name", DOC_TEXT, name);
        need(need_map(root, "image"), "base", DOC_TEXT, "debian-13");
        need(need_map(root, "machine"), "cpus", DOC_INT, cpus);
        need(need_map(root, "machine"), "memory", DOC_TEXT, memory);
        need(need_map(root, "network"), "mode", DOC_TEXT, "filtered");
        if (!doc_get(root, "protect")) {
                struct doc_node *protect = doc_new(DOC_LIST, NULL, NULL);
                doc_append(protect, doc_new(DOC_TEXT, NULL, PROTECT_DEFAULT));
                doc_put(root, "protect", protect);
        }
        order(root, top);
        order(need_map(root, "image"), image);
        order(need_map(root, "machine"), machine);
        order(need_map(root, "network"), network);
        const struct doc_node *mounts = doc_get(root, "mounts");
        for (size_t i = 0; mounts && i < mounts->n_kids; i++)
                order(mounts->kids[i], mount);
}
