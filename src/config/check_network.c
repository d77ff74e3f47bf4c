/* network:, ports: and host names. Shapes are checked here and brought to normal form; what a name, a range and a rule may be
 * is src/policy's to say. */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "config/check.h"
#include "config/port.h"
#include "config/rules.h"

#define LIMIT_MAX (1ull << 60) /* bytes */

static int bad_host(struct check *c, const struct doc_node *n, const char *problem) {
        doc_fail(n, c->err, EINVAL, "'%s' %s", n->text, problem);
        if (strstr(n->text, "://") || strchr(n->text, '/'))
                return nb_hint(c->err, "write the host's name alone; methods and paths have keys of their own");
        if (strchr(n->text, ':'))
                return nb_hint(c->err, "ports have a key of their own: {host: NAME, ports: [PORT]}");
        if (strcmp(problem, "is an address, not a name") == 0)
                return nb_hint(c->err, "addresses are allowed as {cidr: ADDRESS/BITS, ports: [PORT]}");
        for (const char *p = n->text; *p; p++)
                if ((unsigned char)*p >= 0x80)
                        return nb_hint(c->err, "write an international name in its xn-- form");
        return nb_hint(c->err, "write a full name such as api.example.com, or *.example.com for all names below it");
}

int check_host(struct check *c, struct doc_node *n, const char *what, bool suffix) {
        char name[NAME_MAX_LEN + 1];
        int r = check_text(c, n, what);
        if (r < 0)
                return r;
        bool star = nb_starts_with(n->text, "*.");
        if (star && !suffix)
                return bad_host(c, n, "is a pattern, but here only whole names are possible");
        const char *host = n->text + (star ? 2 : 0);
        if (name_canonical(host, strlen(host), name) < 0)
                return bad_host(c, n, name_problem(host, strlen(host)));
        if (!suffix && !strchr(name, '.')) /* of patterns and rules it is for src/policy to say */
                return bad_host(c, n, "has no dot");
        doc_set_text(n, nb_asprintf("%s%s", star ? "*." : "", name));
        return 0;
}

static int rule_host(struct check *c, struct doc_node *n) {
        return check_host(c, n, "host", true);
}

static int rule_cidr(struct check *c, struct doc_node *n) {
        struct addr_range range;
        char text[ADDR_TEXT];
        int r = check_text(c, n, "cidr");
        if (r < 0)
                return r;
        if (addr_range_parse(n->text, &range) < 0) {
                doc_fail(n, c->err, EINVAL, "'%s' is not a range of addresses, or has bits set beyond its length", n->text);
                return nb_hint(c->err,
                               "write ADDRESS/BITS with the first address of the range, such as 10.1.2.0/24 or 10.1.2.3/32");
        }
        addr_range_format(&range, text);
        doc_set_text(n, nb_strdup(text));
        return 0;
}

static int port(struct check *c, struct doc_node *n) {
        return check_int(c, n, "a port", 1, 65535);
}

static int rule_ports(struct check *c, struct doc_node *n) {
        int r = check_list(c, n, "ports", port);
        if (r == 0 && n->n_kids == 0) {
                doc_fail(n, c->err, EINVAL, "ports is empty: the rule would allow nothing");
                return nb_hint(c->err, "name the ports, or remove the key (443 and 80)");
        }
        return r;
}

static int method(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "a method");
        if (r == 0 && n->text[strspn(n->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-")]) {
                doc_fail(n, c->err, EINVAL, "'%s' is not an HTTP method", n->text);
                return nb_hint(c->err, "write it in capitals: GET, POST, …");
        }
        return r;
}

static int rule_methods(struct check *c, struct doc_node *n) {
        return check_list(c, n, "methods", method);
}

static int path(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "a path");
        if (r == 0 && (n->text[0] != '/' || strpbrk(n->text, " \n\t?#"))) {
                doc_fail(n, c->err, EINVAL, "'%s' is not a path pattern", n->text);
                return nb_hint(c->err, "begin with /; * stands for one part, ** for any number; no query, no spaces");
        }
        return r;
}

static int rule_paths(struct check *c, struct doc_node *n) {
        return check_list(c, n, "paths", path);
}

static int rule_private(struct check *c, struct doc_node *n) {
        return check_bool(c, n, "private");
}

