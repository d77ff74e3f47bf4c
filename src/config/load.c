/* The public way in (see config.h): finding the file, and the merged document turned into struct config. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "base/text.h"
#include "config/check.h"
#include "config/merge.h"
#include "config/mount.h"
#include "config/npm.h"
#include "config/rules.h"
#include "config/start.h"
#include "policy/protect.h"

#define CONFIG_NAME "nixbox.yaml"
#define LOCK_NAME "nixbox.lock"
#define LOCK_MAX (16u << 20)
#define MEMORY_STEP (2ull << 20) /* guests get memory in large pages */

static const struct {
        const char *path;
        size_t list, count; /* offsets in struct config */
} command_lists[] = {
        { "setup", offsetof(struct config, setup), offsetof(struct config, n_setup) },
        { "hooks.pre-up", offsetof(struct config, pre_up), offsetof(struct config, n_pre_up) },
        { "hooks.post-up", offsetof(struct config, post_up), offsetof(struct config, n_post_up) },
        { "hooks.pre-down", offsetof(struct config, pre_down), offsetof(struct config, n_pre_down) },
        { "hooks.post-down", offsetof(struct config, post_down), offsetof(struct config, n_post_down) },
};

int config_find(const char *dir, char **ret_file, struct nb_error *err) {
        NB_AUTO_FREE char *at = nb_path_normalize(dir);
        for (;;) {
                NB_AUTO_FREE char *file = nb_path_join(at, CONFIG_NAME);
                if (access(file, F_OK) == 0) {
                        *ret_file = nb_steal(&file);
                        return 0;
                }
                if (errno != ENOENT && errno != ENOTDIR)
                        return nb_fail_errno(err, errno, "cannot look for %s", file);
                char *slash = strrchr(at, '/');
                if (strcmp(at, "/") == 0) {
                        nb_fail(err, ENOENT, "there is no %s in %s or any folder above it", CONFIG_NAME, dir);
                        return nb_hint(err, "nixbox init writes one");
                }
                slash[slash == at] = 0;
        }
}

static void load_texts(const struct doc_node *list, char ***ret) {
        for (size_t i = 0; list && i < list->n_kids; i++)
                nb_strv_add(ret, list->kids[i]->text);
}

