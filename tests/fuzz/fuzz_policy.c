/* Fuzz target: rules made from the input, and questions to them, answered once more by a slow oracle that looks at every rule
 * with nothing but what policy.h says. With a first byte of 0xff, rules as words; 0xfe, a policy as JSON: what was read must,
 * written again, read the same. */
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RULES_MAX 12
#define QUESTIONS_MAX 6

struct input {
        const uint8_t *at, *end;
};

static uint8_t next(struct input *in) {
        return in->at < in->end ? *in->at++ : 0;
}

/* A macro, so that the report of a failure names the line. */
#define must(condition)                   \
        do {                              \
                if (!(condition))         \
                        __builtin_trap(); \
        } while (0)

/* ---- few names and ports, so that they meet */
static const uint16_t ports[] = { 22, 80, 443, 5432, 7 };

static void take_name(struct input *in, char ret[NAME_MAX_LEN + 1]) {
        static const char *const labels[] = { "a", "b", "xa", "com", "example", "host", "nixbox", "internal" };
        uint8_t n = next(in);
        ret[0] = 0;
        if (n % 8 == 7) {
                (void)snprintf(ret, NAME_MAX_LEN + 1, "%s", n & 8 ? "x." POLICY_HOST : POLICY_HOST);
                return;
        }
        for (unsigned i = 0; i <= n % 4u; i++) {
                size_t at = strlen(ret);
                (void)snprintf(ret + at, NAME_MAX_LEN + 1 - at, "%s%s", i > 0 ? "." : "",
                               labels[next(in) % NB_ARRAY_LEN(labels)]);
        }
}

static struct addr take_address(struct input *in) {
        static const char *const texts[] = { "8.8.8.8",
                                             "8.8.9.9",
                                             "10.1.2.3",
                                             "127.0.0.1",
                                             "169.254.1.1",
                                             "169.254.169.254",
                                             "100.64.0.1",
                                             "100.100.100.200",
                                             "168.63.129.16",
                                             "2a00::1",
                                             "::1",
                                             "fd00::1",
                                             "fd00:ec2::254",
                                             "::ffff:10.1.2.3",
                                             "64:ff9b::8.8.8.8",
                                             "64:ff9b::10.1.2.3",
                                             "2002:a01:203::",
                                             "fe80::1",
                                             "::ffff:8.8.8.8",
                                             "255.255.255.255",
                                             "64:ff9b:1::10.1.2.3",
                                             "::10.1.2.3",
                                             "::ffff:0:10.1.2.3",
                                             "2001:0:808:808::f5fe:fdfc",
                                             "2a00::5efe:10.1.2.3" };
        struct addr a;
        uint8_t n = next(in);
        must(addr_parse(texts[n % NB_ARRAY_LEN(texts)], &a) == 0);
        if (n >= 128)
                a.bytes[next(in) % (a.family == AF_INET ? 4 : 16)] = next(in);
        return a;
}

static struct policy_rule take_rule(struct input *in) {
        struct policy_rule r = { 0 };
        uint8_t flags = next(in);
        r.deny = flags & 1;
        if (flags & 2) {
                char name[NAME_MAX_LEN + 1];
                take_name(in, name);
                r.host = nb_strdup(name);
                r.below = flags & 4;
                r.private = !r.deny && (flags & 8);
        } else {
                struct addr_range range = { .base = take_address(in) };
                char text[ADDR_TEXT];
                unsigned max = range.base.family == AF_INET ? 32 : 128;
                range.bits = (uint8_t)(next(in) % (max + 1));
                for (unsigned i = range.bits; i < max; i++)
                        range.base.bytes[i / 8] &= (uint8_t) ~(0x80u >> (i % 8));
                addr_range_format(&range, text);
                must(addr_range_parse(text, &r.range) == 0); /* in its one spelling */
        }
        r.limit = !r.deny && (flags & 16) ? 1000 : 0;
        for (unsigned i = 0; i < (flags >> 5) % 4u; i++)
                r.ports[r.n_ports++] = ports[next(in) % 4];
        return r;
}

/* ---- the oracle */
static size_t split(const char *name, char out[8][64]) {
        size_t n = 0;
        while (*name) {
                size_t len = strcspn(name, ".");
                snprintf(out[n++], 64, "%.*s", (int)len, name);
                name += len + (name[len] == '.');
        }
        return n;
}

/* Label by label from the right. */
static bool slow_name(const struct policy_rule *r, const char *name) {
        char a[8][64], b[8][64];
        if (!r->host)
                return false;
        size_t na = split(name, a), nb = split(r->host, b);
        if (r->below ? na <= nb : na != nb)
                return false;
        for (size_t i = 1; i <= nb; i++)
                if (strcmp(a[na - i], b[nb - i]) != 0)
                        return false;
        return !(r->below && !r->deny && strcmp(name, POLICY_HOST) == 0);
}

