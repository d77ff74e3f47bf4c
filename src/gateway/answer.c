/* Answers to the box's DNS queries (see answer.h).
 *   - A name that is not allowed does not exist, and no packet leaves for it.
 *   - An allowed name has one synthetic address; in mode open the real public ones, unless it must be bound to its name.
 *   - Other types are looked up for names that a rule spells out, never below a pattern: the labels would carry data out.
 *   - AAAA, HTTPS, SVCB and whatever else: the name exists and has no such record, so nobody waits. */
#include "gateway/answer.h"

#include <arpa/nameser.h>
#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"

#define SHOWN_MAX 128 /* characters of what is no name */

struct answer {
        struct gateway *g;
        struct dns_query q;
        struct resolve_query *asked;
        answer_fn done;
        void *user;
};

static void tell(struct gateway *g, const char *host, const struct policy_decision *d, const struct addr *ip,
                 const char *reason) {
        const struct report_event e = {
                .type = "dns", .allow = d->allow, .host = host, .ip = ip, .proto = "dns", .rule = d->rule, .reason = reason
        };
        report_event(g->report, &e);
}

static void tell_refusal(struct gateway *g, const char *host, const struct policy_decision *d) {
        NB_AUTO_FREE char *why = policy_explain(d, host, 0);
        tell(g, host, d, NULL, why);
}

/* What no name can be is shown with its odd bytes as \DDD, and not as a host. */
static void tell_no_name(struct gateway *g, const struct dns_query *q) {
        static const struct policy_decision bad = { .reason = POLICY_BAD_NAME };
        char text[NS_MAXDNAME];
        if (ns_name_ntop(q->question, text, sizeof text) < 0)
                text[0] = 0;
        NB_AUTO_FREE char *why = nb_asprintf("'%.*s' is not a host name", SHOWN_MAX, text);
        tell(g, NULL, &bad, NULL, why);
}

static void tell_error(struct gateway *g, const char *host, const char *reason) {
        const struct report_event e = { .type = "error", .host = host, .proto = "dns", .reason = reason };
        report_event(g->report, &e);
}

static struct addr from_ipv4(uint32_t address) {
        struct addr a = { .family = AF_INET };
        ns_put32(address, a.bytes);
        return a;
}

/* The name's synthetic address, told to the supervisor when it is new. */
static int synthetic(struct gateway *g, const char *name, bool pinned, uint32_t *ret) {
        bool new;
        char lost[NAME_MAX_LEN + 1];
        int r = names_give(g->names, name, pinned, nb_now_ms(), ret, &new, lost);
        if (r < 0) {
                tell_error(g, name,
                           "all synthetic addresses are in use; it can have one when another was not used for an hour");
                return r;
        }
        if (lost[0])
                report_name(g->report, lost, *ret, true);
        if (new)
                report_name(g->report, name, *ret, false);
        return 0;
}

void dnsd_pin(struct gateway *g) {
        names_unpin(g->names, nb_now_ms());
        for (size_t i = 0; i < g->policy->n_rules; i++) {
                const struct policy_rule *r = &g->policy->rules[i];
                uint32_t address;
                if (!r->deny && r->host && !r->below && policy_name(g->policy, r->host).allow &&
                    policy_bound(g->policy, r->host))
                        (void)synthetic(g, r->host, true, &address);
        }
}

static bool looked_up(uint16_t type) {
        return type == ns_t_txt || type == ns_t_mx || type == ns_t_srv || type == ns_t_cname;
}

static void put_status(struct nb_buf *out, const struct dns_query *q, enum resolver_status status) {
        dns_put_empty(out, q,
                      status == RESOLVER_NONE                              ? DNS_NXDOMAIN
                      : status == RESOLVER_OK || status == RESOLVER_NODATA ? DNS_NOERROR
                                                                           : DNS_SERVFAIL);
}

/* Mode open: the real addresses that the box may be told. */
static void put_real(struct answer *w, const struct policy_decision *d, const struct resolver_answer *a, struct nb_buf *out) {
        uint32_t addresses[RESOLVER_ADDRS_MAX];
        size_t n = 0;
        const struct addr *hidden = NULL;
        for (size_t i = 0; i < a->n_addrs && i < RESOLVER_ADDRS_MAX; i++) {
                const struct addr *found = &a->addrs[i].addr;
                if (found->family != AF_INET)
                        continue;
                if (policy_shown(w->g->policy, found, a->addrs[i].own))
                        addresses[n++] = (uint32_t)ns_get32(found->bytes);
                else
                        hidden = found;
        }
        if (n == 0 && hidden) {
                struct policy_decision no = { .reason = POLICY_KIND, .rule = d->rule, .kind = addr_kind(hidden) };
                NB_AUTO_FREE char *why = policy_explain(&no, w->q.name, 0);
                tell(w->g, w->q.name, &no, hidden, why);
        } else {
                tell(w->g, w->q.name, d, NULL, NULL);
        }
        dns_put_address(out, &w->q, addresses, n, NAMES_TTL);
}

static bool is_address_type(uint16_t type) {
        return type == ns_t_a || type == ns_t_any;
}

