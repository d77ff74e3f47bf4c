/* The caller's proxy (see proxy_env.h). Read by the starting command, with the caller's own view of files; the gateway has
 * neither an environment nor files. Of certificate files only the certificates are taken, whatever else is in them. */
#include "box/proxy_env.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "policy/proxy.h"

#define CERTIFICATES_MAX (2u * 1024u * 1024u) /* the gateway takes lines of 4 MiB, and JSON makes text longer */
#define FILE_MAX (4u * 1024u * 1024u)
#define DIR_FILES_MAX 4096

#define BEGIN "-----BEGIN CERTIFICATE-----"
#define END "-----END CERTIFICATE-----"

/* As curl: the lower case one counts. An empty one is none. */
static const char *setting(const char *lower, const char *upper) {
        const char *value = getenv(lower);
        if (!value)
                value = getenv(upper);
        return value && value[0] ? value : NULL;
}

/* Appends the certificates of a text. */
static int take_certificates(const char *text, struct nb_buf *out) {
        const char *end;
        for (const char *at = strstr(text, BEGIN); at && (end = strstr(at, END)); at = strstr(end, BEGIN)) {
                end += strlen(END);
                if (out->len + (size_t)(end - at) + 1 > CERTIFICATES_MAX)
                        return -EFBIG;
                nb_buf_add(out, at, (size_t)(end - at));
                nb_buf_add(out, "\n", 1);
        }
        return 0;
}

static int take_file(const char *path, struct nb_buf *out) {
        NB_AUTO_FREE char *text = NULL;
        size_t len;
        int r = nb_read_regular(path, FILE_MAX, &text, &len);
        if (r == 0)
                r = take_certificates(text, out);
        if (text)
                explicit_bzero(text, len); /* a key may have been beside them */
        return r;
}

/* What cannot be read in a folder is passed over, as OpenSSL does. */
static int take_folder(const char *path, struct nb_buf *out) {
        DIR *dir = opendir(path);
        if (!dir)
                return -errno;
        int r = 0;
        unsigned n = 0;
        for (struct dirent *e; r == 0 && n < DIR_FILES_MAX && (e = readdir(dir)); n++) {
                NB_AUTO_FREE char *file = nb_path_join(path, e->d_name);
                if (take_file(file, out) == -EFBIG)
                        r = -EFBIG;
        }
        closedir(dir);
        return r;
}

static int take_folders(const char *list, struct nb_buf *out, struct nb_error *err) {
        for (const char *at = list; *at; at += strspn(at, ":")) {
                size_t len = strcspn(at, ":");
                NB_AUTO_FREE char *path = nb_strndup(at, len);
                int r = len > 0 ? take_folder(path, out) : 0;
                if (r < 0) {
                        (void)nb_fail_errno(err, -r, "cannot read the certificates in %s", path);
                        return nb_hint(err, "SSL_CERT_DIR names it");
                }
                at += len;
        }
        return 0;
}

static int system_certificates(struct nb_buf *out, struct nb_error *err) {
        static const char *const files[] = { "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                             "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem" };
        for (size_t i = 0; i < NB_ARRAY_LEN(files) && out->len == 0; i++) {
                int r = take_file(files[i], out);
                if (r < 0 && r != -ENOENT)
                        return nb_fail_errno(err, -r, "cannot read the host's certificates from %s", files[i]);
        }
        return 0;
}

static int certificates(struct nb_buf *out, struct nb_error *err) {
        const char *file = getenv("SSL_CERT_FILE"), *folders = getenv("SSL_CERT_DIR");
        int r = 0;
        if (file && file[0]) {
                r = take_file(file, out);
                if (r < 0) {
                        (void)nb_fail_errno(err, -r, "cannot read the certificates in %s", file);
                        return nb_hint(err, "SSL_CERT_FILE names it");
                }
        } else {
                r = system_certificates(out, err);
        }
        if (r == 0 && folders)
                r = take_folders(folders, out, err);
        if (r == 0 && out->len == 0) {
                (void)nb_fail(err, ENOENT, "there are no certificates to check the proxy's with");
                return nb_hint(err, "install the package ca-certificates, or set SSL_CERT_FILE");
        }
        return r;
}

int proxy_settings(json_t **ret, struct nb_error *err) {
        const char *url = setting("https_proxy", "HTTPS_PROXY"), *past = setting("no_proxy", "NO_PROXY");
        struct proxy_url u;
        NB_AUTO_BUF ca = { 0 };
        *ret = NULL;
        if (!url)
                return 0;
        int r = proxy_url_parse(url, &u, err);
        if (r < 0)
                return nb_context(err, "HTTPS_PROXY");
        if (u.tls)
                r = certificates(&ca, err);
        proxy_url_clear(&u);
        if (r == 0 && past && strlen(past) > PROXY_NO_PROXY_MAX)
                r = nb_fail(err, E2BIG, "NO_PROXY is longer than %u characters", PROXY_NO_PROXY_MAX);
        if (r < 0)
                return r;
        json_t *o = json_pack("{s:s, s:s*}", "url", url, "no_proxy", past);
        if (o && ca.len > 0)
                (void)json_object_set_new(o, "ca", json_stringn((const char *)nb_buf_bytes(&ca), ca.len));
        if (!o || (ca.len > 0 && !json_object_get(o, "ca"))) {
                json_decref(o);
                return nb_fail(err, EINVAL, "HTTPS_PROXY, NO_PROXY or the certificates are not UTF-8");
        }
        *ret = o;
        return 0;
}
