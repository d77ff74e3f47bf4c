/* The keys of nixbox.yaml, one function each (network: check_network.c). docs/config.md and the JSON Schema say the same;
 * a test keeps parser and schema together. Nothing here looks at the host: see start.c for that. */
#include "config/check.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "policy/protect.h"

#define CPUS_MAX 255
#define MEMORY_MIN (128ull << 20)
#define MEMORY_MAX (4ull << 40)
#define DISK_MIN (64ull << 20)
#define DISK_MAX (64ull << 40)
#define PACKAGE_NAME_MAX 128
#define LOCALE_MODIFIER_MAX 16u

static int check_name(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "name");
        if (r == 0 && !nb_valid_box_name(n->text)) {
                doc_fail(n, c->err, EINVAL, "'%s' cannot be the name of a box", n->text);
                return nb_hint(c->err, "use 1 to 40 of a-z, 0-9 and '-', with no '-' at either end");
        }
        return r;
}

static int profile(struct check *c, struct doc_node *n) {
        static const char word[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
        int r = check_text(c, n, "a profile");
        if (r < 0 || n->text[strspn(n->text, word)] == 0)
                return r;
        size_t len = strlen(n->text);
        if (strchr(n->text, '/') && len > 5 && strcmp(n->text + len - 5, ".yaml") == 0) {
                char *path = NULL;
                r = check_path(c, n, n->text, &path);
                if (r == 0)
                        doc_set_text(n, path);
                return r;
        }
        doc_fail(n, c->err, EINVAL, "'%s' names no profile", n->text);
        return nb_hint(c->err, "write the name of a built-in profile, or a path such as ./profile.yaml");
}

static int check_profiles(struct check *c, struct doc_node *n) {
        return check_list(c, n, "profiles", profile);
}

static bool is_nix_file(const char *text) {
        size_t len = strlen(text);
        return len > strlen(".nix") && strcmp(text + len - strlen(".nix"), ".nix") == 0;
}

/* "nix:FILE.nix", "dir:PATH", "oci:./PATH" and "oci:docker-archive:FILE" name something on this host: made absolute. */
static int check_base(struct check *c, struct doc_node *n) {
        static const char *const kinds[] = { "oci:docker-archive:", "oci:", "nix:", "dir:" };
        int r = check_text(c, n, "image.base");
        if (r < 0 || strcmp(n->text, "debian-13") == 0 || strcmp(n->text, "debian-12") == 0)
                return r;
        for (size_t i = 0; i < NB_ARRAY_LEN(kinds); i++) {
                const char *rest = n->text + strlen(kinds[i]);
                if (!nb_starts_with(n->text, kinds[i]) || !*rest)
                        continue;
                bool path = i == 0 || strchr("./~", *rest) || strcmp(kinds[i], "dir:") == 0 ||
                            (strcmp(kinds[i], "nix:") == 0 && is_nix_file(rest));
                NB_AUTO_FREE char *full = NULL;
                if (!path)
                        return 0;
                r = check_path(c, n, rest, &full);
                if (r == 0)
                        doc_set_text(n, nb_asprintf("%s%s", kinds[i], full));
                return r;
        }
        doc_fail(n, c->err, EINVAL, "there is no image base '%s'", n->text);
        return nb_hint(c->err, "use debian-13 (others: debian-12, oci:REF, nix:FILE, dir:PATH)");
}

static int package(struct check *c, struct doc_node *n) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789+.-";
        int r = check_text(c, n, "a package");
        if (r < 0)
                return r;
        size_t len = strlen(n->text);
        if (len >= 2 && len <= PACKAGE_NAME_MAX && strspn(n->text, allowed) == len && !strchr("+.-", n->text[0]))
                return 0;
        doc_fail(n, c->err, EINVAL, "'%s' cannot be the name of a Debian package", n->text);
        return nb_hint(c->err, "names are of lower-case letters, digits, '+', '-' and '.', and begin with a letter or digit");
}

static int check_packages(struct check *c, struct doc_node *n) {
        return check_list(c, n, "image.packages", package);
}

/* LANGUAGE[_TERRITORY].UTF-8[@MODIFIER]: what glibc's sources are named after, and nothing but UTF-8. */
static bool valid_locale(const char *text) {
        static const char lower[] = "abcdefghijklmnopqrstuvwxyz", upper[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        if (strcmp(text, LOCALE_PLAIN) == 0)
                return true;
        size_t language = strspn(text, lower);
        if (language < 2 || language > 3)
                return false;
        text += language;
        if (*text == '_') {
                if (strspn(text + 1, upper) != 2)
                        return false;
                text += 3;
        }
        if (!nb_starts_with(text, ".UTF-8"))
                return false;
        text += strlen(".UTF-8");
        size_t modifier = *text == '@' ? strspn(text + 1, lower) : 0;
        return *text == 0 || (modifier > 0 && modifier <= LOCALE_MODIFIER_MAX && text[1 + modifier] == 0);
}

static int check_locale(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "image.locale");
        if (r < 0 || valid_locale(n->text))
                return r;
        doc_fail(n, c->err, EINVAL, "'%s' cannot be the name of a locale", n->text);
        return nb_hint(c->err, "write a language and a territory, such as de_DE.UTF-8; only UTF-8 is there");
}

