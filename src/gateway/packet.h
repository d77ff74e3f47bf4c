/* IPv4 packets as they lie on the box's link: read as far as was captured, and made for the guest. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define PACKET_IP_HEADER 20u /* of the packets made here */
#define PACKET_UDP_HEADER 8u
#define PACKET_ECHO_HEADER 8u
#define PACKET_UDP_MAX (65535u - PACKET_IP_HEADER - PACKET_UDP_HEADER)

enum packet_icmp { ICMP_IS_ECHO_REPLY = 0, ICMP_IS_UNREACHABLE = 3, ICMP_IS_ECHO = 8 };
enum packet_unreachable { UNREACHABLE_HOST = 1, UNREACHABLE_PORT = 3, UNREACHABLE_PROHIBITED = 13 };

/* Host order. What follows the header may be cut off. */
struct packet {
        uint32_t from, to;
        uint8_t protocol;
        bool fragment;               /* not the whole datagram; there are no ports then */
        bool options;                /* the header is longer than usual */
        uint16_t from_port, to_port; /* 0 where the protocol has none, or they were cut off */
        const uint8_t *header;
        const uint8_t *payload; /* what the IP header is followed by, and */
        size_t payload_len;     /* how much of it was captured */
};
/** 0, or -EPROTO when it is not IPv4 or its header is cut off. */
int packet_read(const uint8_t *bytes, size_t len, struct packet *ret);

/** The sum of RFC 1071 over bytes; 0 over what holds a correct one. `start` is the sum of what goes before, not inverted. */
uint16_t packet_sum(const void *bytes, size_t len, uint32_t start);

/* Who a packet made here is from, and who it is for. */
struct packet_ends {
        uint32_t from, to;
        uint16_t from_port, to_port; /* UDP */
        uint16_t id;                 /* tells the fragments of one datagram from another's */
};
/** One UDP datagram of at most PACKET_UDP_MAX bytes, as one packet or, above `mtu`, as fragments, to `out` with one call each;
 *  ends with the first one that is negative and returns it. */
typedef int (*packet_fn)(void *user, const uint8_t *packet, size_t len);
int packet_make_udp(const struct packet_ends *ends, const void *bytes, size_t len, size_t mtu, packet_fn out, void *user);
/** An answer to an echo request. */
void packet_put_echo(struct nb_buf *out, const struct packet_ends *ends, uint16_t echo_id, uint16_t sequence, const void *bytes,
                     size_t len);
/** "Destination unreachable" about a packet, of which its header and 8 more bytes are quoted. */
void packet_put_unreachable(struct nb_buf *out, const struct packet_ends *ends, enum packet_unreachable code, const void *about,
                            size_t len);
/** The head of a UDP packet, to be quoted. */
#define PACKET_QUOTE (PACKET_IP_HEADER + PACKET_UDP_HEADER)
void packet_quote_udp(uint8_t ret[PACKET_QUOTE], const struct packet_ends *ends, size_t len);
