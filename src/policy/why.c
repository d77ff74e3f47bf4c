/* Putting a decision into words and JSON (see why.h). Nothing is decided here. */
#include "policy/why.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

#define PORTS_MAX (POLICY_PORTS_MAX + 2u) /* those of a rule, 443 and 80 */

struct question {
        const struct policy *policy;
        char name[NAME_MAX_LEN + 1]; /* canonical; empty: an address */
        struct addr addr;
        char text[NAME_MAX_LEN + ADDR_TEXT]; /* either of them */
};

static int read_host(const char *host, struct question *q, struct nb_error *err) {
        if (addr_parse(host, &q->addr) == 0) {
                addr_format(&q->addr, q->text);
                return 0;
        }
        int len = name_canonical(host, strlen(host), q->name);
        if (len < 0) {
                const char *problem = name_problem(host, strlen(host));
                nb_fail(err, EINVAL, "'%s' %s", host, problem ? problem : "is not a host name");
                return nb_hint(err, "ask about one name such as api.example.com, or an address such as 192.0.2.1");
        }
        memcpy(q->text, q->name, (size_t)len + 1);
        return 0;
}

static struct policy_decision decide(const struct question *q, uint16_t port) {
        return q->name[0] ? policy_connect(q->policy, q->name, port) : policy_address(q->policy, &q->addr, port, false);
}

static json_t *describe(const struct question *q, uint16_t port, const struct policy_decision *d) {
        NB_AUTO_FREE char *reason = policy_explain(d, q->text, port), *suggest = policy_suggest(d, q->text, port);
        NB_AUTO_FREE char *rule = d->rule ? policy_rule_text(d->rule) : NULL;
        return json_pack("{s:i, s:b, s:s, s:s*, s:s*, s:s*}", "port", (int)port, "allow", d->allow, "reason", reason, "rule",
                         rule, "origin", d->rule ? d->rule->origin : NULL, "suggest", *suggest ? suggest : NULL);
}

static size_t add_port(uint16_t *ports, size_t n, uint16_t port) {
        for (size_t i = 0; i < n; i++)
                if (ports[i] == port)
                        return n;
        ports[n] = port;
        return n + 1;
}

/* Which ports somebody who names none has in mind. */
static size_t choose_ports(const struct question *q, uint16_t ports[PORTS_MAX]) {
        size_t n = add_port(ports, 0, 443);
        n = add_port(ports, n, 80);
        struct policy_decision d = decide(q, 443);
        if (q->name[0] && !d.allow)
                d = policy_name(q->policy, q->name);
        if (d.rule && !d.rule->deny)
                for (size_t i = 0; i < d.rule->n_ports; i++)
                        n = add_port(ports, n, d.rule->ports[i]);
        return n;
}

int policy_why(const struct policy *p, const char *host, uint16_t port, json_t **ret, struct nb_error *err) {
        struct question q = { .policy = p };
        int r = read_host(host, &q, err);
        if (r < 0)
                return r;
        uint16_t ports[PORTS_MAX] = { port };
        size_t n = port ? 1 : choose_ports(&q, ports);
        struct policy_decision said = { 0 };
        json_t *list = json_array(), *answer = NULL;
        for (size_t i = 0; i < n; i++) {
                struct policy_decision d = decide(&q, ports[i]);
                json_t *one = describe(&q, ports[i], &d);
                (void)json_array_append(list, one);
                if (i == 0 || (d.allow && !said.allow)) {
                        json_decref(answer);
                        answer = json_copy(one);
                        said = d;
                }
                json_decref(one);
        }
        (void)json_object_set_new(answer, "host", json_string(q.text));
        (void)json_object_set_new(answer, "mode", json_string(policy_mode_name(p->mode)));
        if (said.rule && !said.rule->deny) {
                (void)json_object_set_new(answer, "private", json_boolean(said.rule->private));
                (void)json_object_set_new(answer, "limit", json_integer((json_int_t)said.rule->limit));
        }
        (void)json_object_set_new(answer, "ports", list);
        *ret = answer;
        return 0;
}
