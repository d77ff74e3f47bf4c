/* HTTP/1 request heads and the ends of their bodies (see http.h). A head is judged whole and passes whole. What is refused
 * here is what two readers have been known to read differently. Nothing here knows about rules or sockets. */
#include "gateway/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/text.h"

#define LENGTH_DIGITS_MAX 18u /* so that it fits */
#define CHUNK_DIGITS_MAX 15u
#define PORT_DIGITS_MAX 5u
#define VERSION_LEN 8u

enum { STATE_HEAD, STATE_BODY, STATE_CHUNK_SIZE, STATE_CHUNK, STATE_CHUNK_END, STATE_LAST_END, STATE_SWITCHING, STATE_FAILED };

/* A piece of the head. */
struct part {
        const char *at;
        size_t len;
};

/* What the head says, until it is judged as a whole. */
struct head {
        struct part authority; /* of an absolute target */
        struct part host, upgrade;
        unsigned n_host, n_length, n_encoding, n_upgrade;
        uint64_t length;
        bool old; /* HTTP/1.0 */
};

void http_begin(struct http *h, const char *host, uint16_t port) {
        *h = (struct http){ .host = host, .port = port, .state = STATE_HEAD };
}

static int fail(struct http *h, int code, const char *problem) {
        h->problem = problem;
        return -code;
}

/* ---- characters */

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

