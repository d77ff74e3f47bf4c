/* Running mmdebstrap (see debian.h). */
#include "image/debian.h"

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "base/host.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/text.h"

#define COMPLAINTS_MAX 3u
#define PACKAGE_NAME_MAX 128u
#define SUBIDS_MIN 65535u
#define SUBID_FILE_MAX (1024u * 1024u)
#define KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"
#define MIRROR "http://deb.debian.org/debian"
#define MIRROR_SECURITY "http://deb.debian.org/debian-security"
#define TOOL_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Packages are shared with the cache by hard links where both lie on one file system. Whatever is damaged there is noticed:
 * apt checks each file against the signed index. */
static const char cache_in[] = "mkdir -p \"$1/var/cache/apt/archives/partial\"\n"
                               "find \"$NIXBOX_APT_CACHE\" -maxdepth 1 -name '*.deb' -exec "
                               "cp -ln -t \"$1/var/cache/apt/archives\" {} + 2>/dev/null ||\n"
                               "find \"$NIXBOX_APT_CACHE\" -maxdepth 1 -name '*.deb' -exec "
                               "cp -n -t \"$1/var/cache/apt/archives\" {} +\n";
static const char cache_out[] = "find \"$1/var/cache/apt/archives\" -maxdepth 1 -name '*.deb' -exec "
                                "cp -ln -t \"$NIXBOX_APT_CACHE\" {} + 2>/dev/null ||\n"
                                "find \"$1/var/cache/apt/archives\" -maxdepth 1 -name '*.deb' -exec "
                                "cp -n -t \"$NIXBOX_APT_CACHE\" {} + || true\n";

/* As root, the builder sees the host's own file systems read-only but for its work folder and the package cache, so that
 * no mistake in a package's script, in apt's configuration or here can change the host. */
static const char protect_host[] = "set -e\n"
                                   "for d in \"$TMPDIR\" \"$NIXBOX_APT_CACHE\"; do mount --bind \"$d\" \"$d\"; done\n"
                                   "for d in / /boot /etc /home /opt /root /srv /usr /var /var/lib /var/cache; do\n"
                                   "  ! mountpoint -q \"$d\" || mount -o remount,bind,ro \"$d\"\n"
                                   "done\n"
                                   "exec \"$@\"\n";

bool debian_valid_package(const char *name) {
        size_t len = strlen(name);
        if (len < 2 || len > PACKAGE_NAME_MAX || !isalnum((unsigned char)name[0]))
                return false;
        for (const char *p = name; *p; p++)
                if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && !strchr("+-.", *p))
                        return false;
        return true;
}

static bool valid_url(const char *url) {
        if (!nb_starts_with(url, "http://") && !nb_starts_with(url, "https://") && !nb_starts_with(url, "file:/"))
                return false;
        for (const char *p = url; *p; p++)
                if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || strchr("[]\"'\\", *p))
                        return false;
        return true;
}

int debian_sources(const char *setting, const char *suite, char ***ret, struct nb_error *err) {
        NB_AUTO_FREE char *copy = nb_strdup(setting ? setting : "");
        const char *url[3] = { 0 };
        size_t n = 0;
        char *save = NULL;
        for (char *t = strtok_r(copy, " \t", &save); t && n < NB_ARRAY_LEN(url); t = strtok_r(NULL, " \t", &save))
                url[n++] = t;
        if (n == NB_ARRAY_LEN(url) || (n > 0 && !valid_url(url[0])) || (n > 1 && !valid_url(url[1]))) {
                nb_fail(err, EINVAL, "NIXBOX_MIRROR is not a mirror's address: %s", setting);
                return nb_hint(err, "set it to a URL such as %s, and after a space that of the security archive", MIRROR);
        }
        const char *main = n > 0 ? url[0] : MIRROR, *security = n > 1 ? url[1] : MIRROR_SECURITY;
        nb_strv_addf(ret, "deb %s %s main", main, suite);
        nb_strv_addf(ret, "deb %s %s-updates main", main, suite);
        nb_strv_addf(ret, "deb %s %s-security main", security, suite);
        return 0;
}

