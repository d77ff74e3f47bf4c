/* The first flight of a TLS client: the ClientHello (RFC 8446, 4.1.2) as far as server_name (RFC 6066) needs it. Reads what may
 * be cut anywhere, over records and segments, up to 16 kB. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/name.h"

#define TLS_HELLO_MAX (16u * 1024u)

struct tls_hello {
        bool has_name;   /* exactly one host_name is in it */
        bool valid_name; /* it is canonical, and in name */
        char name[NAME_MAX_LEN + 1];
        bool encrypted; /* encrypted_client_hello is offered (real or GREASE; they look alike) */
};
/** Could a server take it for the start of TLS (any TLS record, or a hello in the form of SSL 2, which tls_hello_read() then
 *  refuses)? 1 yes, 0 more bytes are needed to say, -EPROTO no. */
int tls_looks(const uint8_t *bytes, size_t len);
/** 1: whole hello read; 0: more is needed; -EPROTO: malformed (a duplicate extension, lengths that disagree, an SNI list that
 * is not one host_name, ...); -E2BIG. */
int tls_hello_read(const uint8_t *bytes, size_t len, struct tls_hello *ret);
/** A fatal alert record. */
#define TLS_ALERT_LEN 7u
#define TLS_ACCESS_DENIED 49u
#define TLS_UNRECOGNIZED_NAME 112u
void tls_alert(uint8_t ret[TLS_ALERT_LEN], uint8_t description);
