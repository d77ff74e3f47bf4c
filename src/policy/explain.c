/* Rules and decisions in words, and the way out of a refusal. */
#include <string.h>

#include "base/mem.h"
#include "policy/policy.h"

static bool shows_ports(const struct policy_rule *r) {
        if (r->deny)
                return r->n_ports > 0;
        return !(r->n_ports == 2 && r->ports[0] == 80 && r->ports[1] == 443) || (r->host && strcmp(r->host, POLICY_HOST) == 0);
}

char *policy_rule_text(const struct policy_rule *r) {
        char range[ADDR_TEXT], *text;
        bool ports = shows_ports(r);
        if (r->host) {
                text = nb_asprintf("%s%s", r->below ? "*." : "", r->host);
        } else {
                addr_range_format(&r->range, range);
                text = nb_asprintf(ports && r->range.base.family == AF_INET6 ? "[%s]" : "%s", range);
        }
        for (size_t i = 0; ports && i < r->n_ports; i++) {
                NB_AUTO_FREE char *shorter = text;
                text = nb_asprintf("%s%c%u", shorter, i ? ',' : ':', (unsigned)r->ports[i]);
        }
        return text;
}

static char *rule_and_origin(const struct policy_rule *r) {
        NB_AUTO_FREE char *text = policy_rule_text(r);
        return r->origin ? nb_asprintf("%s (%s)", text, r->origin) : nb_steal(&text);
}

static char *explain_port(const struct policy_rule *r, uint16_t port) {
        NB_AUTO_FREE char *rule = rule_and_origin(r);
        NB_AUTO_FREE char *ports = nb_strdup("");
        for (size_t i = 0; i < r->n_ports; i++) {
                NB_AUTO_FREE char *before = nb_steal(&ports);
                ports = nb_asprintf("%s%s%u", before, i == 0 ? "" : i + 1 < r->n_ports ? ", " : " and ", (unsigned)r->ports[i]);
        }
        return nb_asprintf("%s allows port%s %s, not %u", rule, r->n_ports == 1 ? "" : "s", ports, (unsigned)port);
}

static char *explain_kind(const struct policy_decision *d, const char *host) {
        struct addr a;
        bool is_address = addr_parse(host, &a) == 0;
        const char *verb = is_address ? "it is" : "it leads to";
        const char *kind = d->kind == ADDR_PUBLIC ? "an address of the host's own network" : addr_kind_name(d->kind);
        if (is_address && d->rule) {
                NB_AUTO_FREE char *rule = rule_and_origin(d->rule);
                return nb_asprintf("%s %s, and %s holds other addresses too: it does not name this one", verb, kind, rule);
        }
        return nb_asprintf("%s %s", verb, kind);
}

char *policy_explain(const struct policy_decision *d, const char *host, uint16_t port) {
        NB_AUTO_FREE char *rule = d->rule ? rule_and_origin(d->rule) : NULL;
        switch (d->reason) {
        case POLICY_BY_RULE: return nb_asprintf("allowed by %s", rule);
        case POLICY_BY_MODE: return nb_strdup("allowed, because the network mode is open");
        case POLICY_IS_OFF: return nb_strdup("the box has no network (mode off)");
        case POLICY_NO_RULE: return nb_strdup("no rule allows it");
        case POLICY_DENIED: return nb_asprintf("denied by %s", rule);
        case POLICY_PORT: return d->rule ? explain_port(d->rule, port) : nb_strdup("not on this port");
        case POLICY_BAD_NAME: {
                const char *problem = name_problem(host, strlen(host));
                return nb_strdup(problem ? problem : "is not a host name");
        }
        case POLICY_KIND: return explain_kind(d, host);
        case POLICY_UDP: return nb_strdup("rules allow TCP, and this is UDP");
        }
        return nb_strdup("refused");
}

char *policy_suggest(const struct policy_decision *d, const char *host, uint16_t port) {
        struct addr a;
        char address[ADDR_TEXT], name[NAME_MAX_LEN + 1];
        if (d->allow || d->reason == POLICY_IS_OFF || d->reason == POLICY_DENIED || d->reason == POLICY_UDP)
                return nb_strdup("");
        NB_AUTO_FREE char *ports = port ? nb_asprintf("[%u]", (unsigned)port) : nb_strdup("[443, 80]");
        if (addr_parse(host, &a) == 0) {
                addr_unmapped(&a, &a);
                addr_format(&a, address);
                return nb_asprintf("- {cidr: \"%s/%d\", ports: %s}", address, a.family == AF_INET ? 32 : 128, ports);
        }
        if (name_canonical(host, strlen(host), name) < 0 || !strchr(name, '.'))
                return nb_strdup("");
        bool host_itself = strcmp(name, POLICY_HOST) == 0;
        if (host_itself && !port)
                return nb_asprintf("- {host: %s, ports: [PORT]}", name);
        if (d->reason == POLICY_KIND) { /* `private` is no way to loopback, metadata and the like */
                bool helps = d->kind == ADDR_PRIVATE || d->kind == ADDR_SHARED || d->kind == ADDR_PUBLIC;
                return helps ? nb_asprintf("- {host: %s, ports: %s, private: true}", name, ports) : nb_strdup("");
        }
        if (!host_itself && (port == 0 || port == 443 || port == 80))
                return nb_asprintf("- %s", name);
        return nb_asprintf("- {host: %s, ports: %s}", name, ports);
}
