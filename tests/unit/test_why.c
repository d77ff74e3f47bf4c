/* Unit tests of src/policy/why: what `nixbox why` says, in every mode, for names, addresses and things that are neither. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "policy/why.h"

static struct policy *make(enum policy_mode mode, const char *const *allow, const char *const *deny) {
        struct policy *p = policy_new(mode);
        NB_AUTO_ERROR err = { 0 };
        for (int k = 0; k < 2; k++)
                for (const char *const *text = k ? deny : allow; text && *text; text++) {
                        struct policy_rule rule = { 0 };
                        assert_int_equal(policy_rule_parse(*text, k, &rule, &err), 0);
                        rule.origin = nb_strdup("here");
                        assert_true(policy_add(p, &rule, &err) >= 0);
                        policy_rule_clear(&rule);
                }
        return p;
}

static const char *const some[] = { "github.com:22,443", "*.npmjs.org", "db.example.com:5432", "10.1.2.0/24:5432", NULL };
static const char *const none[] = { "bad.npmjs.org", NULL };

static json_t *ask(const struct policy *p, const char *host, uint16_t port) {
        NB_AUTO_ERROR err = { 0 };
        json_t *answer = NULL;
        assert_int_equal(policy_why(p, host, port, &answer, &err), 0);
        return answer;
}

static const char *text_of(const json_t *doc, const char *key) {
        const char *text = json_string_value(json_object_get(doc, key));
        return text ? text : "-";
}

static void test_one_port(void **state) {
        (void)state;
        static const struct {
                const char *host;
                uint16_t port;
                bool allow;
                const char *rule, *suggest;
        } cases[] = {
                { "github.com", 443, true, "github.com:22,443", "-" },
                { "GitHub.com.", 22, true, "github.com:22,443", "-" },
                { "github.com", 8443, false, "github.com:22,443", "- {host: github.com, ports: [8443]}" },
                { "registry.npmjs.org", 443, true, "*.npmjs.org", "-" },
                { "npmjs.org", 443, false, "-", "- npmjs.org" },
                { "bad.npmjs.org", 443, false, "bad.npmjs.org", "-" },
                { "10.1.2.3", 5432, true, "10.1.2.0/24:5432", "-" },
                { "10.1.3.3", 5432, false, "-", "- {cidr: \"10.1.3.3/32\", ports: [5432]}" },
        };
        struct policy *p = make(POLICY_FILTERED, some, none);
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                json_t *a = ask(p, cases[i].host, cases[i].port);
                assert_int_equal(json_is_true(json_object_get(a, "allow")), cases[i].allow);
                assert_string_equal(text_of(a, "rule"), cases[i].rule);
                assert_string_equal(text_of(a, "origin"), cases[i].rule[0] == '-' ? "-" : "here");
                assert_string_equal(text_of(a, "suggest"), cases[i].suggest);
                assert_string_equal(text_of(a, "mode"), "filtered");
                assert_int_equal(json_array_size(json_object_get(a, "ports")), 1);
                assert_int_equal(json_integer_value(json_object_get(a, "port")), cases[i].port);
                json_decref(a);
        }
        policy_free(p);
}

/* Without a port: the usual two, and those of the rule; the first that is allowed speaks for all. */
static void test_no_port(void **state) {
        (void)state;
        static const struct {
                const char *host;
                size_t n;
                int said; /* port */
                bool allow;
        } cases[] = {
                { "github.com", 3, 443, true },     { "db.example.com", 3, 5432, true }, { "x.npmjs.org", 2, 443, true },
                { "other.example", 2, 443, false }, { "bad.npmjs.org", 2, 443, false },
        };
        struct policy *p = make(POLICY_FILTERED, some, none);
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                json_t *a = ask(p, cases[i].host, 0);
                assert_string_equal(text_of(a, "host"), cases[i].host);
                assert_int_equal(json_array_size(json_object_get(a, "ports")), cases[i].n);
                assert_int_equal(json_integer_value(json_object_get(a, "port")), cases[i].said);
                assert_int_equal(json_is_true(json_object_get(a, "allow")), cases[i].allow);
                json_decref(a);
        }
        policy_free(p);
}

static void test_modes(void **state) {
        (void)state;
        struct policy *off = make(POLICY_OFF, some, NULL), *open = make(POLICY_OPEN, NULL, none);
        json_t *a = ask(off, "github.com", 443), *b = ask(open, "example.com", 443), *c = ask(open, "bad.npmjs.org", 0),
               *d = ask(open, "192.168.1.1", 80), *e = ask(open, "127.0.0.1", 80);
        assert_false(json_is_true(json_object_get(a, "allow")));
        assert_string_equal(text_of(a, "mode"), "off");
        assert_true(json_is_true(json_object_get(b, "allow")));
        assert_false(json_is_true(json_object_get(c, "allow")));
        assert_false(json_is_true(json_object_get(d, "allow")));
        assert_false(json_is_true(json_object_get(e, "allow")));
        json_decref(a);
        json_decref(b);
        json_decref(c);
        json_decref(d);
        json_decref(e);
        policy_free(off);
        policy_free(open);
}

static void test_not_a_host(void **state) {
        (void)state;
        static const char *const bad[] = { "",          "a b", "127.1", "0x7f.1", "a..b", "*.example.com", "b\303\274cher.de",
                                           "-a.example" };
        struct policy *p = make(POLICY_OPEN, NULL, NULL);
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                NB_AUTO_ERROR err = { 0 };
                json_t *answer = NULL;
                assert_int_equal(policy_why(p, bad[i], 443, &answer, &err), -EINVAL);
                assert_null(answer);
                assert_non_null(err.hint);
        }
        policy_free(p);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_one_port),
                cmocka_unit_test(test_no_port),
                cmocka_unit_test(test_modes),
                cmocka_unit_test(test_not_a_host),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
