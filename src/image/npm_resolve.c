/* Asking the registry what image.npm needs (see npm.h): the host's npm in a private folder, which writes a package-lock.json
 * and nothing else. Nothing of the caller's npm configuration is used, and no tokens; git, which a package could ask for, is
 * not run either. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/host.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/text.h"
#include "config/npm.h"
#include "image/npm.h"

#define STEP "npm packages"
#define REGISTRY "NIXBOX_NPM_REGISTRY"
#define CA_FILE "/etc/ssl/certs/ca-certificates.crt" /* whom the host trusts, for all downloads alike */
#define PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin"
#define COMPLAINTS_MAX 3u
#define COMPLAINT_MIN 6u /* what is shorter only pads npm's message */

/* "npm ERR! code E404" (npm 9) and "npm error code E404". */
static const char *complaint_of(const char *line) {
        static const char *const marks[] = { "npm ERR! ", "npm error " };
        for (size_t i = 0; i < NB_ARRAY_LEN(marks); i++)
                if (nb_starts_with(line, marks[i]))
                        return line + strlen(marks[i]);
        return NULL;
}

char *npm_complaint(const char *output) {
        static const char *const noise[] = {
                "code ", "errno ", "A complete log", "syscall ", "type ", "notarget In most cases"
        };
        NB_AUTO_FREE char *copy = nb_strdup(output), *text = NULL;
        char *save = NULL;
        unsigned n = 0;
        for (char *line = strtok_r(copy, "\n", &save); line && n < COMPLAINTS_MAX; line = strtok_r(NULL, "\n", &save)) {
                const char *said = complaint_of(line);
                bool dull = !said || strlen(said) < COMPLAINT_MIN || *said == ' ';
                for (size_t i = 0; !dull && i < NB_ARRAY_LEN(noise); i++)
                        dull = nb_starts_with(said, noise[i]);
                if (dull)
                        continue;
                char *longer = text ? nb_asprintf("%s; %s", text, said) : nb_strdup(said);
                free(text);
                text = longer;
                n++;
        }
        return text ? nb_text_clean(text, 0) : NULL;
}

static bool mentions(const char *text, const char *const *phrases) {
        for (; *phrases; phrases++)
                if (strstr(text, *phrases))
                        return true;
        return false;
}

/* npm's complaint as an error with a way out. */
static int explain(const struct store *s, struct nb_error *err) {
        static const char *const names[] = { "E404", "ETARGET", "EINVALIDPACKAGENAME", "EINVALIDTAGNAME", NULL };
        static const char *const network[] = { "ENOTFOUND", "EAI_AGAIN",    "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT",
                                               "ENETDOWN",  "EHOSTUNREACH", "ENETUNREACH",  "_IN_CHAIN",  "ERR_SOCKET_TIMEOUT",
                                               NULL };
        static const char *const full[] = { "ENOSPC", "EDQUOT", NULL };
        if (!err || !err->what)
                return -EIO;
        NB_AUTO_FREE char *output = nb_strdup(err->what), *complaint = npm_complaint(output);
        int code = mentions(output, names) ? ENOENT : mentions(output, network) ? ENETUNREACH : EIO;
        if (mentions(output, full)) {
                nb_fail_errno(err, ENOSPC, "npm failed");
                return store_hint(s, err);
        }
        nb_fail(err, code, "npm cannot resolve image.npm: %s", complaint ? complaint : output);
        if (code == ENOENT)
                return nb_hint(err, "check the names and versions under image.npm");
        if (code == ENETUNREACH)
                return nb_hint(err, "check the network connection, or name another registry: " REGISTRY "=URL");
        return -code;
}

static char *manifest(const struct config_image *c) {
        json_t *wanted = json_object();
        for (size_t i = 0; c->npm && c->npm[i]; i++) {
                NB_AUTO_FREE char *name = nb_strndup(c->npm[i], npm_name_len(c->npm[i]));
                const char *version = npm_wanted_version(c->npm[i]);
                (void)json_object_set_new(wanted, name, json_string(version ? version : "latest"));
        }
        json_t *root = json_pack("{s:b, s:o}", "private", 1, "dependencies", wanted);
        char *text = json_dumps(root, JSON_SORT_KEYS);
        json_decref(root);
        return text;
}

