/* What went where: bytes by destination since they were last told, and bytes sent by rule for limits. Bounded: destinations
 * beyond the maximum are counted together. Pure. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "policy/policy.h"

#define TOTALS_MAX 512u       /* destinations between two tellings; more go into one that is named: */
#define TOTALS_OTHER "other"  /* not a name that could be connected to, for want of a dot and of any rule */
#define TOTALS_RULES_MAX 8192 /* rules with a limit; beyond them a limit counts as used up */

struct totals;
struct totals *totals_new(void);
void totals_free(struct totals *t);
/** Counts bytes of a destination (and of its rule, which may be NULL). False when that rule's limit is reached. */
bool totals_add(struct totals *t, const char *host, const struct policy_rule *rule, uint64_t up, uint64_t down);
/** Is the rule's limit used up? */
bool totals_spent(const struct totals *t, const struct policy_rule *rule);
/** What was sent under a rule (as policy_rule_text() writes it) earlier. */
void totals_used(struct totals *t, const char *rule, uint64_t bytes);
/** The rules that were given to totals_add() are about to go. */
void totals_forget_rules(struct totals *t);
/** Takes out the next destination. False when there is none. `host` and `rule` (may be NULL) belong to the caller then. */
struct totals_line {
        char *host, *rule;
        uint64_t up, down;
};
bool totals_take(struct totals *t, struct totals_line *ret);
