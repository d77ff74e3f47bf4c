/* Writing bills of materials (see sbom.h). The image contains its Debian packages, npm packages or layers; it depends on the
 * runtime and the kernel, which contain theirs. What is in more than one of them is described once. */
#include "image/sbom.h"

#include <ctype.h>
#include <errno.h>
#include <nettle/base64.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "image/copyright.h"
#include "image/store.h"

#define NAMESPACE "https://spdx.org/spdxdocs/nixbox-image-"
#define ARCHIVES "https://deb.debian.org/" /* then the archive's name and the path */
#define NONE "NOASSERTION"
#define ID_DIGITS 16 /* of a hash, to tell apart what has one name */
#define SHA512_BYTES 64

struct sbom {
        json_t *packages, *relationships;
        json_t *seen;     /* identifiers of the packages so far */
        json_t *licences; /* LicenseRef-… to an array of names of packages */
        sbom_licence_fn licence;
        void *user;
};

static bool is_plain(char c, const char *others) {
        return isascii((unsigned char)c) && (isalnum((unsigned char)c) || strchr(others, c));
}

/* An identifier of the document: "SPDXRef-KIND-NAME-HASH". New string. */
static char *make_id(const char *kind, const char *name, const char *hash) {
        char *id = nb_asprintf("SPDXRef-%s-%s-%.*s", kind, name, ID_DIGITS, hash);
        for (char *c = id; *c; c++)
                if (!is_plain(*c, ".-"))
                        *c = '-';
        return id;
}

/* Percent-encoded as in a package URL. New string. */
static char *encode(const char *text) {
        char *out = nb_calloc(strlen(text) * 3 + 1, 1), *to = out;
        for (; *text; text++)
                to += sprintf(to, is_plain(*text, ".-_~") ? "%c" : "%%%02X", (unsigned char)*text);
        return out;
}

static void relate(struct sbom *b, const char *from, const char *how, const char *to) {
        (void)json_array_append_new(b->relationships, json_pack("{s:s, s:s, s:s}", "spdxElementId", from, "relationshipType",
                                                                how, "relatedSpdxElement", to));
}

/* Adds a package unless it is there, and says what contains it. The reference is taken. */
static void add(struct sbom *b, json_t *package, const char *within) {
        const char *id = json_string_value(json_object_get(package, "SPDXID"));
        if (within)
                relate(b, within, "CONTAINS", id);
        if (!json_object_get(b->seen, id)) {
                (void)json_object_set_new(b->seen, id, json_true());
                (void)json_array_append(b->packages, package);
        }
        json_decref(package);
}

/* The fields that every package has. */
static json_t *describe(const char *id, const char *name, const char *version, const char *from, const char *algorithm,
                        const char *hash) {
        json_t *p = json_pack("{s:s, s:s, s:s*, s:s, s:b, s:s, s:s, s:s}", "SPDXID", id, "name", name, "versionInfo", version,
                              "downloadLocation", from, "filesAnalyzed", 0, "licenseConcluded", NONE, "licenseDeclared", NONE,
                              "copyrightText", NONE);
        if (hash)
                (void)json_object_set_new(p, "checksums",
                                          json_pack("[{s:s, s:s}]", "algorithm", algorithm, "checksumValue", hash));
        return p;
}

static void set_purl(json_t *package, const char *purl) {
        (void)json_object_set_new(package, "externalRefs",
                                  json_pack("[{s:s, s:s, s:s}]", "referenceCategory", "PACKAGE-MANAGER", "referenceType",
                                            "purl", "referenceLocator", purl));
}

/* Remembers which package uses a licence that SPDX has no name for. */
static void note_references(struct sbom *b, const char *expression, const char *package) {
        for (const char *at = expression; (at = strstr(at, COPYRIGHT_REF));) {
                size_t n = strlen(COPYRIGHT_REF);
                while (at[n] && is_plain(at[n], ".-"))
                        n++;
                NB_AUTO_FREE char *ref = nb_strndup(at, n);
                json_t *users = json_object_get(b->licences, ref);
                if (!users) {
                        users = json_array();
                        (void)json_object_set_new(b->licences, ref, users);
                }
                size_t last = json_array_size(users);
                const char *before = last ? json_string_value(json_array_get(users, last - 1)) : NULL;
                if (!before || strcmp(before, package) != 0)
                        (void)json_array_append_new(users, json_string(package));
                at += n;
        }
}

