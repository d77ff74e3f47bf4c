/* Documents of OCI images (see oci.h). Every value is checked before it is used; what is not understood is refused where it
 * would change the image, and passed over where it would not. */
#include "image/oci.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

#define REF_NAME "org.opencontainers.image.ref.name"
#define SHA256 "sha256:"
#define OS "linux"
#define ARCHITECTURE "amd64"

static const char *const index_types[] = { "application/vnd.oci.image.index.v1+json",
                                           "application/vnd.docker.distribution.manifest.list.v2+json" };
static const char *const layer_types[] = {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
};

static const char *text_of(const json_t *object, const char *key) {
        const char *text = json_string_value(json_object_get(object, key));
        return text ? text : "";
}

static bool is_one_of(const char *text, const char *const *list, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(text, list[i]) == 0)
                        return true;
        return false;
}

/* A document of the one version that there is. */
static int load(const char *text, size_t len, const char *what, json_t **ret, struct nb_error *err) {
        json_error_t at;
        if (len > OCI_DOCUMENT_MAX)
                return nb_fail(err, EFBIG, "the image's %s has %zu bytes; at most %u are read", what, len, OCI_DOCUMENT_MAX);
        json_auto_t *doc = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
        if (!json_is_object(doc))
                return nb_fail(err, EBADMSG, "the image's %s is no JSON object: %s", what, doc ? "another value" : at.text);
        *ret = nb_steal(&doc);
        return 0;
}

int oci_digest(const char *text, char ret_hex[NB_SHA256_HEX], struct nb_error *err) {
        if (!nb_starts_with(text, SHA256))
                return nb_fail(err, strchr(text, ':') ? ENOTSUP : EBADMSG, "'%s' is no SHA-256 digest", text);
        const char *hex = text + strlen(SHA256);
        if (strlen(hex) != NB_SHA256_HEX - 1 || strspn(hex, "0123456789abcdef") != NB_SHA256_HEX - 1)
                return nb_fail(err, EBADMSG, "'%s' is no SHA-256 digest", text);
        memcpy(ret_hex, hex, NB_SHA256_HEX);
        return 0;
}

static int descriptor(const json_t *d, const char *what, struct lock_blob *ret, struct nb_error *err) {
        const json_t *size = json_object_get(d, "size");
        if (!json_is_integer(size) || json_integer_value(size) < 0)
                return nb_fail(err, EBADMSG, "the image's %s has no size", what);
        ret->size = (uint64_t)json_integer_value(size);
        int r = oci_digest(text_of(d, "digest"), ret->sha256, err);
        return r < 0 ? nb_context(err, "the image's %s", what) : 0;
}

/* ---- index */

/* One without a platform is for any: its config says what it is for. */
static bool fits_machine(const json_t *entry) {
        const json_t *platform = json_object_get(entry, "platform");
        return !platform ||
               (strcmp(text_of(platform, "os"), OS) == 0 && strcmp(text_of(platform, "architecture"), ARCHITECTURE) == 0);
}

static bool has_tag(const json_t *entry, const char *tag) {
        return !tag || strcmp(text_of(json_object_get(entry, "annotations"), REF_NAME), tag) == 0;
}

int oci_choose(const char *text, size_t len, const char *tag, struct oci_entry *ret, struct nb_error *err) {
        json_auto_t *doc = NULL;
        int r = load(text, len, "index", &doc, err);
        if (r < 0)
                return r;
        const json_t *list = json_object_get(doc, "manifests"), *entry, *found = NULL;
        if (json_array_size(list) > OCI_MANIFESTS_MAX)
                return nb_fail(err, E2BIG, "the image's index names more than %u manifests", OCI_MANIFESTS_MAX);
        size_t i, n = 0;
        json_array_foreach(list, i, entry) {
                if (!has_tag(entry, tag) || !fits_machine(entry))
                        continue;
                if (found && strcmp(text_of(found, "digest"), text_of(entry, "digest")) == 0)
                        continue; /* the same under another name */
                found = entry;
                n++;
        }
        if (n == 0)
                return nb_fail(err, ENOENT, "no image %s%s%sfor " OS "/" ARCHITECTURE " is there", tag ? "named '" : "",
                               tag ? tag : "", tag ? "' " : "");
        if (n > 1) {
                nb_fail(err, EINVAL, "there are %zu images", n);
                return nb_hint(err, "name one of them by its tag: oci:./FOLDER:TAG");
        }
        ret->is_index = is_one_of(text_of(found, "mediaType"), index_types, NB_ARRAY_LEN(index_types));
        return descriptor(found, "manifest", &ret->blob, err);
}

/* ---- manifest */

int oci_parse_manifest(const char *text, size_t len, struct oci_manifest *ret, struct nb_error *err) {
        json_auto_t *doc = NULL;
        int r = load(text, len, "manifest", &doc, err);
        if (r < 0)
                return r;
        const json_t *layers = json_object_get(doc, "layers"), *layer;
        if (!json_is_array(layers) || json_integer_value(json_object_get(doc, "schemaVersion")) != 2)
                return nb_fail(err, EBADMSG, "the image's manifest is none of version 2");
        if (json_array_size(layers) > OCI_LAYERS_MAX)
                return nb_fail(err, E2BIG, "the image has more than %u layers", OCI_LAYERS_MAX);
        __attribute__((cleanup(oci_manifest_clear))) struct oci_manifest m = { 0 };
        r = descriptor(json_object_get(doc, "config"), "config", &m.config, err);
        m.layers = nb_calloc(json_array_size(layers) + 1, sizeof *m.layers);
        size_t i;
        json_array_foreach(layers, i, layer) {
                const char *type = text_of(layer, "mediaType");
                if (r == 0 && !is_one_of(type, layer_types, NB_ARRAY_LEN(layer_types)))
                        r = nb_fail(err, ENOTSUP, "layer %zu of the image is of the type '%s', which is no tar", i + 1, type);
                if (r == 0)
                        r = descriptor(layer, "layer", &m.layers[m.n_layers++], err);
        }
        if (r < 0)
                return r;
        *ret = (struct oci_manifest){ .config = m.config, .layers = m.layers, .n_layers = m.n_layers };
        m.layers = NULL;
        return 0;
}

void oci_manifest_clear(struct oci_manifest *m) {
        free(m->layers);
        *m = (struct oci_manifest){ 0 };
}

/* ---- config */

int oci_parse_config(const char *text, size_t len, struct image_meta *ret, struct nb_error *err) {
        json_auto_t *doc = NULL;
        int r = load(text, len, "config", &doc, err);
        if (r < 0)
                return r;
        const char *os = text_of(doc, "os"), *architecture = text_of(doc, "architecture");
        if (strcmp(os, OS) != 0 || strcmp(architecture, ARCHITECTURE) != 0)
                return nb_fail(err, ENOEXEC, "the image is for %s/%s, not for " OS "/" ARCHITECTURE, os, architecture);
        const json_t *config = json_object_get(doc, "config"), *one;
        size_t i;
        json_array_foreach(json_object_get(config, "Env"), i, one) {
                const char *variable = json_string_value(one);
                if (variable && image_meta_add_env(ret, variable) < 0)
                        return nb_fail(err, E2BIG, "the image's environment is too large");
        }
        image_meta_set_workdir(ret, text_of(config, "WorkingDir"));
        const char *user = text_of(config, "User");
        if (*user && strlen(user) <= META_USER_MAX) {
                free(ret->user);
                ret->user = nb_strdup(user);
        }
        return 0;
}
