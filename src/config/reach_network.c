/* What a config lets a box connect to, and who may connect to the box (see reach.h). Whether one set of rules lets more
 * through than another is found out by asking src/policy, which enforces them, about a name for each way in which names can
 * be told apart: every name that a rule gives, and one that no rule gives below every pattern; on every port that a rule
 * gives, and on one that none does. Ranges of addresses are compared with each other. */
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "config/port.h"
#include "config/reach.h"

#define QUESTIONS_MAX 50000000u /* rules looked at in one comparison: a second or two */

static const char any_public[] = "connect to any public address";

/* ---- grants */

static char *connect_text(const char *to, const struct policy_rule *rule, const char *more) {
        uint64_t limit = rule ? rule->limit : 0;
        NB_AUTO_FREE char *size = nb_format_size(limit);
        return nb_asprintf("connect to %s%s%s%s%s%s", to,
                           rule && rule->host && strcmp(rule->host, POLICY_HOST) == 0 ? " (this host itself)" : "",
                           rule && rule->private ? ", private addresses too" : "", limit ? ", sending at most " : "",
                           limit ? size : "", more);
}

/* Port 0: all of them. */
static char *with_port(const char *host, unsigned port) {
        return port ? nb_asprintf("%s port %u", host, port) : nb_strdup(host);
}

static char *host_text(const struct policy_rule *r) {
        char range[ADDR_TEXT];
        addr_range_format(&r->range, range);
        return r->host ? nb_asprintf("%s%s", r->below ? "*." : "", r->host) : nb_strdup(range);
}

static bool is_beyond(const struct policy_rule *r) {
        return r->private || !r->host || strcmp(r->host, POLICY_HOST) == 0;
}

static uint64_t limit_of(json_t *rule) {
        json_t *limit = json_object_get(rule, "limit");
        uint64_t bytes = 0;
        if (json_is_integer(limit))
                return (uint64_t)json_integer_value(limit);
        if (json_is_string(limit))
                (void)nb_parse_size(json_string_value(limit), &bytes);
        return bytes;
}

/* False for what is no rule, or not one any more: it grants nothing. */
static bool make_rule(json_t *v, bool deny, struct policy_rule *ret) {
        struct policy_rule r = { .deny = deny, .private = json_is_true(json_object_get(v, "private")), .limit = limit_of(v) };
        const char *host = json_string_value(json_is_string(v) ? v : json_object_get(v, "host"));
        const char *cidr = json_string_value(json_object_get(v, "cidr"));
        size_t i;
        json_t *port;
        if (host) {
                r.below = nb_starts_with(host, "*.");
                r.host = nb_strdup(host + (r.below ? 2 : 0));
        } else if (!cidr || addr_range_parse(cidr, &r.range) < 0) {
                return false;
        }
        json_array_foreach(json_object_get(v, "ports"), i, port) {
                if (r.n_ports < POLICY_PORTS_MAX)
                        r.ports[r.n_ports++] = (uint16_t)json_integer_value(port);
        }
        if (policy_rule_check(&r, NULL) == 0) {
                *ret = r;
                return true;
        }
        policy_rule_clear(&r);
        return false;
}

/* Which requests a rule is held to, as text; "" if to none. New string. */
static char *requests_of(json_t *rule) {
        json_t *methods = json_object_get(rule, "methods"), *paths = json_object_get(rule, "paths");
        if (!methods && !paths)
                return nb_strdup("");
        json_t *both = json_pack("[O?, O?]", methods, paths);
        char *text = json_dumps(both, JSON_COMPACT);
        char *only = nb_asprintf(", only %s", text ? text : "some requests");
        free(text);
        json_decref(both);
        return only;
}

static void add_rule(struct reach_list *l, json_t *v, bool deny) {
        struct policy_rule r = { 0 };
        if (!make_rule(v, deny, &r))
                return;
        NB_AUTO_FREE char *only = requests_of(v);
        NB_AUTO_FREE char *text = policy_rule_text(&r);
        if (!deny)
                reach_add(l, is_beyond(&r), connect_text(text, &r, only))->connect = true;
        if (!*only) /* as in the policy that is enforced, see rules.h */
                (void)policy_add(l->policy, &r, NULL);
        policy_rule_clear(&r);
}

static void add_port(struct reach_list *l, const char *text) {
        struct config_port p = { 0 };
        if (!text || config_parse_port(text, &p, NULL) < 0)
                return;
        bool local = port_is_local(&p), v6 = strchr(p.address, ':');
        NB_AUTO_FREE char *tail = nb_asprintf(":%u (port %u of the box)", p.host_port, p.guest_port);
        struct reach *r = reach_add(l, !local,
                                    nb_asprintf("be reached from %s at %s%s%s%s", local ? "this host" : "other machines",
                                                v6 ? "[" : "", p.address, v6 ? "]" : "", tail));
        nb_strv_addf(&r->wider, "be reached from other machines at %s%s", v6 ? "[::]" : "0.0.0.0", tail);
        config_port_clear(&p);
}

