/* What may leave a box: the rules, and the one decision about them. The gateway enforces with this code, `nixbox why` explains
 * with it, and the config reader makes the rules. Pure: no descriptor, no clock. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "policy/addr.h"
#include "policy/name.h"

enum policy_mode { POLICY_OFF, POLICY_FILTERED, POLICY_OPEN };
/** "off", "filtered", "open". */
const char *policy_mode_name(enum policy_mode mode);

#define POLICY_HOST "host.nixbox.internal" /* the host itself, on its loopback; needs an exact rule that names ports */
#define POLICY_PORTS_MAX 64
#define POLICY_RULES_MAX 4096

struct policy_rule {
        bool deny;                        /* wins over every allow */
        char *host;                       /* canonical; NULL: a range of addresses */
        bool below;                       /* "*.host": names any number of labels below it, not itself */
        struct addr_range range;          /* where host is NULL */
        uint16_t ports[POLICY_PORTS_MAX]; /* allow: 443 and 80 unless named; deny: none means all */
        size_t n_ports;
        bool private;   /* results of the name may be addresses of private networks too, and of the host's own networks; not
                         * loopback, link-local, metadata and the like, which need a range that names them */
        uint64_t limit; /* bytes that may be sent to all it allows together, 0: any number */
        char *origin;   /* where it was written: "nixbox.yaml:12:5", "profile npm", "nixbox allow" */
};
struct policy {
        enum policy_mode mode;
        struct policy_rule *rules;
        size_t n_rules;
};
void policy_rule_clear(struct policy_rule *r);
struct policy *policy_new(enum policy_mode mode);
void policy_free(struct policy *p);
struct policy *policy_copy(const struct policy *p);
/** Adds a rule (taking over what it owns). A rule that is there already is not added again. -E2BIG beyond the limit. */
int policy_add(struct policy *p, struct policy_rule *rule, struct nb_error *err);
/** Same effect on the same hosts and ports? Origins do not matter. */
bool policy_rule_equal(const struct policy_rule *a, const struct policy_rule *b);

/** A rule from the command line or an item of a list in a config: "HOST", "*.HOST", "HOST:PORT[,PORT]", "ADDRESS/BITS[:PORT]";
 *  with [] around an IPv6 range that has ports. -EINVAL says what is wrong with it, with the way out. */
int policy_rule_parse(const char *text, bool deny, struct policy_rule *ret, struct nb_error *err);
/** Completes and checks a rule that was put together from its parts: default ports, no pattern for a whole public suffix
 *  (`*.com`, `*.co.uk`; by the public suffix list), POLICY_HOST exact and with ports. */
int policy_rule_check(struct policy_rule *r, struct nb_error *err);
/** The rule as one word, as policy_rule_parse() takes it: "*.npmjs.org", "github.com:22,443". New string. */
char *policy_rule_text(const struct policy_rule *r);

/** One rule as JSON, and back: only the form that policy_rule_check() leaves, but public suffixes are not looked up again. */
json_t *policy_rule_json(const struct policy_rule *r);
int policy_rule_from_json(const json_t *doc, struct policy_rule *ret, struct nb_error *err);
/** {"mode": "filtered", "rules": [...]}; what the supervisor keeps and sends to the gateway. */
json_t *policy_json(const struct policy *p);
int policy_from_json(const json_t *doc, struct policy **ret, struct nb_error *err);

/* ---- decisions */
enum policy_reason {
        POLICY_BY_RULE,  /* allowed by `rule` */
        POLICY_BY_MODE,  /* allowed because everything public is */
        POLICY_IS_OFF,   /* there is no network */
        POLICY_NO_RULE,  /* no rule allows it */
        POLICY_DENIED,   /* `rule` denies it */
        POLICY_PORT,     /* `rule` allows the name or address, but not this port */
        POLICY_BAD_NAME, /* not a name */
        POLICY_KIND,     /* the address is of a kind that needs a rule of its own (private, ...) */
        POLICY_UDP,      /* TCP would be allowed, UDP is not */
};
struct policy_decision {
        bool allow;
        enum policy_reason reason;
        const struct policy_rule *rule; /* into the policy; NULL where none is involved */
        enum addr_kind kind;            /* KIND */
        bool udp;                       /* BY_MODE: it is about UDP, which no rule allows */
};
/** Does this canonical name exist for the box (some port of it is allowed)? */
struct policy_decision policy_name(const struct policy *p, const char *name);
/** May the box connect (TCP) to this canonical name and port? */
struct policy_decision policy_connect(const struct policy *p, const char *name, uint16_t port);
/** May it send to an address that was not got from a name? Port 0: of a protocol without ports (ICMP). Of an allowed address
 * that is the host's own (or of its networks) policy_result() knows whether the rule that allowed it means that. */
struct policy_decision policy_address(const struct policy *p, const struct addr *a, uint16_t port, bool udp);
/** `found` allowed a connection to a name on this port; may it go to this address that the name resolved to? `own` is true for
 *  the host's own addresses and those of its local networks, whatever their kind. */
struct policy_decision policy_result(const struct policy *p, const struct policy_decision *found, const struct addr *a,
                                     uint16_t port, bool own);
/** Does the exact name (not only a pattern above it) appear in an allowing rule, or is the mode open? Then records other
 *  than addresses are looked up too. */
bool policy_exact(const struct policy *p, const char *name);
/** Must connections to this name be bound to it by a synthetic address? In mode open only where a rule has a say that an
 * address alone does not tell: private, limit, a denied port. */
bool policy_bound(const struct policy *p, const char *name);
/** Mode open: may the box be told this real address of a name, since some port of it is allowed? `own` as above. */
bool policy_shown(const struct policy *p, const struct addr *a, bool own);

/** Why, in words that fit after "host:port: "; for a refusal without the way out. New string. */
char *policy_explain(const struct policy_decision *d, const char *host, uint16_t port);
/** The line for network.allow that would allow it, "" if no line can. New string. */
char *policy_suggest(const struct policy_decision *d, const char *host, uint16_t port);
