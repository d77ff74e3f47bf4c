/* What a Nix file or flake builds as `rootfs` (see source.h): a folder or a tar, and all that it refers to in the store. */
#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/text.h"
#include "image/source_internal.h"

#define STEP "building with nix"
#define ATTRIBUTE "rootfs"
#define OUTPUT_MAX (4u * 1024u * 1024u) /* names of store paths */

static void show(void *user, const char *line) {
        store_step(user, STEP, line, 0, 0);
}

/* Runs one of nix's programs; its output. */
static int run(char *const *argv, const struct image_progress *progress, char **ret, struct nb_error *err) {
        size_t len = 0;
        struct proc_spec spec = { .argv = argv,
                                  .output_max = OUTPUT_MAX,
                                  .stdout_fd = -1,
                                  .stderr_fd = -1,
                                  .on_stderr_line = show,
                                  .user = (void *)progress };
        int r = proc_run(&spec, ret, &len, err);
        return r == -ENOENT ? nb_hint(err, "install nix (Debian's package is nix-bin)") : r;
}

static int add_path(const char *program, const char *path, char ***list, struct nb_error *err) {
        if (path[0] != '/')
                return nb_fail(err, EBADMSG, "%s says '%s' where it should name a path", program, path);
        nb_strv_add(list, path);
        return 0;
}

/* Runs one that prints paths, one a line. */
static int run_for_lines(char *const *argv, const struct image_progress *progress, char ***ret, struct nb_error *err) {
        NB_AUTO_FREE char *output = NULL;
        char *save = NULL;
        int r = run(argv, progress, &output, err);
        if (r < 0)
                return r;
        for (char *line = strtok_r(output, "\n", &save); line && r == 0; line = strtok_r(NULL, "\n", &save))
                r = add_path(argv[0], line, ret, err);
        return r;
}

/* Builds a flake's output. The lock of its inputs is read, never written: what it should be is its owner's to say. */
static int build_flake(const char *flake, const struct image_progress *progress, char ***ret, struct nb_error *err) {
        const char *argv[] = { "nix",
                               "--extra-experimental-features",
                               "nix-command flakes",
                               "build",
                               "--no-link",
                               "--no-update-lock-file",
                               "--json",
                               "--",
                               flake,
                               NULL };
        NB_AUTO_FREE char *output = NULL;
        int r = run((char *const *)argv, progress, &output, err);
        json_auto_t *doc = r == 0 ? json_loads(output, 0, NULL) : NULL;
        const json_t *built;
        size_t i;
        json_array_foreach(doc, i, built) {
                const char *out = json_string_value(json_object_get(json_object_get(built, "outputs"), "out"));
                if (r == 0)
                        r = add_path(argv[0], out ? out : "", ret, err);
        }
        return r;
}

/* A flake's output is named after '#'; a folder with a flake and no default.nix is one, too. Else it is a file for nix-build.
 */
static char *flake_of(const char *what) {
        const char *mark = strchr(what, '#');
        if (mark)
                return nb_asprintf("%s%s", what, mark[1] ? "" : ATTRIBUTE);
        NB_AUTO_FREE char *flake = nb_path_join(what, "flake.nix"), *plain = nb_path_join(what, "default.nix");
        if (what[0] != '/' || (access(flake, R_OK) == 0 && access(plain, R_OK) < 0))
                return nb_asprintf("%s#" ATTRIBUTE, what);
        return NULL;
}

static int build(const char *what, const struct image_progress *progress, char **ret, struct nb_error *err) {
        NB_AUTO_FREE char *flake = flake_of(what);
        NB_AUTO_STRV char **lines = NULL;
        const char *by_file[] = { "nix-build", "--no-out-link", "-A", ATTRIBUTE, "--", what, NULL };
        store_step(progress, STEP, what, 0, 0);
        int r =
            flake ? build_flake(flake, progress, &lines, err) : run_for_lines((char *const *)by_file, progress, &lines, err);
        if (r < 0)
                return nb_context(err, "cannot build %s", what);
        if (!lines || !lines[0] || lines[1])
                return nb_fail(err, EINVAL, "%s builds %zu things; `" ATTRIBUTE "` must be one folder or tar", what,
                               nb_strv_len(lines));
        *ret = nb_strdup(lines[0]);
        return 0;
}

/* All that `out` refers to, without `out` itself unless it refers to that as well. */
static int closure(const char *out, const struct image_progress *progress, char ***ret, struct nb_error *err) {
        const char *all[] = { "nix-store", "--query", "--requisites", out, NULL };
        const char *direct[] = { "nix-store", "--query", "--references", out, NULL };
        NB_AUTO_STRV char **paths = NULL, **references = NULL;
        bool itself = false;
        int r = run_for_lines((char *const *)all, progress, &paths, err);
        if (r == 0)
                r = run_for_lines((char *const *)direct, progress, &references, err);
        for (size_t i = 0; r == 0 && references && references[i]; i++)
                itself = itself || strcmp(references[i], out) == 0;
        for (size_t i = 0; r == 0 && paths && paths[i]; i++)
                if (itself || strcmp(paths[i], out) != 0)
                        nb_strv_add(ret, paths[i]);
        return r;
}

int source_nix_add(const char *base, struct tree *t, const struct image_progress *progress, struct nb_error *err) {
        NB_AUTO_FREE char *out = NULL;
        NB_AUTO_STRV char **paths = NULL;
        static const struct tree_add how = { 0 };
        struct stat st;
        int r = build(base + strlen("nix:"), progress, &out, err);
        if (out) /* set on success only */
                r = closure(out, progress, &paths, err);
        if (r < 0 || !out)
                return r;
        if (stat(out, &st) < 0)
                return nb_fail_errno(err, errno, "cannot read %s", out);
        store_step(progress, STEP, "taking the files", 0, 0);
        r = S_ISDIR(st.st_mode) ? tree_add_dir(t, out, NULL, 0, 0, err) : tree_add_tar(t, out, &how, err);
        return r < 0 ? r : tree_add_paths(t, paths, 0, 0, err);
}
