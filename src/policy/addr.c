/* Addresses and what kind each is (see addr.h). The tables are the IANA special-purpose registries for IPv4 and IPv6; blocks
 * that the registries call globally reachable but where nobody's service lives (AS112, AMT, anycast of protocols) count as
 * reserved. Nothing here knows about rules. */
#include "policy/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

#define EMBEDDED_MAX 2 /* Teredo holds two; a NAT64 of one's own may have two layouts */

struct block {
        uint8_t base[16];
        uint8_t bits;
        uint8_t kind;
};

/* First match counts, so exceptions stand before the block they lie in. */
static const struct block blocks4[] = {
        { { 169, 254, 169, 0 }, 24, ADDR_METADATA },   /* 254: nearly all clouds; 253, 123: AWS's DNS and clock */
        { { 169, 254, 170, 0 }, 24, ADDR_METADATA },   /* 2, 23: credentials of AWS tasks and pods */
        { { 169, 254, 42, 42 }, 32, ADDR_METADATA },   /* Scaleway */
        { { 169, 254, 0, 23 }, 32, ADDR_METADATA },    /* Tencent */
        { { 100, 100, 100, 200 }, 32, ADDR_METADATA }, /* Alibaba */
        { { 168, 63, 129, 16 }, 32, ADDR_METADATA },   /* Azure, in the midst of public addresses */
        { { 192, 0, 0, 192 }, 32, ADDR_METADATA },     /* Oracle */
        { { 0 }, 8, ADDR_UNSPECIFIED },
        { { 10 }, 8, ADDR_PRIVATE },
        { { 100, 64 }, 10, ADDR_SHARED },
        { { 127 }, 8, ADDR_LOOPBACK },
        { { 169, 254 }, 16, ADDR_LINK_LOCAL },
        { { 172, 16 }, 12, ADDR_PRIVATE },
        { { 192, 0, 0 }, 24, ADDR_RESERVED },    /* protocol assignments */
        { { 192, 0, 2 }, 24, ADDR_RESERVED },    /* documentation */
        { { 192, 31, 196 }, 24, ADDR_RESERVED }, /* AS112 */
        { { 192, 52, 193 }, 24, ADDR_RESERVED }, /* AMT */
        { { 192, 88, 99 }, 24, ADDR_RESERVED },  /* 6to4 relays, deprecated */
        { { 192, 168 }, 16, ADDR_PRIVATE },
        { { 192, 175, 48 }, 24, ADDR_RESERVED }, /* AS112 */
        { { 198, 18 }, 15, ADDR_RESERVED },      /* benchmarks; our own synthetic addresses */
        { { 198, 51, 100 }, 24, ADDR_RESERVED }, /* documentation */
        { { 203, 0, 113 }, 24, ADDR_RESERVED },  /* documentation */
        { { 224 }, 4, ADDR_MULTICAST },
        { { 255, 255, 255, 255 }, 32, ADDR_BROADCAST },
        { { 240 }, 4, ADDR_RESERVED }, /* class E */
};
static const struct block blocks6[] = {
        { { 0xfd, 0x00, 0x0e, 0xc2 }, 32, ADDR_METADATA },                                            /* AWS */
        { { 0xfd, 0x20, 0x00, 0xce }, 32, ADDR_METADATA },                                            /* Google */
        { { 0xfd, 0x00, 0x00, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x42 }, 128, ADDR_METADATA },    /* Scaleway */
        { { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa9, 0xfe, 0xa9, 0xfe }, 128, ADDR_METADATA }, /* OpenStack */
        { { 0 }, 128, ADDR_UNSPECIFIED },
        { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }, 128, ADDR_LOOPBACK },
        { { 0xfc }, 7, ADDR_PRIVATE },
        { { 0xfe, 0x80 }, 10, ADDR_LINK_LOCAL },
        { { 0xff }, 8, ADDR_MULTICAST },
        { { 0x20, 0x01, 0x00 }, 23, ADDR_RESERVED },                   /* protocol assignments, ORCHID, benchmarks */
        { { 0x20, 0x01, 0x0d, 0xb8 }, 32, ADDR_RESERVED },             /* documentation */
        { { 0x26, 0x20, 0x00, 0x4f, 0x80, 0x00 }, 48, ADDR_RESERVED }, /* AS112 */
        { { 0x3f, 0xfe }, 16, ADDR_RESERVED },                         /* 6bone, given back */
        { { 0x3f, 0xff, 0x00 }, 20, ADDR_RESERVED },                   /* documentation */
        { { 0x20 }, 3, ADDR_PUBLIC },
        { { 0 }, 0, ADDR_RESERVED }, /* nothing else is handed out: discard-only, SRv6 SIDs, site-local, unassigned */
};

