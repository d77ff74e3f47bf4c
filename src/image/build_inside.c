/* The steps of a build inside the tree (see build_inside.h). dpkg itself installs the packages; what it needs to run at all
 * is unpacked first, and overwritten by dpkg with the same files. */
#include "image/build_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/build_tar.h"
#include "image/deb.h"
#include "image/fakeown.h"
#include "jail/stage.h"

static const char source_date[] = "SOURCE_DATE_EPOCH=" BUILD_EPOCH;
/* Scripts see the same, wherever and by whomever they are run. */
static const char *const environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                           "LC_ALL=C.UTF-8",
                                           "TZ=UTC",
                                           "HOME=/root",
                                           "USER=root",
                                           "LOGNAME=root",
                                           "SHELL=/bin/sh",
                                           "TERM=dumb",
                                           "DEBIAN_FRONTEND=noninteractive",
                                           "DEBCONF_NONINTERACTIVE_SEEN=true",
                                           "DEBCONF_NOWARNINGS=yes",
                                           source_date,
                                           NULL };

/* Also in force for what is installed later, in the guest. */
static const char dpkg_always[] = "force-unsafe-io\n";
static const char dpkg_no_docs[] = "path-exclude=/usr/share/doc/*\n"
                                   "path-include=/usr/share/doc/*/copyright\n"
                                   "path-exclude=/usr/share/info/*\n"
                                   "path-exclude=/usr/share/lintian/*\n"
                                   "path-exclude=/usr/share/man/*\n";
static const char dpkg_no_translations[] = "path-exclude=/usr/share/locale/*\n"
                                           "path-include=/usr/share/locale/locale.alias\n";
/* No service starts where there is no machine. */
static const char policy[] = "#!/bin/sh\nexit 101\n";

static void say(int fd, const char *what, const char *detail) {
        (void)dprintf(fd, "%s%s\n", what, detail);
}

static int serve_owners(int fd, int pidfd, struct nb_error *err) {
        __attribute__((cleanup(fakeown_freep))) struct fakeown *f = NULL;
        int r = fakeown_new(fd, &f, err);
        return r < 0 ? r : fakeown_serve(f, pidfd, err);
}

static const struct stage_watch faked = { .enter = fakeown_filter, .serve = serve_owners };

static int run(const struct build_inside *in, char *const *argv, const char *what, int pass_fd, struct nb_error *err) {
        int r = stage_exec(argv, (char *const *)environment, pass_fd, in->fake ? &faked : NULL, err);
        return r > 0 ? nb_fail(err, ECHILD, "%s failed with status %d", what, r) : r;
}

static int run_dpkg(const struct build_inside *in, char *const *files, int say_fd, struct nb_error *err) {
        NB_AUTO_STRV char **argv = NULL;
        static const char *const start[] = { "/usr/bin/dpkg", "--force-depends", "--force-unsafe-io" };
        for (size_t i = 0; i < NB_ARRAY_LEN(start); i++)
                nb_strv_add(&argv, start[i]);
        nb_strv_addf(&argv, "--status-fd=%d", say_fd);
        nb_strv_add(&argv, "--install");
        for (size_t i = 0; files[i]; i++)
                nb_strv_addf(&argv, STAGE_FILES "/%s", files[i]);
        NB_AUTO_FREE char *count = nb_asprintf("%zu", nb_strv_len(files));
        say(say_fd, SAY_COUNT, count);
        int r = run(in, argv, "dpkg", say_fd, err);
        (void)fcntl(say_fd, F_SETFD, FD_CLOEXEC);
        return r;
}

static int put_file(const char *path, const char *text, mode_t mode, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
        int r = fd < 0 ? -errno : nb_write_all(fd, text, strlen(text));
        return r < 0 ? nb_fail_errno(err, -r, "cannot write %s", path) : 0;
}

/* What dpkg takes for granted. The links are those of the merged /usr that every Debian since 12 has. */
static int make_skeleton(const struct build_job *job, struct nb_error *err) {
        static const char *const dirs[] = { "/usr/bin",
                                            "/usr/sbin",
                                            "/usr/lib",
                                            "/usr/lib64",
                                            "/etc/dpkg/dpkg.cfg.d",
                                            "/var/cache/debconf",
                                            "/var/lib/dpkg/info",
                                            "/var/lib/dpkg/updates" };
        static const char *const links[] = { "bin", "sbin", "lib", "lib64" };
        for (size_t i = 0; i < NB_ARRAY_LEN(dirs); i++) {
                int r = nb_mkdirs(dirs[i], 0755);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot make %s", dirs[i]);
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(links); i++) {
                NB_AUTO_FREE char *target = nb_asprintf("usr/%s", links[i]);
                if (symlink(target, links[i]) < 0)
                        return nb_fail_errno(err, errno, "cannot make the link /%s", links[i]);
        }
        NB_AUTO_FREE char *options = nb_asprintf("%s%s%s", dpkg_always, job->docs ? "" : dpkg_no_docs,
                                                 job->docs || job->locale ? "" : dpkg_no_translations);
        int r = put_file("/var/lib/dpkg/status", "", 0644, err);
        if (r == 0)
                r = put_file("/var/lib/dpkg/available", "", 0644, err);
        if (r == 0)
                r = put_file("/etc/dpkg/dpkg.cfg.d/nixbox", options, 0644, err);
        return r == 0 ? put_file("/usr/sbin/policy-rc.d", policy, 0755, err) : r;
}

