/* Unit tests of rules and of the decision about them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "policy/policy.h"

/* Rules as words; "!" in front denies, "+" is private. */
static struct policy *make(enum policy_mode mode, const char *const *rules) {
        struct policy *p = policy_new(mode);
        for (; *rules; rules++) {
                NB_AUTO_ERROR err = { 0 };
                struct policy_rule r;
                const char *text = *rules + (strchr("!+", **rules) ? 1 : 0);
                if (policy_rule_parse(text, **rules == '!', &r, &err) < 0)
                        fail_msg("%s: %s", *rules, err.what);
                r.private = **rules == '+';
                r.origin = nb_strdup("test:1");
                assert_int_equal(policy_add(p, &r, NULL), 0);
        }
        return p;
}
#define MAKE(mode, ...) make(mode, (const char *const[]){ __VA_ARGS__, NULL })

static struct addr parsed(const char *text) {
        struct addr a;
        if (addr_parse(text, &a) < 0)
                fail_msg("%s is not an address", text);
        return a;
}

static void test_parse(void **state) {
        (void)state;
        static const char *const good[][2] = {
                { "api.example.com", "api.example.com" },
                { "API.Example.COM.", "api.example.com" },
                { "*.npmjs.org", "*.npmjs.org" },
                { "*.NPMJS.org.", "*.npmjs.org" },
                { "github.com:443,22,443", "github.com:22,443" },
                { "github.com:80,443", "github.com" },
                { "github.com:443", "github.com:443" },
                { "10.1.2.0/24", "10.1.2.0/24" },
                { "10.1.2.0/24:5432", "10.1.2.0/24:5432" },
                { "fd00::/8", "fd00::/8" },
                { "[fd00::/8]", "fd00::/8" },
                { "[fd00::/8]:22,5432", "[fd00::/8]:22,5432" },
                { "[10.1.2.0/24]:1", "10.1.2.0/24:1" },
                { "::ffff:10.0.0.0/104", "10.0.0.0/8" },
                { "xn--bcher-kva.example", "xn--bcher-kva.example" },
                { "host.nixbox.internal:11434", "host.nixbox.internal:11434" },
                { "host.nixbox.internal:80,443", "host.nixbox.internal:80,443" },
                { "*.example.co.uk", "*.example.co.uk" },
                { "_srv.example.com:1", "_srv.example.com:1" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(good); i++) {
                NB_AUTO_ERROR err = { 0 };
                struct policy_rule r, again;
                if (policy_rule_parse(good[i][0], false, &r, &err) < 0)
                        fail_msg("%s: %s", good[i][0], err.what);
                NB_AUTO_FREE char *text = policy_rule_text(&r);
                assert_string_equal(text, good[i][1]);
                assert_int_equal(policy_rule_parse(text, false, &again, NULL), 0);
                assert_true(policy_rule_equal(&r, &again));
                policy_rule_clear(&again);
                policy_rule_clear(&r);
        }
}

static void test_parse_deny(void **state) {
        (void)state;
        static const char *const good[] = { "a.example", "*.com",         "*.github.io",         "a.example:80,443",
                                            "0.0.0.0/0", "10.0.0.0/8:25", "host.nixbox.internal" };
        for (size_t i = 0; i < NB_ARRAY_LEN(good); i++) {
                struct policy_rule r;
                assert_int_equal(policy_rule_parse(good[i], true, &r, NULL), 0);
                assert_true(r.deny);
                NB_AUTO_FREE char *text = policy_rule_text(&r);
                assert_string_equal(text, good[i]);
                policy_rule_clear(&r);
        }
}

static void test_parse_bad(void **state) {
        (void)state;
        static const char *const bad[] = {
                "",
                "*",
                "*.",
                ".",
                "*.*",
                "*.com",
                "*.co.uk",
                "*.uk",
                "*.github.io",
                "*.ck",
                "*.xn--p1ai",
                "*.internal",
                "**.example.com",
                "a.*.com",
                "*example.com",
                "example.*",
                "localhost",
                "example",
                "127.0.0.1",
                "127.1",
                "2130706433",
                "0x7f000001",
                "0x7f.1",
                "0177.0.0.1",
                "::1",
                "[::1]",
                "fe80::1%lo",
                "::ffff:127.0.0.1",
                "10.0.0.1/8",
                "10.0.0.0/33",
                "10.0.0.0/",
                "/8",
                "[10.0.0.0/8",
                "[]:1",
                "[10.0.0.0/8]x",
                "fd00::/8:443",
                "a.com:",
                "a.com:0",
                "a.com:65536",
                "a.com:80,",
                "a.com:,80",
                "a.com:http",
                "a.com:-1",
                "a.com:80:81",
                "a.com: 80",
                "https://a.com",
                "a.com/path",
                "a b.com",
                " a.com",
                "a.com ",
                "a..com",
                ".a.com",
                "-a.com",
                "a-.com",
                "b\303\274cher.de",
                "a\tb.com",
                "a\x7f.com",
                "a%2ecom.de",
                "user@a.com",
                "host.nixbox.internal",
                "*.host.nixbox.internal:1",
                "*.host.nixbox.internal",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                NB_AUTO_ERROR err = { 0 };
                struct policy_rule r;
                if (policy_rule_parse(bad[i], false, &r, &err) != -EINVAL)
                        fail_msg("'%s' passed", bad[i]);
                assert_non_null(err.what);
                assert_null(r.host);
        }
        NB_AUTO_FREE char *ports = nb_strdup("a.com:1");
        for (int i = 2; i <= POLICY_PORTS_MAX + 1; i++) {
                NB_AUTO_FREE char *shorter = nb_steal(&ports);
                ports = nb_asprintf("%s,%d", shorter, i);
                NB_AUTO_ERROR err = { 0 };
                struct policy_rule r;
                assert_int_equal(policy_rule_parse(ports, false, &r, &err), i <= POLICY_PORTS_MAX ? 0 : -EINVAL);
                policy_rule_clear(&r);
        }
}

struct name_case {
        const char *name;
        uint16_t port; /* 0: policy_name() */
        bool allow;
        enum policy_reason reason;
        const char *rule;
};

static void check_names(const struct policy *p, const struct name_case *cases, size_t n) {
        for (size_t i = 0; i < n; i++) {
                const struct name_case *c = &cases[i];
                struct policy_decision d = c->port ? policy_connect(p, c->name, c->port) : policy_name(p, c->name);
                NB_AUTO_FREE char *why = policy_explain(&d, c->name, c->port);
                if (d.allow != c->allow || d.reason != c->reason)
                        fail_msg("%s:%u %s", c->name, c->port, why);
                NB_AUTO_FREE char *rule = d.rule ? policy_rule_text(d.rule) : NULL;
                if (!rule != !c->rule || (rule && strcmp(rule, c->rule) != 0))
                        fail_msg("%s:%u by %s", c->name, c->port, rule ? rule : "none");
        }
}

static void test_names(void **state) {
        (void)state;
        struct policy *p = MAKE(POLICY_FILTERED, "api.anthropic.com", "*.npmjs.org", "github.com:22,443", "*.github.com:443",
                                "!evil.npmjs.org", "!*.bad.npmjs.org", "!github.com:22", "half.example:80", "!half.example:80",
                                "*.nixbox.internal:1");
        static const struct name_case cases[] = {
                { "api.anthropic.com", 0, true, POLICY_BY_RULE, "api.anthropic.com" },
                { "api.anthropic.com", 443, true, POLICY_BY_RULE, "api.anthropic.com" },
                { "api.anthropic.com", 80, true, POLICY_BY_RULE, "api.anthropic.com" },
                { "api.anthropic.com", 22, false, POLICY_PORT, "api.anthropic.com" },
                { "anthropic.com", 0, false, POLICY_NO_RULE, NULL },
                { "x.api.anthropic.com", 0, false, POLICY_NO_RULE, NULL },
                { "evilapi.anthropic.com", 443, false, POLICY_NO_RULE, NULL },
                { "npmjs.org", 0, false, POLICY_NO_RULE, NULL },
                { "a.npmjs.org", 0, true, POLICY_BY_RULE, "*.npmjs.org" },
                { "a.b.npmjs.org", 443, true, POLICY_BY_RULE, "*.npmjs.org" },
                { "evilnpmjs.org", 443, false, POLICY_NO_RULE, NULL },
                { "a.npmjs.org.evil.com", 443, false, POLICY_NO_RULE, NULL },
                { "evil.npmjs.org", 0, false, POLICY_DENIED, "evil.npmjs.org" },
                { "evil.npmjs.org", 443, false, POLICY_DENIED, "evil.npmjs.org" },
                { "x.evil.npmjs.org", 443, true, POLICY_BY_RULE, "*.npmjs.org" },
                { "bad.npmjs.org", 443, true, POLICY_BY_RULE, "*.npmjs.org" },
                { "x.bad.npmjs.org", 443, false, POLICY_DENIED, "*.bad.npmjs.org" },
                { "x.bad.npmjs.org", 22, false, POLICY_DENIED, "*.bad.npmjs.org" },
                { "github.com", 0, true, POLICY_BY_RULE, "github.com:22,443" },
                { "github.com", 22, false, POLICY_DENIED, "github.com:22" },
                { "github.com", 443, true, POLICY_BY_RULE, "github.com:22,443" },
                { "github.com", 80, false, POLICY_PORT, "github.com:22,443" },
                { "half.example", 0, false, POLICY_DENIED, "half.example:80" },
                { "half.example", 80, false, POLICY_DENIED, "half.example:80" },
                { "half.example", 443, false, POLICY_PORT, "half.example:80" },
                { "host.nixbox.internal", 0, false, POLICY_NO_RULE, NULL },
                { "host.nixbox.internal", 1, false, POLICY_NO_RULE, NULL },
                { "x.host.nixbox.internal", 1, true, POLICY_BY_RULE, "*.nixbox.internal:1" },
                /* not in canonical form: whoever forgot it gets no further */
                { "API.anthropic.com", 443, false, POLICY_BAD_NAME, NULL },
                { "api.anthropic.com.", 443, false, POLICY_BAD_NAME, NULL },
                { "127.0.0.1", 443, false, POLICY_BAD_NAME, NULL },
                { "", 443, false, POLICY_BAD_NAME, NULL },
                { ".npmjs.org", 443, false, POLICY_BAD_NAME, NULL },
                { "a..npmjs.org", 443, false, POLICY_BAD_NAME, NULL },
        };
        check_names(p, cases, NB_ARRAY_LEN(cases));
        policy_free(p);
}

static void test_empty_and_off(void **state) {
        (void)state;
        struct policy *p = policy_new(POLICY_FILTERED);
        struct addr a = parsed("8.8.8.8");
        static const struct name_case nothing[] = {
                { "example.com", 0, false, POLICY_NO_RULE, NULL },
                { "example.com", 443, false, POLICY_NO_RULE, NULL },
        };
        check_names(p, nothing, NB_ARRAY_LEN(nothing));
        assert_int_equal(policy_address(p, &a, 443, false).reason, POLICY_NO_RULE);
        assert_int_equal(policy_address(p, &a, 443, true).reason, POLICY_NO_RULE);
        assert_false(policy_exact(p, "example.com"));
        policy_free(p);
        p = MAKE(POLICY_OFF, "example.com", "0.0.0.0/0");
        static const struct name_case off[] = {
                { "example.com", 0, false, POLICY_IS_OFF, NULL },
                { "example.com", 443, false, POLICY_IS_OFF, NULL },
        };
        check_names(p, off, NB_ARRAY_LEN(off));
        assert_int_equal(policy_address(p, &a, 443, false).reason, POLICY_IS_OFF);
        assert_false(policy_exact(p, "example.com"));
        policy_free(p);
}

static void test_open(void **state) {
        (void)state;
        struct policy *p = MAKE(POLICY_OPEN, "!*.ads.example", "!smtp.example:25", "db.corp.example:5432", "!9.9.9.0/24",
                                "!1.1.1.1/32:53", "10.1.2.0/24:5432", "5.6.9.0/24:443");
        static const struct name_case cases[] = {
                { "any.example", 0, true, POLICY_BY_MODE, NULL },
                { "any.example", 12345, true, POLICY_BY_MODE, NULL },
                { "x.ads.example", 0, false, POLICY_DENIED, "*.ads.example" },
                { "x.ads.example", 443, false, POLICY_DENIED, "*.ads.example" },
                { "ads.example", 443, true, POLICY_BY_MODE, NULL },
                { "smtp.example", 0, true, POLICY_BY_MODE, NULL },
                { "smtp.example", 25, false, POLICY_DENIED, "smtp.example:25" },
                { "smtp.example", 443, true, POLICY_BY_MODE, NULL },
                { "db.corp.example", 0, true, POLICY_BY_RULE, "db.corp.example:5432" },
                { "db.corp.example", 5432, true, POLICY_BY_RULE, "db.corp.example:5432" },
                { "db.corp.example", 443, true, POLICY_BY_MODE, NULL },
                { "host.nixbox.internal", 0, false, POLICY_NO_RULE, NULL },
                { "host.nixbox.internal", 443, false, POLICY_NO_RULE, NULL },
                { "0x7f.1", 443, false, POLICY_BAD_NAME, NULL },
        };
        check_names(p, cases, NB_ARRAY_LEN(cases));
        assert_true(policy_exact(p, "any.example"));
        assert_false(policy_exact(p, "x.ads.example"));
        assert_false(policy_exact(p, "host.nixbox.internal"));
        static const struct {
                const char *address;
                uint16_t port;
                bool udp, allow;
                enum policy_reason reason;
        } addresses[] = {
                { "8.8.8.8", 443, false, true, POLICY_BY_MODE },
                { "8.8.8.8", 443, true, true, POLICY_BY_MODE },
                { "8.8.8.8", 0, true, true, POLICY_BY_MODE },
                { "9.9.9.9", 53, true, false, POLICY_DENIED },
                { "9.9.9.9", 443, false, false, POLICY_DENIED },
                { "9.9.9.9", 0, true, false, POLICY_DENIED },
                { "::ffff:9.9.9.9", 443, false, false, POLICY_DENIED },
                { "64:ff9b::9.9.9.9", 443, false, false, POLICY_DENIED },
                { "1.1.1.1", 53, true, false, POLICY_DENIED },
                { "1.1.1.1", 443, true, true, POLICY_BY_MODE },
                { "10.1.2.3", 5432, false, true, POLICY_BY_RULE },
                { "10.1.2.3", 5432, true, false, POLICY_UDP },
                { "10.1.2.3", 443, false, false, POLICY_PORT },
                { "10.1.3.3", 5432, false, false, POLICY_KIND },
                { "127.0.0.1", 443, false, false, POLICY_KIND },
                { "169.254.169.254", 80, false, false, POLICY_KIND },
                { "168.63.129.16", 80, false, false, POLICY_KIND },
                { "192.168.1.1", 53, true, false, POLICY_KIND },
                { "0.0.0.0", 80, false, false, POLICY_KIND },
                { "224.0.0.251", 5353, true, false, POLICY_KIND },
                { "255.255.255.255", 67, true, false, POLICY_KIND },
                { "198.18.0.5", 80, false, false, POLICY_KIND },
                { "64:ff9b::127.0.0.1", 443, false, false, POLICY_KIND },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(addresses); i++) {
                struct addr a = parsed(addresses[i].address);
                struct policy_decision d = policy_address(p, &a, addresses[i].port, addresses[i].udp);
                if (d.allow != addresses[i].allow || d.reason != addresses[i].reason)
                        fail_msg("%s:%u: %d", addresses[i].address, addresses[i].port, d.reason);
        }
        /* the host's own public address, reached by number */
        struct addr own = parsed("5.6.7.8");
        struct policy_decision d = policy_address(p, &own, 443, false);
        assert_true(d.allow);
        assert_int_equal(policy_result(p, &d, &own, 443, true).reason, POLICY_KIND);
        assert_true(policy_result(p, &d, &own, 443, false).allow);
        own = parsed("5.6.9.8"); /* named by a rule, which is about TCP */
        d = policy_address(p, &own, 443, false);
        assert_true(policy_result(p, &d, &own, 443, true).allow);
        d = policy_address(p, &own, 443, true);
        assert_true(d.allow);
        assert_int_equal(policy_result(p, &d, &own, 443, true).reason, POLICY_KIND);
        policy_free(p);
}

static void test_addresses(void **state) {
        (void)state;
        struct policy *p =
            MAKE(POLICY_FILTERED, "0.0.0.0/0:443", "10.1.2.0/24:5432", "!10.1.2.66/32", "169.254.0.0/16:80",
                 "127.0.0.1/32:9000", "169.254.170.2/32:80", "[fd00::/8]:22", "100.64.0.0/10:80", "8.8.0.0/16:53");
        static const struct {
                const char *address;
                uint16_t port;
                bool allow;
                enum policy_reason reason;
        } cases[] = {
                { "8.8.8.8", 443, true, POLICY_BY_RULE },
                { "8.8.8.8", 53, true, POLICY_BY_RULE },
                { "8.8.8.8", 80, false, POLICY_PORT },
                { "::ffff:8.8.8.8", 443, true, POLICY_BY_RULE },
                { "64:ff9b::8.8.8.8", 443, false, POLICY_NO_RULE },
                { "2a00::1", 443, false, POLICY_NO_RULE },
                { "10.1.2.3", 5432, true, POLICY_BY_RULE },
                { "10.1.2.3", 443, false, POLICY_PORT }, /* 0.0.0.0/0 does not name it */
                { "10.1.2.66", 5432, false, POLICY_DENIED },
                { "::ffff:10.1.2.66", 5432, false, POLICY_DENIED },
                { "2002:a01:203::1", 5432, false, POLICY_NO_RULE },
                { "10.9.9.9", 443, false, POLICY_KIND },
                { "127.0.0.1", 9000, true, POLICY_BY_RULE },
                { "127.0.0.1", 443, false, POLICY_PORT },
                { "127.0.0.2", 443, false, POLICY_KIND },
                { "169.254.1.1", 80, true, POLICY_BY_RULE },
                { "169.254.169.254", 80, false, POLICY_KIND }, /* link-local, but more than that */
                { "169.254.169.254", 443, false, POLICY_KIND },
                { "169.254.170.2", 80, true, POLICY_BY_RULE },
                { "100.64.1.1", 80, true, POLICY_BY_RULE },
                { "100.100.100.200", 80, false, POLICY_KIND },
                { "fd00::1", 22, true, POLICY_BY_RULE },
                { "fd00:ec2::254", 22, false, POLICY_KIND },
                { "168.63.129.16", 443, false, POLICY_KIND },
                { "255.255.255.255", 443, false, POLICY_KIND },
                { "0.0.0.0", 443, false, POLICY_KIND },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                struct addr a = parsed(cases[i].address);
                struct policy_decision d = policy_address(p, &a, cases[i].port, false);
                if (d.allow != cases[i].allow || d.reason != cases[i].reason)
                        fail_msg("%s:%u: %d", cases[i].address, cases[i].port, d.reason);
                d = policy_address(p, &a, cases[i].port, true);
                assert_false(d.allow);
                assert_true(d.reason == (cases[i].allow ? POLICY_UDP : cases[i].reason));
        }
        policy_free(p);
}

static void test_results(void **state) {
        (void)state;
        struct policy *p = MAKE(POLICY_FILTERED, "pub.example", "+corp.example:5432", "10.1.2.0/24:443", "!10.1.2.66/32",
                                "!9.9.9.9/32", "!8.8.4.4/32:443", "host.nixbox.internal:11434", "127.0.0.0/8:443");
        static const struct {
                const char *name;
                uint16_t port;
                const char *address;
                bool own, allow;
                enum policy_reason reason;
        } cases[] = {
                { "pub.example", 443, "8.8.8.8", false, true, POLICY_BY_RULE },
                { "pub.example", 443, "2a00::1", false, true, POLICY_BY_RULE },
                { "pub.example", 443, "8.8.8.8", true, false, POLICY_KIND },
                { "pub.example", 443, "9.9.9.9", false, false, POLICY_DENIED },
                { "pub.example", 443, "::ffff:9.9.9.9", false, false, POLICY_DENIED },
                { "pub.example", 443, "2002:909:909::1", false, false, POLICY_DENIED },
                { "pub.example", 443, "8.8.4.4", false, false, POLICY_DENIED },
                { "pub.example", 80, "8.8.4.4", false, true, POLICY_BY_RULE },
                { "pub.example", 443, "10.1.2.3", false, true, POLICY_BY_RULE },
                { "pub.example", 443, "10.1.2.3", true, true, POLICY_BY_RULE },
                { "pub.example", 80, "10.1.2.3", false, false, POLICY_KIND },
                { "pub.example", 443, "10.1.2.66", false, false, POLICY_DENIED },
                { "pub.example", 443, "10.9.9.9", false, false, POLICY_KIND },
                { "pub.example", 443, "127.0.0.1", false, true, POLICY_BY_RULE },
                { "pub.example", 80, "127.0.0.1", false, false, POLICY_KIND },
                { "pub.example", 80, "::ffff:127.0.0.1", false, false, POLICY_KIND },
                { "pub.example", 80, "::1", false, false, POLICY_KIND },
                { "pub.example", 80, "0.0.0.0", false, false, POLICY_KIND },
                { "pub.example", 80, "169.254.169.254", false, false, POLICY_KIND },
                { "pub.example", 80, "fd00:ec2::254", false, false, POLICY_KIND },
                { "pub.example", 80, "100.100.100.200", false, false, POLICY_KIND },
                { "pub.example", 80, "168.63.129.16", false, false, POLICY_KIND },
                { "pub.example", 80, "64:ff9b::a9fe:a9fe", false, false, POLICY_KIND },
                { "pub.example", 80, "192.168.0.1", false, false, POLICY_KIND },
                { "pub.example", 80, "fe80::1", false, false, POLICY_KIND },
                { "pub.example", 80, "ff02::1", false, false, POLICY_KIND },
                { "corp.example", 5432, "10.9.9.9", false, true, POLICY_BY_RULE },
                { "corp.example", 5432, "192.168.1.7", true, true, POLICY_BY_RULE },
                { "corp.example", 5432, "5.6.7.8", true, true, POLICY_BY_RULE },
                { "corp.example", 5432, "100.64.0.1", false, true, POLICY_BY_RULE },
                { "corp.example", 5432, "fd12::1", false, true, POLICY_BY_RULE },
                { "corp.example", 5432, "10.1.2.66", false, false, POLICY_DENIED },
                { "corp.example", 5432, "127.0.0.1", false, false, POLICY_KIND },
                { "corp.example", 5432, "169.254.169.254", false, false, POLICY_KIND },
                { "corp.example", 5432, "169.254.7.7", false, false, POLICY_KIND },
                { "corp.example", 5432, "100.100.100.200", false, false, POLICY_KIND },
                { "host.nixbox.internal", 11434, "127.0.0.1", true, true, POLICY_BY_RULE },
                { "host.nixbox.internal", 11434, "::1", true, true, POLICY_BY_RULE },
                { "host.nixbox.internal", 11434, "8.8.8.8", false, false, POLICY_KIND },
                { "other.example", 443, "8.8.8.8", false, false, POLICY_NO_RULE },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                struct addr a = parsed(cases[i].address);
                struct policy_decision found = policy_connect(p, cases[i].name, cases[i].port);
                struct policy_decision d = policy_result(p, &found, &a, cases[i].port, cases[i].own);
                if (d.allow != cases[i].allow || d.reason != cases[i].reason)
                        fail_msg("%s:%u -> %s: %d", cases[i].name, cases[i].port, cases[i].address, d.reason);
                if (d.reason == POLICY_KIND)
                        assert_int_equal(d.kind, addr_kind(&a));
        }
        policy_free(p);
}

/* The most specific rule counts alone, and writing a rule twice loses nothing. */
static void test_specific(void **state) {
        (void)state;
        struct policy *p = MAKE(POLICY_FILTERED, "*.corp.example", "+*.a.corp.example", "x.a.corp.example",
                                "+x.a.corp.example:443", "*.a.corp.example:22");
        static const struct name_case cases[] = {
                { "y.corp.example", 443, true, POLICY_BY_RULE, "*.corp.example" },
                { "y.a.corp.example", 443, true, POLICY_BY_RULE, "*.a.corp.example" },
                { "y.a.corp.example", 22, true, POLICY_BY_RULE, "*.a.corp.example:22" },
                { "x.a.corp.example", 80, true, POLICY_BY_RULE, "x.a.corp.example" },
                { "x.a.corp.example", 443, true, POLICY_BY_RULE, "x.a.corp.example:443" },
                { "x.a.corp.example", 22, true, POLICY_BY_RULE, "*.a.corp.example:22" },
        };
        check_names(p, cases, NB_ARRAY_LEN(cases));
        assert_false(policy_connect(p, "x.a.corp.example", 80).rule->private);
        assert_true(policy_connect(p, "x.a.corp.example", 443).rule->private);
        assert_true(policy_exact(p, "x.a.corp.example"));
        assert_false(policy_exact(p, "y.a.corp.example"));
        p->rules[2].limit = 1000; /* against the private one: fail closed */
        assert_int_equal(policy_connect(p, "x.a.corp.example", 443).rule->limit, 1000);
        policy_free(p);
}

static void test_add_and_copy(void **state) {
        (void)state;
        struct policy *p =
            MAKE(POLICY_FILTERED, "a.example", "A.example.", "a.example:443,80", "!a.example", "*.a.example", "a.example:443");
        assert_int_equal(p->n_rules, 4);
        struct policy *c = policy_copy(p);
        assert_int_equal(c->n_rules, 4);
        for (size_t i = 0; i < 4; i++) {
                assert_true(policy_rule_equal(&p->rules[i], &c->rules[i]));
                assert_ptr_not_equal(p->rules[i].host, c->rules[i].host);
        }
        policy_free(p);
        for (int i = 0; c->n_rules < POLICY_RULES_MAX; i++) {
                struct policy_rule r = { .host = nb_asprintf("n%d.example", i), .ports = { 1 }, .n_ports = 1 };
                assert_int_equal(policy_add(c, &r, NULL), 0);
        }
        struct policy_rule r = { .host = nb_strdup("one-more.example"), .ports = { 1 }, .n_ports = 1 };
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(policy_add(c, &r, &err), -E2BIG);
        assert_null(r.host);
        policy_free(c);
}

static void test_json(void **state) {
        (void)state;
        struct policy *p =
            MAKE(POLICY_OPEN, "a.example", "*.b.example:22", "+c.example", "!d.example", "!10.0.0.0/8:25", "[fd00::/8]:1");
        p->rules[0].limit = UINT64_C(5) << 40;
        json_t *doc = policy_json(p);
        struct policy *q;
        assert_int_equal(policy_from_json(doc, &q, NULL), 0);
        assert_int_equal(q->mode, POLICY_OPEN);
        assert_int_equal(q->n_rules, p->n_rules);
        for (size_t i = 0; i < p->n_rules; i++) {
                assert_true(policy_rule_equal(&p->rules[i], &q->rules[i]));
                assert_string_equal(q->rules[i].origin, "test:1");
        }
        json_decref(doc);
        policy_free(p);
        policy_free(q);
        static const char *const bad[] = {
                "[]",
                "{}",
                "{\"host\": \"a.b\"}",
                "{\"host\": \"a.b\", \"ports\": []}",
                "{\"host\": \"a.b\", \"ports\": [0]}",
                "{\"host\": \"a.b\", \"ports\": [65536]}",
                "{\"host\": \"a.b\", \"ports\": [2, 1]}",
                "{\"host\": \"a.b\", \"ports\": [1, 1]}",
                "{\"host\": \"a.b\", \"ports\": [\"1\"]}",
                "{\"host\": \"a.b\", \"ports\": {}}",
                "{\"host\": \"A.b\", \"ports\": [1]}",
                "{\"host\": \"a.b.\", \"ports\": [1]}",
                "{\"host\": \"*\", \"ports\": [1]}",
                "{\"host\": \"*.\", \"ports\": [1]}",
                "{\"host\": \"a\\u0000b\", \"ports\": [1]}",
                "{\"host\": 1, \"ports\": [1]}",
                "{\"host\": \"*.host.nixbox.internal\", \"ports\": [1]}",
                "{\"host\": \"a.b\", \"cidr\": \"10.0.0.0/8\", \"ports\": [1]}",
                "{\"cidr\": \"10.0.0.1/8\", \"ports\": [1]}",
                "{\"cidr\": \"10.0.0.0/8\", \"ports\": [1], \"private\": true}",
                "{\"host\": \"a.b\", \"ports\": [1], \"private\": 1}",
                "{\"host\": \"a.b\", \"ports\": [1], \"limit\": 0}",
                "{\"host\": \"a.b\", \"ports\": [1], \"limit\": -1}",
                "{\"host\": \"a.b\", \"ports\": [1], \"other\": 1}",
                "{\"host\": \"a.b\", \"ports\": [1], \"origin\": 1}",
                "{\"host\": \"a.b\", \"deny\": true, \"private\": true}",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                NB_AUTO_ERROR err = { 0 };
                struct policy_rule r;
                doc = json_loads(bad[i], JSON_ALLOW_NUL, NULL);
                assert_non_null(doc);
                if (policy_rule_from_json(doc, &r, &err) != -EPROTO)
                        fail_msg("%s passed", bad[i]);
                assert_non_null(err.what);
                json_decref(doc);
        }
        static const char *const bad_policies[] = { "{}",
                                                    "{\"mode\": \"filtered\"}",
                                                    "{\"mode\": \"any\", \"rules\": []}",
                                                    "{\"mode\": \"open\", \"rules\": [{}]}",
                                                    "{\"mode\": \"open\", \"rules\": [], \"x\": 1}",
                                                    "[]" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad_policies); i++) {
                doc = json_loads(bad_policies[i], 0, NULL);
                assert_int_equal(policy_from_json(doc, &q, NULL), -EPROTO);
                assert_null(q);
                json_decref(doc);
        }
}

