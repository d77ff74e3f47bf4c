/* What the parts of the gateway process share. Nothing outside src/gateway and its tests includes this. One thread, one event
 * loop; every part is driven by callbacks and owned by struct gateway. */
#pragma once
#include <event2/event.h>
#include <event2/event_struct.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "gateway/gateway.h"
#include "gateway/names.h"
#include "gateway/resolver.h"
#include "policy/policy.h"

struct gateway {
        struct event_base *base;
        struct policy *policy;
        struct names *names;     /* synthetic addresses (names.h) */
        struct resolve *resolve; /* the resolver's client (resolve.c) */
        struct proxy *proxy;     /* NULL: dial directly (proxy.c) */
        struct report *report;   /* events and totals on their way to the supervisor (report.c) */
        struct dnsd *dnsd;       /* dnsd.c */
        struct flows *flows;     /* flow.c */
        struct udp *udp;         /* NULL unless mode open (udp.c) */
        struct nflog *nflog;     /* nflog.c: refused packets; echo requests go to icmp.c */
        struct publish *publish; /* publish.c */
        int status;              /* exit status once the loop ends */
};
/* When the policy is replaced, the old one is freed after flows_recheck(), udp_recheck() and dnsd_pin(): a part that keeps
 * a decision or a rule for longer decides again there. */
/** Ends the process: the log gets the reason, the loop stops. */
void gateway_fail(struct gateway *g, const char *fmt, ...) NB_PRINTF(2, 3);

/* ---- report.c: everything said to the supervisor */
int report_new(struct gateway *g, int fd, struct report **ret, struct nb_error *err);
void report_free(struct report *r);
/** One decision. Equal ones in quick succession are told once more with a count; a flood is thinned out and the number left out
 * is told. */
struct report_event {
        const char *type; /* "dns", "connect", "http", "error" */
        bool allow;
        const char *host; /* NULL: none */
        const struct addr *ip;
        uint16_t port;     /* 0: none */
        const char *proto; /* "tcp", "udp", "tls", "http", "icmp", "dns"; NULL: none */
        const struct policy_rule *rule;
        const char *reason; /* NULL: none */
        bool ended;         /* the figures below count */
        uint64_t bytes_up, bytes_down, ms;
};
void report_event(struct report *r, const struct report_event *e);
/** A name was given its address (host order), or it is gone. */
void report_name(struct report *r, const char *name, uint32_t address, bool gone);
/** Adds to a destination's totals. Returns false when the rule's limit is reached with it: the caller closes the flow. */
bool report_bytes(struct report *r, const char *host, const struct policy_rule *rule, uint64_t up, uint64_t down);
/** Is the rule's limit used up? */
bool report_spent(struct report *r, const struct policy_rule *rule);
/** From the start message: what was used of a rule's limit (rules are known by policy_rule_text()) before a restart. */
void report_used(struct report *r, const char *rule, uint64_t bytes);
/** The rules that were passed to report_bytes() are about to be freed. */
void report_policy_goes(struct report *r);
/** Tells the supervisor that everything listens. */
void report_ready(struct report *r);
/** ... and that a policy sent after the start is in force. */
void report_applied(struct report *r);

/* ---- dnsd.c: the DNS sockets of the box side */
int dnsd_new(struct gateway *g, int udp_fd, int tcp_fd, struct dnsd **ret, struct nb_error *err);
void dnsd_free(struct dnsd *d);
/** Gives names of exact rules their addresses, for as long as the rules are there. At the start (after the names from before a
 *  restart were put back) and after each change of policy. */
void dnsd_pin(struct gateway *g);

/* ---- flow.c: redirected TCP connections, from accept to the end */
int flows_new(struct gateway *g, int listen_fd, struct flows **ret, struct nb_error *err);
void flows_free(struct flows *f);
/** After a change of policy: closes what is not allowed any more. */
void flows_recheck(struct flows *f);

/* ---- dial.c: a TCP connection to the far end, by name or address */
struct dial;
struct dial_result {
        int fd;                 /* connected, non-blocking, the receiver's; -1: failed */
        struct addr addr;       /* what was really connected to; family 0 behind a proxy */
        bool refused_by_policy; /* a result of the name was not allowed: `reason` says which and why */
        const char *reason;     /* of a failure, for the event log and for people inside; valid during the callback */
        int code;               /* positive errno of a failure */
};
typedef void (*dial_fn)(void *user, const struct dial_result *r);
/** Dials a name: resolves it now, checks every address with policy_result(), tries them with happy eyeballs (RFC 8305), checks
 *  again what was really connected to; through the proxy where one is set and applies. `found` is the decision that allowed it.
 *  POLICY_HOST is the host's loopback. Calls `done` once, never before it returns. */
