/* The tables of lock_fields.h, and the grammar of each value: a lock is read after a guest may have written it, and what it
 * holds ends up in addresses, file names and arguments. */
#include "image/lock_fields.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/text.h"
#include "image/debian_archive.h"
#include "image/store.h"

#define TEXT_MAX 4096u /* of any one value */
#define WORD_MAX 256u  /* of a version or the name of a thing */
#define PATH_MAX_LEN 1024u
#define INTEGRITY_PREFIX "sha512-"
#define SHA512_BASE64 86u /* digits of 64 bytes; two '=' follow */

static const char alnum[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/* Only letters, digits and `others`, at most `max` of them. */
static bool made_of(const char *text, const char *others, size_t max) {
        size_t n = 0;
        for (; n <= max && text[n]; n++)
                if (!strchr(alnum, text[n]) && !strchr(others, text[n]))
                        return false;
        return n > 0 && n <= max;
}

/* Printable: one line that a terminal shows as it is. */
static bool valid_line(const char *text) {
        if (!*text || strlen(text) > TEXT_MAX)
                return false;
        NB_AUTO_FREE char *clean = nb_text_clean(text, 0);
        return strcmp(clean, text) == 0;
}

/* A relative path that leads nowhere but down. */
static bool valid_down(const char *path) {
        for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) {
                size_t n = strcspn(p, "/");
                if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
                        return false;
        }
        return strlen(path) <= PATH_MAX_LEN;
}

static bool valid_builder(const char *text) {
        return made_of(text, ".-", WORD_MAX);
}

static bool valid_time(const char *text) {
        struct tm tm = { 0 };
        const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
        return end && !*end && strlen(text) == strlen("2025-01-01T00:00:00Z");
}

static bool valid_suite(const char *text) {
        return made_of(text, "-", WORD_MAX) && strspn(text, "abcdefghijklmnopqrstuvwxyz-") == strlen(text);
}

bool lock_valid_hash(const char *text) {
        return strlen(text) == NB_SHA256_HEX - 1 && strspn(text, "0123456789abcdef") == NB_SHA256_HEX - 1;
}

static bool valid_digest(const char *text) {
        return nb_starts_with(text, STORE_DIGEST_PREFIX) && lock_valid_hash(text + strlen(STORE_DIGEST_PREFIX));
}

/* [epoch:]upstream[-revision] */
static bool valid_version(const char *text) {
        return made_of(text, ".+-~:", WORD_MAX) && isalnum((unsigned char)text[0]);
}

static bool valid_arch(const char *text) {
        return strcmp(text, "amd64") == 0 || strcmp(text, "all") == 0;
}

static bool valid_archive(const char *text) {
        return strcmp(text, "debian") == 0 || strcmp(text, "debian-security") == 0;
}

static bool valid_pool_path(const char *text) {
        size_t n = strlen(text);
        return nb_starts_with(text, "pool/") && made_of(text, ".+-_~/", PATH_MAX_LEN) && valid_down(text) && n > 4 &&
               strcmp(text + n - 4, ".deb") == 0;
}

static bool valid_npm_version(const char *text) {
        return made_of(text, ".+-", WORD_MAX) && isdigit((unsigned char)text[0]);
}

static bool valid_url(const char *text) {
        if (!nb_starts_with(text, "https://") && !nb_starts_with(text, "http://") && !nb_starts_with(text, "file:///"))
                return false;
        for (const char *p = text; *p; p++)
                if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || strchr("\"'\\<>^`{|}", *p))
                        return false;
        return strlen(text) <= TEXT_MAX;
}

/* One part of an npm package's name, or the whole scope. */
static bool valid_npm_part(const char *text, size_t n) {
        NB_AUTO_FREE char *part = nb_strndup(text, n);
        return part[0] != '.' && part[0] != '-' && made_of(part, "._~-", WORD_MAX);
}

/* node_modules/NAME, node_modules/NAME/node_modules/@SCOPE/NAME, … */
static bool valid_npm_path(const char *text) {
        static const char folder[] = "node_modules/";
        if (strlen(text) > PATH_MAX_LEN)
                return false;
        for (;;) {
                if (!nb_starts_with(text, folder))
                        return false;
                text += strlen(folder);
                if (*text == '@') {
                        size_t scope = strcspn(++text, "/");
                        if (!valid_npm_part(text, scope) || text[scope] != '/')
                                return false;
                        text += scope + 1;
                }
                size_t n = strcspn(text, "/");
                if (!valid_npm_part(text, n))
                        return false;
                if (!text[n])
                        return true;
                text += n + 1;
        }
}

