/* Building root file systems (see rootfs.h): packages to a tar by mmdebstrap, cleaned of everything that would differ
 * between two builds, then to EROFS by the runtime tree's own mkfs.erofs, which reads owners and modes from the tar. */
#include "image/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/sha256.h"
#include "base/text.h"
#include "image/debian.h"

#define BUILDER "3" /* raise whenever the same description would be built to something else */
#define EROFS_UUID "6e697862-6f78-4000-8000-726f6f746673"
#define STEP "building the guest image"

static const struct { const char *base, *suite; } releases[] = { { "debian-13", "trixie" } };

/* What every guest image holds besides the essential packages. */
static const char *const standard[] = { "bash",   "ca-certificates", "curl",    "git",     "login", "mount",
                                        "passwd", "procps",          "python3", "ripgrep", "sudo" };

static const char *const dpkg_options[] = { "force-unsafe-io",
                                            "path-exclude=/usr/share/doc/*",
                                            "path-include=/usr/share/doc/*/copyright",
                                            "path-exclude=/usr/share/info/*",
                                            "path-exclude=/usr/share/lintian/*",
                                            "path-exclude=/usr/share/man/*",
                                            "path-exclude=/usr/share/locale/*",
                                            "path-include=/usr/share/locale/locale.alias",
                                            NULL };

/* $1 is the tree. Removes what differs from build to build, and gives the guest neutral files where the host's were copied
 * in. The package sources are Debian's own whatever mirror was used. */
static const char finish[] =
    "cd \"$1\"\n"
    "umask 022\n"
    "rm -rf etc/hostname etc/resolv.conf var/cache/apt/* var/lib/apt/lists/* var/log/* var/cache/ldconfig/aux-cache "
    "var/cache/debconf/*-old "
    "var/lib/dpkg/*-old var/lib/systemd/random-seed etc/ssh/ssh_host_* etc/.pwd.lock root/.wget-hsts\n"
    /* The times of all files are set to one: only byte code that names the source's hash (flag 3) stays valid. */
    "find usr -name '*.pyc' -exec sh -c 'for f; do [ \"$(od -An -tu1 -j4 -N1 \"$f\" | tr -d \" \")\" = 3 ] || rm \"$f\"; done' "
    "_ {} +\n"
    ": >etc/machine-id\n"
    ": >etc/resolv.conf\n"
    "echo box >etc/hostname\n"
    "printf '127.0.0.1 localhost\\n::1 localhost ip6-localhost ip6-loopback\\n' >etc/hosts\n"
    "printf 'LANG=C.UTF-8\\n' >etc/default/locale\n"
    "rm -f etc/apt/sources.list etc/apt/apt.conf.d/99mmdebstrap\n"
    "mkdir -p etc/apt/sources.list.d var/log/apt var/lib/apt/lists/partial var/cache/apt/archives/partial\n"
    "cat >etc/apt/sources.list.d/debian.sources <<END\n"
    "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: $NIXBOX_SUITE $NIXBOX_SUITE-updates\nComponents: main\n"
    "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
    "Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: $NIXBOX_SUITE-security\nComponents: main\n"
    "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    "END\n";

static const char *suite_of(const struct config_image *c) {
        for (size_t i = 0; i < NB_ARRAY_LEN(releases); i++)
                if (c->base && strcmp(c->base, releases[i].base) == 0)
                        return releases[i].suite;
        return NULL;
}

int rootfs_check(const struct config_image *c, struct nb_error *err) {
        if (c->kind != CONFIG_BASE_DEBIAN || !suite_of(c)) {
                nb_fail(err, ENOTSUP, "the image base '%s' is not supported yet", c->base ? c->base : "");
                return nb_hint(err, "set image.base: %s", releases[0].base);
        }
        if (c->npm && c->npm[0]) {
                nb_fail(err, ENOTSUP, "image.npm is not supported yet");
                return nb_hint(err, "install npm packages in setup: for now");
        }
        for (size_t i = 0; c->packages && c->packages[i]; i++)
                if (!debian_valid_package(c->packages[i])) {
                        nb_fail(err, EINVAL, "'%s' under image.packages is not the name of a Debian package", c->packages[i]);
                        return nb_hint(err, "names are lower-case letters, digits and +-. only");
                }
        return 0;
}

