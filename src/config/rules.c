/* Rules between the document and src/policy (see rules.h). What a rule means and which are refused is decided there. */
#include "config/rules.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

static int take_ports(const struct doc_node *ports, struct policy_rule *r, struct nb_error *err) {
        for (size_t i = 0; ports && i < ports->n_kids; i++) {
                uint64_t v = 0;
                if (i == POLICY_PORTS_MAX)
                        return doc_fail(ports->kids[i], err, E2BIG, "more than %d ports in one rule", POLICY_PORTS_MAX);
                (void)nb_parse_uint(ports->kids[i]->text, UINT16_MAX, &v); /* checked with the document */
                r->ports[r->n_ports++] = (uint16_t)v;
        }
        return 0;
}

int rules_make(const struct doc_node *item, bool deny, struct policy_rule *ret, struct nb_error *err) {
        const struct doc_node *host = item->kind == DOC_MAP ? doc_get(item, "host") : item;
        const char *cidr = doc_text(item, "cidr"), *private = doc_text(item, "private"), *limit = doc_text(item, "limit");
        struct policy_rule r = { .deny = deny, .private = private && strcmp(private, "true") == 0 };
        if (host) {
                r.below = nb_starts_with(host->text, "*.");
                r.host = nb_strdup(host->text + (r.below ? 2 : 0));
        } else {
                (void)addr_range_parse(cidr, &r.range);
        }
        if (limit)
                (void)nb_parse_size(limit, &r.limit);
        r.origin = doc_origin(item);
        int code = take_ports(doc_get(item, "ports"), &r, err);
        if (code == 0) {
                code = policy_rule_check(&r, err);
                NB_AUTO_FREE char *at = doc_origin(host ? host : item);
                if (code < 0)
                        nb_context(err, "%s", at);
        }
        if (code < 0)
                policy_rule_clear(&r);
        else
                *ret = r;
        return code;
}

bool rules_some_requests(const struct doc_node *item) {
        return doc_get(item, "methods") || doc_get(item, "paths");
}

/* Would the rule mean the same without its ports? */
static bool usual_ports(const struct policy_rule *r) {
        struct policy_rule plain = { .deny = r->deny, .host = nb_strdup(r->host), .below = r->below, .range = r->range };
        plain.private = r->private;
        plain.limit = r->limit;
        bool same = policy_rule_check(&plain, NULL) == 0 && policy_rule_equal(&plain, r);
        policy_rule_clear(&plain);
        return same;
}

char *rules_yaml(const struct policy_rule *r) {
        char range[ADDR_TEXT] = "";
        if (!r->host)
                addr_range_format(&r->range, range);
        NB_AUTO_FREE char *text = r->host ? nb_asprintf("%s%s", r->below ? "*." : "", r->host) : nb_strdup(range);
        bool plain = text[0] != '*' && !strchr(text, ':') && doc_plain_kind(text) == DOC_TEXT;
        NB_AUTO_FREE char *value = nb_asprintf(plain ? "%s" : "\"%s\"", text);
        NB_AUTO_FREE char *ports = nb_strdup("");
        if (!usual_ports(r)) {
                for (size_t i = 0; i < r->n_ports; i++) {
                        char *longer = nb_asprintf("%s%s%u", ports, i ? ", " : ", ports: [", (unsigned)r->ports[i]);
                        free(ports);
                        ports = longer;
                }
        }
        if (r->host && !*ports)
                return nb_steal(&value);
        return nb_asprintf("{%s: %s%s%s}", r->host ? "host" : "cidr", value, ports, *ports ? "]" : "");
}

static int load_list(const struct doc_node *list, bool deny, struct policy *p, struct nb_error *err) {
        for (size_t i = 0; list && i < list->n_kids; i++) {
                struct policy_rule rule = { 0 };
                if (rules_some_requests(list->kids[i]))
                        continue;
                int r = rules_make(list->kids[i], deny, &rule, err);
                if (r == 0)
                        r = policy_add(p, &rule, err);
                if (r < 0) {
                        policy_rule_clear(&rule);
                        return r;
                }
        }
        return 0;
}

int rules_load(const struct doc_node *network, struct policy **ret, struct nb_error *err) {
        const char *mode = doc_text(network, "mode");
        struct policy *p = policy_new(strcmp(mode, "off") == 0    ? POLICY_OFF
                                      : strcmp(mode, "open") == 0 ? POLICY_OPEN
                                                                  : POLICY_FILTERED);
        int r = load_list(doc_get(network, "allow"), false, p, err);
        if (r == 0)
                r = load_list(doc_get(network, "deny"), true, p, err);
        if (r < 0)
                policy_free(p);
        else
                *ret = p;
        return r;
}
