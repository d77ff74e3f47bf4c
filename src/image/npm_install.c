/* Putting npm packages into an image (see npm.h): files from tarballs, links to commands, and the script for those packages
 * whose install scripts are to run. The tarballs' bytes are those of the lock; what is in them is up to whoever made them, so
 * names stay below the package's own folder, links are left out as npm does, and text for a shell is quoted. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "config/npm.h"
#include "image/fetch.h"
#include "image/npm.h"

#define LIB "usr/local/lib"
#define MODULES "node_modules"
#define LAYER_BYTES_MAX (16ull << 30)
#define LAYER_ENTRIES_MAX 2000000u
#define MANIFEST_MAX (1024u * 1024u) /* bytes of a package.json */
#define SCRIPT_MAX (64u * 1024u)     /* bytes of one script, which becomes one argument */

static int link_command(struct tree *t, const struct lock_npm *p, const char *bin, struct nb_error *err) {
        NB_AUTO_FREE char *command = nb_strndup(bin, strcspn(bin, "="));
        const char *file = bin + strlen(command) + 1, *package = p->path + strlen(MODULES "/");
        NB_AUTO_FREE char *path = nb_asprintf(LIB "/%s/%s", p->path, file);
        NB_AUTO_FREE char *inner = nb_asprintf(LIB "/" MODULES "/.bin/%s", command);
        NB_AUTO_FREE char *inner_target = nb_asprintf("../%s/%s", package, file);
        NB_AUTO_FREE char *outer = nb_asprintf("usr/local/bin/%s", command);
        NB_AUTO_FREE char *outer_target = nb_asprintf("../lib/%s/%s", p->path, file);
        int r = tree_chmod(t, path, 0755);
        if (r < 0 && p->name && !p->scripts) { /* else a script may make it */
                nb_fail(err, ENOENT, "the npm package %s has no file %s, which is to be the command %s", package, file,
                        command);
                return nb_hint(
                    err, "correct image.npm-bin, or list the package under image.npm-scripts if its script makes the file");
        }
        r = tree_add_link(t, inner, inner_target, err);
        return r == 0 && p->name ? tree_add_link(t, outer, outer_target, err) : r;
}

/* Links of what was asked for come last, in place of those of other packages. */
static int link_commands(struct tree *t, const struct lock_npm *list, bool asked, struct nb_error *err) {
        int r = 0;
        for (const struct lock_npm *p = list; r == 0 && p; p = p->next)
                for (size_t i = 0; r == 0 && asked == (p->name != NULL) && p->bin && p->bin[i]; i++)
                        r = link_command(t, p, p->bin[i], err);
        return r;
}

int npm_add(const struct store *s, const struct lock_npm *list, struct tree *t, struct nb_error *err) {
        int r = 0;
        for (const struct lock_npm *p = list; p; p = p->next) {
                NB_AUTO_FREE char *hash = npm_hash(p->integrity), *tar = hash ? fetch_path(s, hash) : NULL;
                NB_AUTO_FREE char *prefix = nb_asprintf(LIB "/%s", p->path);
                const struct tree_add how = { .prefix = prefix, .strip = 1, .root_owned = true, .files_only = true };
                r = tar ? tree_add_tar(t, tar, &how, err) : nb_fail(err, EBADMSG, "it has no SHA-512 hash");
                if (r < 0)
                        return nb_context(err, "cannot unpack the npm package %s", p->path + strlen(MODULES "/"));
        }
        r = link_commands(t, list, false, err);
        return r < 0 ? r : link_commands(t, list, true, err);
}

/* ---- scripts */

static void add(struct nb_buf *b, const char *text) {
        nb_buf_add(b, text, strlen(text));
}

/* One word for a shell, whatever it holds. */
static void add_quoted(struct nb_buf *b, const char *text) {
        add(b, " '");
        for (; *text; text++)
                if (*text == '\'')
                        add(b, "'\\''");
                else
                        nb_buf_add(b, text, 1);
        add(b, "'");
}