char *debian_progress_phrase(const char *line) {
        if (!nb_starts_with(line, "I: "))
                return NULL;
        static const char *const noise[] = {
                "chroot architecture", "finding correct", "using ", "running --", "skipping", "done", "success",
                "removing tempdir",    "main() received"
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(noise); i++)
                if (nb_starts_with(line + 3, noise[i]))
                        return NULL;
        NB_AUTO_FREE char *text = nb_strdup(line + 3);
        for (size_t n = strlen(text); n > 0 && text[n - 1] == '.'; n--)
                text[n - 1] = 0;
        return nb_text_clean(text, 0);
}

char *debian_complaint(const char *output) {
        /* These only repeat that a step failed. */
        static const char *const echoes[] = { "E: mmdebstrap failed", "E: setup failed", "E: apt-get ", "E: Some index files" };
        NB_AUTO_FREE char *copy = nb_strdup(output), *text = NULL;
        char *save = NULL;
        unsigned n = 0;
        for (char *line = strtok_r(copy, "\n", &save); line && n < COMPLAINTS_MAX; line = strtok_r(NULL, "\n", &save)) {
                bool echo = !nb_starts_with(line, "E: ");
                for (size_t i = 0; !echo && i < NB_ARRAY_LEN(echoes); i++)
                        echo = nb_starts_with(line, echoes[i]);
                if (echo || (text && strstr(text, line + 3)))
                        continue;
                char *longer = text ? nb_asprintf("%s; %s", text, line + 3) : nb_strdup(line + 3);
                free(text);
                text = longer;
                n++;
        }
        return nb_steal(&text);
}

/* Does /etc/subuid or /etc/subgid give this user enough ids for all that a Debian system uses? */
static bool has_subids(const char *file, const char *user) {
        NB_AUTO_FREE char *table = NULL;
        return nb_read_file(file, SUBID_FILE_MAX, &table, NULL) == 0 && nb_subordinate_ids(table, user, getuid()) >= SUBIDS_MIN;
}

static int check_host(const struct debian_job *job, struct nb_error *err) {
        static const char *const tools[] = { "mmdebstrap", "apt-get", "dpkg-deb", "unshare", "setpriv", NULL };
        for (size_t i = 0; tools[i]; i++)
                if (!nb_have_program(TOOL_PATH, tools[i])) {
                        nb_fail(err, ENOENT, "cannot build images: the program %s is missing", tools[i]);
                        return nb_hint(err, "sudo apt-get install mmdebstrap util-linux");
                }
        if (access(KEYRING, R_OK) < 0) {
                nb_fail_errno(err, errno, "cannot check Debian's signatures: %s", KEYRING);
                return nb_hint(err, "sudo apt-get install debian-archive-keyring");
        }
        if (job->extract || geteuid() == 0)
                return 0;
        const struct passwd *pw = getpwuid(getuid());
        const char *user = pw ? pw->pw_name : "";
        if (!nb_have_program(TOOL_PATH, "newuidmap") || !nb_have_program(TOOL_PATH, "newgidmap")) {
                nb_fail(err, ENOENT, "an ordinary user needs newuidmap and newgidmap to build it");
                return nb_hint(err, "sudo apt-get install uidmap");
        }
        if (has_subids("/etc/subuid", user) && has_subids("/etc/subgid", user))
                return 0;
        nb_fail(err, EPERM, "%s has not enough subordinate ids in /etc/subuid and /etc/subgid", *user ? user : "this user");
        return nb_hint(err, "sudo usermod --add-subuids 1000000-1065535 --add-subgids 1000000-1065535 %s",
                       *user ? user : "USER");
}

