/* What the kernel logs about packets (NFLOG over netlink), read strictly: headers of the kernel's, and in them the guest's own
 * bytes. Pure. */
#pragma once
#include "gateway/packet.h"

/* What was wrong with it, as far as that can be told from the packet alone. */
enum nflog_kind {
        NFLOG_IPV4, /* a whole IPv4 packet with a right source: its destination was refused */
        NFLOG_ARP,  /* ARP that says what the guest may not */
        NFLOG_IPV6,
        NFLOG_VLAN,     /* a tag */
        NFLOG_FRAGMENT, /* of IPv4 */
        NFLOG_SPOOFED,  /* IPv4, or any frame, from an address that is not the guest's */
        NFLOG_OPTIONS,  /* IPv4 with options */
        NFLOG_OTHER,    /* another kind of frame, or too broken to say */
};
struct nflog_entry {
        unsigned group;
        enum nflog_kind kind;
        struct packet packet; /* where it is IPv4; else all zero */
        const uint8_t *bytes; /* as logged, from the network header on */
        size_t len;
};
/** Reads the next packet from a message of the socket's, beginning at *at, which moves on. 1, 0 at the end (also of what is
 *  malformed: the kernel does not send that). What is no packet is passed over. */
int nflog_next(const uint8_t *bytes, size_t len, size_t *at, struct nflog_entry *ret);
/** "spoofed", "arp", ... for events; of IPv4 packets the protocol ("tcp", "47" into scratch). */
#define NFLOG_PROTO_TEXT 4
const char *nflog_proto(const struct nflog_entry *e, char scratch[NFLOG_PROTO_TEXT]);