static int check_docs(struct check *c, struct doc_node *n) {
        return check_bool(c, n, "image.docs");
}

static int check_image(struct check *c, struct doc_node *n) {
        static const struct check_key keys[] = { { "base", check_base },       { "packages", check_packages },
                                                 { "npm", check_npm },         { "npm-scripts", check_npm_scripts },
                                                 { "npm-bin", check_npm_bin }, { "locale", check_locale },
                                                 { "docs", check_docs } };
        return check_map(c, n, "image", keys, NB_ARRAY_LEN(keys));
}

static int check_cpus(struct check *c, struct doc_node *n) {
        return check_int(c, n, "machine.cpus", 1, CPUS_MAX);
}

static int check_memory(struct check *c, struct doc_node *n) {
        return check_size(c, n, "machine.memory", MEMORY_MIN, MEMORY_MAX);
}

static int check_disk(struct check *c, struct doc_node *n) {
        return check_size(c, n, "machine.disk", DISK_MIN, DISK_MAX);
}

static int check_keep(struct check *c, struct doc_node *n) {
        return check_bool(c, n, "machine.keep");
}

static int check_disk_floor(struct check *c, struct doc_node *n) {
        return check_size(c, n, "machine.disk-floor", 0, DISK_MAX);
}

static int check_machine(struct check *c, struct doc_node *n) {
        static const struct check_key keys[] = { { "cpus", check_cpus },
                                                 { "memory", check_memory },
                                                 { "disk", check_disk },
                                                 { "keep", check_keep },
                                                 { "disk-floor", check_disk_floor } };
        return check_map(c, n, "machine", keys, NB_ARRAY_LEN(keys));
}

static int protect_word(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "an item of protect");
        NB_AUTO_ERROR why = { 0 };
        if (r < 0 || strcmp(n->text, PROTECT_DEFAULT) == 0 || protect_check(n->text + (n->text[0] == '!'), &why) == 0)
                return r;
        doc_fail(n, c->err, EINVAL, "%s", why.what);
        return nb_hint(c->err, "%s", why.hint ? why.hint : "docs/protect.md says how patterns are written");
}

static int check_protect(struct check *c, struct doc_node *n) {
        return check_list(c, n, "protect", protect_word);
}

static int check_source(struct check *c, struct doc_node *n) {
        char *path = NULL;
        int r = check_text(c, n, "source");
        if (r == 0)
                r = check_path(c, n, n->text, &path);
        if (r == 0)
                doc_set_text(n, path);
        return r;
}

static int check_target(struct check *c, struct doc_node *n) {
        char *path = NULL;
        int r = check_text(c, n, "target");
        if (r < 0)
                return r;
        if (n->text[0] != '/' && n->text[0] != '~') {
                doc_fail(n, c->err, EINVAL, "the target '%s' is not an absolute path", n->text);
                return nb_hint(c->err, "begin it with / or ~/ (the home folder inside)");
        }
        r = check_path(c, n, n->text, &path);
        if (r == 0)
                doc_set_text(n, path);
        return r;
}

static int check_write(struct check *c, struct doc_node *n) {
        return check_bool(c, n, "write");
}

static int mount(struct check *c, struct doc_node *n) {
        static const struct check_key keys[] = { { "source", check_source },
                                                 { "target", check_target },
                                                 { "write", check_write } };
        if (n->kind != DOC_MAP) {
                check_wrong_type(c, n, "a mount", "a map with source, target, write");
                return nb_hint(c->err, "write it as {source: PATH, write: true}");
        }
        /* the default target is the source as written, which check_source() makes absolute */
        int r = check_map(c, n, "a mount", keys, NB_ARRAY_LEN(keys));
        if (r < 0)
                return r;
        if (!doc_get(n, "source")) {
                doc_fail(n, c->err, EINVAL, "the mount has no source");
                return nb_hint(c->err, "add 'source: PATH'");
        }
        if (!doc_get(n, "target"))
                doc_put(n, "target", doc_new(DOC_TEXT, NULL, doc_text(n, "source")));
        if (!doc_get(n, "write"))
                doc_put(n, "write", doc_new(DOC_BOOL, NULL, "false"));
        return 0;
}

static int check_mounts(struct check *c, struct doc_node *n) {
        return check_list(c, n, "mounts", mount);
}

