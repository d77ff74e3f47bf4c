/* Reading what npm resolved (see npm.h). The registry and whoever publishes there decide what stands in it: every value is
 * held to the grammar that a lock has, and what cannot be checked by a hash is refused. */
#include <errno.h>
#include <jansson.h>
#include <nettle/base64.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "config/npm.h"
#include "image/npm.h"

#define FOLDER "node_modules/"
#define PATH_LEN_MAX 1024u
#define URL_MAX 4096u
#define VERSION_MAX 256u
#define SHA512_PREFIX "sha512-"
#define SHA512_BYTES 64u
#define SHA512_TEXT 88u /* digits of base64, with padding */

struct reading {
        const struct config_image *c;
        const char *path; /* of the package being read */
        const char *skipped;
        struct lock_npm *first, **next;
        struct nb_error *err;
};

static int bad(const struct reading *r, const char *why) {
        NB_AUTO_FREE char *path = nb_text_clean(r->path, 0);
        nb_fail(r->err, EBADMSG, "cannot use the npm package %s: %s",
                nb_starts_with(path, FOLDER) ? path + strlen(FOLDER) : path, why);
        return nb_hint(r->err, "name another version of it, or of what needs it, under image.npm");
}

/* The name of the package in the innermost folder; NULL if the path is not node_modules/NAME[/node_modules/NAME]… */
static const char *last_name(const char *path) {
        const char *name = NULL;
        if (strlen(path) > PATH_LEN_MAX)
                return NULL;
        while (nb_starts_with(path, FOLDER)) {
                name = path + strlen(FOLDER);
                size_t len = npm_name_len(name);
                if (len == 0 || (name[len] && name[len] != '/'))
                        return NULL;
                if (!name[len])
                        return name;
                path = name + len + 1;
        }
        return NULL;
}

static bool top_level(const struct lock_npm *p) {
        const char *name = p->path + strlen(FOLDER);
        return name[npm_name_len(name)] == 0;
}

/* As npm judges "os", "cpu" and "libc": one of the list, or none that the list excludes. */
static bool takes(const json_t *list, const char *value) {
        size_t i, excluded = 0;
        json_t *one;
        bool match = false;
        if (json_is_string(list))
                return strcmp(json_string_value(list), value) == 0 || strcmp(json_string_value(list), "any") == 0;
        json_array_foreach(list, i, one) {
                const char *text = json_string_value(one);
                if (!text)
                        continue;
                if (text[0] == '!' && strcmp(text + 1, value) == 0)
                        return false;
                excluded += text[0] == '!';
                match = match || strcmp(text, value) == 0 || strcmp(text, "any") == 0;
        }
        return match || excluded == json_array_size(list);
}

static bool for_this_machine(const json_t *package, const char *name) {
        const json_t *os = json_object_get(package, "os"), *cpu = json_object_get(package, "cpu");
        const json_t *libc = json_object_get(package, "libc");
        /* npm before 11 leaves "libc" out of its lock; a name says it then */
        if (!libc && (os || cpu) && strstr(name, "musl"))
                return false;
        return takes(os, "linux") && takes(cpu, "x64") && takes(libc, "glibc");
}

char *npm_hash(const char *integrity) {
        struct base64_decode_ctx ctx;
        uint8_t bytes[BASE64_DECODE_LENGTH(SHA512_TEXT)];
        size_t n = 0;
        if (!nb_starts_with(integrity, SHA512_PREFIX) || strlen(integrity) != strlen(SHA512_PREFIX) + SHA512_TEXT)
                return NULL;
        base64_decode_init(&ctx);
        n = sizeof bytes;
        if (!base64_decode_update(&ctx, &n, bytes, SHA512_TEXT, integrity + strlen(SHA512_PREFIX)) ||
            !base64_decode_final(&ctx) || n != SHA512_BYTES)
                return NULL;
        char *hex = nb_calloc(strlen("sha512:") + 2 * SHA512_BYTES + 1, 1), *to = stpcpy(hex, "sha512:");
        for (size_t i = 0; i < n; i++, to += 2)
                (void)snprintf(to, 3, "%02x", bytes[i]);
        return hex;
}

/* One of several hashes, "sha1-… sha512-…". */
static char *strong_hash(const char *integrity) {
        NB_AUTO_FREE char *copy = nb_strdup(integrity);
        char *save = NULL;
        for (const char *one = strtok_r(copy, " ", &save); one; one = strtok_r(NULL, " ", &save)) {
                NB_AUTO_FREE char *hash = npm_hash(one);
                if (hash)
                        return nb_strdup(one);
        }
        return NULL;
}

static bool valid_url(const char *url) {
        if (!nb_starts_with(url, "https://") && !nb_starts_with(url, "http://"))
                return false;
        for (const char *p = url; *p; p++)
                if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || strchr("\"'\\<>^`{|}", *p))
                        return false;
        return strlen(url) <= URL_MAX;
}

