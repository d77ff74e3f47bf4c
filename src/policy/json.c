/* Rules as JSON, between the processes of a box. The reader takes what the writer wrote and nothing else: a rule that is not in
 * the form that policy_rule_check() leaves is an error. Without the list of public suffixes, which only rules from people need.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "policy/policy.h"

json_t *policy_rule_json(const struct policy_rule *r) {
        json_t *doc = json_object();
        if (r->deny)
                json_object_set_new(doc, "deny", json_true());
        if (r->host) {
                json_object_set_new(doc, "host", json_sprintf("%s%s", r->below ? "*." : "", r->host));
        } else {
                char range[ADDR_TEXT];
                addr_range_format(&r->range, range);
                json_object_set_new(doc, "cidr", json_string(range));
        }
        if (r->n_ports > 0) {
                json_t *ports = json_array();
                for (size_t i = 0; i < r->n_ports; i++)
                        json_array_append_new(ports, json_integer(r->ports[i]));
                json_object_set_new(doc, "ports", ports);
        }
        if (r->private)
                json_object_set_new(doc, "private", json_true());
        if (r->limit)
                json_object_set_new(doc, "limit", json_integer((json_int_t)r->limit));
        if (r->origin)
                json_object_set_new(doc, "origin", json_string(r->origin));
        return doc;
}

static bool known_keys(const json_t *doc, const char *const *keys, size_t n) {
        for (void *i = json_object_iter((json_t *)doc); i; i = json_object_iter_next((json_t *)doc, i)) {
                size_t k = 0;
                while (k < n && strcmp(json_object_iter_key(i), keys[k]) != 0)
                        k++;
                if (k == n)
                        return false;
        }
        return json_is_object(doc);
}

/* An absent key leaves what is there. */
static bool get_bool(const json_t *doc, const char *key, bool *ret) {
        const json_t *v = json_object_get(doc, key);
        if (v)
                *ret = json_is_true(v);
        return !v || json_is_boolean(v);
}

static bool get_host(const json_t *doc, struct policy_rule *r) {
        const char *host = json_string_value(doc);
        if (!host || json_string_length(doc) != strlen(host))
                return false;
        r->below = strncmp(host, "*.", 2) == 0;
        host += r->below ? 2 : 0;
        char name[NAME_MAX_LEN + 1];
        if (name_canonical(host, strlen(host), name) < 0 || strcmp(name, host) != 0)
                return false;
        r->host = nb_strdup(host);
        return true;
}

static bool get_ports(const json_t *doc, struct policy_rule *r) {
        size_t n = json_array_size(doc); /* 0 of what is none */
        if ((doc && !json_is_array(doc)) || n > POLICY_PORTS_MAX || (n == 0 && !r->deny))
                return false;
        for (size_t i = 0; i < n; i++) {
                json_int_t port = json_integer_value(json_array_get(doc, i)); /* 0 of what is none */
                if (port < 1 || port > 65535 || (i > 0 && port <= r->ports[i - 1]))
                        return false;
                r->ports[r->n_ports++] = (uint16_t)port;
        }
        return true;
}

static bool get_limit(const json_t *doc, struct policy_rule *r) {
        if (doc && (!json_is_integer(doc) || json_integer_value(doc) < 1))
                return false;
        r->limit = (uint64_t)json_integer_value(doc);
        return true;
}

int policy_rule_from_json(const json_t *doc, struct policy_rule *ret, struct nb_error *err) {
        static const char *const keys[] = { "deny", "host", "cidr", "ports", "private", "limit", "origin" };
        *ret = (struct policy_rule){ 0 };
        struct policy_rule r = { 0 };
        const json_t *host = json_object_get(doc, "host"), *cidr = json_object_get(doc, "cidr");
        const json_t *origin = json_object_get(doc, "origin");
        bool good = known_keys(doc, keys, NB_ARRAY_LEN(keys)) && !host != !cidr && (!origin || json_is_string(origin)) &&
                    get_bool(doc, "deny", &r.deny) && get_bool(doc, "private", &r.private) &&
                    get_limit(json_object_get(doc, "limit"), &r) && get_ports(json_object_get(doc, "ports"), &r);
        if (good && host)
                good = get_host(host, &r);
        else if (good)
                good = json_is_string(cidr) && addr_range_parse(json_string_value(cidr), &r.range) == 0 && !r.private;
        if (!good || (r.deny && (r.private || r.limit)) || (!r.deny && r.below && strcmp(r.host, POLICY_HOST) == 0)) {
                policy_rule_clear(&r);
                return nb_fail(err, EPROTO, "a network rule in a message is malformed");
        }
        r.origin = nb_strdup(json_string_value(origin));
        *ret = r;
        return 0;
}

json_t *policy_json(const struct policy *p) {
        json_t *rules = json_array();
        for (size_t i = 0; i < p->n_rules; i++)
                json_array_append_new(rules, policy_rule_json(&p->rules[i]));
        return json_pack("{s:s, s:o}", "mode", policy_mode_name(p->mode), "rules", rules);
}

int policy_from_json(const json_t *doc, struct policy **ret, struct nb_error *err) {
        static const char *const keys[] = { "mode", "rules" };
        *ret = NULL;
        const char *mode = json_string_value(json_object_get(doc, "mode"));
        const json_t *rules = json_object_get(doc, "rules");
        if (!known_keys(doc, keys, NB_ARRAY_LEN(keys)) || !mode || !json_is_array(rules))
                return nb_fail(err, EPROTO, "the network policy in a message is malformed");
        struct policy *p = NULL;
        for (enum policy_mode m = POLICY_OFF; m <= POLICY_OPEN; m++)
                if (strcmp(mode, policy_mode_name(m)) == 0)
                        p = policy_new(m);
        if (!p)
                return nb_fail(err, EPROTO, "the network mode in a message is malformed");
        for (size_t i = 0; i < json_array_size(rules); i++) {
                struct policy_rule r;
                int code = policy_rule_from_json(json_array_get(rules, i), &r, err);
                if (code == 0)
                        code = policy_add(p, &r, err);
                if (code < 0) {
                        policy_free(p);
                        return code;
                }
        }
        *ret = p;
        return 0;
}