static bool slow_port(const struct policy_rule *r, uint16_t port) {
        for (size_t i = 0; i < r->n_ports; i++)
                if (r->ports[i] == port)
                        return true;
        return r->deny && r->n_ports == 0;
}

/* 2: exact; else 0 to 1 by the length of the pattern */
static double slow_weight(const struct policy_rule *r) {
        return r->below ? (double)strlen(r->host) / 1000 : 2;
}

static void check_connect(const struct policy *p, const char *name, uint16_t port) {
        bool denied = false, allowed = false, other = false;
        double best = -1;
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct policy_rule *r = &p->rules[i];
                if (!slow_name(r, name))
                        continue;
                denied |= r->deny && slow_port(r, port);
                other |= !r->deny && !slow_port(r, port);
                if (!r->deny && slow_port(r, port)) {
                        allowed = true;
                        best = slow_weight(r) > best ? slow_weight(r) : best;
                }
        }
        enum policy_reason reason = p->mode == POLICY_OFF                                      ? POLICY_IS_OFF
                                    : denied                                                   ? POLICY_DENIED
                                    : allowed                                                  ? POLICY_BY_RULE
                                    : p->mode == POLICY_OPEN && strcmp(name, POLICY_HOST) != 0 ? POLICY_BY_MODE
                                    : other                                                    ? POLICY_PORT
                                                                                               : POLICY_NO_RULE;
        struct policy_decision d = policy_connect(p, name, port);
        must(d.reason == reason);
        must(d.allow == (reason == POLICY_BY_RULE || reason == POLICY_BY_MODE));
        if (reason == POLICY_BY_RULE)
                must(!d.rule->deny && slow_name(d.rule, name) && slow_port(d.rule, port) && slow_weight(d.rule) == best);
        if (reason == POLICY_DENIED)
                must(d.rule->deny && slow_name(d.rule, name) && slow_port(d.rule, port));
        NB_AUTO_FREE char *why = policy_explain(&d, name, port), *line = policy_suggest(&d, name, port);
        must(*why && (!d.allow || !*line));
}

/* A name exists exactly if some port of it can be reached; 7 and 9 stand for all those that no rule names. */
static void check_name(const struct policy *p, const char *name) {
        bool some = policy_connect(p, name, 9).allow;
        for (size_t i = 0; i < NB_ARRAY_LEN(ports); i++) {
                check_connect(p, name, ports[i]);
                some |= policy_connect(p, name, ports[i]).allow;
        }
        struct policy_decision d = policy_name(p, name);
        must(d.allow == some);
        must(!policy_exact(p, name) || d.allow);
        NB_AUTO_FREE char *why = policy_explain(&d, name, 0), *line = policy_suggest(&d, name, 0);
        must(*why && (!d.allow || !*line));
}

/* As the kernel takes addresses, and back. */
static void check_kernels_form(const struct addr *a, uint16_t port) {
        struct sockaddr_storage form;
        struct addr b;
        uint16_t again = 0;
        must(addr_to_sockaddr(a, port, &form) ==
             (a->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)));
        must(addr_from_sockaddr((struct sockaddr *)&form, &b, &again) == 0 && addr_equal(a, &b) && again == port);
        form.ss_family = AF_UNIX;
        must(addr_from_sockaddr((struct sockaddr *)&form, &b, &again) < 0);
        must(*addr_kind_name(addr_kind(a)));
}

static bool slow_bits(const struct addr *a, const struct addr_range *r) {
        for (unsigned i = 0; i < r->bits; i++)
                if (((a->bytes[i / 8] ^ r->base.bytes[i / 8]) >> (7 - i % 8)) & 1)
                        return false;
        return a->family == r->base.family;
}

/* Of the disguises only the plain ones. */
static bool slow_in(const struct addr *a, const struct addr_range *r, bool translated) {
        struct addr v4 = { .family = AF_INET };
        char text[ADDR_TEXT];
        addr_format(a, text);
        if (strncmp(text, "::ffff:", 7) == 0 && strchr(text, '.') && strncmp(text, "::ffff:0:", 9) != 0)
                return slow_bits(a, r) || (addr_parse(text + 7, &v4) == 0 && slow_bits(&v4, r));
        memcpy(v4.bytes, a->bytes + 12, 4);
        if (translated && a->family == AF_INET6 && memcmp(a->bytes, "\0\x64\xff\x9b\0\0\0\0\0\0\0", 12) == 0 &&
            slow_bits(&v4, r))
                return true;
        return slow_bits(a, r);
}

