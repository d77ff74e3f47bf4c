/* The messages between gateway and resolver (resolver.h): one a datagram, integers little endian. Pure; both sides read what
 * they get as if it came from an enemy.
 *   request   u32 id, u16 type (0: addresses), name
 *   answer    u8 RESOLVER_SAYS_ANSWER, u32 id, u8 status,
 *             u8 count of addresses, each: u8 4 or 6, u8 own, 4 or 16 bytes,
 *             u8 count of records, each: u16 type, u32 ttl, u16 length, bytes
 *   links     u8 RESOLVER_SAYS_LINKS, u8 all, u16 count, each: u8 4 or 6, u8 bits, 4 or 16 bytes */
#pragma once
#include <stddef.h>

#include "base/buf.h"
#include "gateway/resolver.h"

#define RESOLVER_SAYS_ANSWER 1
#define RESOLVER_SAYS_LINKS 2
#define RESOLVER_REQUEST_MAX (6u + NAME_MAX_LEN)
#define RESOLVER_LINKS_MAX 256u

/* The networks that the host is directly attached to; its own addresses are among their addresses. */
struct resolver_links {
        bool all; /* there are too many, or they cannot be read: everything counts as the host's own */
        size_t n;
        struct addr_range ranges[RESOLVER_LINKS_MAX];
};
/** Adds the network of an address; what is inside another one already is left out. */
void resolver_links_add(struct resolver_links *l, const struct addr *a, unsigned bits);
bool resolver_links_hold(const struct resolver_links *l, const struct addr *a);
bool resolver_links_equal(const struct resolver_links *a, const struct resolver_links *b);

struct resolver_request {
        uint32_t id;
        uint16_t type;
        char name[NAME_MAX_LEN + 1]; /* canonical */
};
void resolver_put_request(struct nb_buf *out, const struct resolver_request *q);
/** -EPROTO unless it is a whole request for a canonical name and a type that can be asked for. */
int resolver_read_request(const uint8_t *bytes, size_t len, struct resolver_request *ret);
/** What does not fit in RESOLVER_MESSAGE_MAX is left out. */
void resolver_put_answer(struct nb_buf *out, uint32_t id, const struct resolver_answer *a);
/** The records point into `bytes`. */
int resolver_read_answer(const uint8_t *bytes, size_t len, uint32_t *ret_id, struct resolver_answer *ret);
/** The list of networks goes to the gateway whenever it changed; -EPROTO for one that is not whole. */
void resolver_put_links(struct nb_buf *out, const struct resolver_links *l);
int resolver_read_links(const uint8_t *bytes, size_t len, struct resolver_links *ret);

/** May records of this DNS type be asked for? Not of those that mean something else than records. */
bool resolver_type_valid(uint16_t type);
/** The records of `type` in the answer section of a DNS message, names in them uncompressed, into `ret`; their bytes are
 *  appended to `space`, which must outlive it. Returns 0 or -EPROTO. */
int resolver_read_dns(const uint8_t *bytes, size_t len, uint16_t type, struct nb_buf *space, struct resolver_answer *ret);