static int by_name(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A config and its lock mean the same wherever their folder lies. New string; NULL where the base names nothing in it. */
static char *base_name(const char *base, const char *dir) {
        const char *colon = strchr(base, ':');
        NB_AUTO_FREE char *prefix = nb_asprintf(":%s/", strcmp(dir, "/") == 0 ? "" : dir);
        const char *at = colon ? strstr(colon, prefix) : NULL;
        return at ? nb_asprintf("%.*s./%s", (int)(at + 1 - base), base, at + strlen(prefix)) : NULL;
}

static void load_image(struct config *c, const struct doc_node *image) {
        c->image.base = nb_strdup(doc_text(image, "base"));
        c->image.kind = nb_starts_with(c->image.base, "oci:")   ? CONFIG_BASE_OCI
                        : nb_starts_with(c->image.base, "nix:") ? CONFIG_BASE_NIX
                        : nb_starts_with(c->image.base, "dir:") ? CONFIG_BASE_DIR
                                                                : CONFIG_BASE_DEBIAN;
        c->image.base_name = c->image.kind == CONFIG_BASE_DEBIAN ? NULL : base_name(c->image.base, c->dir);
        load_texts(doc_get(image, "packages"), &c->image.packages);
        npm_load(&c->image, image);
        const char *locale = doc_text(image, "locale"), *docs = doc_text(image, "docs");
        c->image.locale = locale && strcmp(locale, LOCALE_PLAIN) != 0 ? nb_strdup(locale) : NULL;
        c->image.docs = docs && strcmp(docs, "true") == 0;
        if (c->image.packages)
                qsort(c->image.packages, nb_strv_len(c->image.packages), sizeof(char *), by_name);
}

static void load_machine(struct config *c, const struct doc_node *machine) {
        uint64_t cpus = 1;
        const char *disk = doc_text(machine, "disk"), *keep = doc_text(machine, "keep");
        const char *floor = doc_text(machine, "disk-floor");
        /* the texts were checked when the document was */
        (void)nb_parse_uint(doc_text(machine, "cpus"), UINT32_MAX, &cpus);
        (void)nb_parse_size(doc_text(machine, "memory"), &c->memory);
        if (disk)
                (void)nb_parse_size(disk, &c->disk);
        c->disk_floor = CONFIG_FLOOR_USUAL;
        if (floor)
                (void)nb_parse_size(floor, &c->disk_floor);
        c->keep_disk = keep && strcmp(keep, "true") == 0;
        c->cpus = (unsigned)cpus;
        c->memory -= c->memory % MEMORY_STEP;
}

static void load_mounts(struct config *c, const struct doc_node *mounts) {
        c->n_mounts = mounts ? mounts->n_kids : 0;
        c->mounts = nb_calloc(c->n_mounts, sizeof *c->mounts);
        for (size_t i = 0; i < c->n_mounts; i++) {
                const struct doc_node *n = mounts->kids[i];
                struct config_mount *m = &c->mounts[i];
                struct stat st;
                m->source = mount_real_path(doc_text(n, "source"));
                m->target = nb_strdup(doc_text(n, "target"));
                m->write = strcmp(doc_text(n, "write"), "true") == 0;
                m->is_file = stat(m->source, &st) == 0 && S_ISREG(st.st_mode);
                m->pos = doc_pos(doc_get(n, "source"));
        }
}

static void load_volumes(struct config *c, const struct doc_node *volumes) {
        c->n_volumes = volumes ? volumes->n_kids : 0;
        c->volumes = nb_calloc(c->n_volumes, sizeof *c->volumes);
        for (size_t i = 0; i < c->n_volumes; i++)
                c->volumes[i] = (struct config_volume){ .name = nb_strdup(volumes->kids[i]->key),
                                                        .target = nb_strdup(volumes->kids[i]->text),
                                                        .pos = doc_pos(volumes->kids[i]) };
}

static int load_network(struct config *c, const struct doc_node *network, struct nb_error *err) {
        c->network_pos = doc_pos(doc_get(network, "mode"));
        return rules_load(network, &c->policy, err);
}

static int load_ports(struct config *c, const struct doc_node *ports, struct nb_error *err) {
        c->ports = nb_calloc(ports ? ports->n_kids : 0, sizeof *c->ports);
        for (size_t i = 0; ports && i < ports->n_kids; i++) {
                int r = config_parse_port(ports->kids[i]->text, &c->ports[i], err);
                if (r < 0)
                        return r;
                c->ports[c->n_ports++].pos = doc_pos(ports->kids[i]);
        }
        return 0;
}

/* What the config itself is made of is protected under its own path, too, unless nothing is. */
static void protect_own(struct config *c) {
        NB_AUTO_FREE char *file = mount_real_path(c->file);
        NB_AUTO_FREE char *given = nb_path_join(c->dir, LOCK_NAME);
        NB_AUTO_FREE char *lock = mount_real_path(given);
        nb_strv_add(&c->protect, file);
        nb_strv_add(&c->protect, lock);
        for (size_t i = 1; i < c->tree->n_sources; i++) {
                NB_AUTO_FREE char *profile = mount_real_path(c->tree->sources[i]->path);
                if (!c->tree->sources[i]->builtin)
                        nb_strv_add(&c->protect, profile);
        }
}

static int load_protect(struct config *c, const struct doc_node *list, struct nb_error *err) {
        NB_AUTO_STRV char **words = NULL;
        for (size_t i = 0; list && i < list->n_kids; i++) {
                nb_strv_add(&words, list->kids[i]->text);
                nb_strv_free(c->protect);
                c->protect = NULL;
                NB_AUTO_ERROR why = { 0 };
                if (protect_resolve(words, &c->protect, &why) == 0)
                        continue;
                doc_fail(list->kids[i], err, why.code, "%s", why.what);
                return nb_hint(err, "%s", why.hint);
        }
        if (c->protect && c->protect[0]) {
                protect_own(c);
        } else {
                nb_strv_free(c->protect);
                c->protect = NULL;
        }
        return 0;
}

static const char *dir_of(const struct config *c, const struct doc_node *n) {
        return n->src && !n->src->builtin ? n->src->dir : c->dir;
}

static void load_secret(const struct config *c, const struct doc_node *n, struct config_secret *s) {
        const struct doc_node *from = doc_get(n, "from");
        const char *colon = strchr(from->text, ':');
        s->name = nb_strdup(doc_text(n, "name"));
        s->dir = nb_strdup(dir_of(c, from));
        s->pos = doc_pos(from);
        load_texts(doc_get(n, "hosts"), &s->hosts);
        if (nb_starts_with(from->text, "env")) {
                s->from = CONFIG_SECRET_ENV;
                s->arg = nb_strdup(colon ? colon + 1 : s->name);
        } else if (nb_starts_with(from->text, "file:")) {
                s->from = CONFIG_SECRET_FILE;
                s->arg = mount_real_path(colon + 1);
        } else {
                s->from = CONFIG_SECRET_COMMAND;
                s->arg = nb_strdup(colon + 1);
        }
}

static void load_commands(struct config *c, const struct doc_node *list, struct config_hook **ret, size_t *ret_n) {
        *ret_n = list ? list->n_kids : 0;
        *ret = nb_calloc(*ret_n, sizeof **ret);
        for (size_t i = 0; i < *ret_n; i++)
                (*ret)[i] = (struct config_hook){ .command = nb_strdup(list->kids[i]->text),
                                                  .dir = nb_strdup(dir_of(c, list->kids[i])),
                                                  .pos = doc_pos(list->kids[i]) };
}

static void load_rest(struct config *c, const struct doc_node *root) {
        const struct doc_node *env = doc_get(root, "env"), *secrets = doc_get(root, "secrets");
        for (size_t i = 0; env && i < env->n_kids; i++)
                nb_strv_addf(&c->env, "%s=%s", env->kids[i]->key, env->kids[i]->text);
        c->n_secrets = secrets ? secrets->n_kids : 0;
        c->secrets = nb_calloc(c->n_secrets, sizeof *c->secrets);
        for (size_t i = 0; i < c->n_secrets; i++)
                load_secret(c, secrets->kids[i], &c->secrets[i]);
        for (size_t i = 0; i < NB_ARRAY_LEN(command_lists); i++)
                load_commands(c, doc_path(root, command_lists[i].path),
                              (struct config_hook **)((char *)c + command_lists[i].list),
                              (size_t *)((char *)c + command_lists[i].count));
}

static int load_typed(struct config *c, struct nb_error *err) {
        const struct doc_node *root = c->tree->root;
        c->name = nb_strdup(doc_text(root, "name"));
        load_texts(doc_get(root, "profiles"), &c->profiles);
        load_image(c, doc_get(root, "image"));
        load_machine(c, doc_get(root, "machine"));
        load_mounts(c, doc_get(root, "mounts"));
        load_volumes(c, doc_get(root, "volumes"));
        load_rest(c, root);
        int r = load_network(c, doc_get(root, "network"), err);
        if (r == 0)
                r = load_protect(c, doc_get(root, "protect"), err);
        return r < 0 ? r : load_ports(c, doc_get(root, "ports"), err);
}

static int load_lock(struct config *c, struct nb_error *err) {
        NB_AUTO_FREE char *given = nb_path_join(c->dir, LOCK_NAME);
        NB_AUTO_FREE char *path = mount_real_path(given);
        int r = nb_read_regular(path, LOCK_MAX, &c->lock.bytes, &c->lock.len);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", path);
        c->lock.path = nb_steal(&path);
        nb_sha256(c->lock.bytes, c->lock.len, c->lock.sha256);
        return 0;
}

static int load(const char *file, bool for_start, struct config **ret, struct nb_error *err) {
        __attribute__((cleanup(config_freep))) struct config *c = nb_calloc(1, sizeof *c);
        int r = doc_file_path(file, &c->file, err);
        if (r < 0)
                return r;
        char *slash = strrchr(c->file, '/');
        c->dir = nb_strndup(c->file, slash == c->file ? 1 : (size_t)(slash - c->file));
        c->tree = config_tree_new();
        r = merge_load(c->tree, c->file, err);
        if (r < 0)
                return r;
        merge_defaults(c->tree, c->dir);
        r = load_typed(c, err);
        if (r == 0)
                r = load_lock(c, err);
        if (r == 0)
                r = start_check_whole(c, err);
        if (r == 0)
                r = start_collect(c, for_start, err);
        if (r == 0 && for_start)
                r = start_check_host(c, err);
        if (r == 0)
                *ret = nb_steal(&c);
        return r;
}

int config_load(const char *file, bool for_start, struct config **ret, struct nb_error *err) {
        int r = load(file, for_start, ret, err);
        if (r < 0 && err && !err->hint)
                nb_hint(err, "correct it there; docs/config.md explains every key");
        return r;
}

int config_box_name(const char *file, char **ret, struct nb_error *err) {
        NB_AUTO_FREE char *path = NULL;
        int r = doc_file_path(file, &path, err);
        if (r < 0)
                return r;
        struct config_tree *tree = config_tree_new();
        struct config_source *src = NULL;
        DOC_AUTO *root = NULL;
        r = doc_source(tree, path, NULL, &src, err);
        if (r == 0)
                r = doc_parse(src, &root, err);
        const struct doc_node *name = doc_get(root, "name"), *profiles = doc_get(root, "profiles");
        bool plain = r == 0 && name && name->kind == DOC_TEXT && nb_valid_box_name(name->text);
        if (plain)
                *ret = nb_strdup(name->text);
        else if (r == 0 && !name && (!profiles || profiles->kind == DOC_NULL))
                *ret = merge_default_name(src->dir);
        config_tree_free(tree);
        if (r < 0 || *ret)
                return r;
        /* a profile may give the name, or there is an error to report */
        struct config *c = NULL;
        r = config_load(path, false, &c, err);
        if (r < 0 || !c)
                return r;
        *ret = nb_steal(&c->name);
        config_free(c);
        return 0;
}

static void free_commands(struct config_hook *list, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(list[i].command);
                free(list[i].dir);
        }
        free(list);
}

