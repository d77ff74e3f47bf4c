/* The host's proxy: URL and NO_PROXY (see proxy.h). */
#include "policy/proxy.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/text.h"
#include "policy/policy.h"

static int bad(struct nb_error *err, const char *why) {
        (void)nb_fail(err, EINVAL, "the proxy's URL %s", why);
        return nb_hint(err, "write it as http://HOST:PORT or https://USER:PASSWORD@HOST:PORT");
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* %XX decoded. NULL if that is malformed or gives a control character, which would not stay inside its header. */
static char *decode(const char *text, size_t len) {
        NB_AUTO_FREE char *out = nb_calloc(len + 1, 1);
        size_t n = 0;
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)text[i];
                if (c == '%') {
                        if (len - i < 3)
                                return NULL;
                        int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
                        if (high < 0 || low < 0)
                                return NULL;
                        c = (unsigned char)(high << 4 | low);
                        i += 2;
                }
                if (c < 0x20 || c == 0x7f)
                        return NULL;
                out[n++] = (char)c;
        }
        return nb_steal(&out);
}

static int take_scheme(const char **text, bool *ret_tls, struct nb_error *err) {
        const char *end = strstr(*text, "://");
        *ret_tls = false;
        if (!end)
                return 0;
        size_t len = (size_t)(end - *text);
        if (len == 5 && strncasecmp(*text, "https", len) == 0)
                *ret_tls = true;
        else if (len >= 5 && strncasecmp(*text, "socks", 5) == 0)
                return bad(err, "is that of a SOCKS proxy, and only http:// and https:// are supported");
        else if (len != 4 || strncasecmp(*text, "http", len) != 0)
                return bad(err, "begins with something else than http:// or https://");
        *text = end + strlen("://");
        return 0;
}

/* "USER:PASSWORD@" at the front; the last @ counts, as a password may hold one. */
static int take_credentials(const char **text, size_t *len, char **ret, struct nb_error *err) {
        const char *at = memrchr(*text, '@', *len);
        if (!at)
                return 0;
        NB_AUTO_FREE char *both = decode(*text, (size_t)(at - *text));
        if (!both)
                return bad(err, "has a user or password that is not percent-encoded as it should be");
        *ret = strchr(both, ':') ? nb_steal(&both) : nb_asprintf("%s:", both);
        *len -= (size_t)(at + 1 - *text);
        *text = at + 1;
        return 0;
}

static int take_port(const char *text, size_t len, struct proxy_url *u, struct nb_error *err) {
        uint64_t port;
        NB_AUTO_FREE char *digits = nb_strndup(text, len);
        if (nb_parse_uint(digits, UINT16_MAX, &port) < 0 || port == 0)
                return bad(err, "has a port that is not a number from 1 to 65535");
        u->port = (uint16_t)port;
        return 0;
}

static int take_host(const char *text, size_t len, struct proxy_url *u, struct nb_error *err) {
        char name[NAME_MAX_LEN + 1];
        bool brackets = len > 0 && text[0] == '[';
        const char *end = memchr(text, brackets ? ']' : ':', len);
        if (brackets && !end)
                return bad(err, "has a [ without ]");
        size_t host_len = end ? (size_t)(end - text) : len, used = host_len + brackets;
        NB_AUTO_FREE char *host = nb_strndup(text + brackets, host_len - brackets);
        if (addr_parse(host, &u->addr) == 0) {
                if ((u->addr.family == AF_INET6) != brackets)
                        return bad(err, "has an address that is not written as URLs write it");
        } else if (brackets || name_canonical(host, strlen(host), name) < 0) {
                return bad(err, "has no host, or one that is not a host name");
        } else {
                u->addr = (struct addr){ 0 };
                u->host = nb_strdup(name);
        }
        if (used == len)
                return 0;
        return text[used] == ':' ? take_port(text + used + 1, len - used - 1, u, err)
                                 : bad(err, "has something after its host");
}

int proxy_url_parse(const char *text, struct proxy_url *ret, struct nb_error *err) {
        struct proxy_url u = { 0 };
        if (strlen(text) > PROXY_URL_MAX)
                return bad(err, "is too long");
        int r = take_scheme(&text, &u.tls, err);
        if (r < 0)
                return r;
        u.port = u.tls ? 443 : 80;
        size_t len = strcspn(text, "/?#");
        if (text[len] && strcmp(text + len, "/") != 0)
                return bad(err, "has more than a host and a port");
        r = take_credentials(&text, &len, &u.credentials, err);
        if (r == 0)
                r = take_host(text, len, &u, err);
        if (r < 0)
                proxy_url_clear(&u);
        else
                *ret = u;
        return r;
}

void proxy_url_clear(struct proxy_url *u) {
        if (u->credentials)
                explicit_bzero(u->credentials, strlen(u->credentials));
        free(u->credentials);
        free(u->host);
        *u = (struct proxy_url){ 0 };
}

/* ---- NO_PROXY */

/* Does one item of the list match? */
static bool item_matches(const char *item, size_t len, const char *name, uint16_t port) {
        char wanted[NAME_MAX_LEN + 1];
        const char *colon = memrchr(item, ':', len);
        if (colon) {
                uint64_t only;
                NB_AUTO_FREE char *digits = nb_strndup(colon + 1, len - (size_t)(colon + 1 - item));
                if (nb_parse_uint(digits, UINT16_MAX, &only) < 0 || only != port)
                        return false;
                len = (size_t)(colon - item);
        }
        if (len > 1 && item[0] == '*' && item[1] == '.') {
                item++;
                len--;
        }
        if (len > 0 && item[0] == '.') {
                item++;
                len--;
        }
        if (name_canonical(item, len, wanted) < 0) /* an address, a range, or nothing */
                return false;
        return strcmp(name, wanted) == 0 || name_below(name, wanted);
}

bool proxy_passed_by(const char *no_proxy, const char *name, uint16_t port) {
        static const char separators[] = ", \t\r\n";
        if (!no_proxy)
                return false;
        for (const char *p = no_proxy + strspn(no_proxy, separators); *p; p += strspn(p, separators)) {
                size_t len = strcspn(p, separators);
                if ((len == 1 && *p == '*') || item_matches(p, len, name, port))
                        return true;
                p += len;
        }
        return false;
}

bool proxy_serves(const char *no_proxy, const char *name, uint16_t port, bool private) {
        return !private && strcmp(name, POLICY_HOST) != 0 && !proxy_passed_by(no_proxy, name, port);
}