static bool valid_npm_name(const char *text) {
        return made_of(text, "@/._~-+^*=<>|", WORD_MAX);
}

static bool valid_integrity(const char *text) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        if (!nb_starts_with(text, INTEGRITY_PREFIX))
                return false;
        text += strlen(INTEGRITY_PREFIX);
        return strspn(text, digits) == SHA512_BASE64 && strcmp(text + SHA512_BASE64, "==") == 0;
}

/* COMMAND=FILE */
static bool valid_bin(const char *text) {
        const char *equals = strchr(text, '=');
        return equals && valid_line(text) && valid_npm_part(text, (size_t)(equals - text)) && valid_down(equals + 1);
}

#define FIELD(type, member) offsetof(struct type, member)

static const struct lock_field file_fields[] = {
        { "lock_version", LOCK_VERSION_NUMBER, false, 0, NULL },
        { "builder", LOCK_TEXT, false, FIELD(lock, builder), valid_builder },
        { "resolved", LOCK_TEXT, false, FIELD(lock, resolved), valid_time },
        { "spec", LOCK_LINES, false, FIELD(lock, spec), valid_line },
        { "suite", LOCK_TEXT, true, FIELD(lock, suite), valid_suite },
        { "digest", LOCK_TEXT, true, FIELD(lock, digest), valid_digest },
        { "runtime_digest", LOCK_TEXT, true, FIELD(lock, runtime_digest), valid_digest },
        { "kernel_digest", LOCK_TEXT, true, FIELD(lock, kernel_digest), valid_digest },
        { "source", LOCK_TEXT, true, FIELD(lock, source), valid_digest },
        { "layers", LOCK_BLOBS, true, FIELD(lock, layers), NULL },
        { "packages", LOCK_SET, true, FIELD(lock, packages), NULL },
        { "npm", LOCK_NPM, true, FIELD(lock, npm), NULL },
        { "base", LOCK_SET, true, FIELD(lock, base), NULL },
        { "kernel", LOCK_SET, false, FIELD(lock, kernel), NULL },
        { "runtime", LOCK_SET, false, FIELD(lock, runtime), NULL },
};
static const struct lock_field package_fields[] = {
        { "name", LOCK_TEXT, false, FIELD(lock_package, name), debian_valid_package },
        { "version", LOCK_TEXT, false, FIELD(lock_package, version), valid_version },
        { "arch", LOCK_TEXT, false, FIELD(lock_package, arch), valid_arch },
        { "archive", LOCK_TEXT, false, FIELD(lock_package, archive), valid_archive },
        { "path", LOCK_TEXT, false, FIELD(lock_package, path), valid_pool_path },
        { "size", LOCK_SIZE, false, FIELD(lock_package, size), NULL },
        { "sha256", LOCK_HASH, false, FIELD(lock_package, sha256), lock_valid_hash },
        { "resolved", LOCK_TEXT, true, FIELD(lock_package, resolved), valid_time },
};
static const struct lock_field npm_fields[] = {
        { "path", LOCK_TEXT, false, FIELD(lock_npm, path), valid_npm_path },
        { "name", LOCK_TEXT, true, FIELD(lock_npm, name), valid_npm_name },
        { "version", LOCK_TEXT, false, FIELD(lock_npm, version), valid_npm_version },
        { "url", LOCK_TEXT, false, FIELD(lock_npm, url), valid_url },
        { "integrity", LOCK_TEXT, false, FIELD(lock_npm, integrity), valid_integrity },
        { "bin", LOCK_STRINGS, true, FIELD(lock_npm, bin), valid_bin },
        { "scripts", LOCK_FLAG, true, FIELD(lock_npm, scripts), NULL },
};
static const struct lock_field blob_fields[] = {
        { "size", LOCK_SIZE, false, FIELD(lock_blob, size), NULL },
        { "sha256", LOCK_HASH, false, FIELD(lock_blob, sha256), lock_valid_hash },
};

_Static_assert(offsetof(struct lock, n_layers) == offsetof(struct lock, layers) + sizeof(struct lock_blob *),
               "LOCK_BLOBS is a list followed by its length");

const struct lock_table lock_table_file = { file_fields, NB_ARRAY_LEN(file_fields) };
const struct lock_table lock_table_package = { package_fields, NB_ARRAY_LEN(package_fields) };
const struct lock_table lock_table_npm = { npm_fields, NB_ARRAY_LEN(npm_fields) };
const struct lock_table lock_table_blob = { blob_fields, NB_ARRAY_LEN(blob_fields) };