void config_free(struct config *c) {
        if (!c)
                return;
        for (size_t i = 0; i < c->n_mounts; i++)
                config_mount_clear(&c->mounts[i]);
        for (size_t i = 0; i < c->n_volumes; i++) {
                free(c->volumes[i].name);
                free(c->volumes[i].target);
        }
        for (size_t i = 0; i < c->n_secrets; i++) {
                free(c->secrets[i].name);
                free(c->secrets[i].arg);
                free(c->secrets[i].dir);
                nb_strv_free(c->secrets[i].hosts);
        }
        for (size_t i = 0; i < c->n_ports; i++)
                config_port_clear(&c->ports[i]);
        for (size_t i = 0; i < c->n_files; i++) {
                free(c->files[i].path);
                free(c->files[i].bytes);
        }
        free(c->lock.path);
        free(c->lock.bytes);
        for (size_t i = 0; i < NB_ARRAY_LEN(command_lists); i++)
                free_commands(*(struct config_hook **)((char *)c + command_lists[i].list),
                              *(size_t *)((char *)c + command_lists[i].count));
        nb_strv_free(c->profiles);
        nb_strv_free(c->image.packages);
        npm_clear(&c->image);
        nb_strv_free(c->env);
        nb_strv_free(c->protect);
        free(c->image.base);
        free(c->image.base_name);
        free(c->image.locale);
        free(c->mounts);
        free(c->volumes);
        free(c->ports);
        free(c->secrets);
        free(c->files);
        free(c->name);
        policy_free(c->policy);
        free(c->dir);
        free(c->file);
        config_tree_free(c->tree);
        free(c);
}