void reach_network(struct reach_list *l, json_t *network, json_t *ports) {
        const char *mode = json_string_value(json_object_get(network, "mode"));
        size_t i;
        json_t *item;
        l->policy = policy_new(!mode || strcmp(mode, "off") == 0 ? POLICY_OFF
                               : strcmp(mode, "open") == 0       ? POLICY_OPEN
                                                                 : POLICY_FILTERED);
        if (l->policy->mode == POLICY_OFF)
                return;
        if (l->policy->mode == POLICY_OPEN)
                reach_add(l, true, nb_strdup(any_public))->connect = true;
        json_array_foreach(json_object_get(network, "allow"), i, item) {
                add_rule(l, item, false);
        }
        json_array_foreach(json_object_get(network, "deny"), i, item) {
                add_rule(l, item, true);
        }
        json_array_foreach(ports, i, item) {
                add_port(l, json_string_value(item));
        }
}

/* ---- comparing */

/* A limit is for all that a rule allows together, so two rules cannot both live on the limit of one that was granted. */
struct share {
        const struct policy_rule *now, *granted;
};
struct comparison {
        const struct policy *now, *granted;
        struct reach_list *ret;
        uint16_t *ports; /* all that are told apart: first one that no rule gives, then the others */
        size_t n_ports;
        char *label; /* a first label that no rule's name has */
        struct share *shares;
        size_t n_shares;
};

/* Appends what is not there yet: one name may be in several rules. Takes the text. */
static void report(struct comparison *c, bool beyond, char *text) {
        for (size_t i = 0; i < c->ret->n; i++)
                if (strcmp(c->ret->items[i].text, text) == 0) {
                        free(text);
                        return;
                }
        reach_add(c->ret, beyond, text);
}

/* May `now` send what it may, where `granted` could? A rule that is NULL has no limit. */
static bool limit_fits(struct comparison *c, const struct policy_rule *now, const struct policy_rule *granted) {
        if (!granted || granted->limit == 0)
                return true;
        if (!now || now->limit == 0)
                return false;
        uint64_t left = granted->limit;
        for (size_t i = 0; i < c->n_shares; i++) {
                if (c->shares[i].granted != granted)
                        continue;
                if (c->shares[i].now == now)
                        return true;
                left -= c->shares[i].now->limit;
        }
        if (now->limit > left)
                return false;
        c->shares = nb_realloc(c->shares, c->n_shares + 1, sizeof *c->shares);
        c->shares[c->n_shares++] = (struct share){ .now = now, .granted = granted };
        return true;
}

/* A name to ask about, and what to call it. */
struct probe {
        char *name, *shown;
};

static bool compare_name(struct comparison *c, const struct probe *probe, uint16_t port, unsigned shown_port) {
        struct policy_decision now = policy_connect(c->now, probe->name, port);
        struct policy_decision old = policy_connect(c->granted, probe->name, port);
        bool private = now.rule && now.rule->private, was_private = old.rule && old.rule->private;
        if (!now.allow || (old.allow && private <= was_private && limit_fits(c, now.rule, old.rule)))
                return false;
        if (!now.rule && c->granted->mode != POLICY_OPEN) /* said already: any public address */
                return false;
        const char *more = !old.allow && old.reason == POLICY_DENIED      ? ", which was denied"
                           : old.allow && old.rule && old.rule->limit > 0 ? ", where less could be sent"
                                                                          : "";
        NB_AUTO_FREE char *to = with_port(probe->shown, shown_port);
        report(c, now.rule && is_beyond(now.rule), connect_text(to, now.rule, more));
        return true;
}

static void add_ports(uint16_t **ports, size_t *n, const struct policy *p) {
        for (size_t i = 0; i < p->n_rules; i++)
                for (size_t k = 0; k < p->rules[i].n_ports; k++) {
                        bool known = false;
                        for (size_t j = 0; j < *n && !known; j++)
                                known = (*ports)[j] == p->rules[i].ports[k];
                        if (known)
                                continue;
                        *ports = nb_realloc(*ports, *n + 1, sizeof **ports);
                        (*ports)[(*n)++] = p->rules[i].ports[k];
                }
}

static void find_ports(struct comparison *c) {
        c->ports = nb_calloc(1, sizeof *c->ports);
        c->n_ports = 1;
        add_ports(&c->ports, &c->n_ports, c->now);
        add_ports(&c->ports, &c->n_ports, c->granted);
        for (uint16_t other = 1; other != 0 && c->ports[0] == 0; other++) {
                bool given = false;
                for (size_t i = 1; i < c->n_ports && !given; i++)
                        given = c->ports[i] == other;
                if (!given)
                        c->ports[0] = other;
        }
}