static bool is_token(char c) {
        return is_letter(c) || is_digit(c) || (c != 0 && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_control(char c) {
        return (unsigned char)c < 0x20 || c == 0x7f;
}

static bool is_text(struct part p, const char *text) {
        return p.len == strlen(text) && strncasecmp(p.at, text, p.len) == 0;
}

static bool is_exactly(struct part p, const char *text) {
        return p.len == strlen(text) && memcmp(p.at, text, p.len) == 0;
}

static int hex(uint8_t c) {
        if (is_digit((char)c))
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ---- is it HTTP? */

/* The start of a target that no other line protocol has. 1, 0 for too few bytes, -EPROTO. */
static int looks_target(const char *at, size_t len) {
        static const char *const schemes[] = { "http:", "https:" };
        if (len == 0)
                return 0;
        if (*at == '/' || *at == '*')
                return 1;
        for (size_t i = 0; i < NB_ARRAY_LEN(schemes); i++) {
                size_t n = strlen(schemes[i]);
                if (strncasecmp(at, schemes[i], len < n ? len : n) == 0)
                        return len >= n;
        }
        return -EPROTO;
}

/* Any line that ends with a version of HTTP. */
static int looks_line(const char *at, size_t len) {
        for (size_t i = 0; i < len; i++) {
                if (i > 0 && is_blank(at[i - 1]) && len - i >= 5 && strncasecmp(at + i, "HTTP/", 5) == 0)
                        return 1;
                if (is_control(at[i]) && at[i] != '\t')
                        return -EPROTO;
        }
        return len < HTTP_HEAD_MAX ? 0 : 1;
}

/* Servers skip any number of empty lines and take methods of any length: what goes on like that for longer than a head may be
 * counts as HTTP too, which then is refused. */
int http_looks(const uint8_t *bytes, size_t len) {
        const char *at = (const char *)bytes, *end = at + len;
        while (at < end && (is_blank(*at) || *at == '\r' || *at == '\n'))
                at++;
        const char *method = at;
        while (at < end && is_token(*at))
                at++;
        if (at < end && (at == method || !is_blank(*at)))
                return -EPROTO;
        while (at < end && is_blank(*at))
                at++;
        if (at == end)
                return len < HTTP_HEAD_MAX ? 0 : 1;
        /* git's own protocol begins with digits, a word and a path */
        int r = is_letter(*method) ? looks_target(at, (size_t)(end - at)) : -EPROTO;
        return r == -EPROTO ? looks_line(method, (size_t)(end - method)) : r;
}

/* ---- the head, line by line */

static int read_target(struct http *h, struct part target, bool options, struct head *ret) {
        if (target.len == 0)
                return fail(h, EPROTO, "the request line is malformed");
        for (size_t i = 0; i < target.len; i++)
                if (is_control(target.at[i]) || is_blank(target.at[i]) || target.at[i] == '#')
                        return fail(h, EPROTO, "the request line is malformed");
        if (target.at[0] == '/' || (options && is_text(target, "*")))
                return 0;
        if (target.len < 7 || strncasecmp(target.at, "http://", 7) != 0)
                return fail(h, EPROTO, "the request's target is neither a path nor an http address");
        ret->authority.at = target.at + 7;
        while (7 + ret->authority.len < target.len && !strchr("/?", ret->authority.at[ret->authority.len]))
                ret->authority.len++;
        return 0;
}

/* "GET /path HTTP/1.1" */
static int read_request_line(struct http *h, struct part line, struct head *ret) {
        size_t n = 0;
        while (n < line.len && ((line.at[n] >= 'A' && line.at[n] <= 'Z') || line.at[n] == '-'))
                n++;
        if (n == 0 || n >= sizeof(h->method) || line.len < n + 1 + 1 + 1 + VERSION_LEN || line.at[n] != ' ')
                return fail(h, EPROTO, "the request line is malformed");
        memcpy(h->method, line.at, n);
        h->method[n] = 0;
        struct part version = { line.at + line.len - VERSION_LEN, VERSION_LEN };
        if (version.at[-1] != ' ' || (!is_exactly(version, "HTTP/1.1") && !is_exactly(version, "HTTP/1.0")))
                return fail(h, EPROTO, "the request line does not end with HTTP/1.1 or HTTP/1.0");
        if (strcmp(h->method, "CONNECT") == 0 || strcmp(h->method, "TRACE") == 0)
                return fail(h, EPROTO, "CONNECT and TRACE are not passed on");
        ret->old = version.at[7] == '0';
        struct part target = { line.at + n + 1, line.len - n - 2 - VERSION_LEN };
        return read_target(h, target, strcmp(h->method, "OPTIONS") == 0, ret);
}

/* Digits and nothing else, without zeros in front. */
static int read_length(struct http *h, struct part value, uint64_t *ret) {
        *ret = 0;
        for (size_t i = 0; i < value.len; i++) {
                if (!is_digit(value.at[i]))
                        return fail(h, EPROTO, "Content-Length is not a number");
                *ret = *ret * 10 + (uint64_t)(value.at[i] - '0');
                if (i >= LENGTH_DIGITS_MAX)
                        return fail(h, EPROTO, "Content-Length is too large");
        }
        if (value.len == 0 || (value.len > 1 && value.at[0] == '0'))
                return fail(h, EPROTO, "Content-Length is not a number");
        return 0;
}

/* Some programs read "_" as "-": such a header would count for them alone. */
static bool is_disguised(struct part name, const char *of) {
        bool differs = false;
        if (name.len != strlen(of))
                return false;
        for (size_t i = 0; i < name.len; i++) {
                char c = name.at[i] == '_' ? '-' : name.at[i];
                differs |= c != name.at[i];
                if (strncasecmp(&c, &of[i], 1) != 0)
                        return false;
        }
        return differs;
}

static int read_header(struct http *h, struct part line, struct head *ret) {
        struct part name = { line.at, 0 };
        while (name.len < line.len && is_token(line.at[name.len]))
                name.len++;
        if (name.len == 0 || name.len == line.len || line.at[name.len] != ':')
                return fail(h, EPROTO, "a header is malformed");
        struct part value = { line.at + name.len + 1, line.len - name.len - 1 };
        for (; value.len > 0 && is_blank(value.at[0]); value.len--)
                value.at++;
        while (value.len > 0 && is_blank(value.at[value.len - 1]))
                value.len--;
        for (size_t i = 0; i < value.len; i++)
                if (is_control(value.at[i]) && value.at[i] != '\t')
                        return fail(h, EPROTO, "a header holds a control character");
        if (is_disguised(name, "Content-Length") || is_disguised(name, "Transfer-Encoding"))
                return fail(h, EPROTO, "a header is Content-Length or Transfer-Encoding in disguise");
        if (is_text(name, "Host")) {
                ret->host = value;
                if (ret->n_host++ > 0)
                        return fail(h, EPROTO, "there are two Host headers");
        } else if (is_text(name, "Content-Length")) {
                if (ret->n_length++ > 0)
                        return fail(h, EPROTO, "there are two Content-Length headers");
                return read_length(h, value, &ret->length);
        } else if (is_text(name, "Transfer-Encoding")) {
                if (ret->n_encoding++ > 0 || !is_exactly(value, "chunked"))
                        return fail(h, EPROTO, "Transfer-Encoding is not just chunked");
        } else if (is_text(name, "Upgrade")) {
                ret->upgrade = value;
                ret->n_upgrade++;
        }
        return 0;
}

/* ---- the head as a whole */

/* "name" or "name:port"; puts the canonical name, if it is one, into `asked`. */
static bool names_port(const struct http *h, struct part authority, char asked[NAME_MAX_LEN + 1]) {
        const char *colon = memchr(authority.at, ':', authority.len);
        size_t name_len = colon ? (size_t)(colon - authority.at) : authority.len;
        unsigned port = colon ? 0 : 80;
        size_t digits = colon ? authority.len - name_len - 1 : 0;
        bool good = name_canonical(authority.at, name_len, asked) > 0 && digits <= PORT_DIGITS_MAX;
        for (size_t i = 1; good && i <= digits; i++) {
                good = is_digit(colon[i]);
                port = port * 10 + (unsigned)(colon[i] - '0');
        }
        return good && port == h->port && (!colon || (digits > 0 && colon[1] != '0'));
}

/* "192.0.2.1:8080", "[2001:db8::1]": no name, and nothing that anybody could read as one. */
static bool names_address(struct part authority) {
        char text[INET6_ADDRSTRLEN];
        bool six = authority.len > 0 && authority.at[0] == '[';
        const char *end = memchr(authority.at, six ? ']' : ':', authority.len);
        size_t from = six ? 1 : 0, len = end ? (size_t)(end - authority.at) : authority.len;
        if (len - from >= sizeof(text) || (six && !end))
                return false;
        memcpy(text, authority.at + from, len - from);
        text[len - from] = 0;
        return inet_pton(six ? AF_INET6 : AF_INET, text, &(struct in6_addr){ 0 }) == 1;
}

/* Where the connection is not bound to a name: one reading, and nothing denied. */
static int judge_free(struct http *h, const struct head *head, const char *target) {
        if (head->authority.at && strcmp(target, h->asked) != 0)
                return fail(h, EPROTO, "the request's target and Host differ");
        if (head->host.len > 0 && !*h->asked && !names_address(head->host))
                return fail(h, EPROTO, "the Host header holds neither a name nor an address");
        return !h->allowed || h->allowed(h->user, h->asked) ? 0 : fail(h, EACCES, "the Host header names a denied host");
}

static int judge_host(struct http *h, const struct head *head) {
        char target[NAME_MAX_LEN + 1] = "";
        if (head->n_host == 0 && (h->host || !head->old))
                return fail(h, EPROTO, "there is no Host header");
        bool port = head->n_host > 0 && names_port(h, head->host, h->asked);
        bool target_port = !head->authority.at || names_port(h, head->authority, target);
        if (!h->host)
                return judge_free(h, head, target);
        if (strcmp(h->asked, h->host) != 0)
                return fail(h, EACCES, "the Host header names another host than the connection's");
        if (head->authority.at && strcmp(target, h->host) != 0) {
                memcpy(h->asked, target, sizeof(target));
                return fail(h, EACCES, "the request's target names another host than the connection's");
        }
        if (!port || !target_port)
                return fail(h, EACCES, "the Host header or the request's target names another port than the connection's");
        return 0;
}

static int judge_upgrade(struct http *h, const struct head *head) {
        if (head->n_upgrade != 1 || !is_text(head->upgrade, "websocket"))
                return 0;
        if (h->requests > 0)
                return fail(h, EPROTO, "a websocket is asked for on a connection already used");
        if (head->old || head->length > 0 || head->n_encoding > 0 || strcmp(h->method, "GET") != 0)
                return fail(h, EPROTO, "the request for a websocket is malformed");
        h->upgrade = true;
        return 0;
}

/* The state after this head. */
static int judge(struct http *h, const struct head *head) {
        if (head->n_encoding > 0 && (head->n_length > 0 || head->old))
                return fail(h, EPROTO, "Transfer-Encoding comes with Content-Length or HTTP/1.0");
        int r = judge_host(h, head);
        if (r == 0)
                r = judge_upgrade(h, head);
        if (r < 0)
                return r;
        h->requests++;
        h->left = head->length;
        if (h->upgrade)
                h->state = STATE_SWITCHING;
        else if (head->n_encoding > 0)
                h->state = STATE_CHUNK_SIZE;
        else if (h->left > 0)
                h->state = STATE_BODY;
        return 0;
}

static struct part next_line(const char **at, const char *end) {
        struct part line = { *at, 0 };
        const char *lf = memchr(*at, '\n', (size_t)(end - *at));
        line.len = (size_t)(lf - *at) - 1; /* before CR LF: that there is one was seen by scan() */
        *at = lf + 1;
        return line;
}

static int read_head(struct http *h, const char *at, size_t len) {
        struct head head = { 0 };
        const char *end = at + len - 2; /* the empty line */
        h->asked[0] = 0;
        int r = read_request_line(h, next_line(&at, end), &head);
        while (r == 0 && at < end)
                r = read_header(h, next_line(&at, end), &head);
        return r == 0 ? judge(h, &head) : r;
}

/* Looks for the empty line; lines end with CR LF and nothing else. Goes on where it stopped. *ret is the head's length. */
static int scan(struct http *h, const char *at, size_t len, size_t *ret) {
        for (size_t i = h->scanned; i < len; i++) {
                if (i >= HTTP_HEAD_MAX)
                        return fail(h, EPROTO, "the request's head is too long");
                if (at[i] == 0 || (at[i] == '\n') != (i > 0 && at[i - 1] == '\r'))
                        return fail(h, EPROTO, "the request holds a NUL, or a CR or LF alone");
                if (at[i] != '\n')
                        continue;
                bool first = !memchr(at, '\n', i);
                struct head ignored = { 0 };
                if (first) { /* told at once: whoever speaks HTTP/0.9 sends no more */
                        int r = read_request_line(h, (struct part){ at, i - 1 }, &ignored);
                        if (r < 0)
                                return r;
                } else if (at[i - 2] == '\n') {
                        h->scanned = 0;
                        *ret = i + 1;
                        return 1;
                }
        }
        h->scanned = len;
        return 0;
}

static ssize_t pass_head(struct http *h, const uint8_t *bytes, size_t len) {
        size_t head = 0;
        int r = scan(h, (const char *)bytes, len, &head);
        if (r == 1)
                r = read_head(h, (const char *)bytes, head);
        return r < 0 ? r : (ssize_t)head;
}

/* ---- bodies */

static ssize_t pass_size(struct http *h, const uint8_t *bytes, size_t len) {
        size_t n = 0;
        h->left = 0;
        for (int digit; n < len && n < CHUNK_DIGITS_MAX && (digit = hex(bytes[n])) >= 0; n++)
                h->left = h->left << 4 | (unsigned)digit;
        if ((n < len && (n == 0 || bytes[n] != '\r')) || (n + 1 < len && bytes[n + 1] != '\n'))
                return fail(h, EPROTO, "the length of a chunk is malformed, or has an extension");
        if (len < n + 2)
                return 0;
        h->state = h->left > 0 ? STATE_CHUNK : STATE_LAST_END;
        return (ssize_t)n + 2;
}

static ssize_t pass_line_end(struct http *h, const uint8_t *bytes, size_t len, uint8_t next) {
        if (bytes[0] != '\r' || (len > 1 && bytes[1] != '\n'))
                return fail(h, EPROTO, "a chunk does not end where it should, or has a trailer");
        if (len < 2)
                return 0;
        h->state = next;
        return 2;
}

static ssize_t pass_body(struct http *h, size_t len, uint8_t next) {
        size_t n = len < h->left ? len : (size_t)h->left;
        h->left -= n;
        if (h->left == 0)
                h->state = next;
        return (ssize_t)n;
}

/* One step: at least a byte, or 0 to wait. */
static ssize_t pass(struct http *h, const uint8_t *bytes, size_t len) {
        switch (h->state) {
        case STATE_HEAD: return pass_head(h, bytes, len);
        case STATE_BODY: return pass_body(h, len, STATE_HEAD);
        case STATE_CHUNK_SIZE: return pass_size(h, bytes, len);
        case STATE_CHUNK: return pass_body(h, len, STATE_CHUNK_END);
        case STATE_CHUNK_END: return pass_line_end(h, bytes, len, STATE_CHUNK_SIZE);
        case STATE_LAST_END: return pass_line_end(h, bytes, len, STATE_HEAD);
        case STATE_SWITCHING: return 0;
        default: return h->code;
        }
}

ssize_t http_up(struct http *h, const uint8_t *bytes, size_t len) {
        if (h->raw)
                return (ssize_t)len;
        size_t passed = 0;
        while (passed < len) {
                ssize_t n = pass(h, bytes + passed, len - passed);
                if (n < 0) {
                        h->state = STATE_FAILED;
                        h->code = (int)n;
                        return passed > 0 ? (ssize_t)passed : n;
                }
                if (n == 0)
                        break;
                passed += (size_t)n;
        }
        return (ssize_t)passed;
}

int http_switched(struct http *h, const uint8_t *bytes, size_t len) {
        static const char answer[] = "HTTP/1.1 101";
        size_t n = strlen(answer);
        if (h->state != STATE_SWITCHING)
                return 1;
        h->raw = strncmp((const char *)bytes, answer, len < n ? len : n) == 0;
        if (h->raw && len < n) {
                h->raw = false;
                return 0;
        }
        h->upgrade = false;
        h->state = STATE_HEAD;
        return 1;
}

char *http_refusal(const char *host, const char *why, const char *command) {
        NB_AUTO_FREE char *text =
            nb_asprintf("nixbox: %s: %s\n%s%s%s", host && *host ? host : "this request", why,
                        command ? "To allow it, outside the box: " : "", command ? command : "", command ? "\n" : "");
        NB_AUTO_FREE char *body = nb_text_clean(text, NB_TEXT_KEEP_NEWLINE);
        return nb_asprintf("HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                           "Cache-Control: no-store\r\nConnection: close\r\n\r\n%s",
                           strlen(body), body);
}
