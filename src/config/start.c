/* Checks that need the whole config or the host (see start.h). */
#include "config/start.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/text.h"
#include "config/check.h"
#include "config/hostrun.h"
#include "config/mount.h"
#include "config/npm.h"
#include "config/port.h"
#include "config/rules.h"
#include "config/secret.h"

/* A target is taken: by a mount or a volume, of which `n` is the node. */
struct taken {
        const char *target, *what;
        const struct doc_node *n;
};

static int check_target(const struct taken *one, const struct taken *before, size_t n_before, struct nb_error *err) {
        const char *problem = mount_target_problem(one->target);
        if (problem) {
                doc_fail(one->n, err, EINVAL, "the target %s %s", one->target, problem);
                return nb_hint(err, "give the %s another target", one->what);
        }
        for (size_t i = 0; i < n_before; i++) {
                if (strcmp(one->target, before[i].target) != 0)
                        continue;
                NB_AUTO_FREE char *first = doc_origin(before[i].n);
                if (strcmp(one->what, before[i].what) == 0)
                        doc_fail(one->n, err, EEXIST, "two %ss have the target %s", one->what, one->target);
                else
                        doc_fail(one->n, err, EEXIST, "a %s and a %s have the target %s", before[i].what, one->what,
                                 one->target);
                return nb_hint(err, "the other is at %s: remove one of them or give it another target", first);
        }
        return 0;
}

static int check_targets(const struct config *c, struct nb_error *err) {
        const struct doc_node *mounts = doc_get(c->tree->root, "mounts"), *volumes = doc_get(c->tree->root, "volumes");
        if (c->n_volumes > CHECK_VOLUMES_MAX)
                return doc_fail(volumes->kids[CHECK_VOLUMES_MAX], err, E2BIG, "more than %d volumes", CHECK_VOLUMES_MAX);
        NB_AUTO_FREE struct taken *all = nb_calloc(c->n_mounts + c->n_volumes, sizeof *all);
        size_t n = 0;
        for (size_t i = 0; i < c->n_mounts; i++)
                all[n++] = (struct taken){ c->mounts[i].target, "mount", mounts->kids[i] };
        for (size_t i = 0; i < c->n_volumes; i++)
                all[n++] = (struct taken){ c->volumes[i].target, "volume", volumes->kids[i] };
        int r = 0;
        for (size_t i = 0; r == 0 && i < n; i++)
                r = check_target(&all[i], all, i, err);
        return r;
}

static int check_variables(const struct config *c, struct nb_error *err) {
        const struct doc_node *secrets = doc_get(c->tree->root, "secrets"), *env = doc_get(c->tree->root, "env");
        for (size_t i = 0; i < c->n_secrets; i++) {
                const struct doc_node *other = doc_get(env, c->secrets[i].name);
                for (size_t j = 0; j < i && !other; j++)
                        if (strcmp(c->secrets[i].name, c->secrets[j].name) == 0)
                                other = secrets->kids[j];
                if (!other)
                        continue;
                NB_AUTO_FREE char *first = doc_origin(other);
                doc_fail(secrets->kids[i], err, EEXIST, "the variable %s is given twice", c->secrets[i].name);
                return nb_hint(err, "the other is at %s: remove one of them", first);
        }
        return 0;
}

static int check_published(const struct config *c, struct nb_error *err) {
        const struct doc_node *ports = doc_get(c->tree->root, "ports");
        if (c->n_ports > CHECK_PORTS_MAX)
                return doc_fail(ports->kids[CHECK_PORTS_MAX], err, E2BIG, "more than %d published ports", CHECK_PORTS_MAX);
        for (size_t i = 0; i < c->n_ports; i++) {
                if (c->policy->mode == POLICY_OFF) {
                        doc_fail(ports->kids[i], err, EINVAL, "a port is published, but the box has no network");
                        return nb_hint(
                            err, "remove it, or set network.mode: filtered (with no rule, nothing is reached from inside)");
                }
                for (size_t j = 0; j < i; j++) {
                        if (!port_conflict(&c->ports[i], &c->ports[j]))
                                continue;
                        NB_AUTO_FREE char *first = doc_origin(ports->kids[j]);
                        doc_fail(ports->kids[i], err, EEXIST, "the port %u of the host is published twice",
                                 c->ports[i].host_port);
                        return nb_hint(err, "the other is at %s: remove one of them or give it another port of the host",
                                       first);
                }
        }
        return 0;
}

