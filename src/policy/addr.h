/* Addresses and ranges of them, and what kind of address one is. IPv4 in any IPv6 disguise counts as what is inside. Pure. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addr {
        uint8_t family;    /* AF_INET or AF_INET6 */
        uint8_t bytes[16]; /* network order; IPv4 in the first four */
};
struct addr_range {
        struct addr base; /* bits beyond `bits` are zero */
        uint8_t bits;
};

enum addr_kind {
        ADDR_PUBLIC,
        ADDR_UNSPECIFIED, /* 0.0.0.0/8, :: */
        ADDR_LOOPBACK,
        ADDR_PRIVATE, /* RFC 1918, unique local */
        ADDR_SHARED,  /* RFC 6598, carriers' NAT */
        ADDR_LINK_LOCAL,
        ADDR_METADATA, /* of clouds: 169.254.169.254, fd00:ec2::254, 100.100.100.200, 168.63.129.16, ... */
        ADDR_MULTICAST,
        ADDR_BROADCAST,
        ADDR_RESERVED, /* documentation, benchmarks (where our own synthetic addresses are), class E, discard, ... */
};

#define ADDR_TEXT 48 /* room for any address as text, with /BITS and a NUL */

/** Parses what inet_pton(3) takes, and nothing looser. Returns 0 or -EINVAL. */
int addr_parse(const char *text, struct addr *ret);
/** Parses "ADDRESS/BITS"; bits set beyond BITS are an error. A range of IPv4-mapped addresses is one of IPv4. Returns 0 or
 *  -EINVAL. */
int addr_range_parse(const char *text, struct addr_range *ret);
void addr_format(const struct addr *a, char ret[ADDR_TEXT]);
void addr_range_format(const struct addr_range *r, char ret[ADDR_TEXT]);
bool addr_equal(const struct addr *a, const struct addr *b);
/** Is the address in the range? An IPv4 address in IPv6 disguise is also looked up as IPv4. */
bool addr_in(const struct addr *a, const struct addr_range *r);
/** Is it an IPv4-mapped address (::ffff:a.b.c.d)? Then *ret is the IPv4 address, which is what packets to it carry. */
bool addr_unmapped(const struct addr *a, struct addr *ret);
/** What it is; IPv4 mapped, compatible, NAT64 (64:ff9b::/96 and 64:ff9b:1::/48), 6to4, Teredo and ISATAP are judged by the
 *  IPv4 address inside, and are RESERVED at best where they would carry traffic through somebody's tunnel. */
enum addr_kind addr_kind(const struct addr *a);
/** "a private address", "a cloud's metadata service", ... for messages. */
const char *addr_kind_name(enum addr_kind kind);
/** Address and port of a socket address, and back. -EAFNOSUPPORT for other families. */
int addr_from_sockaddr(const struct sockaddr *sa, struct addr *ret, uint16_t *ret_port);
socklen_t addr_to_sockaddr(const struct addr *a, uint16_t port, struct sockaddr_storage *ret);
