/* DNS messages: what a guest asks, and what it is told (RFC 1035, 6891). Wire format is read and written with the C library's
 * ns_* functions (resolv). Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "gateway/resolver.h"
#include "policy/name.h"

#define DNS_UDP_MAX 1232u   /* what we send over UDP at most, whatever the guest offers */
#define DNS_QUERY_MAX 1024u /* a query has no reason to be longer */
#define DNS_TCP_MAX 65535u
#define DNS_QUESTION_MAX 259 /* name of 255 bytes, type, class */

struct dns_query {
        uint16_t id, type, class;
        uint8_t opcode;
        bool recursion, edns;
        uint8_t edns_version;
        uint16_t room; /* what the answer may take: over UDP what the asker says, 512 to DNS_UDP_MAX; over TCP set it higher */
        bool root;     /* it is about the root itself, which has no canonical name */
        bool valid_name; /* name is canonical; else it is one that cannot exist */
        char name[NAME_MAX_LEN + 1];
        size_t question_len;                /* 0: there is none */
        uint8_t question[DNS_QUESTION_MAX]; /* the question section as it came, to be echoed (case included) */
};
/** 0; -EPROTO: not a query that can be answered, drop it; -EBADMSG: answer FORMERR with what was read (id). Of opcodes other
 *  than QUERY only the header is read. */
int dns_parse(const uint8_t *bytes, size_t len, struct dns_query *ret);

enum dns_rcode {
        DNS_NOERROR = 0,
        DNS_FORMERR = 1,
        DNS_SERVFAIL = 2,
        DNS_NXDOMAIN = 3,
        DNS_NOTIMP = 4,
        DNS_REFUSED = 5,
        DNS_BADVERS = 16, /* of EDNS */
};
/** Appends an answer without records (NODATA with NOERROR). */
void dns_put_empty(struct nb_buf *out, const struct dns_query *q, enum dns_rcode rcode);
/** Appends an answer with addresses (host order), as many as fit. */
void dns_put_address(struct nb_buf *out, const struct dns_query *q, const uint32_t *addresses, size_t n, uint32_t ttl);
/** Appends an answer to a PTR question. */
void dns_put_pointer(struct nb_buf *out, const struct dns_query *q, const char *name, uint32_t ttl);
/** Appends an answer with those records from the resolver that are of the type asked for; without any and truncated (TC) if
 * they do not all fit. */
void dns_put_records(struct nb_buf *out, const struct dns_query *q, const struct resolver_answer *a);
/** "5.0.18.198.in-addr.arpa" -> 198.18.0.5. False for any other name. */
bool dns_pointer_address(const char *name, uint32_t *ret);
