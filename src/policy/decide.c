/* The decision (see policy.h): the gateway enforces with this code and `nixbox why` explains with it. In short:
 *   - a rule that denies wins, whatever else is there;
 *   - of the rules that allow a name on a port, the most specific one counts, alone: its `private`, its `limit`;
 *   - a result of a name that is not public needs `private` (private networks, the host's own networks) or a range that names
 * it (everything else: loopback, link-local, metadata, ...);
 *   - a range names addresses of a special kind only if it holds nothing but that kind: 0.0.0.0/0 is not 127.0.0.1;
 *   - the host itself has one name, which only an exact rule allows.
 * Anything that was not thought of is refused. */
#include <string.h>

#include "policy/policy.h"

static struct policy_decision refuse(enum policy_reason reason, const struct policy_rule *rule) {
        return (struct policy_decision){ .reason = reason, .rule = rule };
}

static struct policy_decision by_rule(const struct policy_rule *rule) {
        return (struct policy_decision){ .allow = true, .reason = POLICY_BY_RULE, .rule = rule };
}

static bool is_canonical(const char *name) {
        char scratch[NAME_MAX_LEN + 1];
        size_t len = strnlen(name, NAME_MAX_LEN + 1);
        return name_canonical(name, len, scratch) == (int)len && strcmp(scratch, name) == 0;
}

static bool has_port(const struct policy_rule *r, uint16_t port) {
        for (size_t i = 0; i < r->n_ports; i++)
                if (r->ports[i] == port)
                        return true;
        return r->deny && r->n_ports == 0;
}

static bool matches_name(const struct policy_rule *r, const char *name) {
        if (!r->host)
                return false;
        if (!r->below)
                return strcmp(r->host, name) == 0;
        /* a pattern may take the host's name away, but never give it */
        return name_below(name, r->host) && (r->deny || strcmp(name, POLICY_HOST) != 0);
}

/* Does rule a count instead of b, where both allow the same name and port? Exact before patterns, the longer pattern before
 * the shorter; for equal ones a limit holds, and private is not lost by writing the name twice. */
static bool counts_before(const struct policy_rule *a, const struct policy_rule *b) {
        if (a->below != b->below)
                return b->below;
        size_t la = strlen(a->host), lb = strlen(b->host);
        if (la != lb)
                return la > lb;
        if (!a->limit != !b->limit)
                return a->limit;
        return a->private && !b->private;
}

static const struct policy_rule *denied_name(const struct policy *p, const char *name, uint16_t port) {
        for (size_t i = 0; i < p->n_rules; i++)
                if (p->rules[i].deny && matches_name(&p->rules[i], name) && has_port(&p->rules[i], port))
                        return &p->rules[i];
        return NULL;
}

/* A rule that denies the name on all ports. */
static const struct policy_rule *denied_whole(const struct policy *p, const char *name) {
        for (size_t i = 0; i < p->n_rules; i++)
                if (p->rules[i].deny && p->rules[i].n_ports == 0 && matches_name(&p->rules[i], name))
                        return &p->rules[i];
        return NULL;
}

static bool open_to(const struct policy *p, const char *name) {
        return p->mode == POLICY_OPEN && strcmp(name, POLICY_HOST) != 0;
}

struct policy_decision policy_name(const struct policy *p, const char *name) {
        if (p->mode == POLICY_OFF)
                return refuse(POLICY_IS_OFF, NULL);
        if (!is_canonical(name))
                return refuse(POLICY_BAD_NAME, NULL);
        const struct policy_rule *deny = denied_whole(p, name), *best = NULL;
        if (deny)
                return refuse(POLICY_DENIED, deny);
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct policy_rule *r = &p->rules[i];
                if (r->deny || !matches_name(r, name))
                        continue;
                bool usable = false; /* some port of it is left */
                for (size_t k = 0; k < r->n_ports && !usable; k++) {
                        const struct policy_rule *d = denied_name(p, name, r->ports[k]);
                        usable = !d;
                        deny = d ? d : deny;
                }
                if (usable && (!best || counts_before(r, best)))
                        best = r;
        }
        if (best)
                return by_rule(best);
        if (open_to(p, name)) /* a rule names at most POLICY_PORTS_MAX ports, and nobody writes a thousand of them */
                return (struct policy_decision){ .allow = true, .reason = POLICY_BY_MODE };
        return deny ? refuse(POLICY_DENIED, deny) : refuse(POLICY_NO_RULE, NULL);
}

struct policy_decision policy_connect(const struct policy *p, const char *name, uint16_t port) {
        if (p->mode == POLICY_OFF)
                return refuse(POLICY_IS_OFF, NULL);
        if (!is_canonical(name))
                return refuse(POLICY_BAD_NAME, NULL);
        const struct policy_rule *deny = denied_name(p, name, port), *best = NULL, *other = NULL;
        if (deny)
                return refuse(POLICY_DENIED, deny);
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct policy_rule *r = &p->rules[i];
                if (r->deny || !matches_name(r, name))
                        continue;
                const struct policy_rule **slot = has_port(r, port) ? &best : &other;
                if (!*slot || counts_before(r, *slot))
                        *slot = r;
        }
        if (best)
                return by_rule(best);
        if (open_to(p, name))
                return (struct policy_decision){ .allow = true, .reason = POLICY_BY_MODE };
        return other ? refuse(POLICY_PORT, other) : refuse(POLICY_NO_RULE, NULL);
}