#define DEBCONF_SETTINGS "etc/debconf.conf" /* without them no script can ask its questions */

/* Programs and libraries only: folders with modes of their own, and other settings, are made by dpkg alone. */
static char *bootstrap_want(const char *name) {
        static const char *const merged[] = { "bin/", "sbin/", "lib/", "lib64/" };
        static const char *const skipped[] = { "share/doc/",  "share/man/",     "share/locale/",
                                               "share/info/", "share/lintian/", "local/" };
        size_t len = strlen(name);
        if (len == 0 || name[len - 1] == '/')
                return NULL;
        for (size_t i = 0; i < NB_ARRAY_LEN(merged); i++)
                if (nb_starts_with(name, merged[i]))
                        return nb_asprintf("usr/%s", name);
        if (strcmp(name, DEBCONF_SETTINGS) == 0)
                return nb_strdup(name);
        if (!nb_starts_with(name, "usr/"))
                return NULL;
        for (size_t i = 0; i < NB_ARRAY_LEN(skipped); i++)
                if (nb_starts_with(name + strlen("usr/"), skipped[i]))
                        return NULL;
        return nb_strdup(name);
}

static int read_controls(char *const *files, struct deb_control *controls, struct nb_error *err) {
        int r = 0;
        for (size_t i = 0; r == 0 && files[i]; i++) {
                NB_AUTO_FREE char *path = nb_asprintf(STAGE_FILES "/%s", files[i]);
                r = deb_read_control(path, &controls[i], err);
        }
        return r;
}

static int unpack_bootstrap(char *const *files, struct nb_error *err) {
        size_t n = nb_strv_len(files);
        struct deb_control *controls = nb_calloc(n + 1, sizeof *controls);
        NB_AUTO_FREE bool *marked = nb_calloc(n + 1, sizeof *marked);
        NB_AUTO_STRV char **paths = nb_calloc(1, sizeof *paths);
        int r = read_controls(files, controls, err);
        if (r == 0)
                deb_bootstrap(controls, n, marked);
        for (size_t i = 0; i < n; i++) {
                if (r == 0 && marked[i])
                        nb_strv_addf(&paths, STAGE_FILES "/%s", files[i]);
                deb_control_clear(&controls[i]);
        }
        free(controls);
        return r == 0 ? deb_unpack(paths, "/", bootstrap_want, err) : r;
}

static int make_base(const struct build_inside *in, int say_fd, struct nb_error *err) {
        if (in->base_in >= 0) {
                say(say_fd, SAY_STEP, "unpacking the base");
                return build_tar_read(in->base_in, "the base", in->fake, err);
        }
        say(say_fd, SAY_STEP, "preparing");
        int r = make_skeleton(in->job, err);
        if (r == 0)
                r = unpack_bootstrap(in->base, err);
        if (r == 0)
                r = run_dpkg(in, in->base, say_fd, err);
        if (r == 0) {
                say(say_fd, SAY_STEP, "keeping the base");
                const struct build_tar how = { .packed = true, .time = BUILD_EPOCH_SECONDS, .fake = in->fake };
                r = build_tar_write(in->base_out, &how, err);
        }
        if (r == 0)
                say(say_fd, SAY_BASE, "");
        return r;
}

/* "sr_RS.UTF-8@latin" is made from the source "sr_RS@latin" with the characters of UTF-8, the only ones there are. */
static int make_locale(const struct build_inside *in, const char *locale, struct nb_error *err) {
        const char *modifier = strchr(locale, '@');
        NB_AUTO_FREE char *source = nb_asprintf("%.*s%s", (int)strcspn(locale, ".@"), locale, modifier ? modifier : "");
        const char *const argv[] = { "/usr/bin/localedef", "--no-archive", "-i", source, "-f", "UTF-8", locale, NULL };
        int r = run(in, (char *const *)argv, "localedef", -1, err);
        return r < 0 ? nb_context(err, "cannot make the locale %s", locale) : 0;
}

static int run_script(const struct build_inside *in, const char *script, struct nb_error *err) {
        const char *const argv[] = { "/bin/sh", "-e", "-c", script, NULL };
        return run(in, (char *const *)argv, "the install script of a package", -1, err);
}

static int add_extras(const struct build_inside *in, int say_fd, struct nb_error *err) {
        const struct build_job *job = in->job;
        int r = 0;
        if (in->packages && in->packages[0])
                r = run_dpkg(in, in->packages, say_fd, err);
        say(say_fd, SAY_STEP, "finishing");
        if (r == 0 && job->locale)
                r = make_locale(in, job->locale, err);
        if (r == 0 && in->layer >= 0)
                r = build_tar_read(in->layer, job->layer, in->fake, err);
        if (r == 0 && job->script)
                r = run_script(in, job->script, err);
        return r;
}

int build_inside(const struct build_inside *in, int say_fd, struct nb_error *err) {
        const struct build_tar how = { .set_time = true, .time = BUILD_EPOCH_SECONDS, .fake = in->fake };
        int r = in->fake ? fakeown_probe("/", err) : 0;
        if (r == 0)
                r = make_base(in, say_fd, err);
        if (r == 0)
                r = add_extras(in, say_fd, err);
        if (r == 0)
                r = build_finish(in->job, err);
        return r == 0 ? build_tar_write(in->tar, &how, err) : r;
}
