/* The set of rules as an object (see policy.h). What they mean is in decide.c, how they are written in rule.c. */
#include "policy/policy.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

const char *policy_mode_name(enum policy_mode mode) {
        static const char *const names[] = { "off", "filtered", "open" };
        return names[mode];
}

void policy_rule_clear(struct policy_rule *r) {
        free(r->host);
        free(r->origin);
        *r = (struct policy_rule){ 0 };
}

struct policy *policy_new(enum policy_mode mode) {
        struct policy *p = nb_calloc(1, sizeof *p);
        p->mode = mode;
        return p;
}

void policy_free(struct policy *p) {
        if (!p)
                return;
        for (size_t i = 0; i < p->n_rules; i++)
                policy_rule_clear(&p->rules[i]);
        free(p->rules);
        free(p);
}

static struct policy_rule rule_copy(const struct policy_rule *r) {
        struct policy_rule out = *r;
        out.host = nb_strdup(r->host);
        out.origin = nb_strdup(r->origin);
        return out;
}

struct policy *policy_copy(const struct policy *p) {
        struct policy *out = policy_new(p->mode);
        out->rules = nb_calloc(p->n_rules, sizeof *out->rules);
        for (; out->n_rules < p->n_rules; out->n_rules++)
                out->rules[out->n_rules] = rule_copy(&p->rules[out->n_rules]);
        return out;
}

static bool has_port(const struct policy_rule *r, uint16_t port) {
        for (size_t i = 0; i < r->n_ports; i++)
                if (r->ports[i] == port)
                        return true;
        return false;
}

static bool ports_within(const struct policy_rule *a, const struct policy_rule *b) {
        for (size_t i = 0; i < a->n_ports; i++)
                if (!has_port(b, a->ports[i]))
                        return false;
        return true;
}

bool policy_rule_equal(const struct policy_rule *a, const struct policy_rule *b) {
        if (a->deny != b->deny || a->below != b->below || a->private != b->private || a->limit != b->limit ||
            !a->host != !b->host)
                return false;
        if (a->host ? strcmp(a->host, b->host) != 0
                    : a->range.bits != b->range.bits || !addr_equal(&a->range.base, &b->range.base))
                return false;
        return ports_within(a, b) && ports_within(b, a);
}

int policy_add(struct policy *p, struct policy_rule *rule, struct nb_error *err) {
        for (size_t i = 0; i < p->n_rules; i++)
                if (policy_rule_equal(&p->rules[i], rule)) {
                        policy_rule_clear(rule);
                        return 0;
                }
        if (p->n_rules >= POLICY_RULES_MAX) {
                policy_rule_clear(rule);
                nb_fail(err, E2BIG, "there are more than %d network rules", POLICY_RULES_MAX);
                return nb_hint(err, "put several names under one pattern, such as *.example.com");
        }
        p->rules = nb_realloc(p->rules, p->n_rules + 1, sizeof *p->rules);
        p->rules[p->n_rules++] = *rule;
        *rule = (struct policy_rule){ 0 };
        return 0;
}
