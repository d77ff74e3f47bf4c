/* Running apt in its private folders (see apt.h). */
#include "image/apt.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/host.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/sha256.h"
#include "image/apt_text.h"
#include "image/debian_archive.h"

#define LISTS_AGE_MAX 3600     /* seconds */
#define OUTPUT_MAX (64u << 20) /* of one answer */
#define STAMP "updated"        /* its time is that of the lists */
#define TOOL_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define STEP "looking up packages"

struct apt {
        const struct store *store;
        char *dir;
        char **env;
        int lock;
};

/* %s: the folder. Everything that apt would read from /etc lies in an empty folder instead. */
static const char settings[] = "Dir::State \"%1$s/state\";\n"
                               "Dir::State::status \"%1$s/status\";\n"
                               "Dir::Cache \"%1$s/cache\";\n"
                               "Dir::Cache::pkgcache \"\";\n" /* changes with each status; the lists' own cache stays */
                               "Dir::Etc \"%1$s/etc\";\n"
                               "Dir::Etc::main \"none\";\n"
                               "Dir::Etc::parts \"empty\";\n"
                               "Dir::Etc::sourcelist \"%1$s/sources.list\";\n"
                               "Dir::Etc::sourceparts \"empty\";\n"
                               "Dir::Log \"%1$s/state\";\n"
                               "APT::Architecture \"amd64\";\n"
                               "APT::Architectures { \"amd64\"; };\n"
                               "APT::Install-Recommends \"false\";\n"
                               "APT::Install-Suggests \"false\";\n"
                               "APT::Get::Remove \"false\";\n"
                               "APT::Sandbox::User \"root\";\n"
                               "APT::Update::Error-Mode \"any\";\n"
                               "Acquire::Languages \"none\";\n"
                               "Acquire::Retries \"3\";\n"
                               "Acquire::http::Timeout \"30\";\n";

static const char *const folders[] = { "state/lists/partial", "cache/archives/partial", "etc/empty", "etc/preferences.d" };

static int check_host(struct nb_error *err) {
        static const char *const tools[] = { "apt-get", "apt-cache", NULL };
        for (size_t i = 0; tools[i]; i++)
                if (!nb_have_program(TOOL_PATH, tools[i])) {
                        nb_fail(err, ENOENT, "cannot look up Debian packages: the program %s is missing", tools[i]);
                        return nb_hint(err, "sudo apt-get install apt");
                }
        if (access(DEBIAN_KEYRING, R_OK) == 0)
                return 0;
        nb_fail_errno(err, errno, "cannot check Debian's signatures: %s", DEBIAN_KEYRING);
        return nb_hint(err, "sudo apt-get install debian-archive-keyring");
}

static int write_file(const struct apt *a, const char *name, const char *text, struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_path_join(a->dir, name);
        int r = nb_write_file_atomic(path, text, strlen(text), 0600);
        if (r == 0)
                return 0;
        nb_fail_errno(err, -r, "cannot write %s", path);
        return store_hint(a->store, err);
}

static void set_environment(struct apt *a) {
        static const char *const keep[] = { "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY" };
        nb_strv_add(&a->env, "PATH=" TOOL_PATH);
        nb_strv_add(&a->env, "LC_ALL=C.UTF-8");
        nb_strv_addf(&a->env, "APT_CONFIG=%s/apt.conf", a->dir);
        for (size_t i = 0; i < NB_ARRAY_LEN(keep); i++)
                if (getenv(keep[i]))
                        nb_strv_addf(&a->env, "%s=%s", keep[i], getenv(keep[i]));
}

/* The sources as apt reads them, each naming the key that must have signed it. New string. */
static char *sources_text(char *const *sources) {
        static const char kind[] = "deb ";
        char *text = nb_strdup("");
        for (size_t i = 0; sources[i]; i++) {
                char *longer = nb_asprintf("%sdeb [signed-by=%s] %s\n", text, DEBIAN_KEYRING, sources[i] + strlen(kind));
                free(text);
                text = longer;
        }
        return text;
}

/* Makes the folders and writes the settings; waits for the right to use them. */
static int set_up(struct apt *a, const char *suite, char *const *sources, const struct image_progress *progress,
                  struct nb_error *err) {
        NB_AUTO_FREE char *text = sources_text(sources);
        char key[NB_SHA256_HEX];
        nb_sha256(text, strlen(text), key);
        NB_AUTO_FREE char *name = nb_asprintf("apt-%s-%.16s", suite, key);
        a->dir = nb_asprintf("%s/apt/%s", a->store->cache, name + strlen("apt-"));
        if (strpbrk(a->dir, "\"\\\n"))
                return nb_fail(err, EINVAL, "apt cannot use a folder of this name: %s", a->dir);
        int r = store_lock(a->store, name, progress, &a->lock, err);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(folders); i++) {
                NB_AUTO_FREE char *path = nb_path_join(a->dir, folders[i]);
                r = nb_mkdirs(path, 0700);
                if (r < 0) {
                        nb_fail_errno(err, -r, "cannot make the folder %s", path);
                        return store_hint(a->store, err);
                }
        }
        NB_AUTO_FREE char *conf = nb_asprintf(settings, a->dir);
        if (r == 0)
                r = write_file(a, "apt.conf", conf, err);
        if (r == 0)
                r = write_file(a, "sources.list", text, err);
        if (r == 0)
                r = write_file(a, "status", "", err);
        set_environment(a);
        return r;
}