/* The resolver's answer. The rules may have changed meanwhile. */
static void resolved(void *user, const struct resolver_answer *a) {
        struct answer *w = user;
        NB_AUTO_BUF out = { 0 };
        uint32_t address;
        bool pointer = dns_pointer_address(w->q.name, &address);
        struct policy_decision d = policy_name(w->g->policy, w->q.name);
        w->asked = NULL;
        if (!d.allow || (pointer && w->g->policy->mode != POLICY_OPEN)) {
                tell_refusal(w->g, w->q.name, &d);
                dns_put_empty(&out, &w->q, DNS_NXDOMAIN);
        } else if (a->status != RESOLVER_OK) {
                put_status(&out, &w->q, a->status);
        } else if (is_address_type(w->q.type)) {
                put_real(w, &d, a, &out);
        } else {
                dns_put_records(&out, &w->q, a);
        }
        w->done(w->user, &out);
        free(w);
}

static struct answer *ask(struct gateway *g, const struct dns_query *q, uint16_t type, bool may_wait, answer_fn done,
                          void *user, struct nb_buf *out) {
        if (!may_wait) {
                tell_error(g, q->name, "too many DNS queries wait for an answer");
                dns_put_empty(out, q, DNS_SERVFAIL);
                return NULL;
        }
        struct answer *w = nb_calloc(1, sizeof *w);
        *w = (struct answer){ .g = g, .q = *q, .done = done, .user = user };
        w->asked = resolve_ask(g->resolve, q->name, type, resolved, w);
        if (w->asked)
                return w;
        free(w);
        dns_put_empty(out, q, DNS_SERVFAIL);
        return NULL;
}

void answer_cancel(struct answer *a) {
        if (a->asked)
                resolve_cancel(a->asked);
        free(a);
}

/* A question about 4.3.2.1.in-addr.arpa. Returns whether it may be looked up. */
static bool pointer(struct gateway *g, const struct dns_query *q, uint32_t address, struct nb_buf *out) {
        const char *name = names_find(g->names, address, nb_now_ms());
        if (name && policy_name(g->policy, name).allow) {
                if (q->type == ns_t_ptr || q->type == ns_t_any)
                        dns_put_pointer(out, q, name, NAMES_TTL);
                else
                        dns_put_empty(out, q, DNS_NOERROR);
                return false;
        }
        struct addr a = from_ipv4(address);
        /* names of private addresses are the host's network's own business */
        if (g->policy->mode == POLICY_OPEN && q->type == ns_t_ptr && policy_shown(g->policy, &a, resolve_own(g->resolve, &a)) &&
            policy_name(g->policy, q->name).allow)
                return true;
        dns_put_empty(out, q, DNS_NXDOMAIN);
        return false;
}

/* What cannot be a query for a name: true if it was answered. */
static bool put_odd(struct gateway *g, const struct dns_query *q, struct nb_buf *out) {
        enum dns_rcode rcode;
        if (q->opcode != ns_o_query)
                rcode = DNS_NOTIMP;
        else if (q->edns && q->edns_version != 0)
                rcode = DNS_BADVERS;
        else if (q->class != ns_c_in || q->type == ns_t_axfr || q->type == ns_t_ixfr)
                rcode = DNS_REFUSED;
        else if (q->root)
                rcode = DNS_NOERROR; /* it exists; a cache in the box that was told otherwise would believe in nothing at all */
        else if (!q->valid_name)
                rcode = DNS_NXDOMAIN;
        else
                return false;
        if (rcode == DNS_NXDOMAIN)
                tell_no_name(g, q);
        dns_put_empty(out, q, rcode);
        return true;
}

/* Behind a proxy that connects by name, the host itself may not be able to resolve it at all. */
static bool is_bound(const struct gateway *g, const char *name, const struct policy_decision *d) {
        return policy_bound(g->policy, name) || (g->proxy && proxy_applies(g->proxy, name, 443, d->rule));
}

struct answer *answer_query(struct gateway *g, const struct dns_query *q, bool may_wait, answer_fn done, void *user,
                            struct nb_buf *out) {
        uint32_t address;
        if (put_odd(g, q, out))
                return NULL;
        if (dns_pointer_address(q->name, &address))
                return pointer(g, q, address, out) ? ask(g, q, q->type, may_wait, done, user, out) : NULL;
        struct policy_decision d = policy_name(g->policy, q->name);
        if (!d.allow || name_below(q->name, "ip6.arpa")) { /* the box has no IPv6 */
                if (!d.allow)
                        tell_refusal(g, q->name, &d);
                dns_put_empty(out, q, DNS_NXDOMAIN);
                return NULL;
        }
        if (looked_up(q->type) && policy_exact(g->policy, q->name)) {
                tell(g, q->name, &d, NULL, NULL);
                return ask(g, q, q->type, may_wait, done, user, out);
        }
        if (!is_address_type(q->type)) {
                dns_put_empty(out, q, DNS_NOERROR);
                return NULL;
        }
        if (!is_bound(g, q->name, &d))
                return ask(g, q, 0, may_wait, done, user, out);
        if (synthetic(g, q->name, false, &address) < 0) {
                dns_put_empty(out, q, DNS_SERVFAIL);
                return NULL;
        }
        struct addr ip = from_ipv4(address);
        tell(g, q->name, &d, &ip, NULL);
        dns_put_address(out, q, &address, 1, NAMES_TTL);
        return NULL;
}