static bool label_used(const struct policy *p, const char *label) {
        size_t len = strlen(label);
        for (size_t i = 0; i < p->n_rules; i++)
                if (p->rules[i].host && nb_starts_with(p->rules[i].host, label) && strchr(".", p->rules[i].host[len]))
                        return true;
        return false;
}

static char *unused_label(const struct policy *a, const struct policy *b) {
        for (unsigned i = 0;; i++) {
                char *label = nb_asprintf("n%u", i);
                if (!label_used(a, label) && !label_used(b, label))
                        return label;
                free(label);
        }
}

static void compare_names(struct comparison *c, const struct policy *named_by) {
        for (size_t i = 0; i < named_by->n_rules; i++) {
                const struct policy_rule *r = &named_by->rules[i];
                if (!r->host)
                        continue;
                NB_AUTO_FREE char *shown = host_text(r);
                NB_AUTO_FREE char *name = r->below ? nb_asprintf("%s.%s", c->label, r->host) : nb_strdup(r->host);
                struct probe probe = { .name = name, .shown = shown };
                bool all = compare_name(c, &probe, c->ports[0], 0);
                for (size_t k = 1; k < c->n_ports && !all; k++)
                        (void)compare_name(c, &probe, c->ports[k], c->ports[k]);
        }
}

static bool range_within(const struct addr_range *in, const struct addr_range *out) {
        return in->base.family == out->base.family && in->bits >= out->bits && addr_in(&in->base, out);
}

static bool gives_port(const struct policy_rule *r, uint16_t port) {
        for (size_t i = 0; i < r->n_ports; i++)
                if (r->ports[i] == port)
                        return true;
        return r->n_ports == 0;
}

static void compare_ranges(struct comparison *c) {
        for (size_t i = 0; i < c->now->n_rules; i++) {
                const struct policy_rule *r = &c->now->rules[i];
                for (size_t k = 0; k < r->n_ports && !r->host && !r->deny; k++) {
                        bool covered = false;
                        for (size_t j = 0; j < c->granted->n_rules && !covered; j++) {
                                const struct policy_rule *g = &c->granted->rules[j];
                                covered = !g->host && !g->deny && gives_port(g, r->ports[k]) &&
                                          range_within(&r->range, &g->range) && limit_fits(c, r, g);
                        }
                        NB_AUTO_FREE char *host = host_text(r);
                        NB_AUTO_FREE char *to = with_port(host, r->ports[k]);
                        if (!covered)
                                report(c, true, connect_text(to, r, ""));
                }
        }
}

static bool still_denied(const struct policy *now, const struct policy_rule *denied, uint16_t port) {
        for (size_t i = 0; i < now->n_rules; i++) {
                const struct policy_rule *r = &now->rules[i];
                if (r->deny && !r->host && range_within(&denied->range, &r->range) &&
                    (r->n_ports == 0 || (port != 0 && gives_port(r, port))))
                        return true;
        }
        return false;
}

/* A range that was denied may hold what any name leads to. */
static void compare_denied_ranges(struct comparison *c) {
        bool reaches = c->now->mode == POLICY_OPEN;
        for (size_t i = 0; i < c->now->n_rules && !reaches; i++)
                reaches = !c->now->rules[i].deny;
        for (size_t i = 0; i < c->granted->n_rules && reaches; i++) {
                const struct policy_rule *g = &c->granted->rules[i];
                NB_AUTO_FREE char *host = host_text(g);
                for (size_t k = 0; g->deny && !g->host && k < (g->n_ports ? g->n_ports : 1); k++) {
                        uint16_t port = g->n_ports ? g->ports[k] : 0;
                        NB_AUTO_FREE char *to = with_port(host, port);
                        if (!still_denied(c->now, g, port))
                                report(c, false, connect_text(to, NULL, ", which was denied"));
                }
        }
}

void reach_connections(const struct policy *now, const struct policy *granted, struct reach_list *ret) {
        struct comparison c = { .now = now, .granted = granted, .ret = ret };
        size_t n = now->n_rules + granted->n_rules;
        if (now->mode == POLICY_OFF)
                return;
        if (now->mode == POLICY_OPEN && granted->mode != POLICY_OPEN)
                report(&c, true, nb_strdup(any_public));
        find_ports(&c);
        c.label = unused_label(now, granted);
        if (n * n * c.n_ports > QUESTIONS_MAX) {
                report(&c, false, nb_strdup("connect to more than can be told: there are too many rules to compare"));
        } else {
                compare_names(&c, now);
                compare_names(&c, granted);
                compare_ranges(&c);
                compare_denied_ranges(&c);
        }
        free(c.ports);
        free(c.label);
        free(c.shares);
}