static void add_debian(struct sbom *b, const struct lock_package *p, const char *within) {
        NB_AUTO_FREE char *id = make_id("deb", p->name, p->sha256);
        NB_AUTO_FREE char *from = nb_asprintf(ARCHIVES "%s/%s", p->archive, p->path);
        NB_AUTO_FREE char *name = encode(p->name), *version = encode(p->version);
        NB_AUTO_FREE char *purl = nb_asprintf("pkg:deb/debian/%s@%s?arch=%s", name, version, p->arch);
        NB_AUTO_FREE char *licence = json_object_get(b->seen, id) || !b->licence ? NULL : b->licence(b->user, p);
        json_t *package = describe(id, p->name, p->version, from, "SHA256", p->sha256);
        (void)json_object_set_new(package, "supplier", json_string("Organization: Debian"));
        set_purl(package, purl);
        if (licence) {
                (void)json_object_set_new(package, "licenseDeclared", json_string(licence));
                note_references(b, licence, p->name);
        }
        add(b, package, within);
}

static void add_set(struct sbom *b, const struct lock_set *set, const char *within) {
        for (size_t i = 0; i < set->n; i++)
                add_debian(b, &set->packages[i], within);
}

/* "sha512-BASE64" to hex. False if it is anything else. */
static bool integrity_hex(const char *integrity, char ret[2 * SHA512_BYTES + 1]) {
        static const char prefix[] = "sha512-";
        const char *text = integrity + (sizeof prefix - 1);
        uint8_t bytes[BASE64_DECODE_LENGTH(2 * SHA512_BYTES)];
        size_t len = sizeof bytes, n;
        struct base64_decode_ctx ctx;
        if (!nb_starts_with(integrity, prefix) || (n = strlen(text)) > BASE64_ENCODE_RAW_LENGTH(SHA512_BYTES))
                return false;
        base64_decode_init(&ctx);
        if (!base64_decode_update(&ctx, &len, bytes, n, text) || !base64_decode_final(&ctx) || len != SHA512_BYTES)
                return false;
        for (size_t i = 0; i < len; i++)
                sprintf(ret + 2 * i, "%02x", bytes[i]);
        return true;
}

/* Where npm puts a package ends with its name: "node_modules/a/node_modules/@scope/b". */
static const char *npm_name(const struct lock_npm *p) {
        static const char folder[] = "node_modules/";
        const char *name = p->path;
        for (const char *at = name; (at = strstr(at, folder));)
                name = at += sizeof folder - 1;
        return name;
}

static void add_npm(struct sbom *b, const struct lock_npm *p, const char *within) {
        char hex[2 * SHA512_BYTES + 1] = "";
        bool known = integrity_hex(p->integrity, hex);
        const char *full = npm_name(p), *slash = full[0] == '@' ? strchr(full, '/') : NULL;
        NB_AUTO_FREE char *id = make_id("npm", full, known ? hex : p->version), *version = encode(p->version);
        NB_AUTO_FREE char *scope = slash ? nb_strndup(full + 1, (size_t)(slash - full - 1)) : NULL;
        NB_AUTO_FREE char *encoded = scope ? encode(scope) : NULL, *name = encode(slash ? slash + 1 : full);
        NB_AUTO_FREE char *purl =
            nb_asprintf("pkg:npm/%s%s%s%s@%s", encoded ? "%40" : "", encoded ? encoded : "", encoded ? "/" : "", name, version);
        json_t *package = describe(id, full, p->version, p->url, "SHA512", known ? hex : NULL);
        set_purl(package, purl);
        add(b, package, within);
}

/* The image, the runtime or the kernel: "sha256:HEX" may be NULL for what was not built yet. */
static void add_whole(struct sbom *b, const char *id, const char *name, const char *digest) {
        const char *hex = digest && nb_starts_with(digest, STORE_DIGEST_PREFIX) ? digest + strlen(STORE_DIGEST_PREFIX) : NULL;
        json_t *package = describe(id, name, digest, NONE, "SHA256", hex);
        add(b, package, NULL);
}

static void add_layers(struct sbom *b, const struct lock *l, const char *within) {
        for (size_t i = 0; i < l->n_layers; i++) {
                const char *hash = l->layers[i].sha256;
                NB_AUTO_FREE char *id = make_id("layer", "oci", hash),
                                  *name = nb_asprintf("layer " STORE_DIGEST_PREFIX "%s", hash);
                add(b, describe(id, name, NULL, NONE, "SHA256", hash), within);
        }
}

