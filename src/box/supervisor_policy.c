/* Rules that change while the box runs, and why something is allowed or not. The new set of rules is made first and replaces
 * the old one everywhere in turn: kernel, here, gateway. Only src/policy decides what they mean. */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "box/supervisor_gateway.h"
#include "policy/proxy.h"
#include "policy/why.h"

#define ORIGIN_ALLOW "nixbox allow"
#define ORIGIN_DENY "nixbox deny"
#define CHANGE_MAX 256 /* rules in one request */

json_t *policy_words(const struct policy *p) {
        json_t *list = json_array();
        for (size_t i = 0; i < p->n_rules; i++) {
                NB_AUTO_FREE char *text = policy_rule_text(&p->rules[i]);
                NB_AUTO_FREE char *word = nb_asprintf("%s%s", p->rules[i].deny ? "deny " : "", text);
                (void)json_array_append_new(list, json_string(word));
        }
        return list;
}

static bool added_live(const struct policy_rule *r) {
        return r->origin && strcmp(r->origin, r->deny ? ORIGIN_DENY : ORIGIN_ALLOW) == 0;
}

static bool same_hosts(const struct policy_rule *a, const struct policy_rule *b) {
        if (a->below != b->below || !a->host != !b->host)
                return false;
        return a->host ? strcmp(a->host, b->host) == 0
                       : a->range.bits == b->range.bits && addr_equal(&a->range.base, &b->range.base);
}

/* Are these the ports of a rule that was written without any? */
static bool usual_ports(const struct policy_rule *r) {
        static const struct policy_rule usual = { .ports = { 443, 80 }, .n_ports = 2 };
        struct policy_rule ports = { .n_ports = r->n_ports };
        memcpy(ports.ports, r->ports, sizeof ports.ports);
        struct policy_rule want = usual;
        char host[] = "x";
        ports.host = want.host = host;
        return policy_rule_equal(&ports, &want);
}

/* Does the new rule take back the old one of the opposite kind? `deny HOST` after `allow HOST:22` does, and `allow HOST` after
 * `deny HOST`; `allow HOST:22` after `deny HOST` does not, since the ports that were not named stay denied. */
static bool takes_back(const struct policy_rule *fresh, const struct policy_rule *old) {
        if (!added_live(old) || old->deny == fresh->deny || !same_hosts(fresh, old))
                return false;
        if (fresh->deny && fresh->n_ports == 0)
                return true;
        if (old->deny && old->n_ports == 0)
                return usual_ports(fresh);
        struct policy_rule flipped = *old;
        flipped.deny = fresh->deny;
        flipped.private = fresh->private;
        flipped.limit = fresh->limit;
        return policy_rule_equal(&flipped, fresh);
}

static void remove_rule(struct policy *p, size_t at) {
        policy_rule_clear(&p->rules[at]);
        memmove(&p->rules[at], &p->rules[at + 1], (p->n_rules - at - 1) * sizeof p->rules[at]);
        p->n_rules--;
}

/* What a request changes. */
struct change {
        struct policy *policy;    /* the new set */
        json_t *allowed, *denied; /* as words, for the event log */
        bool ranges;              /* some rule names addresses: the kernel has a part in it */
};

static void change_clear(struct change *ch) {
        policy_free(ch->policy);
        json_decref(ch->allowed);
        json_decref(ch->denied);
}

int policy_change(struct policy *p, struct policy_rule *rule, struct nb_error *err) {
        free(rule->origin);
        rule->origin = nb_strdup(rule->deny ? ORIGIN_DENY : ORIGIN_ALLOW);
        for (size_t i = p->n_rules; i-- > 0;)
                if (takes_back(rule, &p->rules[i]))
                        remove_rule(p, i);
        return policy_add(p, rule, err);
}

static int add_rule(struct change *ch, const char *text, bool deny, struct nb_error *err) {
        struct policy_rule rule = { 0 };
        int r = policy_rule_parse(text, deny, &rule, err);
        if (r < 0)
                return r;
        ch->ranges = ch->ranges || !rule.host;
        NB_AUTO_FREE char *word = policy_rule_text(&rule);
        (void)json_array_append_new(deny ? ch->denied : ch->allowed, json_string(word));
        return policy_change(ch->policy, &rule, err);
}