static void test_words(void **state) {
        (void)state;
        struct policy *p = MAKE(POLICY_FILTERED, "git.example:22", "10.0.0.0/8:22,80,5432", "!bad.example", "0.0.0.0/0:1");
        static const struct {
                const char *host;
                uint16_t port;
                const char *why, *line;
        } cases[] = {
                { "git.example", 22, "allowed by git.example:22 (test:1)", "" },
                { "git.example", 443, "git.example:22 (test:1) allows port 22, not 443", "- git.example" },
                { "git.example", 9418, "git.example:22 (test:1) allows port 22, not 9418",
                  "- {host: git.example, ports: [9418]}" },
                { "new.example", 443, "no rule allows it", "- new.example" },
                { "new.example", 0, "no rule allows it", "- new.example" },
                { "new.example", 25, "no rule allows it", "- {host: new.example, ports: [25]}" },
                { "bad.example", 443, "denied by bad.example (test:1)", "" },
                { "intranet", 443, "no rule allows it", "" },
                { "b\xc3\xbc.de", 443, "is not a host name", "" },
                { "host.nixbox.internal", 11434, "no rule allows it", "- {host: host.nixbox.internal, ports: [11434]}" },
                { "10.1.2.3", 443, "10.0.0.0/8:22,80,5432 (test:1) allows ports 22, 80 and 5432, not 443",
                  "- {cidr: \"10.1.2.3/32\", ports: [443]}" },
                { "127.0.0.1", 1,
                  "it is a loopback address, and 0.0.0.0/0:1 (test:1) holds other addresses too: it does not name this one",
                  "- {cidr: \"127.0.0.1/32\", ports: [1]}" },
                { "fd00::1", 22, "no rule allows it", "- {cidr: \"fd00::1/128\", ports: [22]}" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                struct addr a;
                struct policy_decision d = addr_parse(cases[i].host, &a) == 0 ? policy_address(p, &a, cases[i].port, false)
                                           : cases[i].port                    ? policy_connect(p, cases[i].host, cases[i].port)
                                                                              : policy_name(p, cases[i].host);
                NB_AUTO_FREE char *why = policy_explain(&d, cases[i].host, cases[i].port);
                NB_AUTO_FREE char *line = policy_suggest(&d, cases[i].host, cases[i].port);
                assert_string_equal(why, cases[i].why);
                assert_string_equal(line, cases[i].line);
        }
        struct policy_decision d = policy_connect(p, "git.example", 22);
        struct addr a = parsed("10.9.9.9");
        d = policy_result(p, &d, &a, 443, false);
        NB_AUTO_FREE char *why = policy_explain(&d, "git.example", 443);
        NB_AUTO_FREE char *line = policy_suggest(&d, "git.example", 443);
        assert_string_equal(why, "it leads to a private address");
        assert_string_equal(line, "- {host: git.example, ports: [443], private: true}");
        policy_free(p);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse),        cmocka_unit_test(test_parse_deny),    cmocka_unit_test(test_parse_bad),
                cmocka_unit_test(test_names),        cmocka_unit_test(test_empty_and_off), cmocka_unit_test(test_open),
                cmocka_unit_test(test_addresses),    cmocka_unit_test(test_results),       cmocka_unit_test(test_specific),
                cmocka_unit_test(test_add_and_copy), cmocka_unit_test(test_json),          cmocka_unit_test(test_words),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