/* Runs a tool; its answer, if `ret` wants it, is a new string. */
static int run(const struct apt *a, char *const *argv, char **ret, struct nb_error *err) {
        struct proc_spec spec = {
                .argv = argv, .env = a->env, .output_max = ret ? OUTPUT_MAX : 0, .stdout_fd = -1, .stderr_fd = -1
        };
        return proc_run(&spec, ret, NULL, err);
}

static bool is_recent(const char *stamp) {
        struct stat st;
        time_t now = time(NULL);
        return stat(stamp, &st) == 0 && st.st_mtime <= now && now - st.st_mtime < LISTS_AGE_MAX;
}

static int update(const struct apt *a, bool refresh, const struct image_progress *progress, struct nb_error *err) {
        NB_AUTO_FREE char *stamp = nb_path_join(a->dir, STAMP);
        char *const argv[] = { "apt-get", "-qq", "update", NULL };
        if (!refresh && is_recent(stamp))
                return 0;
        store_step(progress, STEP, "fetching Debian's lists of packages", 0, 0);
        (void)unlink(stamp);
        int r = run(a, argv, NULL, err);
        if (r < 0)
                return debian_explain(a->store, "apt-get update", err);
        return write_file(a, STAMP, "", err);
}

int apt_open(const struct store *s, const char *suite, bool refresh, const struct image_progress *progress, struct apt **ret,
             struct nb_error *err) {
        __attribute__((cleanup(apt_freep))) struct apt *a = nb_calloc(1, sizeof *a);
        NB_AUTO_STRV char **sources = NULL;
        a->store = s;
        a->lock = -1;
        int r = check_host(err);
        if (r == 0)
                r = debian_sources(getenv("NIXBOX_MIRROR"), suite, &sources, err);
        if (r == 0)
                r = set_up(a, suite, sources, progress, err);
        if (r == 0)
                r = update(a, refresh, progress, err);
        if (r < 0)
                return r;
        store_step(progress, STEP, NULL, 0, 0);
        *ret = nb_steal(&a);
        return 0;
}

void apt_free(struct apt *a) {
        if (!a)
                return;
        nb_close(a->lock);
        nb_strv_free(a->env);
        free(a->dir);
        free(a);
}

static int explain_install(const struct apt *a, struct nb_error *err) {
        int r = debian_explain(a->store, "apt-get", err);
        if (!err || !err->what || err->hint)
                return r;
        if (strstr(err->what, "remove is disabled"))
                return nb_hint(err, "a package under image.packages would take away one that the base needs: leave it out");
        if (strstr(err->what, "broken packages") || strstr(err->what, "nmet dependencies"))
                return nb_hint(err, "packages under image.packages exclude each other or one of the base: leave one out");
        return r;
}

int apt_install(struct apt *a, const char *status, char *const *names, struct lock_set *ret, struct nb_error *err) {
        NB_AUTO_STRV char **argv = NULL;
        NB_AUTO_FREE char *text = NULL;
        static const char *const start[] = { "apt-get", "-qq", "--yes", "--print-uris", "--fix-broken", "install" };
        int r = write_file(a, "status", status, err);
        for (size_t i = 0; i < NB_ARRAY_LEN(start); i++)
                nb_strv_add(&argv, start[i]);
        for (size_t i = 0; names[i]; i++)
                nb_strv_add(&argv, names[i]);
        if (r == 0)
                r = run(a, argv, &text, err);
        if (r < 0)
                return explain_install(a, err);
        r = apt_parse_uris(text, ret);
        return r < 0 ? nb_fail(err, -r, "apt-get names a package file in a way that is not understood") : 0;
}

int apt_show(struct apt *a, char *const *names, char **ret, struct nb_error *err) {
        NB_AUTO_STRV char **argv = NULL;
        static const char *const start[] = { "apt-cache", "-q", "show", "--no-all-versions" };
        if (!names || !names[0]) {
                *ret = nb_strdup("");
                return 0;
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(start); i++)
                nb_strv_add(&argv, start[i]);
        for (size_t i = 0; names[i]; i++)
                nb_strv_add(&argv, names[i]);
        int r = run(a, argv, ret, err);
        return r < 0 ? debian_explain(a->store, "apt-cache", err) : 0;
}
