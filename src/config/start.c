/* Checks that need the whole config or the host (see start.h). */
#include "config/start.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/text.h"
#include "config/doc.h"
#include "config/hostrun.h"
#include "config/mount.h"
#include "config/secret.h"

static int check_targets(const struct config *c, struct nb_error *err) {
        const struct doc_node *mounts = doc_get(c->tree->root, "mounts");
        for (size_t i = 0; i < c->n_mounts; i++) {
                const char *problem = mount_target_problem(c->mounts[i].target);
                if (problem) {
                        doc_fail(mounts->kids[i], err, EINVAL, "the target %s %s", c->mounts[i].target, problem);
                        return nb_hint(err, "give the mount another target");
                }
                for (size_t j = 0; j < i; j++) {
                        if (strcmp(c->mounts[i].target, c->mounts[j].target) != 0)
                                continue;
                        NB_AUTO_FREE char *first = doc_origin(mounts->kids[j]);
                        doc_fail(mounts->kids[i], err, EEXIST, "two mounts have the target %s", c->mounts[i].target);
                        return nb_hint(err, "the other is at %s: remove one of them or give it another target", first);
                }
        }
        return 0;
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

int start_check_whole(const struct config *c, struct nb_error *err) {
        int r = check_targets(c, err);
        return r < 0 ? r : check_variables(c, err);
}

int start_collect(struct config *c, bool must, struct nb_error *err) {
        static const char *const names[] = { "pre-up", "post-up", "pre-down", "post-down" };
        const struct config_hook *lists[] = { c->pre_up, c->post_up, c->pre_down, c->post_down };
        const struct doc_node *hooks = doc_get(c->tree->root, "hooks"), *secrets = doc_get(c->tree->root, "secrets");
        int r = 0;
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

static int check_supported(const struct config *c, struct nb_error *err) {
        const struct doc_node *root = c->tree->root;
        if (c->network != CONFIG_NET_OFF) {
                const struct doc_node *mode = doc_path(root, "network.mode");
                if (mode->src)
                        doc_fail(mode, err, ENOTSUP, "the network mode '%s' is not enforced yet", mode->text);
                else
                        nb_fail(err, ENOTSUP, "%s: the default network mode '%s' is not enforced yet",
                                c->tree->sources[0]->label, mode->text);
                return nb_hint(err, "set network.mode: off in %s", c->file);
        }
        if (strcmp(c->image.base, "debian-13") != 0) {
                doc_fail(doc_path(root, "image.base"), err, ENOTSUP, "the image base %s is not yet supported", c->image.base);
                return nb_hint(err, "use debian-13");
        }
        if (c->image.npm) {
                doc_fail(doc_path(root, "image.npm"), err, ENOTSUP, "npm packages are not yet supported");
                return nb_hint(err, "remove image.npm; Debian packages go into image.packages");
        }
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
