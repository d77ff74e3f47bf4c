/* The gateway and its helpers as the rest of nixbox sees them: a program of its own (nixbox-gateway) so that only these
 * processes carry network libraries. The supervisor starts them with the descriptors below and talks to the gateway in lines
 * of JSON. Everything the gateway says is taken for hostile: it parses what the guest sends.
 *
 *   nixbox-gateway gateway UNUSED-ID   the only process with sockets on both sides; jailed: no files, only IP sockets
 *   nixbox-gateway resolver UNUSED-ID  asks the host's resolver; has files, parses nothing from the guest but canonical names
 *   nixbox-gateway portal UNUSED-ID    in the box's network namespace: makes the sockets with which published ports reach the
 * guest
 *
 * Supervisor to gateway, one JSON object a line (at most GATEWAY_IN_MAX bytes):
 *   {"start": {"policy": policy_json(), "names": [["name","198.18.0.5"],...], "used": [[RULE, bytes],...],
 *              "proxy": {"url": "http://user:pw@host:3128", "no_proxy": "a,b", "ca": PEM text}}}     once, first; proxy
 * optional
 *   {"policy": policy_json()}      replaces the policy; open connections that it does not allow any more are closed
 * Gateway to supervisor (at most GATEWAY_OUT_MAX bytes a line; anything else ends it):
 *   {"ready": true}
 *   {"applied": true}     a policy sent after the start is in force, for open connections too
 *   {"name": ["name","198.18.0.5"]}     given out; {"name": ["name", null]} taken back
 *   {"event": {"type": "dns"|"connect"|"http"|"error", "decision", "host", "ip", "port", "proto", "rule", "reason",
 *              "bytes_up", "bytes_down", "ms", "count"}}
 *   {"total": {"host": "name or address", "rule": text, "up": bytes, "down": bytes}}    since the last such line, at most each
 * second
 */
#pragma once
#include <stdint.h>

#define GATEWAY_PROGRAM "nixbox-gateway"
#define GATEWAY_IN_MAX (16u * 1024u * 1024u) /* policy and names at their limits are about 12 MiB */
#define GATEWAY_OUT_MAX (8u * 1024u)
#define GATEWAY_TEXT_MAX 1024u /* bytes of a rule or a reason; a rule with the longest name and all its ports has 640 */

/* Descriptors of the gateway. Absent ones are /dev/null. "Box side" sockets belong to the box's network namespace. */
#define GATEWAY_FD_SUPER 3    /* stream: JSON lines */
#define GATEWAY_FD_RESOLVER 4 /* seqpacket, see resolver.h */
#define GATEWAY_FD_LOG 5
#define GATEWAY_FD_TCP 6     /* box side, listening: redirected connections; SO_ORIGINAL_DST says to where */
#define GATEWAY_FD_DNS_UDP 7 /* box side: redirected queries */
#define GATEWAY_FD_DNS_TCP 8 /* box side, listening */
#define GATEWAY_FD_NFLOG 9   /* box side: NFLOG netlink, bound to the groups below */
#define GATEWAY_FD_UDP 10    /* box side, mode open: TPROXY, IP_TRANSPARENT, IP_RECVORIGDSTADDR */
#define GATEWAY_FD_RAW 11    /* box side, mode open: raw IPv4 with IP_HDRINCL, for answers from the guest's far ends */
#define GATEWAY_FD_PORTS 12  /* seqpacket from the supervisor: a struct gateway_port and a listening socket of the host */
#define GATEWAY_FD_PORTAL \
        13 /* seqpacket: one byte to it, one byte and a fresh box side TCP socket back (an errno byte and none on failure) */
#define GATEWAY_FD_END 14
/* Descriptors of the resolver. */
#define RESOLVER_FD 3 /* seqpacket: the other end of GATEWAY_FD_RESOLVER */
#define RESOLVER_FD_LOG 4
/* Descriptors of the portal. */
#define PORTAL_FD 3 /* seqpacket: the other end of GATEWAY_FD_PORTAL */
#define PORTAL_FD_LOG 4

struct gateway_port {
        uint32_t id; /* of this listening socket, which comes along; without one: stop listening, close its connections */
        uint16_t guest_port; /* to be reached at NET_GUEST */
};

#define GATEWAY_EXIT_OVER 0   /* the supervisor closed its end */
#define GATEWAY_EXIT_FAILED 1 /* the log says why */

/* The box's network, the same for each box since each has a namespace of its own. All host order. */
#define NET_SYNTHETIC 0xc6120000u /* 198.18.0.0/16: one address for one name (RFC 2544 range) */
#define NET_SYNTHETIC_BITS 16u
#define NET_GATEWAY 0xc613fffdu /* 198.19.255.253: the TAP device's address, router and name server of the guest */
#define NET_GUEST 0xc613fffeu   /* 198.19.255.254 */
#define NET_LINK_BITS 30u
#define NET_MTU 1500u
#define NET_GUEST_MAC "02:6e:62:00:00:02"
#define NET_GATEWAY_MAC "02:6e:62:00:00:01"
#define NET_PORT_TCP 7001u /* where the TCP listener, the DNS sockets and the UDP socket are bound, box side */
#define NET_PORT_DNS 7053u
#define NET_PORT_UDP 7002u
#define NET_LOG_DENIED 1u /* NFLOG groups: packets refused by the kernel; ... */
#define NET_LOG_ECHO 2u   /* ICMP echo requests, mode open: the gateway answers for the far end */
#define NET_MARK_UDP 1u   /* firewall mark of TPROXYed packets */