static char **command(const struct debian_job *job, char *const *sources) {
        char **argv = NULL;
        static const char *const start[] = { "setpriv", "--pdeathsig", "KILL", "unshare" };
        for (size_t i = 0; i < NB_ARRAY_LEN(start); i++)
                nb_strv_add(&argv, start[i]);
        bool root = geteuid() == 0;
        if (!root) {
                nb_strv_add(&argv, "--user");
                nb_strv_add(&argv, job->extract ? "--map-current-user" : "--map-root-user");
                if (!job->extract)
                        nb_strv_add(&argv, "--map-auto");
        }
        static const char *const isolate[] = { "--mount", "--pid", "--fork", "--kill-child" };
        for (size_t i = 0; i < NB_ARRAY_LEN(isolate); i++)
                nb_strv_add(&argv, isolate[i]);
        const char *const wrap[] = { "sh", "-c", protect_host, "sh" };
        for (size_t i = 0; root && i < NB_ARRAY_LEN(wrap); i++)
                nb_strv_add(&argv, wrap[i]);
        static const char *const options[] = { "mmdebstrap", "--format=tar", "--architectures=amd64",
                                               "--aptopt=Acquire::Retries \"3\"", "--aptopt=Acquire::http::Timeout \"30\"" };
        for (size_t i = 0; i < NB_ARRAY_LEN(options); i++)
                nb_strv_add(&argv, options[i]);
        nb_strv_add(&argv, "--keyring=" KEYRING);
        nb_strv_addf(&argv, "--mode=%s", !root && job->extract ? "chrootless" : "root");
        nb_strv_addf(&argv, "--variant=%s", job->extract ? "extract" : "apt");
        for (size_t i = 0; job->packages && job->packages[i]; i++)
                nb_strv_addf(&argv, "--include=%s", job->packages[i]);
        for (size_t i = 0; job->dpkg && job->dpkg[i]; i++)
                nb_strv_addf(&argv, "--dpkgopt=%s", job->dpkg[i]);
        nb_strv_add(&argv, "--setup-hook=sh -e \"$NIXBOX_SCRIPTS/setup.sh\" \"$1\"");
        nb_strv_add(&argv, "--extract-hook=sh -e \"$NIXBOX_SCRIPTS/unpacked.sh\" \"$1\"");
        if (!job->extract)
                nb_strv_add(&argv, "--skip=essential/unlink");
        if (!job->extract)
                nb_strv_add(&argv, "--customize-hook=sh -e \"$NIXBOX_SCRIPTS/finish.sh\" \"$1\"");
        nb_strv_add(&argv, job->suite);
        nb_strv_add(&argv, job->tar);
        for (size_t i = 0; sources[i]; i++)
                nb_strv_add(&argv, sources[i]);
        return argv;
}

static int write_scripts(const struct store *s, const struct debian_job *job, struct nb_error *err) {
        const char *const scripts[][3] = { { "setup.sh", "", cache_in },
                                           { "unpacked.sh", job->unpacked ? job->unpacked : "", cache_out },
                                           { "finish.sh", cache_out, job->finish ? job->finish : "" } };
        for (size_t i = 0; i < NB_ARRAY_LEN(scripts); i++) {
                NB_AUTO_FREE char *path = nb_path_join(job->work, scripts[i][0]);
                NB_AUTO_FREE char *text = nb_asprintf("%s%s", scripts[i][1], scripts[i][2]);
                int r = nb_write_file_atomic(path, text, strlen(text), 0600);
                if (r < 0) {
                        nb_fail_errno(err, -r, "cannot write %s", path);
                        return store_hint(s, err);
                }
        }
        return 0;
}

