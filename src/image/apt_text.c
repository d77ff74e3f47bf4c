/* Reading and writing apt's texts (see apt_text.h). */
#include "image/apt_text.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/lock_fields.h"

#define SECURITY_POOL "pool/updates/" /* paths of the security archive begin so, those of the main archive never */

bool apt_next_record(const char **at, struct apt_record *ret) {
        const char *p = *at;
        while (*p == '\n')
                p++;
        if (!*p)
                return false;
        const char *end = strstr(p, "\n\n");
        *ret = (struct apt_record){ p, end ? (size_t)(end - p) + 1 : strlen(p) }; /* with the newline of its last line */
        *at = p + ret->len;
        return true;
}

/* The line of a field and its length, with its name. */
static const char *find_line(const struct apt_record *record, const char *field, size_t *ret_len) {
        size_t n = strlen(field);
        const char *end = record->text + record->len;
        for (const char *p = record->text; p < end;) {
                size_t len = strcspn(p, "\n");
                if (len > n && p[n] == ':' && strncmp(p, field, n) == 0) {
                        *ret_len = len;
                        return p;
                }
                p += len + (p[len] == '\n');
        }
        return NULL;
}

char *apt_field(const struct apt_record *record, const char *field) {
        size_t len = 0, skip = strlen(field) + 1;
        const char *line = find_line(record, field, &len);
        if (!line)
                return NULL;
        while (skip < len && (line[skip] == ' ' || line[skip] == '\t'))
                skip++;
        return nb_strndup(line + skip, len - skip);
}

static bool is_of(const struct apt_record *record, const char *name, const char *version) {
        NB_AUTO_FREE char *n = apt_field(record, "Package");
        if (!n || strcmp(n, name) != 0)
                return false;
        NB_AUTO_FREE char *v = version ? apt_field(record, "Version") : NULL;
        return !version || (v && strcmp(v, version) == 0);
}

bool apt_find_record(const char *text, const char **at, const char *name, const char *version, struct apt_record *ret) {
        const char *start = *at;
        for (const char *p = start; apt_next_record(&p, ret);)
                if (is_of(ret, name, version)) {
                        *at = p;
                        return true;
                }
        for (const char *p = text; p < start && apt_next_record(&p, ret);)
                if (is_of(ret, name, version)) {
                        *at = p;
                        return true;
                }
        return false;
}

