/* Carrying an approval over a change of network rules that the owner has just asked for (see approval.h). The file may lie
 * where a box can write: what is approved is what was read afterwards, and only if nothing but these rules is different. */
#include <jansson.h>
#include <string.h>

#include "base/mem.h"
#include "config/approval.h"
#include "config/render.h"

/* Rules about some requests only are no rules of src/policy: they are compared as they stand. */
static void keep_request_rules(json_t *list) {
        for (size_t i = json_array_size(list); i-- > 0;) {
                const json_t *item = json_array_get(list, i);
                if (!json_object_get(item, "methods") && !json_object_get(item, "paths"))
                        (void)json_array_remove(list, i);
        }
}

static json_t *all_but_rules(const struct config *c) {
        static const char *const lists[] = { "allow", "deny" };
        json_t *canonical = render_canonical(c);
        json_t *network = json_object_get(json_object_get(canonical, "values"), "network");
        for (size_t i = 0; i < NB_ARRAY_LEN(lists); i++) {
                keep_request_rules(json_object_get(network, lists[i]));
                if (json_array_size(json_object_get(network, lists[i])) == 0)
                        (void)json_object_del(network, lists[i]);
        }
        return canonical;
}

static bool same_hosts(const struct policy_rule *a, const struct policy_rule *b) {
        if (!a->host != !b->host)
                return false;
        if (a->host)
                return a->below == b->below && strcmp(a->host, b->host) == 0;
        return a->range.bits == b->range.bits && addr_equal(&a->range.base, &b->range.base);
}

static bool holds(const struct policy_rule *rules, size_t n, const struct policy_rule *r) {
        for (size_t i = 0; i < n; i++)
                if (policy_rule_equal(&rules[i], r))
                        return true;
        return false;
}

/* What is new was asked for, and what is gone was the opposite of something asked for. */
static bool follows(const struct policy *before, const struct policy *after, const struct policy_rule *asked, size_t n) {
        for (size_t i = 0; i < after->n_rules; i++)
                if (!holds(before->rules, before->n_rules, &after->rules[i]) && !holds(asked, n, &after->rules[i]))
                        return false;
        for (size_t i = 0; i < before->n_rules; i++) {
                const struct policy_rule *gone = &before->rules[i];
                bool meant = holds(after->rules, after->n_rules, gone);
                for (size_t k = 0; k < n && !meant; k++)
                        meant = asked[k].deny != gone->deny && same_hosts(&asked[k], gone);
                if (!meant)
                        return false;
        }
        return true;
}

int approval_follow(const struct config *before, const struct config *after, const struct policy_rule *asked, size_t n_asked,
                    struct nb_error *err) {
        json_t *was = all_but_rules(before), *is = all_but_rules(after);
        bool same = json_equal(was, is) && follows(before->policy, after->policy, asked, n_asked);
        json_decref(was);
        json_decref(is);
        if (!same)
                return 0;
        int r = approval_grant(after, err);
        return r < 0 ? r : 1;
}