static size_t addr_len(uint8_t family) {
        return family == AF_INET ? 4 : 16;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits) {
        if (memcmp(a, b, bits / 8) != 0)
                return false;
        unsigned rest = bits % 8;
        return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) & (0xff00u >> rest) & 0xffu) == 0;
}

int addr_parse(const char *text, struct addr *ret) {
        *ret = (struct addr){ .family = AF_INET };
        if (inet_pton(AF_INET, text, ret->bytes) == 1)
                return 0;
        *ret = (struct addr){ .family = AF_INET6 };
        if (inet_pton(AF_INET6, text, ret->bytes) == 1)
                return 0;
        *ret = (struct addr){ 0 };
        return -EINVAL;
}

bool addr_unmapped(const struct addr *a, struct addr *ret) {
        static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
        if (a->family != AF_INET6 || memcmp(a->bytes, prefix, sizeof prefix) != 0)
                return false;
        struct addr out = { .family = AF_INET };
        memcpy(out.bytes, a->bytes + 12, 4);
        *ret = out;
        return true;
}

int addr_range_parse(const char *text, struct addr_range *ret) {
        *ret = (struct addr_range){ 0 };
        const char *slash = strchr(text, '/');
        char address[ADDR_TEXT];
        if (!slash || (size_t)(slash - text) >= sizeof address)
                return -EINVAL;
        memcpy(address, text, (size_t)(slash - text));
        address[slash - text] = 0;
        struct addr_range r = { 0 };
        uint64_t bits;
        if (addr_parse(address, &r.base) < 0 || strlen(slash + 1) > 3)
                return -EINVAL;
        size_t len = addr_len(r.base.family);
        if (nb_parse_uint(slash + 1, len * 8, &bits) < 0)
                return -EINVAL;
        r.bits = (uint8_t)bits;
        uint8_t clear[16] = { 0 };
        for (size_t i = 0; i < len; i++) {
                unsigned kept = bits >= (i + 1) * 8 ? 8 : bits > i * 8 ? (unsigned)bits - (unsigned)i * 8 : 0;
                clear[i] = (uint8_t)(r.base.bytes[i] & (0xff00u >> kept));
        }
        if (memcmp(clear, r.base.bytes, len) != 0)
                return -EINVAL;
        if (r.bits >= 96 && addr_unmapped(&r.base, &r.base)) /* one spelling for one range */
                r.bits = (uint8_t)(r.bits - 96);
        *ret = r;
        return 0;
}

void addr_format(const struct addr *a, char ret[ADDR_TEXT]) {
        if ((a->family != AF_INET && a->family != AF_INET6) || !inet_ntop(a->family, a->bytes, ret, ADDR_TEXT))
                ret[0] = 0;
}

void addr_range_format(const struct addr_range *r, char ret[ADDR_TEXT]) {
        addr_format(&r->base, ret);
        size_t len = strlen(ret);
        snprintf(ret + len, ADDR_TEXT - len, "/%u", (unsigned)r->bits);
}

bool addr_equal(const struct addr *a, const struct addr *b) {
        return a->family == b->family && memcmp(a->bytes, b->bytes, addr_len(a->family)) == 0;
}

/* IPv4 addresses that this IPv6 address stands for or leads to. *ret_tunnel: only through somebody's tunnel or translator. */
static size_t embedded(const struct addr *a, struct addr ret[EMBEDDED_MAX], bool *ret_tunnel) {
        static const struct {
                uint8_t prefix[12];
                uint8_t bits, at;
                bool tunnel;
        } forms[] = {
                { { [10] = 0xff, [11] = 0xff }, 96, 12, false },          /* mapped */
                { { 0x00, 0x64, 0xff, 0x9b }, 96, 12, false },            /* NAT64, RFC 6052: the host's own provider's */
                { { 0x00, 0x64, 0xff, 0x9b, 0x00, 0x01 }, 48, 12, true }, /* NAT64 for local use, RFC 8215 */
                { { [8] = 0xff, [9] = 0xff }, 96, 12, true },             /* translated, RFC 2765 */
                { { 0x20, 0x02 }, 16, 2, true },                          /* 6to4 */
                { { 0 }, 96, 12, true },                                  /* compatible */
        };
        const uint8_t *b = a->bytes;
        size_t n = 0;
        *ret_tunnel = true;
        ret[0] = (struct addr){ .family = AF_INET };
        ret[1] = ret[0];
        for (size_t i = 0; i < NB_ARRAY_LEN(forms); i++) {
                if (!same_bits(b, forms[i].prefix, forms[i].bits))
                        continue;
                *ret_tunnel = forms[i].tunnel;
                memcpy(ret[n++].bytes, b + forms[i].at, 4);
                if (forms[i].bits == 48) { /* its owner chooses the layout: also that of a /48 */
                        memcpy(ret[n].bytes, b + 6, 2);
                        memcpy(ret[n++].bytes + 2, b + 9, 2);
                }
                return n;
        }
        if (memcmp(b, "\x20\x01\0", 4) == 0) { /* Teredo: server, and the client's address inverted */
                for (size_t i = 0; i < 4; i++)
                        ret[n].bytes[i] = (uint8_t)~b[12 + i];
                memcpy(ret[n + 1].bytes, b + 4, 4);
                return 2;
        }
        if ((b[8] & 0xfd) == 0 && memcmp(b + 9, "\0\x5e\xfe", 3) == 0) /* ISATAP, in any prefix */
                memcpy(ret[n++].bytes, b + 12, 4);
        return n;
}