static int add_scripts(struct nb_buf *b, const struct lock_npm *p, const json_t *manifest, struct nb_error *err) {
        static const char *const events[] = { "preinstall", "install", "postinstall" };
        const json_t *scripts = json_object_get(manifest, "scripts");
        for (size_t i = 0; i < NB_ARRAY_LEN(events); i++) {
                const char *text = json_string_value(json_object_get(scripts, events[i]));
                if (!text || !*text)
                        continue;
                if (strlen(text) > SCRIPT_MAX)
                        return nb_fail(err, EFBIG, "the %s script of %s is longer than %u bytes", events[i],
                                       p->path + strlen(MODULES "/"), SCRIPT_MAX);
                const char *const words[] = { p->path, events[i], p->version, text };
                add(b, "run");
                for (size_t k = 0; k < NB_ARRAY_LEN(words); k++)
                        add_quoted(b, words[k]);
                add(b, "\n");
        }
        return 0;
}

static int add_package(struct nb_buf *b, const struct lock_npm *p, const struct tree *t, struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_asprintf(LIB "/%s/package.json", p->path), *text = NULL;
        size_t len = 0;
        int r = tree_read(t, path, MANIFEST_MAX, &text, &len);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read /%s in the image", path);
        /* as npm reads it, a byte order mark at the beginning is none of the text */
        size_t skip = nb_starts_with(text, "\xef\xbb\xbf") ? 3 : 0;
        json_t *manifest = json_loadb(text + skip, len - skip, 0, NULL);
        if (!json_is_object(manifest))
                r = nb_fail(err, EBADMSG, "/%s in the image is not a package.json", path);
        else
                r = add_scripts(b, p, manifest, err);
        json_decref(manifest);
        return r;
}

int npm_script(const struct lock_npm *list, const struct tree *t, char **ret, struct nb_error *err) {
        static const char head[] = "set -eu\n"
                                   "umask 022\n"
                                   "HOME=$(mktemp -d)\n"
                                   "export HOME\n"
                                   "lib=/" LIB "\n"
                                   "run() {\n"
                                   "    cd \"$lib/$1\"\n"
                                   "    PATH=\"$PWD/node_modules/.bin:$lib/node_modules/.bin:$PATH\" \\\n"
                                   "        npm_lifecycle_event=\"$2\" npm_package_version=\"$3\" \\\n"
                                   "        npm_package_name=\"${1##*node_modules/}\" sh -c \"$4\" </dev/null || {\n"
                                   "        echo \"the $2 script of ${1#node_modules/} failed\" >&2\n"
                                   "        exit 1\n"
                                   "    }\n"
                                   "}\n";
        NB_AUTO_BUF b = { 0 };
        NB_AUTO_FREE const struct lock_npm **with = NULL;
        size_t n = 0, empty = 0;
        int r = 0;
        *ret = NULL;
        for (const struct lock_npm *p = list; p; p = p->next) {
                if (!p->scripts)
                        continue;
                with = nb_realloc(with, n + 1, sizeof(struct lock_npm *));
                with[n++] = p;
        }
        add(&b, head);
        empty = b.len;
        while (r == 0 && n > 0) /* from the last: what lies in another package's folder is there for that one */
                r = add_package(&b, with[--n], t, err);
        if (r < 0 || b.len == empty)
                return r;
        add(&b, "cd /\nrm -rf \"$HOME\"\n");
        *ret = nb_strndup((const char *)nb_buf_bytes(&b), b.len);
        return 0;
}

int npm_layer(const struct store *s, const struct lock_npm *list, const char *work, char **ret_tar, char **ret_script,
              struct nb_error *err) {
        static const struct tree_limits limits = { LAYER_BYTES_MAX, LAYER_ENTRIES_MAX };
        __attribute__((cleanup(tree_freep))) struct tree *t = NULL;
        NB_AUTO_FREE char *tar = nb_path_join(work, "npm.tar");
        *ret_tar = *ret_script = NULL;
        if (!list)
                return 0;
        int r = tree_new(work, &limits, &t, err);
        if (r == 0)
                r = npm_add(s, list, t, err);
        if (r == 0)
                r = tree_write(t, tar, err);
        if (r == 0)
                r = npm_script(list, t, ret_script, err);
        if (r == 0)
                *ret_tar = nb_steal(&tar);
        return r;
}
