/* References to OCI images, and skopeo, which brings those that are not a layout on this host to a folder: the manifest's and
 * the layers' own bytes, so that their digests are those of the place they came from. */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/text.h"
#include "image/source_internal.h"

#define ARCHIVE "docker-archive:"
#define REFERENCE_MAX 512u
#define REFERENCE_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:[]"

void oci_ref_clear(struct oci_ref *r) {
        free(r->at);
        free(r->tag);
        free(r->digest);
        *r = (struct oci_ref){ 0 };
}

static int bad_ref(const char *base, struct nb_error *err) {
        nb_fail(err, EINVAL, "image.base: '%s' names no OCI image", base);
        return nb_hint(err, "write oci:./LAYOUT[:TAG], oci:docker-archive:./FILE.tar or oci:REGISTRY/NAME[:TAG]");
}

/* Cuts off what follows `mark`. Returns it, or NULL if the mark is not there. */
static char *cut(char *text, char *mark) {
        if (!mark || mark < text)
                return NULL;
        *mark = 0;
        return nb_strdup(mark + 1);
}

/* The last ':' that is not a registry's port. */
static char *tag_mark(char *text) {
        char *colon = strrchr(text, ':');
        return colon && !strchr(colon, '/') ? colon : NULL;
}

static int parse(const char *base, struct oci_ref *r, struct nb_error *err) {
        const char *rest = base + strlen("oci:");
        char hex[NB_SHA256_HEX];
        if (nb_starts_with(rest, ARCHIVE)) {
                r->place = OCI_ARCHIVE;
                r->at = nb_strdup(rest + strlen(ARCHIVE));
                r->tag = cut(r->at, strchr(r->at, ':')); /* as skopeo splits it */
        } else if (rest[0] == '/') {
                r->place = OCI_LAYOUT;
                r->at = nb_strdup(rest);
                r->tag = cut(r->at, tag_mark(r->at));
        } else {
                r->place = OCI_REGISTRY;
                r->at = nb_strdup(rest);
                r->digest = cut(r->at, strchr(r->at, '@'));
                r->tag = cut(r->at, tag_mark(r->at));
                if (r->at[0] == '-' || strlen(r->at) > REFERENCE_MAX || r->at[strspn(r->at, REFERENCE_CHARS)] != 0 ||
                    (r->digest && oci_digest(r->digest, hex, err) < 0))
                        return bad_ref(base, err);
        }
        bool tagged =
            !r->tag || (*r->tag && strlen(r->tag) <= REFERENCE_MAX && r->tag[strspn(r->tag, REFERENCE_CHARS "@")] == 0);
        return *r->at && tagged ? 0 : bad_ref(base, err);
}

int oci_ref_parse(const char *base, struct oci_ref *ret, struct nb_error *err) {
        *ret = (struct oci_ref){ 0 };
        int r = parse(base, ret, err);
        if (r < 0)
                oci_ref_clear(ret);
        return r;
}

/* Where nothing says which signatures are asked for, none are: the lock's digest is what the image is held to. */
static bool has_policy(void) {
        NB_AUTO_FREE char *home = nb_home_dir();
        NB_AUTO_FREE char *own = home ? nb_asprintf("%s/.config/containers/policy.json", home) : NULL;
        return access("/etc/containers/policy.json", R_OK) == 0 || (own && access(own, R_OK) == 0);
}

/* What skopeo keeps for itself goes to the work folder; it writes nowhere else. */
static char **environment(const char *work) {
        static const char *const set[] = { "TMPDIR", "XDG_DATA_HOME" };
        char **env = NULL;
        for (char *const *e = environ; *e; e++)
                if (!nb_starts_with(*e, "TMPDIR=") && !nb_starts_with(*e, "XDG_DATA_HOME=") &&
                    !nb_starts_with(*e, "_CONTAINERS_ROOTLESS_UID="))
                        nb_strv_add(&env, *e);
        for (size_t i = 0; i < NB_ARRAY_LEN(set); i++)
                nb_strv_addf(&env, "%s=%s", set[i], work);
        nb_strv_add(&env, "_CONTAINERS_ROOTLESS_UID=1"); /* root's own folder is /var/lib/containers otherwise */
        return env;
}

static char *source_of(const struct oci_ref *ref, const char *digest) {
        if (ref->place == OCI_ARCHIVE)
                return nb_asprintf("docker-archive:%s%s%s", ref->at, ref->tag ? ":" : "", ref->tag ? ref->tag : "");
        if (digest || ref->digest)
                return nb_asprintf("docker://%s@%s", ref->at, digest ? digest : ref->digest);
        return nb_asprintf("docker://%s:%s", ref->at, ref->tag ? ref->tag : "latest");
}

int skopeo_copy(const struct oci_ref *ref, const char *digest, const char *work, const char *to, struct nb_error *err) {
        NB_AUTO_FREE char *from = source_of(ref, digest), *dir = nb_asprintf("dir:%s", to);
        NB_AUTO_STRV char **argv = NULL, **env = environment(work);
        static const char *const global[] = { "--override-os", "linux", "--override-arch", "amd64", "--tmpdir" };
        nb_strv_add(&argv, "skopeo");
        if (!has_policy())
                nb_strv_add(&argv, "--insecure-policy");
        for (size_t i = 0; i < NB_ARRAY_LEN(global); i++)
                nb_strv_add(&argv, global[i]);
        nb_strv_add(&argv, work);
        nb_strv_add(&argv, "copy");
        nb_strv_add(&argv, "--quiet");
        nb_strv_add(&argv, from);
        nb_strv_add(&argv, dir);
        struct proc_spec spec = { .argv = argv, .env = env, .stdout_fd = -1, .stderr_fd = -1 };
        int r = proc_run(&spec, NULL, NULL, err);
        if (r == -ENOENT)
                return nb_hint(err, "install skopeo, or give the image as an OCI layout: oci:./FOLDER:TAG");
        return r;
}