static void check_address(const struct policy *p, const struct addr *a, uint16_t port, bool own) {
        bool denied = false, in_some = false;
        enum addr_kind kind = addr_kind(a);
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct policy_rule *r = &p->rules[i];
                if (r->host)
                        continue;
                denied |= r->deny && slow_in(a, &r->range, true) && slow_port(r, port);
                in_some |= !r->deny && (slow_in(a, &r->range, false)) && slow_port(r, port);
        }
        for (int udp = 0; udp < 2; udp++) {
                struct policy_decision d = policy_address(p, a, port, udp);
                if (p->mode == POLICY_OFF)
                        must(d.reason == POLICY_IS_OFF);
                else if (denied)
                        must(d.reason == POLICY_DENIED && !d.allow);
                else if (p->mode == POLICY_OPEN && kind == ADDR_PUBLIC)
                        must(d.allow || d.reason == POLICY_DENIED); /* through some other disguise */
                else
                        must(!d.allow || (in_some && !udp));
                if (d.allow && kind != ADDR_PUBLIC)
                        must(d.rule && !d.rule->host && !d.rule->deny);
                if (d.allow && own) { /* what is the host's own is never reached because everything is */
                        struct policy_decision result = policy_result(p, &d, a, port, true);
                        must(!result.allow || (result.rule && !udp));
                }
        }
}

static void check_result(const struct policy *p, const char *name, const struct addr *a, uint16_t port, bool own) {
        struct policy_decision found = policy_connect(p, name, port), d = policy_result(p, &found, a, port, own);
        enum addr_kind kind = addr_kind(a);
        must(!d.allow || found.allow);
        must(!d.allow || policy_address(p, a, port, false).reason != POLICY_DENIED);
        if (!d.allow || (kind == ADDR_PUBLIC && !own && strcmp(name, POLICY_HOST) != 0))
                return;
        bool named = false; /* by a range */
        for (size_t i = 0; i < p->n_rules; i++)
                named |= !p->rules[i].deny && !p->rules[i].host && slow_in(a, &p->rules[i].range, false) &&
                         slow_port(&p->rules[i], port);
        bool private =
            found.rule && found.rule->private && (kind == ADDR_PRIVATE || kind == ADDR_SHARED || (kind == ADDR_PUBLIC && own));
        if (strcmp(name, POLICY_HOST) == 0)
                must(kind == ADDR_LOOPBACK);
        else
                must(named || private);
}

static void check_json(const struct policy *p) {
        struct policy *q = NULL;
        json_t *doc = policy_json(p);
        must(policy_from_json(doc, &q, NULL) == 0);
        must(q->n_rules == p->n_rules && q->mode == p->mode);
        for (size_t i = 0; i < p->n_rules; i++)
                must(policy_rule_equal(&p->rules[i], &q->rules[i]));
        json_decref(doc);
        policy_free(q);
}

static void check_words(const uint8_t *data, size_t size) {
        NB_AUTO_FREE char *text = nb_strndup((const char *)data, size);
        for (int deny = 0; deny < 2; deny++) {
                NB_AUTO_ERROR err = { 0 };
                struct policy_rule r, again;
                if (policy_rule_parse(text, deny, &r, &err) < 0) {
                        must(err.what != NULL);
                        continue;
                }
                NB_AUTO_FREE char *written = policy_rule_text(&r);
                must(policy_rule_parse(written, deny, &again, NULL) == 0);
                must(policy_rule_equal(&r, &again));
                json_t *doc = policy_rule_json(&r);
                policy_rule_clear(&again);
                must(policy_rule_from_json(doc, &again, NULL) == 0);
                must(policy_rule_equal(&r, &again));
                json_decref(doc);
                policy_rule_clear(&again);
                policy_rule_clear(&r);
        }
}

static void check_any_json(const uint8_t *data, size_t size) {
        json_t *doc = json_loadb((const char *)data, size, JSON_ALLOW_NUL, NULL);
        struct policy *p = NULL;
        if (doc && policy_from_json(doc, &p, NULL) == 0)
                check_json(p);
        policy_free(p);
        json_decref(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct input in = { data, data + size };
        uint8_t first = next(&in);
        if (first >= 0xfe) {
                (first == 0xff ? check_words : check_any_json)(in.at, (size_t)(in.end - in.at));
                return 0;
        }
        struct policy *p = policy_new((enum policy_mode)(first % 3));
        for (unsigned i = next(&in) % RULES_MAX; i > 0; i--) {
                struct policy_rule r = take_rule(&in);
                if (policy_rule_check(&r, NULL) == 0)
                        must(policy_add(p, &r, NULL) == 0);
                else
                        policy_rule_clear(&r);
        }
        check_json(p);
        for (unsigned i = 0; i < QUESTIONS_MAX && in.at < in.end; i++) {
                char name[NAME_MAX_LEN + 1];
                take_name(&in, name);
                struct addr a = take_address(&in);
                uint8_t n = next(&in);
                uint16_t port = ports[n % NB_ARRAY_LEN(ports)];
                check_name(p, name);
                check_kernels_form(&a, port);
                check_address(p, &a, port, n & 64);
                check_result(p, name, &a, port, n & 128);
        }
        policy_free(p);
        return 0;
}
