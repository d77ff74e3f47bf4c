/* CONNECT and its answer (see proxy_head.h). */
#include "gateway/proxy_head.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"

static char *base64(const char *text) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const uint8_t *in = (const uint8_t *)text;
        size_t len = strlen(text), n = 0;
        char *out = nb_calloc((len + 2) / 3 * 4 + 1, 1);
        for (size_t i = 0; i < len; i += 3) {
                uint32_t v =
                    (uint32_t)in[i] << 16 | (i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0) | (i + 2 < len ? in[i + 2] : 0);
                out[n++] = digits[v >> 18];
                out[n++] = digits[v >> 12 & 63];
                out[n++] = i + 1 < len ? digits[v >> 6 & 63] : '=';
                out[n++] = i + 2 < len ? digits[v & 63] : '=';
        }
        return out;
}

static void wipe(char **text) {
        if (*text)
                explicit_bzero(*text, strlen(*text));
        free(*text);
}

char *proxy_request(const struct proxy_url *proxy, const char *name, uint16_t port) {
        unsigned p = port;
        if (!proxy->credentials)
                return nb_asprintf("CONNECT %s:%u HTTP/1.1\r\nHost: %s:%u\r\n\r\n", name, p, name, p);
        __attribute__((cleanup(wipe))) char *code = base64(proxy->credentials);
        return nb_asprintf("CONNECT %s:%u HTTP/1.1\r\nHost: %s:%u\r\nProxy-Authorization: Basic %s\r\n\r\n", name, p, name, p,
                           code);
}

/* The line at `bytes`, without its CRLF: its length, or -1 if it has no end, -EPROTO for a CR or LF alone, or NUL. */
static ssize_t line_length(const uint8_t *bytes, size_t len) {
        for (size_t i = 0; i < len; i++) {
                if (bytes[i] == '\n' || bytes[i] == 0)
                        return -EPROTO;
                if (bytes[i] != '\r')
                        continue;
                if (i + 1 == len)
                        return -1;
                return bytes[i + 1] == '\n' ? (ssize_t)i : -EPROTO;
        }
        return -1;
}

static bool is_token(const uint8_t *bytes, size_t len) {
        for (size_t i = 0; i < len; i++)
                if (!isalnum(bytes[i]) && (!bytes[i] || !strchr("!#$%&'*+-.^_`|~", bytes[i])))
                        return false;
        return len > 0;
}

/* "HTTP/1.1 200 Connection established" */
static int read_status(const uint8_t *line, size_t len, struct proxy_answer *ret) {
        if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') || line[8] != ' ')
                return -EPROTO;
        if (!isdigit(line[9]) || !isdigit(line[10]) || !isdigit(line[11]) || line[9] < '2' || (len > 12 && line[12] != ' '))
                return -EPROTO; /* 1xx would be followed by another answer */
        ret->status = (line[9] - '0') * 100u + (line[10] - '0') * 10u + (line[11] - '0');
        size_t n = 0;
        for (size_t i = 13; i < len && n < PROXY_REASON_MAX; i++)
                ret->reason[n++] = line[i] >= 0x20 && line[i] < 0x7f ? (char)line[i] : '?';
        return 0;
}

ssize_t proxy_answer_read(const uint8_t *bytes, size_t len, struct proxy_answer *ret) {
        *ret = (struct proxy_answer){ 0 };
        for (size_t at = 0; at < PROXY_HEAD_MAX;) {
                ssize_t n = line_length(bytes + at, len - at);
                if (n == -1)
                        return len < PROXY_HEAD_MAX ? 0 : -E2BIG;
                if (n < 0)
                        return n;
                const uint8_t *line = bytes + at, *colon = memchr(line, ':', (size_t)n);
                if (at == 0 ? read_status(line, (size_t)n, ret) < 0
                            : n > 0 && (!colon || !is_token(line, (size_t)(colon - line))))
                        return -EPROTO;
                at += (size_t)n + 2;
                if (n == 0)
                        return at <= PROXY_HEAD_MAX ? (ssize_t)at : -E2BIG;
        }
        return -E2BIG;
}
