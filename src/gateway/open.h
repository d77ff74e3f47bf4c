/* What mode open's datagrams and echo requests share: the decision about a far end, and what the guest is told of a refusal. */
#pragma once
#include "gateway/impl.h"
#include "gateway/packet.h"

/* Where a datagram goes. Port 0: an echo request. */
struct open_far {
        struct addr addr;
        uint16_t port;
};
/** The address in host order, as packets have it, and back. */
struct open_far open_far(uint32_t address, uint16_t port);
uint32_t open_address(const struct open_far *far);
/** May datagrams go there? Not to the host itself or its networks, whatever their addresses. */
struct policy_decision open_may(struct gateway *g, const struct open_far *far);
/** The rule whose limit datagrams count for; NULL: none. Rules are about TCP, but their limits are no hole for UDP. */
const struct policy_rule *open_limit(struct gateway *g, const struct open_far *far);
/** Tells of a refusal: an event, and to the guest an ICMP error about the packet (its header and 8 bytes). */
void open_refuse(struct gateway *g, int raw_fd, const struct open_far *far, const struct policy_decision *d, const char *reason,
                 const void *packet, size_t len);
/** An ICMP error to the guest, from the far end. */
void open_unreachable(int raw_fd, const struct open_far *far, enum packet_unreachable code, const void *packet, size_t len);
/** What an error of a host's socket means for the guest; -1: nothing. */
int open_meaning(int code);

/* ---- icmp.c; belongs to udp.c, whose life it has */
struct icmp;
struct icmp *icmp_new(struct gateway *g, int raw_fd);
void icmp_free(struct icmp *i);
/** After a change of policy: forgets the pings that are not allowed any more. */
void icmp_recheck(struct icmp *i);
struct icmp *udp_icmp(struct udp *u);