static int hex_value(char c) {
        return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* Without the %XX that apt writes for some characters. New string. */
static char *decode(const char *text, size_t len) {
        char *out = nb_calloc(len + 1, 1), *o = out;
        for (size_t i = 0; i < len; i++) {
                int high = text[i] == '%' && i + 2 < len ? hex_value(text[i + 1]) : -1;
                int low = high >= 0 ? hex_value(text[i + 2]) : -1;
                *o++ = low >= 0 ? (char)(high * 16 + low) : text[i];
                i += low >= 0 ? 2 : 0;
        }
        return out;
}

/* NAME_VERSION_ARCH.deb */
static int parse_file_name(const char *text, size_t len, struct lock_package *p) {
        static const char suffix[] = ".deb";
        const char *first = memchr(text, '_', len);
        const char *second = first ? memchr(first + 1, '_', len - (size_t)(first + 1 - text)) : NULL;
        if (!second || len < strlen(suffix) || strncmp(text + len - strlen(suffix), suffix, strlen(suffix)) != 0)
                return -EBADMSG;
        p->name = decode(text, (size_t)(first - text));
        p->version = decode(first + 1, (size_t)(second - first - 1));
        p->arch = decode(second + 1, len - strlen(suffix) - (size_t)(second + 1 - text));
        return 0;
}

int apt_parse_uris(const char *text, struct lock_set *ret) {
        for (const char *p = text; *p;) {
                size_t len = strcspn(p, "\n");
                /* 'URI' FILE SIZE HASH; whatever else apt has to say does not begin so */
                const char *quote = p[0] == '\'' ? memchr(p + 1, '\'', len - 1) : NULL;
                if (quote && quote[1] == ' ') {
                        size_t name = strcspn(quote + 2, " \n");
                        if (ret->n == LOCK_PACKAGES_MAX)
                                return -EBADMSG;
                        ret->packages = nb_realloc(ret->packages, ret->n + 1, sizeof *ret->packages);
                        ret->packages[ret->n++] = (struct lock_package){ 0 };
                        int r = parse_file_name(quote + 2, name, &ret->packages[ret->n - 1]);
                        if (r < 0)
                                return r;
                }
                p += len + (p[len] == '\n');
        }
        return 0;
}

int apt_fill_package(const struct apt_record *record, struct lock_package *p) {
        NB_AUTO_FREE char *size = apt_field(record, "Size"), *hash = apt_field(record, "SHA256");
        NB_AUTO_FREE char *path = apt_field(record, "Filename"), *arch = apt_field(record, "Architecture");
        if (!size || !hash || !path || !arch || !lock_valid_hash(hash) || nb_parse_uint(size, UINT64_MAX, &p->size) < 0)
                return -EBADMSG;
        memcpy(p->sha256, hash, NB_SHA256_HEX);
        free(p->archive);
        free(p->path);
        free(p->arch);
        p->archive = nb_strdup(nb_starts_with(path, SECURITY_POOL) ? "debian-security" : "debian");
        p->path = nb_steal(&path);
        p->arch = nb_steal(&arch);
        return 0;
}

bool apt_exact_dependency(const struct apt_record *record, char **ret_name, char **ret_version) {
        NB_AUTO_FREE char *depends = apt_field(record, "Depends");
        size_t name = depends ? strcspn(depends, " ,") : 0;
        const char *version = name > 0 && nb_starts_with(depends + name, " (= ") ? depends + name + 4 : NULL;
        size_t len = version ? strcspn(version, ")") : 0;
        if (len == 0 || version[len] != ')')
                return false;
        *ret_version = nb_strndup(version, len);
        *ret_name = nb_strndup(depends, name);
        return true;
}

static void add(struct nb_buf *b, const char *text, size_t len) {
        nb_buf_add(b, text, len);
}

static void add_installed(struct nb_buf *b, const struct lock_package *p, const char *show, const char **at) {
        static const char installed[] = "Status: install ok installed\n";
        struct apt_record record;
        add(b, installed, strlen(installed));
        if (apt_find_record(show, at, p->name, p->version, &record)) {
                add(b, record.text, record.len);
                add(b, "\n\n", record.text[record.len - 1] == '\n' ? 1 : 2);
                return;
        }
        bool other = apt_find_record(show, at, p->name, NULL, &record);
        NB_AUTO_FREE char *provides = other ? apt_field(&record, "Provides") : NULL;
        NB_AUTO_FREE char *text = nb_asprintf(
            "Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: none\nDescription: none\n", p->name, p->version, p->arch);
        add(b, text, strlen(text));
        if (provides) {
                NB_AUTO_FREE char *line = nb_asprintf("Provides: %s\n", provides);
                add(b, line, strlen(line));
        }
        add(b, "\n", 1);
}

char *apt_status(const struct lock_set *const *sets, const char *show) {
        NB_AUTO_BUF b = { 0 };
        const char *at = show;
        for (; *sets; sets++)
                for (size_t i = 0; i < (*sets)->n; i++)
                        add_installed(&b, &(*sets)->packages[i], show, &at);
        return nb_strndup(b.len ? (const char *)nb_buf_bytes(&b) : "", b.len);
}

/* "a (= 1), b": names with a version or without, as in the field Provides. */
static bool lists_name(const char *list, const char *name) {
        size_t len = strlen(name);
        for (const char *at = list; at && *at; at = strchr(at, ',')) {
                at += strspn(at, ", ");
                if (strncmp(at, name, len) == 0 && (at[len] == 0 || strchr(" ,(:", at[len])))
                        return true;
        }
        return false;
}

char *apt_provider(const char *show, const char *name) {
        struct apt_record record;
        for (const char *at = show; apt_next_record(&at, &record);) {
                NB_AUTO_FREE char *provides = apt_field(&record, "Provides");
                if (provides && lists_name(provides, name))
                        return apt_field(&record, "Package");
        }
        return NULL;
}