static char **arguments(const char *dir, const char *registry) {
        static const char *const options[] = { "npm",
                                               "install",
                                               "--package-lock-only",
                                               "--ignore-scripts",
                                               "--no-audit",
                                               "--no-fund",
                                               "--no-update-notifier",
                                               "--no-progress",
                                               "--loglevel=error",
                                               "--lockfile-version=3",
                                               "--omit-lockfile-registry-resolved=false",
                                               "--fetch-retries=2",
                                               "--fetch-retry-mintimeout=1000",
                                               "--fetch-retry-maxtimeout=5000",
                                               "--git=/bin/false" };
        char **argv = NULL;
        for (size_t i = 0; i < NB_ARRAY_LEN(options); i++)
                nb_strv_add(&argv, options[i]);
        nb_strv_addf(&argv, "--prefix=%s", dir);
        nb_strv_addf(&argv, "--cache=%s/cache", dir);
        nb_strv_addf(&argv, "--userconfig=%s/user.npmrc", dir);
        nb_strv_addf(&argv, "--globalconfig=%s/global.npmrc", dir);
        if (access(CA_FILE, R_OK) == 0)
                nb_strv_add(&argv, "--cafile=" CA_FILE);
        if (registry)
                nb_strv_addf(&argv, "--registry=%s", registry);
        return argv;
}

static char **environment(const char *dir) {
        static const char *const keep[] = { "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY" };
        const char *path = getenv("PATH");
        char **env = NULL;
        nb_strv_addf(&env, "PATH=%s", path && *path ? path : PATH_DEFAULT);
        nb_strv_addf(&env, "HOME=%s", dir);
        nb_strv_addf(&env, "TMPDIR=%s", dir);
        nb_strv_add(&env, "LC_ALL=C.UTF-8");
        for (size_t i = 0; i < NB_ARRAY_LEN(keep); i++) {
                const char *value = getenv(keep[i]);
                if (value)
                        nb_strv_addf(&env, "%s=%s", keep[i], value);
        }
        return env;
}

static int check_host(const char *registry, struct nb_error *err) {
        const char *path = getenv("PATH");
        if (!nb_have_program(path && *path ? path : PATH_DEFAULT, "npm")) {
                nb_fail(err, ENOENT, "cannot resolve image.npm: the program npm is missing");
                return nb_hint(err, "sudo apt-get install npm (only to make or update a lock, not to build from one)");
        }
        if (registry && !nb_starts_with(registry, "https://") && !nb_starts_with(registry, "http://")) {
                nb_fail(err, EINVAL, REGISTRY " is not a registry's address: %s", registry);
                return nb_hint(err, "set it to a URL such as https://registry.npmjs.org/");
        }
        return 0;
}

static int run_npm(const struct store *s, const struct config_image *c, const char *dir, const char *registry, char **ret,
                   size_t *ret_len, struct nb_error *err) {
        NB_AUTO_FREE char *text = manifest(c), *from = nb_path_join(dir, "package.json");
        NB_AUTO_FREE char *to = nb_path_join(dir, "package-lock.json");
        NB_AUTO_STRV char **argv = arguments(dir, registry), **env = environment(dir);
        int r = nb_write_file_atomic(from, text, strlen(text), 0600);
        if (r < 0) {
                nb_fail_errno(err, -r, "cannot write %s", from);
                return store_hint(s, err);
        }
        struct proc_spec spec = { .argv = argv, .env = env, .dir = dir, .stdout_fd = -1, .stderr_fd = -1 };
        r = proc_run(&spec, NULL, NULL, err);
        if (r < 0)
                return explain(s, err);
        r = nb_read_file(to, NPM_LOCK_MAX, ret, ret_len);
        return r < 0 ? nb_fail_errno(err, -r, "cannot read what npm resolved") : 0;
}

int npm_resolve(const struct store *s, const struct config_image *c, const struct image_progress *progress,
                struct lock_npm **ret, struct nb_error *err) {
        const char *registry = getenv(REGISTRY);
        struct store_temp work = { .fd = -1 };
        NB_AUTO_FREE char *text = NULL;
        size_t len = 0;
        *ret = NULL;
        if (!c->npm)
                return 0;
        int r = check_host(registry && *registry ? registry : NULL, err);
        if (r == 0)
                r = store_temp_new(s, &work, err);
        if (!work.path) /* set on success only */
                return r;
        store_step(progress, STEP, "asking the registry", 0, 0);
        r = run_npm(s, c, work.path, registry && *registry ? registry : NULL, &text, &len, err);
        store_temp_remove(&work);
        return r < 0 ? r : npm_parse(text, len, c, ret, err);
}