bool addr_in(const struct addr *a, const struct addr_range *r) {
        if (a->family == r->base.family)
                if (same_bits(a->bytes, r->base.bytes, r->bits))
                        return true;
        if (a->family != AF_INET6 || r->base.family != AF_INET)
                return false;
        struct addr inside[EMBEDDED_MAX];
        bool tunnel;
        for (size_t n = embedded(a, inside, &tunnel); n > 0; n--)
                if (same_bits(inside[n - 1].bytes, r->base.bytes, r->bits))
                        return true;
        return false;
}

static enum addr_kind look_up(const uint8_t *bytes, const struct block *blocks, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (same_bits(bytes, blocks[i].base, blocks[i].bits))
                        return (enum addr_kind)blocks[i].kind;
        return ADDR_PUBLIC;
}

enum addr_kind addr_kind(const struct addr *a) {
        if (a->family == AF_INET)
                return look_up(a->bytes, blocks4, NB_ARRAY_LEN(blocks4));
        if (a->family != AF_INET6)
                return ADDR_RESERVED;
        enum addr_kind kind = look_up(a->bytes, blocks6, NB_ARRAY_LEN(blocks6));
        if (kind != ADDR_PUBLIC && kind != ADDR_RESERVED && kind != ADDR_PRIVATE)
                return kind; /* :: and ::1 are no IPv4 addresses; link-local and multicast stay so, whatever is inside */
        struct addr inside[EMBEDDED_MAX];
        bool tunnel;
        size_t n = embedded(a, inside, &tunnel);
        for (size_t i = 0; i < n; i++) {
                enum addr_kind k = look_up(inside[i].bytes, blocks4, NB_ARRAY_LEN(blocks4));
                if (k != ADDR_PUBLIC)
                        return k;
        }
        if (n == 0)
                return kind;
        return tunnel ? ADDR_RESERVED : ADDR_PUBLIC;
}

const char *addr_kind_name(enum addr_kind kind) {
        static const char *const names[] = {
                [ADDR_PUBLIC] = "a public address",
                [ADDR_UNSPECIFIED] = "an unspecified address",
                [ADDR_LOOPBACK] = "a loopback address",
                [ADDR_PRIVATE] = "a private address",
                [ADDR_SHARED] = "an address of a carrier's private network",
                [ADDR_LINK_LOCAL] = "a link-local address",
                [ADDR_METADATA] = "a cloud's metadata service",
                [ADDR_MULTICAST] = "a multicast address",
                [ADDR_BROADCAST] = "a broadcast address",
                [ADDR_RESERVED] = "a reserved address",
        };
        return names[kind];
}

int addr_from_sockaddr(const struct sockaddr *sa, struct addr *ret, uint16_t *ret_port) {
        *ret = (struct addr){ 0 };
        if (sa->sa_family == AF_INET) {
                struct sockaddr_in in;
                memcpy(&in, sa, sizeof in);
                ret->family = AF_INET;
                memcpy(ret->bytes, &in.sin_addr, 4);
                *ret_port = ntohs(in.sin_port);
                return 0;
        }
        if (sa->sa_family == AF_INET6) {
                struct sockaddr_in6 in;
                memcpy(&in, sa, sizeof in);
                ret->family = AF_INET6;
                memcpy(ret->bytes, &in.sin6_addr, 16);
                *ret_port = ntohs(in.sin6_port);
                return 0;
        }
        return -EAFNOSUPPORT;
}

socklen_t addr_to_sockaddr(const struct addr *a, uint16_t port, struct sockaddr_storage *ret) {
        memset(ret, 0, sizeof *ret);
        if (a->family == AF_INET) {
                struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
                memcpy(&in.sin_addr, a->bytes, 4);
                memcpy(ret, &in, sizeof in);
                return sizeof in;
        }
        struct sockaddr_in6 in = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        memcpy(&in.sin6_addr, a->bytes, 16);
        memcpy(ret, &in, sizeof in);
        return sizeof in;
}