/* Debian's packages need Debian's base below them. */
static int check_packages_fit(const struct config *c, struct nb_error *err) {
        if (c->image.kind == CONFIG_BASE_DEBIAN || !c->image.packages || !c->image.packages[0])
                return 0;
        doc_fail(doc_path(c->tree->root, "image.packages"), err, EINVAL,
                 "packages are Debian's, but the image base '%s' is not Debian", c->image.base);
        return nb_hint(err, "put them into that image, or set image.base: debian-13");
}

static int check_keep(const struct config *c, struct nb_error *err) {
        if (!c->keep_disk || c->disk > 0)
                return 0;
        doc_fail(doc_path(c->tree->root, "machine.keep"), err, EINVAL, "there is no disk to keep: scratch space is in memory");
        return nb_hint(err, "add machine.disk, such as 20G, or remove machine.keep");
}

int start_check_whole(const struct config *c, struct nb_error *err) {
        int r = check_packages_fit(c, err);
        if (r == 0)
                r = check_targets(c, err);
        if (r == 0)
                r = check_keep(c, err);
        if (r == 0)
                r = check_variables(c, err);
        if (r == 0)
                r = npm_check_whole(&c->image, err);
        return r < 0 ? r : check_published(c, err);
}

/* A Nix file is a program that runs on the host. What it imports is as much out of reach as what a script starts. */
static int collect_nix(struct config *c, struct nb_error *err) {
        static const char *const parts[] = { "", "/default.nix", "/flake.nix", "/flake.lock" };
        const char *what = c->image.base + strlen("nix:");
        int r = 0;
        if (c->image.kind != CONFIG_BASE_NIX || what[0] != '/')
                return 0;
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(parts); i++) {
                NB_AUTO_FREE char *path = nb_asprintf("%.*s%s", (int)strcspn(what, "#"), what, parts[i]);
                r = hostrun_add_file(c, path, doc_path(c->tree->root, "image.base"), err);
        }
        return r;
}

int start_collect(struct config *c, bool must, struct nb_error *err) {
        static const char *const names[] = { "pre-up", "post-up", "pre-down", "post-down" };
        const struct config_hook *lists[] = { c->pre_up, c->post_up, c->pre_down, c->post_down };
        const struct doc_node *hooks = doc_get(c->tree->root, "hooks"), *secrets = doc_get(c->tree->root, "secrets");
        int r = collect_nix(c, err);
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++) {
                const struct doc_node *list = doc_get(hooks, names[i]);
                for (size_t k = 0; r == 0 && list && k < list->n_kids; k++)
                        r = hostrun_collect(c, lists[i][k].command, lists[i][k].dir, must, list->kids[k], err);
        }
        for (size_t i = 0; r == 0 && i < c->n_secrets; i++)
                if (c->secrets[i].from == CONFIG_SECRET_COMMAND)
                        r = hostrun_collect(c, c->secrets[i].arg, c->secrets[i].dir, must, doc_get(secrets->kids[i], "from"),
                                            err);
        return r;
}

static int check_rules(const struct config *c, struct nb_error *err) {
        const struct doc_node *allow = doc_path(c->tree->root, "network.allow");
        for (size_t i = 0; allow && i < allow->n_kids; i++) {
                if (!rules_some_requests(allow->kids[i]))
                        continue;
                const struct doc_node *methods = doc_get(allow->kids[i], "methods");
                doc_fail(methods ? methods : doc_get(allow->kids[i], "paths"), err, ENOTSUP,
                         "rules for methods and paths are not enforced yet");
                return nb_hint(err, "remove methods and paths to allow every request to %s, or remove the rule",
                               doc_text(allow->kids[i], "host"));
        }
        return 0;
}

static int check_supported(const struct config *c, struct nb_error *err) {
        const struct doc_node *root = c->tree->root;
        int r = check_rules(c, err);
        if (r < 0)
                return r;
        const struct doc_node *secrets = doc_get(root, "secrets");
        for (size_t i = 0; i < c->n_secrets; i++) {
                if (!c->secrets[i].hosts)
                        continue;
                doc_fail(doc_get(secrets->kids[i], "hosts"), err, ENOTSUP, "secrets bound to hosts are not yet supported");
                return nb_hint(err, "without 'hosts' the guest gets the value of %s itself; remove the secret if it must not",
                               c->secrets[i].name);
        }
        return 0;
}

int start_check_host(struct config *c, struct nb_error *err) {
        int r = 0;
        for (size_t i = 0; r == 0 && i < c->n_mounts; i++)
                r = mount_check_source(&c->mounts[i], err);
        for (size_t i = 0; r == 0 && i < c->n_secrets; i++)
                r = secret_check(&c->secrets[i], err);
        return r < 0 ? r : check_supported(c, err);
}