static int add_list(struct change *ch, const json_t *list, bool deny, struct nb_error *err) {
        size_t i;
        json_t *item;
        if (json_array_size(list) > CHANGE_MAX)
                return nb_fail(err, E2BIG, "%zu rules at once are more than %d", json_array_size(list), CHANGE_MAX);
        json_array_foreach(list, i, item) {
                const char *text = json_string_value(item);
                if (!text)
                        return nb_fail(err, EPROTO, "a rule in the request is not a text");
                int r = add_rule(ch, text, deny, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* In force in the kernel and here; the gateway is told last. */
static int put_in_force(struct supervisor *s, struct change *ch, struct nb_error *err) {
        struct egress *e = s->egress;
        int r = ch->ranges ? netns_apply(&e->net, ch->policy, err) : 0;
        if (r < 0)
                return r;
        policy_free(s->m.policy);
        s->m.policy = nb_steal(&ch->policy);
        egress_table_limits(e->table, s->m.policy);
        json_t *event = json_pack("{s:s, s:i}", "action", "rules", "rules", (int)s->m.policy->n_rules);
        if (json_array_size(ch->allowed) > 0)
                (void)json_object_set(event, "allow", ch->allowed);
        if (json_array_size(ch->denied) > 0)
                (void)json_object_set(event, "deny", ch->denied);
        events_add(s->events, "policy", event);
        return 0;
}

void on_policy(struct super_client *c, const json_t *request) {
        struct supervisor *s = c->super;
        if (!s->egress) {
                client_refuse(c, ENOTSUP, "set network.mode: filtered in its config, then nixbox up --recreate",
                              "the box '%s' has no network", s->m.name);
                return;
        }
        NB_AUTO_ERROR err = { 0 };
        struct change ch = { .policy = policy_copy(s->m.policy), .allowed = json_array(), .denied = json_array() };
        int r = add_list(&ch, json_object_get(request, "allow"), false, &err);
        if (r == 0)
                r = add_list(&ch, json_object_get(request, "deny"), true, &err);
        if (r == 0)
                r = put_in_force(s, &ch, &err);
        change_clear(&ch);
        if (r < 0) {
                client_refuse(c, err.code, err.hint, "%s", err.what);
                return;
        }
        c->waits_for = WAITS_POLICY; /* answered when the gateway says so: the caller may rely on it from then on */
        c->change = egress_policy(s);
        if (c->change == 0)
                client_answer(c, json_pack("{s:i}", "rules", (int)s->m.policy->n_rules));
}

/* The config of this boot was given a rule that is in force already: it counts as the one that the box was started from. */
void on_saved(struct super_client *c, const json_t *request) {
        struct supervisor *s = c->super;
        const char *was = json_string_value(json_object_get(request, "was"));
        const char *now = json_string_value(json_object_get(request, "now"));
        if (was && now && strcmp(was, s->m.config_hash) == 0 && strlen(now) == strlen(was)) {
                free(s->m.config_hash);
                s->m.config_hash = nb_strdup(now);
                events_add(s->events, "policy", json_pack("{s:s, s:s}", "action", "saved", "config_hash", now));
        }
        client_answer(c, NULL);
}

/* Would a connection that is allowed go through the host's proxy? */
static bool by_proxy(const struct supervisor *s, const json_t *answer) {
        const char *past = json_string_value(json_object_get(s->m.proxy, "no_proxy"));
        const char *host = json_string_value(json_object_get(answer, "host"));
        json_int_t port = json_integer_value(json_object_get(answer, "port"));
        bool allow = json_is_true(json_object_get(answer, "allow")), private = json_is_true(json_object_get(answer, "private"));
        return s->m.proxy && allow && !name_problem(host, strlen(host)) && proxy_serves(past, host, (uint16_t)port, private);
}

void on_why(struct super_client *c, const json_t *request) {
        struct supervisor *s = c->super;
        NB_AUTO_ERROR err = { 0 };
        const char *host = json_string_value(json_object_get(request, "host"));
        json_int_t port = json_integer_value(json_object_get(request, "port"));
        json_t *answer = NULL;
        if (!host || port < 0 || port > UINT16_MAX) {
                client_refuse(c, EPROTO, NULL, "the question names no host");
        } else if (policy_why(s->m.policy, host, (uint16_t)port, &answer, &err) < 0) {
                client_refuse(c, err.code, err.hint, "%s", err.what);
        } else {
                (void)json_object_set_new(answer, "proxy", json_boolean(by_proxy(s, answer)));
                client_answer(c, answer);
        }
}
