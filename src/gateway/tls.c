/* The ClientHello (see tls.h). Whatever a server might take for the start of TLS counts as TLS, so that it is held to the
 * rules for names; what is then read is only what all servers read alike. Nothing here knows about rules or sockets. */
#include "gateway/tls.h"

#include <errno.h>
#include <string.h>

#define RECORD_HEADER 5u
#define RECORD_MAX 16384u /* plaintext of one record */
#define HANDSHAKE_HEADER 4u
#define RANDOM_LEN 32u
#define SESSION_MAX 32u

enum { CONTENT_FIRST = 20, CONTENT_HANDSHAKE = 22, CONTENT_LAST = 24 };
enum { ALERT = 21, ALERT_FATAL = 2, CLIENT_HELLO = 1, MAJOR = 3, SNI_HOST_NAME = 0 };
enum { EXT_SERVER_NAME = 0, EXT_ENCRYPTED_HELLO = 0xfe0d, EXT_ENCRYPTED_NAME = 0xffce /* its forerunner */ };

/* The rest of what is to be read; `bad` sticks. */
struct cursor {
        const uint8_t *at;
        size_t left;
        bool bad;
};

static const uint8_t *take(struct cursor *c, size_t len) {
        if (c->bad || len > c->left) {
                c->bad = true;
                return NULL;
        }
        const uint8_t *from = c->at;
        c->at += len;
        c->left -= len;
        return from;
}

static size_t number(struct cursor *c, size_t bytes) {
        const uint8_t *from = take(c, bytes);
        size_t value = 0;
        for (size_t i = 0; from && i < bytes; i++)
                value = value << 8 | from[i];
        return value;
}

/* A vector with its length in front, as a cursor of its own. */
static struct cursor vector(struct cursor *c, size_t length_bytes) {
        size_t len = number(c, length_bytes);
        const uint8_t *from = take(c, len);
        return (struct cursor){ .at = from, .left = from ? len : 0, .bad = c->bad };
}

/* A hello in the form of SSL 2, which servers once took and a few still do: it has no room for a name. */
static int looks_old(const uint8_t *bytes, size_t len) {
        if (len > 2 && bytes[2] != CLIENT_HELLO)
                return -EPROTO;
        if (len > 3 && bytes[3] != MAJOR && bytes[3] != 0)
                return -EPROTO;
        if (len > 4 && bytes[3] == 0 && bytes[4] != 2)
                return -EPROTO;
        return len > 4;
}

int tls_looks(const uint8_t *bytes, size_t len) {
        if (len == 0)
                return 0;
        if (bytes[0] & 0x80)
                return looks_old(bytes, len);
        /* servers put up with some other records before the handshake, so they are no way around it */
        if (bytes[0] < CONTENT_FIRST || bytes[0] > CONTENT_LAST)
                return -EPROTO;
        if (len < 2)
                return 0;
        return bytes[1] == MAJOR ? 1 : -EPROTO;
}

/* Puts together what the records hold. 1: the message is whole, its body is in `body`; 0: more is needed. */
static int gather(const uint8_t *bytes, size_t len, uint8_t body[TLS_HELLO_MAX], size_t *ret_len) {
        size_t have = 0, whole = SIZE_MAX;
        for (size_t at = 0; have < whole;) {
                if (at < len && bytes[at] != CONTENT_HANDSHAKE)
                        return -EPROTO;
                if (at + 1 < len && bytes[at + 1] != MAJOR)
                        return -EPROTO;
                if (len - at < RECORD_HEADER)
                        return 0;
                size_t record = (size_t)bytes[at + 3] << 8 | bytes[at + 4];
                if (record == 0 || record > RECORD_MAX)
                        return -EPROTO;
                at += RECORD_HEADER;
                size_t here = len - at < record ? len - at : record;
                if (have + here > TLS_HELLO_MAX)
                        return -E2BIG;
                memcpy(body + have, bytes + at, here);
                have += here;
                at += here;
                if (have > 0 && body[0] != CLIENT_HELLO)
                        return -EPROTO;
                if (have >= HANDSHAKE_HEADER) {
                        whole = HANDSHAKE_HEADER + ((size_t)body[1] << 16 | (size_t)body[2] << 8 | body[3]);
                        if (whole > TLS_HELLO_MAX)
                                return -E2BIG;
                        if (have - here + record > whole) /* more in this record than the message */
                                return -EPROTO;
                }
                if (here < record)
                        return 0;
        }
        *ret_len = whole - HANDSHAKE_HEADER;
        memmove(body, body + HANDSHAKE_HEADER, *ret_len);
        return 1;
}

static int read_names(struct cursor ext, struct tls_hello *ret) {
        struct cursor list = vector(&ext, 2);
        if (number(&list, 1) != SNI_HOST_NAME)
                return -EPROTO;
        struct cursor name = vector(&list, 2);
        if (name.bad || name.left == 0 || list.left > 0 || ext.left > 0)
                return -EPROTO;
        ret->has_name = true;
        ret->valid_name = name_canonical(name.at, name.left, ret->name) > 0;
        return 0;
}

static int read_extensions(struct cursor *c, struct tls_hello *ret) {
        uint8_t seen[65536 / 8] = { 0 };
        while (c->left > 0) {
                size_t type = number(c, 2);
                struct cursor ext = vector(c, 2);
                if (ext.bad || seen[type / 8] & 1u << type % 8)
                        return -EPROTO;
                seen[type / 8] |= (uint8_t)(1u << type % 8);
                if (type == EXT_SERVER_NAME && read_names(ext, ret) < 0)
                        return -EPROTO;
                if (type == EXT_ENCRYPTED_HELLO || type == EXT_ENCRYPTED_NAME)
                        ret->encrypted = true;
        }
        return 1;
}

static int read_hello(struct cursor c, struct tls_hello *ret) {
        size_t version = number(&c, 2);
        take(&c, RANDOM_LEN);
        struct cursor session = vector(&c, 1), ciphers = vector(&c, 2), compression = vector(&c, 1);
        if (c.bad || version >> 8 != MAJOR || session.left > SESSION_MAX || ciphers.left < 2 || ciphers.left % 2 != 0 ||
            compression.left == 0)
                return -EPROTO;
        if (c.left == 0) /* TLS 1.0 knew no extensions */
                return 1;
        struct cursor extensions = vector(&c, 2);
        if (extensions.bad || c.left > 0)
                return -EPROTO;
        return read_extensions(&extensions, ret);
}

int tls_hello_read(const uint8_t *bytes, size_t len, struct tls_hello *ret) {
        *ret = (struct tls_hello){ 0 };
        uint8_t body[TLS_HELLO_MAX];
        size_t body_len = 0;
        int r = gather(bytes, len < TLS_HELLO_MAX ? len : TLS_HELLO_MAX, body, &body_len);
        if (r == 1)
                r = read_hello((struct cursor){ .at = body, .left = body_len }, ret);
        if (r < 0)
                *ret = (struct tls_hello){ 0 };
        if (r == 0 && len >= TLS_HELLO_MAX)
                r = -E2BIG;
        return r;
}

void tls_alert(uint8_t ret[TLS_ALERT_LEN], uint8_t description) {
        const uint8_t alert[TLS_ALERT_LEN] = { ALERT, MAJOR, 3, 0, 2, ALERT_FATAL, description };
        memcpy(ret, alert, sizeof(alert));
}