static int rule_limit(struct check *c, struct doc_node *n) {
        return check_size(c, n, "limit", 1, LIMIT_MAX);
}

/* The first of these keys that is there. */
static const struct doc_node *first_of(const struct doc_node *map, const char *const *keys) {
        const struct doc_node *n = NULL;
        for (; *keys && !n; keys++)
                n = doc_get(map, *keys);
        return n;
}

static int rule(struct check *c, struct doc_node *n, bool deny) {
        static const struct check_key keys[] = {
                { "host", rule_host },       { "cidr", rule_cidr },   { "ports", rule_ports },     { "limit", rule_limit },
                { "methods", rule_methods }, { "paths", rule_paths }, { "private", rule_private },
        };
        static const char *const with_host[] = { "methods", "paths", "private", NULL };
        static const char *const with_allow[] = { "limit", "methods", "paths", "private", NULL };
        struct policy_rule made = { 0 };
        int r = 0;
        if (n->kind != DOC_MAP) {
                r = check_host(c, n, deny ? "an item of network.deny" : "an item of network.allow", true);
        } else {
                r = check_map(c, n, "a rule", keys, NB_ARRAY_LEN(keys));
                bool host = doc_get(n, "host"), cidr = doc_get(n, "cidr");
                const struct doc_node *wrong = cidr ? first_of(n, with_host) : NULL;
                if (r == 0 && host == cidr)
                        return doc_fail(n, c->err, EINVAL, "a rule needs either host or cidr%s", host ? ", not both" : "");
                if (r == 0 && wrong)
                        return doc_fail(wrong, c->err, EINVAL, "'%s' goes with host, not with cidr", wrong->key);
                wrong = deny ? first_of(n, with_allow) : NULL;
                if (r == 0 && wrong)
                        return doc_fail(wrong, c->err, EINVAL, "'%s' goes with allow, not with deny", wrong->key);
        }
        if (r == 0)
                r = rules_make(n, deny, &made, c->err);
        policy_rule_clear(&made);
        return r;
}

static int allow_rule(struct check *c, struct doc_node *n) {
        return rule(c, n, false);
}

static int deny_rule(struct check *c, struct doc_node *n) {
        return rule(c, n, true);
}

static int network_mode(struct check *c, struct doc_node *n) {
        static const char *const modes[] = { "off", "filtered", "open" };
        int r = check_text(c, n, "network.mode");
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(modes); i++)
                if (strcmp(n->text, modes[i]) == 0)
                        return 0;
        if (r < 0)
                return r;
        doc_fail(n, c->err, EINVAL, "there is no network mode '%s'", n->text);
        return nb_hint(c->err, "use off, filtered or open");
}

static int network_allow(struct check *c, struct doc_node *n) {
        return check_list(c, n, "network.allow", allow_rule);
}

static int network_deny(struct check *c, struct doc_node *n) {
        return check_list(c, n, "network.deny", deny_rule);
}

int check_network(struct check *c, struct doc_node *n) {
        static const struct check_key keys[] = {
                { "mode", network_mode }, { "allow", network_allow }, { "deny", network_deny }, { "limit", NULL }
        };
        return check_map(c, n, "network", keys, NB_ARRAY_LEN(keys));
}

/* Brought to the one form ADDRESS:PORT:PORT, so that two ways to say it are one thing. */
static int published(struct check *c, struct doc_node *n) {
        struct config_port p = { 0 };
        if (n->kind == DOC_INT)
                n->kind = DOC_TEXT;
        int r = check_text(c, n, "a published port");
        if (r < 0)
                return r;
        r = config_parse_port(n->text, &p, c->err);
        if (r < 0) {
                NB_AUTO_FREE char *at = doc_origin(n);
                return nb_context(c->err, "%s", at);
        }
        doc_set_text(n, port_text(&p));
        config_port_clear(&p);
        return 0;
}

int check_ports(struct check *c, struct doc_node *n) {
        int r = check_list(c, n, "ports", published);
        if (r == 0 && n->n_kids > CHECK_PORTS_MAX)
                return doc_fail(n->kids[CHECK_PORTS_MAX], c->err, E2BIG, "more than %d published ports", CHECK_PORTS_MAX);
        return r;
}