static int check_volumes(struct check *c, struct doc_node *n) {
        if (n->kind == DOC_NULL)
                n->kind = DOC_MAP;
        if (n->kind != DOC_MAP) {
                check_wrong_type(c, n, "volumes", "a map (NAME: target)");
                return nb_hint(c->err, "write it as {npm-cache: ~/.npm}");
        }
        for (size_t i = 0; i < n->n_kids; i++) {
                struct doc_node at = { .src = n->kids[i]->src, .line = n->kids[i]->key_line, .column = n->kids[i]->key_column };
                if (!nb_valid_name(n->kids[i]->key)) {
                        doc_fail(&at, c->err, EINVAL, "'%s' cannot be the name of a volume", n->kids[i]->key);
                        return nb_hint(c->err, "use 1 to 40 of a-z, 0-9 and '-', with no '-' at either end");
                }
                int r = check_target(c, n->kids[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_env(struct check *c, struct doc_node *n) {
        if (n->kind == DOC_NULL)
                n->kind = DOC_MAP;
        if (n->kind != DOC_MAP)
                return check_wrong_type(c, n, "env", "a map (NAME: value)");
        for (size_t i = 0; i < n->n_kids; i++) {
                struct doc_node *v = n->kids[i];
                if (!check_env_name(v->key)) {
                        struct doc_node at = { .src = v->src, .line = v->key_line, .column = v->key_column };
                        doc_fail(&at, c->err, EINVAL, "'%s' cannot be the name of a variable", v->key);
                        return nb_hint(c->err, "use letters, digits and '_', not beginning with a digit");
                }
                if (v->kind == DOC_INT || v->kind == DOC_NUMBER) /* 8080 and 1.10 mean just that text */
                        v->kind = DOC_TEXT;
                if (v->kind == DOC_TEXT)
                        continue;
                check_wrong_type(c, v, v->key, "text");
                return nb_hint(c->err, "put the value in quotes; \"\" is an empty one");
        }
        return 0;
}

static int check_secret_name(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "name");
        if (r == 0 && !check_env_name(n->text)) {
                doc_fail(n, c->err, EINVAL, "'%s' cannot be the name of a variable", n->text);
                return nb_hint(c->err, "use letters, digits and '_', not beginning with a digit");
        }
        return r;
}

static int check_from(struct check *c, struct doc_node *n) {
        /* nothing here shows the text: someone may have written the value itself */
        static const char places[] = "write env, env:NAME, file:PATH or command:COMMAND";
        int r = 0;
        if (n->kind != DOC_TEXT) {
                check_wrong_type(c, n, "from", "text");
                return nb_hint(c->err, "%s", places);
        }
        if (strcmp(n->text, "env") == 0)
                return 0;
        if (nb_starts_with(n->text, "env:") && check_env_name(n->text + 4))
                return 0;
        if (nb_starts_with(n->text, "command:") && n->text[8 + strspn(n->text + 8, " \t\n")])
                return 0;
        if (nb_starts_with(n->text, "file:") && n->text[5]) {
                NB_AUTO_FREE char *path = NULL;
                r = check_path(c, n, n->text + 5, &path);
                if (r == 0)
                        doc_set_text(n, nb_asprintf("file:%s", path));
                return r;
        }
        doc_fail(n, c->err, EINVAL, "this is no place a secret can come from");
        return nb_hint(c->err, "%s", places);
}

static int secret_host(struct check *c, struct doc_node *n) {
        return check_host(c, n, "a host", false);
}

static int check_hosts(struct check *c, struct doc_node *n) {
        int r = check_list(c, n, "hosts", secret_host);
        if (r == 0 && n->n_kids == 0) {
                doc_fail(n, c->err, EINVAL, "hosts is empty: the secret could be used nowhere");
                return nb_hint(c->err, "name the hosts, or remove the key to give the guest the value itself");
        }
        return r;
}

static int secret(struct check *c, struct doc_node *n) {
        static const struct check_key keys[] = { { "name", check_secret_name },
                                                 { "from", check_from },
                                                 { "hosts", check_hosts } };
        if (n->kind != DOC_MAP)
                return check_wrong_type(c, n, "a secret", "a map with name and from");
        int r = check_map(c, n, "a secret", keys, NB_ARRAY_LEN(keys));
        if (r < 0)
                return r;
        if (!doc_get(n, "name") || !doc_get(n, "from")) {
                doc_fail(n, c->err, EINVAL, "a secret needs both name and from");
                return nb_hint(c->err, "write {name: NAME, from: env} to take it from your own variable of that name");
        }
        return 0;
}

static int check_secrets(struct check *c, struct doc_node *n) {
        return check_list(c, n, "secrets", secret);
}

static int check_commands(struct check *c, struct doc_node *n) {
        return check_texts(c, n, n->key);
}

static int check_hooks(struct check *c, struct doc_node *n) {
        static const struct check_key keys[] = {
                { "pre-up", check_commands },
                { "post-up", check_commands },
                { "pre-down", check_commands },
                { "post-down", check_commands },
        };
        return check_map(c, n, "hooks", keys, NB_ARRAY_LEN(keys));
}

int check_document(struct check *c, struct doc_node *root) {
        static const struct check_key keys[] = {
                { "name", check_name },       { "profiles", check_profiles },
                { "image", check_image },     { "machine", check_machine },
                { "mounts", check_mounts },   { "network", check_network },
                { "ports", check_ports },     { "env", check_env },
                { "secrets", check_secrets }, { "setup", check_commands },
                { "hooks", check_hooks },     { "inspect", NULL },
                { "protect", check_protect }, { "hide", NULL },
                { "volumes", check_volumes },
        };
        return check_map(c, root, "", keys, NB_ARRAY_LEN(keys));
}