static char **environment(const struct debian_job *job, const char *cache) {
        static const char *const keep[] = { "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY" };
        char **env = NULL;
        nb_strv_add(&env, "PATH=" TOOL_PATH);
        nb_strv_add(&env, "LC_ALL=C.UTF-8");
        nb_strv_add(&env, "DEBIAN_FRONTEND=noninteractive");
        nb_strv_add(&env, "SOURCE_DATE_EPOCH=" DEBIAN_EPOCH);
        nb_strv_addf(&env, "TMPDIR=%s", job->work);
        nb_strv_addf(&env, "NIXBOX_SCRIPTS=%s", job->work);
        nb_strv_addf(&env, "NIXBOX_APT_CACHE=%s", cache);
        for (size_t i = 0; i < NB_ARRAY_LEN(keep); i++) {
                const char *value = getenv(keep[i]);
                if (value)
                        nb_strv_addf(&env, "%s=%s", keep[i], value);
        }
        return env;
}

struct watch {
        const struct debian_job *job;
        const struct image_progress *progress;
};

static void on_line(void *user, const char *line) {
        const struct watch *w = user;
        NB_AUTO_FREE char *phrase = debian_progress_phrase(line);
        if (phrase)
                store_step(w->progress, w->job->step, phrase, 0, 0);
}

static bool mentions(const char *text, const char *const *phrases) {
        for (; *phrases; phrases++)
                if (strstr(text, *phrases))
                        return true;
        return false;
}

/* What the tools print when something outside nixbox is wrong, as an error with a way out. */
static int explain(const struct store *s, struct nb_error *err) {
        static const char *const network[] = { "Could not connect",
                                               "Could not resolve",
                                               "Temporary failure resolving",
                                               "Connection failed",
                                               "Connection timed out",
                                               "Unable to connect",
                                               "Failed to fetch",
                                               "Unable to fetch",
                                               "404  Not Found",
                                               NULL };
        static const char *const names[] = { "Unable to locate package", "has no installation candidate", NULL };
        static const char *const full[] = { "No space left on device", "Disk quota exceeded", NULL };
        if (!err || !err->what)
                return -EIO;
        NB_AUTO_FREE char *output = nb_strdup(err->what), *complaint = debian_complaint(output);
        int code = mentions(output, full) ? ENOSPC : mentions(output, network) ? ENETUNREACH : err->code;
        if (code == ENOSPC)
                nb_fail_errno(err, code, "mmdebstrap failed");
        else if (complaint)
                nb_fail(err, code, "mmdebstrap failed: %s", complaint);
        if (code == ENOSPC)
                return store_hint(s, err);
        if (mentions(output, names))
                return nb_hint(err, "check the names under image.packages: each must be a package of this Debian release");
        if (code == ENETUNREACH)
                return nb_hint(err, "check the network connection, or name another mirror: NIXBOX_MIRROR=%s", MIRROR);
        return -err->code;
}

int debian_build(const struct store *s, const struct debian_job *job, const struct image_progress *progress,
                 struct nb_error *err) {
        NB_AUTO_STRV char **sources = NULL, **argv = NULL, **env = NULL;
        int r = check_host(job, err);
        if (r == 0)
                r = debian_sources(getenv("NIXBOX_MIRROR"), job->suite, &sources, err);
        if (r < 0)
                return r;
        NB_AUTO_FREE char *cache = nb_path_join(s->cache, "apt");
        if (mkdir(cache, 0700) < 0 && errno != EEXIST) {
                nb_fail_errno(err, errno, "cannot make the package cache %s", cache);
                return store_hint(s, err);
        }
        r = write_scripts(s, job, err);
        if (r < 0)
                return r;
        argv = command(job, sources);
        env = environment(job, cache);
        struct watch watch = { job, progress };
        struct proc_spec spec = {
                .argv = argv, .env = env, .stdout_fd = -1, .stderr_fd = -1, .on_stderr_line = on_line, .user = &watch
        };
        store_step(progress, job->step, NULL, 0, 0);
        r = proc_run(&spec, NULL, NULL, err);
        return r < 0 ? explain(s, err) : 0;
}
