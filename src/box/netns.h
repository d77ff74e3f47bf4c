/* The box's network namespace: a TAP device for the guest and no way out. Everything that arrives on the TAP is redirected to
 * sockets made here, answered by the kernel with a refusal, or dropped; nothing is ever forwarded. Rules are loaded by nft(8),
 * links and routes by ip(8), from a child in that namespace, before the guest exists. */
#pragma once
#include "base/error.h"
#include "policy/policy.h"

/* Descriptors, the caller's; -1 where the mode has no use for one. See gateway.h for what each is. */
struct netns {
        int ns;  /* the namespace itself */
        int tap; /* for QEMU */
        int tcp, dns_udp, dns_tcp, nflog, udp, raw;
};
#define NETNS_NONE \
        { -1, -1, -1, -1, -1, -1, -1, -1 }
/** Makes it. Must be called by a process that owns its user namespace (the supervisor). Nothing is left on failure; the hint
 *  says what the host lacks (/dev/net/tun, nft, ip, a kernel module). */
int netns_make(const struct policy *p, struct netns *ret, struct nb_error *err);
/** Replaces the rules in one step after a change of policy. */
int netns_apply(const struct netns *n, const struct policy *p, struct nb_error *err);
void netns_close(struct netns *n);
/** The rules as nft(8) reads them, and the links and routes as `ip -batch` does; for netns_make(), `up --dry-run` and tests.
 * New strings. Pure. */
char *netns_nft(const struct policy *p);
char *netns_ip(enum policy_mode mode);