static int by_name(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The standard packages and the config's, sorted, each once. */
static char **all_packages(const struct config_image *c) {
        NB_AUTO_STRV char **all = NULL;
        for (size_t i = 0; i < NB_ARRAY_LEN(standard); i++)
                nb_strv_add(&all, standard[i]);
        for (size_t i = 0; c->packages && c->packages[i]; i++)
                nb_strv_add(&all, c->packages[i]);
        size_t n = nb_strv_len(all);
        qsort(all, n, sizeof *all, by_name);
        char **unique = NULL;
        for (size_t i = 0; i < n; i++)
                if (i == 0 || strcmp(all[i], all[i - 1]) != 0)
                        nb_strv_add(&unique, all[i]);
        return unique;
}

char *rootfs_spec(const struct config_image *c) {
        NB_AUTO_STRV char **packages = all_packages(c);
        NB_AUTO_FREE char *head = nb_asprintf("nixbox image " BUILDER "\nbase %s\n", c->base);
        NB_AUTO_BUF text = { 0 };
        nb_buf_add(&text, head, strlen(head));
        for (size_t i = 0; packages[i]; i++) {
                NB_AUTO_FREE char *line = nb_asprintf("package %s\n", packages[i]);
                nb_buf_add(&text, line, strlen(line));
        }
        return nb_strndup((const char *)nb_buf_bytes(&text), text.len);
}

char *rootfs_path(const struct store *s, const char *digest) {
        NB_AUTO_FREE char *name = nb_asprintf("%s.erofs", digest + strlen(STORE_DIGEST_PREFIX));
        return store_path(s, "images", name);
}

bool rootfs_is_current(const json_t *ref) {
        const char *builder = json_string_value(json_object_get(ref, "builder"));
        return builder && strcmp(builder, BUILDER) == 0;
}

static bool find(const struct store *s, const char *key, char **ret_path, char **ret_digest) {
        json_t *ref = store_ref_get(s, "image", key);
        const char *digest = json_string_value(json_object_get(ref, "digest"));
        NB_AUTO_FREE char *path = digest && nb_starts_with(digest, STORE_DIGEST_PREFIX) ? rootfs_path(s, digest) : NULL;
        bool found = path && access(path, R_OK) == 0;
        if (found) {
                *ret_path = nb_steal(&path);
                *ret_digest = nb_strdup(digest);
        }
        json_decref(ref);
        return found;
}

static int make_erofs(const char *tree, const char *tar, const char *to, struct nb_error *err) {
        NB_AUTO_STRV char **argv = image_tool(tree, "usr/bin/mkfs.erofs");
        static const char *const options[] = { "--quiet", "-T" DEBIAN_EPOCH, "-U" EROFS_UUID, "--tar=f", "-zlz4hc" };
        for (size_t i = 0; i < NB_ARRAY_LEN(options); i++)
                nb_strv_add(&argv, options[i]);
        nb_strv_add(&argv, to);
        nb_strv_add(&argv, tar);
        struct proc_spec spec = { .argv = argv, .stdout_fd = -1, .stderr_fd = -1 };
        return proc_run(&spec, NULL, NULL, err);
}

static int record(const struct store *s, const char *key, const struct config_image *c, const char *digest,
                  struct nb_error *err) {
        NB_AUTO_STRV char **packages = all_packages(c);
        char built[32] = "";
        time_t now = time(NULL);
        struct tm tm;
        (void)strftime(built, sizeof built, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
        json_t *list = json_array();
        for (size_t i = 0; packages[i]; i++)
                (void)json_array_append_new(list, json_string(packages[i]));
        json_t *ref = json_pack("{s:s, s:s, s:s, s:o, s:s}", "digest", digest, "builder", BUILDER, "base", c->base, "packages",
                                list, "built", built);
        int r = ref ? store_ref_put(s, "image", key, ref, err) : nb_fail(err, EINVAL, "cannot describe the image");
        json_decref(ref);
        return r;
}

/* Names the finished file after its digest and records it. */
static int put_away(const struct store *s, const char *key, const struct config_image *c, const char *erofs,
                    struct nb_error *err) {
        char hex[NB_SHA256_HEX];
        NB_AUTO_CLOSE int fd = open(erofs, O_RDONLY | O_CLOEXEC);
        int r = fd < 0 ? -errno : nb_sha256_fd(fd, hex);
        if (r == 0 && (fchmod(fd, 0444) < 0 || fsync(fd) < 0))
                r = -errno;
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", erofs);
        NB_AUTO_FREE char *digest = nb_asprintf(STORE_DIGEST_PREFIX "%s", hex), *to = rootfs_path(s, digest);
        NB_AUTO_CLOSE int lock = -1;
        r = store_lock(s, STORE_LOCK_ALL, NULL, &lock, err);
        if (r < 0)
                return r;
        if (rename(erofs, to) < 0)
                return nb_fail_errno(err, errno, "cannot store %s", to);
        return record(s, key, c, digest, err);
}

static int make(const struct store *s, const struct runtime *rt, const struct config_image *c, const char *key,
                const char *work, const struct image_progress *progress, struct nb_error *err) {
        NB_AUTO_FREE char *tar = nb_path_join(work, "root.tar"), *erofs = nb_path_join(work, "root.erofs");
        NB_AUTO_FREE char *script = nb_asprintf("NIXBOX_SUITE=%s\n%s", suite_of(c), finish);
        NB_AUTO_STRV char **packages = all_packages(c);
        struct debian_job job = { .suite = suite_of(c),
                                  .packages = packages,
                                  .dpkg = dpkg_options,
                                  .finish = script,
                                  .work = work,
                                  .tar = tar,
                                  .step = STEP };
        int r = debian_build(s, &job, progress, err);
        if (r < 0)
                return r;
        store_step(progress, STEP, "writing the file system", 0, 0);
        r = make_erofs(rt->tree, tar, erofs, err);
        if (r == 0)
                r = put_away(s, key, c, erofs, err);
        return r < 0 ? store_hint(s, err) : 0;
}

int rootfs_ensure(const struct store *s, const struct runtime *rt, const struct config_image *c, bool force,
                  const struct image_progress *progress, char **ret_path, char **ret_digest, struct nb_error *err) {
        int r = rootfs_check(c, err);
        if (r < 0)
                return r;
        NB_AUTO_FREE char *spec = rootfs_spec(c);
        char key[NB_SHA256_HEX];
        nb_sha256(spec, strlen(spec), key);
        if (!force && find(s, key, ret_path, ret_digest))
                return 0;
        NB_AUTO_FREE char *name = nb_asprintf("image-%s", key);
        NB_AUTO_CLOSE int lock = -1;
        r = store_lock(s, name, progress, &lock, err);
        if (r < 0)
                return r;
        if (!force && find(s, key, ret_path, ret_digest)) /* somebody else has built it meanwhile */
                return 0;
        store_sweep(s);
        struct store_temp work;
        r = store_temp_new(s, &work, err);
        if (r < 0)
                return r;
        r = make(s, rt, c, key, work.path, progress, err);
        store_temp_remove(&work);
        if (r < 0)
                return nb_context(err, "cannot build the guest image");
        return find(s, key, ret_path, ret_digest) ? 0
                                                  : nb_fail(err, EIO, "the image was built but cannot be found in %s", s->data);
}