static bool valid_version(const char *version) {
        static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+-";
        size_t len = strlen(version);
        return len > 0 && len <= VERSION_MAX && strspn(version, letters) == len && version[0] >= '0' && version[0] <= '9';
}

static int by_text(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_bin(const struct reading *r, const json_t *bin, struct lock_npm *p) {
        const char *command;
        json_t *value;
        if (!bin)
                return 0;
        if (!json_is_object(bin))
                return bad(r, "its list of commands is not a map");
        json_object_foreach((json_t *)bin, command, value) {
                const char *file = json_string_value(value);
                while (file && nb_starts_with(file, "./"))
                        file += 2;
                if (!file || !npm_valid_command(command) || !npm_valid_file(file))
                        return bad(r, "it brings a command that cannot be one");
                nb_strv_addf(&p->bin, "%s=%s", command, file);
        }
        if (p->bin)
                qsort(p->bin, nb_strv_len(p->bin), sizeof *p->bin, by_text);
        return 0;
}

/* The item of image.npm that asked for this package by itself. */
static const char *asked_for(const struct config_image *c, const struct lock_npm *p) {
        const char *name = p->path + strlen(FOLDER);
        size_t len = npm_name_len(name);
        for (size_t i = 0; top_level(p) && c->npm && c->npm[i]; i++)
                if (npm_name_len(c->npm[i]) == len && strncmp(c->npm[i], name, len) == 0)
                        return c->npm[i];
        return NULL;
}

static int read_package(struct reading *r, const json_t *package) {
        const char *url = json_string_value(json_object_get(package, "resolved"));
        const char *version = json_string_value(json_object_get(package, "version"));
        const char *integrity = json_string_value(json_object_get(package, "integrity"));
        if (json_is_true(json_object_get(package, "link")) || !url)
                return bad(r, "it does not come from a registry");
        if (!valid_url(url))
                return bad(r, "it does not come from an address that begins with https:// or http://");
        if (!version || !valid_version(version))
                return bad(r, "its version is not one that npm has");
        NB_AUTO_FREE char *hash = integrity ? strong_hash(integrity) : NULL;
        if (!hash)
                return bad(r, integrity && strstr(integrity, "sha1-")
                                  ? "the registry has only a SHA-1 hash of it, which proves nothing"
                                  : "the registry has no SHA-512 hash of it");
        struct lock_npm *p = *r->next = nb_calloc(1, sizeof *p);
        r->next = &p->next;
        p->path = nb_strdup(r->path);
        p->version = nb_strdup(version);
        p->url = nb_strdup(url);
        p->integrity = nb_steal(&hash);
        p->name = nb_strdup(asked_for(r->c, p));
        return top_level(p) ? read_bin(r, json_object_get(package, "bin"), p) : 0;
}

/* Is it part of a package that is left out? */
static bool below_skipped(const struct reading *r) {
        size_t len = r->skipped ? strlen(r->skipped) : 0;
        return len > 0 && strncmp(r->path, r->skipped, len) == 0 && r->path[len] == '/';
}

static int read_entry(struct reading *r, const char *path, const json_t *package) {
        r->path = path;
        const char *name = last_name(path);
        if (!json_is_object(package) || !name)
                return bad(r, "this is not where a package can be");
        if (json_is_true(json_object_get(package, "inBundle")) || below_skipped(r))
                return 0; /* comes inside another one's tarball, or is of no use */
        if (for_this_machine(package, name))
                return read_package(r, package);
        if (!json_is_true(json_object_get(package, "optional")))
                return bad(r, "it is not for Linux on x86-64 with glibc");
        r->skipped = path;
        return 0;
}

/* ---- what the config says about them */

static int at(struct nb_error *err, const struct config_pos *pos, int code, const char *what) {
        return nb_fail(err, code, "%s:%u:%u: %s", pos->file, pos->line, pos->column, what);
}

static int mark_scripts(const struct reading *r) {
        for (size_t i = 0; i < r->c->n_npm_scripts; i++) {
                const char *wanted = r->c->npm_scripts[i].package;
                bool found = false;
                for (struct lock_npm *p = r->first; p; p = p->next) {
                        bool same = strcmp(last_name(p->path), wanted) == 0;
                        p->scripts = p->scripts || same;
                        found = found || same;
                }
                if (found)
                        continue;
                NB_AUTO_FREE char *what = nb_asprintf("%s is not among the npm packages that are installed", wanted);
                at(r->err, &r->c->npm_scripts[i].pos, ENOENT, what);
                return nb_hint(r->err, "remove it, or name the package under image.npm");
        }
        return 0;
}

static bool is_command(const char *bin, const char *command) {
        size_t len = strlen(command);
        return strncmp(bin, command, len) == 0 && bin[len] == '=';
}

static void drop_command(struct lock_npm *p, const char *command) {
        char **left = NULL;
        for (size_t i = 0; p->bin && p->bin[i]; i++)
                if (!is_command(p->bin[i], command))
                        nb_strv_add(&left, p->bin[i]);
        nb_strv_free(p->bin);
        p->bin = left;
}

static int add_commands(const struct reading *r) {
        for (size_t i = 0; i < r->c->n_npm_bin; i++) {
                const struct config_npm_bin *bin = &r->c->npm_bin[i];
                struct lock_npm *p = r->first;
                while (p && !(top_level(p) && strcmp(last_name(p->path), bin->package) == 0))
                        p = p->next;
                if (!p) {
                        NB_AUTO_FREE char *what =
                            nb_asprintf("%s is not among the npm packages that are installed", bin->package);
                        at(r->err, &bin->pos, ENOENT, what);
                        return nb_hint(r->err, "name the package under image.npm");
                }
                for (struct lock_npm *other = r->first; other; other = other->next)
                        drop_command(other, bin->command);
                if (!p->name) { /* nothing of it was asked for but this */
                        nb_strv_free(p->bin);
                        p->bin = NULL;
                        p->name = nb_strdup(bin->package);
                }
                nb_strv_addf(&p->bin, "%s=%s", bin->command, bin->file);
                qsort(p->bin, nb_strv_len(p->bin), sizeof *p->bin, by_text);
        }
        return 0;
}

static bool brings(const struct lock_npm *p, const char *bin) {
        NB_AUTO_FREE char *command = nb_strndup(bin, strcspn(bin, "="));
        for (size_t i = 0; p->bin && p->bin[i]; i++)
                if (is_command(p->bin[i], command))
                        return true;
        return false;
}

static int check_commands(const struct reading *r) {
        for (const struct lock_npm *p = r->first; p; p = p->next)
                for (const struct lock_npm *q = p->name ? p->next : NULL; q; q = q->next)
                        for (size_t i = 0; q->name && q->bin && q->bin[i]; i++) {
                                int len = (int)strcspn(q->bin[i], "=");
                                if (!brings(p, q->bin[i]))
                                        continue;
                                nb_fail(r->err, EEXIST, "the npm packages %s and %s both bring the command %.*s", p->name,
                                        q->name, len, q->bin[i]);
                                return nb_hint(r->err, "say which it is: image.npm-bin: {%.*s: PACKAGE/FILE}", len, q->bin[i]);
                        }
        return 0;
}

static int check_asked(const struct reading *r) {
        for (size_t i = 0; r->c->npm && r->c->npm[i]; i++) {
                const struct lock_npm *p = r->first;
                while (p && !(p->name && strcmp(p->name, r->c->npm[i]) == 0))
                        p = p->next;
                if (!p)
                        return nb_fail(r->err, EBADMSG, "npm has left out the package %s", r->c->npm[i]);
        }
        return 0;
}

static int read_all(struct reading *r, const json_t *packages) {
        size_t n = 0;
        const char *path;
        json_t *package;
        NB_AUTO_FREE const char **paths = nb_calloc(json_object_size(packages), sizeof(char *));
        json_object_foreach((json_t *)packages, path, package) if (*path) /* "" is what asks for the others */
            paths[n++] = path;
        if (n > LOCK_PACKAGES_MAX)
                return nb_fail(r->err, E2BIG, "image.npm leads to more than %u packages", LOCK_PACKAGES_MAX);
        if (n > 0)
                qsort(paths, n, sizeof *paths, by_text);
        int e = 0;
        for (size_t i = 0; e == 0 && i < n; i++)
                e = read_entry(r, paths[i], json_object_get(packages, paths[i]));
        if (e == 0)
                e = check_asked(r);
        if (e == 0)
                e = mark_scripts(r);
        if (e == 0)
                e = add_commands(r);
        return e < 0 ? e : check_commands(r);
}

int npm_parse(const char *text, size_t len, const struct config_image *c, struct lock_npm **ret, struct nb_error *err) {
        struct reading r = { .c = c, .err = err };
        r.next = &r.first;
        if (len > NPM_LOCK_MAX)
                return nb_fail(err, EFBIG, "npm's answer is larger than %u bytes", NPM_LOCK_MAX);
        json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
        json_int_t version = json_integer_value(json_object_get(root, "lockfileVersion"));
        const json_t *packages = json_object_get(root, "packages");
        int e = 0;
        if ((version != 2 && version != 3) || !json_is_object(packages))
                e = nb_fail(err, EBADMSG, "npm's answer is no package-lock.json of version 2 or 3");
        if (e == 0)
                e = read_all(&r, packages);
        json_decref(root);
        if (e == 0)
                *ret = nb_steal(&r.first);
        lock_npm_free(r.first);
        return e;
}