static json_t *extracted_licences(const struct sbom *b) {
        json_t *list = json_array();
        const char *ref;
        json_t *users, *user;
        size_t i;
        json_object_foreach(b->licences, ref, users) {
                NB_AUTO_FREE char *text = nb_asprintf("The text is in /usr/share/doc/PACKAGE/copyright of");
                json_array_foreach(users, i, user) {
                        char *more = nb_asprintf("%s%s %s", text, i ? "," : "", json_string_value(user));
                        free(text);
                        text = more;
                }
                (void)json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "licenseId", ref, "name",
                                                            ref + strlen(COPYRIGHT_REF), "extractedText", text));
        }
        return list;
}

/* Fractions and zones other than UTC are not allowed there; the time is that of the lock. */
static char *created(const char *resolved) {
        bool utc = resolved && strlen(resolved) == strlen("2025-01-01T00:00:00Z") && resolved[19] == 'Z';
        return nb_strdup(utc ? resolved : "1970-01-01T00:00:00Z");
}

static void sbom_clear(struct sbom *b) {
        json_decref(b->packages);
        json_decref(b->relationships);
        json_decref(b->seen);
        json_decref(b->licences);
}

static void fill(struct sbom *b, const struct lock *l) {
        static const char image[] = "SPDXRef-Image", runtime[] = "SPDXRef-Runtime", kernel[] = "SPDXRef-Kernel";
        add_whole(b, image, "guest image", l->digest);
        add_whole(b, runtime, "runtime", l->runtime_digest);
        add_whole(b, kernel, "kernel", l->kernel_digest);
        relate(b, "SPDXRef-DOCUMENT", "DESCRIBES", image);
        relate(b, image, "DEPENDS_ON", runtime);
        relate(b, image, "DEPENDS_ON", kernel);
        add_set(b, &l->base, image);
        add_set(b, &l->packages, image);
        for (const struct lock_npm *p = l->npm; p; p = p->next)
                add_npm(b, p, image);
        add_layers(b, l, image);
        add_set(b, &l->runtime, runtime);
        add_set(b, &l->kernel, kernel);
}

int sbom_check(const struct lock *l, struct nb_error *err) {
        if (l->digest && nb_starts_with(l->digest, STORE_DIGEST_PREFIX))
                return 0;
        nb_fail(err, ENOENT, "the image was not built yet");
        return nb_hint(err, "nixbox image build builds it");
}

int sbom_document(const struct lock *l, sbom_licence_fn licence, void *user, json_t **ret, struct nb_error *err) {
        int r = sbom_check(l, err);
        if (r < 0)
                return r;
        struct sbom b = { json_array(), json_array(), json_object(), json_object(), licence, user };
        const char *hex = l->digest + strlen(STORE_DIGEST_PREFIX);
        fill(&b, l);
        NB_AUTO_FREE char *name = nb_asprintf("nixbox-image-%.12s", hex), *space = nb_asprintf(NAMESPACE "%s", hex);
        NB_AUTO_FREE char *time = created(l->resolved);
        json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:s, s:[s]}, s:[s], s:O, s:O}", "spdxVersion", "SPDX-2.3",
                                "dataLicense", "CC0-1.0", "SPDXID", "SPDXRef-DOCUMENT", "name", name, "documentNamespace",
                                space, "creationInfo", "created", time, "creators", "Tool: nixbox", "documentDescribes",
                                "SPDXRef-Image", "packages", b.packages, "relationships", b.relationships);
        if (doc && json_object_size(b.licences) > 0)
                (void)json_object_set_new(doc, "hasExtractedLicensingInfos", extracted_licences(&b));
        sbom_clear(&b);
        if (!doc)
                return nb_fail(err, EINVAL, "the lock holds text that is not UTF-8");
        *ret = doc;
        return 0;
}

static void list_set(char **text, const struct lock_set *set, sbom_licence_fn licence, void *user) {
        for (size_t i = 0; i < set->n; i++) {
                const struct lock_package *p = &set->packages[i];
                NB_AUTO_FREE char *terms = licence(user, p);
                char *more = nb_asprintf("%s%-32s %-28s %s\n", *text, p->name, p->version, terms ? terms : "not stated");
                free(*text);
                *text = more;
        }
}

char *sbom_licences(const struct lock *l, sbom_licence_fn licence, void *user) {
        char *text = nb_strdup("");
        list_set(&text, &l->base, licence, user);
        list_set(&text, &l->packages, licence, user);
        return text;
}