static const struct policy_rule *denied_address(const struct policy *p, const struct addr *a, uint16_t port) {
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct policy_rule *r = &p->rules[i];
                if (r->deny && !r->host && has_port(r, port) && addr_in(a, &r->range))
                        return r;
        }
        return NULL;
}

/* Is it in the range of a rule that allows? Unlike a denial this does not reach through tunnels: 10.1.2.3 is not what answers
 * at 2002:a01:203::1. */
static bool in_range(const struct policy_rule *r, const struct addr *a) {
        struct addr v4 = *a;
        addr_unmapped(a, &v4);
        return !r->deny && !r->host && v4.family == r->range.base.family && addr_in(&v4, &r->range);
}

/* Does a range that the address is in mean it? Special addresses are meant by ranges with nothing else in them. */
static bool names_kind(const struct addr_range *range, enum addr_kind kind, bool own) {
        if (kind == ADDR_PUBLIC && !own)
                return true;
        struct addr last = range->base;
        size_t len = last.family == AF_INET ? 4 : 16;
        for (size_t i = range->bits; i < len * 8; i++)
                last.bytes[i / 8] |= (uint8_t)(0x80u >> (i % 8));
        return addr_kind(&range->base) == kind && addr_kind(&last) == kind;
}

static struct policy_decision refuse_kind(const struct policy_rule *rule, enum addr_kind kind) {
        return (struct policy_decision){ .reason = POLICY_KIND, .rule = rule, .kind = kind };
}

/* The decision about an address by rules with ranges alone. */
static struct policy_decision by_range(const struct policy *p, const struct addr *a, uint16_t port, bool own) {
        struct policy_decision worse = refuse(POLICY_NO_RULE, NULL);
        enum addr_kind kind = addr_kind(a);
        const struct policy_rule *best = NULL;
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct policy_rule *r = &p->rules[i];
                if (!in_range(r, a))
                        continue;
                if (!names_kind(&r->range, kind, own))
                        worse = worse.reason == POLICY_NO_RULE ? refuse_kind(r, kind) : worse;
                else if (!has_port(r, port))
                        worse = refuse(POLICY_PORT, r);
                else if (!best || r->range.bits > best->range.bits ||
                         (r->range.bits == best->range.bits && r->limit && !best->limit))
                        best = r;
        }
        return best ? by_rule(best) : worse;
}

struct policy_decision policy_address(const struct policy *p, const struct addr *a, uint16_t port, bool udp) {
        if (p->mode == POLICY_OFF)
                return refuse(POLICY_IS_OFF, NULL);
        const struct policy_rule *deny = denied_address(p, a, port);
        if (deny)
                return refuse(POLICY_DENIED, deny);
        enum addr_kind kind = addr_kind(a);
        bool public_by_mode = p->mode == POLICY_OPEN && kind == ADDR_PUBLIC;
        struct policy_decision d = by_range(p, a, port, false);
        if (public_by_mode && (udp || !d.allow))
                return (struct policy_decision){ .allow = true, .reason = POLICY_BY_MODE, .udp = udp };
        if (d.allow && udp) /* rules are about TCP */
                return refuse(POLICY_UDP, d.rule);
        if (!d.allow && d.reason == POLICY_NO_RULE && p->mode == POLICY_OPEN)
                return refuse_kind(NULL, kind);
        return d;
}

struct policy_decision policy_result(const struct policy *p, const struct policy_decision *found, const struct addr *a,
                                     uint16_t port, bool own) {
        if (!found->allow)
                return *found;
        const struct policy_rule *rule = found->rule, *deny = denied_address(p, a, port);
        if (deny)
                return refuse(POLICY_DENIED, deny);
        enum addr_kind kind = addr_kind(a);
        if (rule && rule->host && !rule->below && strcmp(rule->host, POLICY_HOST) == 0)
                return kind == ADDR_LOOPBACK ? *found : refuse_kind(rule, kind);
        if (kind == ADDR_PUBLIC && !own)
                return *found;
        if (rule && rule->private && (kind == ADDR_PRIVATE || kind == ADDR_SHARED || kind == ADDR_PUBLIC))
                return *found;
        struct policy_decision d = by_range(p, a, port, own);
        if (d.allow && !found->udp)
                return rule ? *found : d;
        return refuse_kind(rule, kind);
}

bool policy_exact(const struct policy *p, const char *name) {
        if (strcmp(name, POLICY_HOST) == 0 || !policy_name(p, name).allow)
                return false;
        if (p->mode == POLICY_OPEN)
                return true;
        for (size_t i = 0; i < p->n_rules; i++)
                if (!p->rules[i].deny && !p->rules[i].below && matches_name(&p->rules[i], name))
                        return true;
        return false;
}

bool policy_bound(const struct policy *p, const char *name) {
        if (p->mode != POLICY_OPEN || strcmp(name, POLICY_HOST) == 0)
                return true;
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct policy_rule *r = &p->rules[i];
                if (matches_name(r, name) && (r->deny ? r->n_ports > 0 : r->private || r->limit > 0))
                        return true;
        }
        return false;
}

bool policy_shown(const struct policy *p, const struct addr *a, bool own) {
        enum addr_kind kind = addr_kind(a);
        bool shown = p->mode == POLICY_OPEN && kind == ADDR_PUBLIC && !own;
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct policy_rule *r = &p->rules[i];
                if (r->deny && !r->host && r->n_ports == 0 && addr_in(a, &r->range))
                        return false;
                shown |= in_range(r, a) && names_kind(&r->range, kind, own);
        }
        return shown && p->mode != POLICY_OFF;
}