struct dial *dial_name(struct gateway *g, const char *name, uint16_t port, const struct policy_decision *found, dial_fn done,
                       void *user);
/** Dials an address that policy_address() allowed (directly, never through the proxy). */
struct dial *dial_address(struct gateway *g, const struct addr *a, uint16_t port, dial_fn done, void *user);
/** Gives up; `done` is not called. */
void dial_cancel(struct dial *d);

/* ---- proxy.c: the host's HTTPS_PROXY */
int proxy_new(struct gateway *g, const json_t *settings, struct proxy **ret, struct nb_error *err);
void proxy_free(struct proxy *p);
/** Would a connection to this name go through the proxy (NO_PROXY holds; private rules and POLICY_HOST dial directly)? */
bool proxy_applies(const struct proxy *p, const char *name, uint16_t port, const struct policy_rule *rule);

/* ---- udp.c, icmp.c: mode open */
int udp_new(struct gateway *g, int fd, int raw_fd, struct udp **ret, struct nb_error *err);
void udp_free(struct udp *u);
/** After a change of policy: ends the conversations that are not allowed any more. */
void udp_recheck(struct udp *u);
/** Sends a datagram to the guest that seems to come from `from`. */
int raw_send_udp(int raw_fd, const struct addr *from, uint16_t from_port, uint16_t to_port, const void *bytes, size_t len);
/** An IPv4 packet with an echo request, as the kernel logged it (its headers are the guest's words). */
void icmp_echo(struct gateway *g, const uint8_t *packet, size_t len);

/* ---- nflog.c: packets that the kernel refused */
int nflog_new(struct gateway *g, int fd, struct nflog **ret, struct nb_error *err);
void nflog_free(struct nflog *n);

/* ---- publish.c: ports of the guest on the host */
int publish_new(struct gateway *g, int ports_fd, int portal_fd, struct publish **ret, struct nb_error *err);
void publish_free(struct publish *p);

/* ---- relay.c: bytes in both directions between two connected sockets, with half-closes, without holding memory while nothing
 * waits */
struct relay;
struct relay_ops {
        /* Bytes from a to b (up) or back were moved. Return false to end the relay. */
        bool (*moved)(void *user, uint64_t up, uint64_t down);
        /* Both directions are done (0), or one failed (negative errno), or inspect_up() or another said no (its value,
         * -ECANCELED). Called once; the relay frees itself and closes both descriptors afterwards, after a failure with a RST.
         */
        void (*done)(void *user, int code);
        /* Looks at bytes from a before they go on (NULL: everything passes): how many of them may, 0 to wait for more,
         * negative: end. May change what it wants later; sees unpassed bytes again at the front next time. At most RELAY_HOLD
         * bytes are held. */
        ssize_t (*inspect_up)(void *user, const uint8_t *bytes, size_t len);
        /* A will send no more, and what is held was not passed (NULL: it never is). May it pass? */
        bool (*inspect_end)(void *user);
        /* One direction is done, the other goes on (NULL: nobody wants to know). */
        void (*half)(void *user);
        /* Sees bytes from b as they pass (NULL: nobody does). Return false to end the relay. */
        bool (*inspect_down)(void *user, const uint8_t *bytes, size_t len);
        void *user;
};
#define RELAY_HOLD (17u * 1024u) /* more than HTTP_HEAD_MAX and TLS_HELLO_MAX: whoever judges those always comes to an end */
/** Starts; takes over both descriptors (non-blocking). `first` are bytes already read from a (at most RELAY_HOLD), not
 * inspected yet. */
struct relay *relay_new(struct event_base *base, int a, int b, const void *first, size_t first_len,
                        const struct relay_ops *ops);
/** What inspect_up() held back may pass now: it is asked again. May end the relay. */
void relay_look(struct relay *r);
/** Ends it at once; done() is not called. With `reset` both sides get a RST. */
void relay_end(struct relay *r, bool reset);
/** Closes a TCP socket, with `reset` by a RST, so that the other end does not take it for a proper end. Returns -1, as
 * nb_close(). */
int relay_close(int fd, bool reset);
/** For done(), after a failure: takes side a out, to say something to it; -1 if what it was being sent is not through. */
int relay_take(struct relay *r);
