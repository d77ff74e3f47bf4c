/* What the supervisor keeps of the box's way out: names and addresses, bytes, limits; and rules that take one another back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/supervisor_gateway.h"

static char *text_of(json_t *doc) {
        char *text = json_dumps(doc, JSON_COMPACT);
        json_decref(doc);
        return text;
}

#define SAYS(doc, wanted)                               \
        do {                                            \
                NB_AUTO_FREE char *said = text_of(doc); \
                assert_string_equal(said, wanted);      \
        } while (0)

static void names_are_one_to_one(void **state) {
        (void)state;
        struct egress_table *t = egress_table_new();
        SAYS(egress_table_names(t), "[]");
        egress_table_name(t, "b.example", 0xc6120002);
        egress_table_name(t, "a.example", 0xc6120001);
        SAYS(egress_table_names(t), "[[\"a.example\",\"198.18.0.1\"],[\"b.example\",\"198.18.0.2\"]]");
        egress_table_name(t, "a.example", 0xc6120003); /* the name moves */
        SAYS(egress_table_names(t), "[[\"a.example\",\"198.18.0.3\"],[\"b.example\",\"198.18.0.2\"]]");
        egress_table_name(t, "c.example", 0xc6120002); /* the address moves */
        SAYS(egress_table_names(t), "[[\"a.example\",\"198.18.0.3\"],[\"c.example\",\"198.18.0.2\"]]");
        egress_table_name(t, "a.example", 0);
        egress_table_name(t, "nobody.example", 0);
        SAYS(egress_table_names(t), "[[\"c.example\",\"198.18.0.2\"]]");
        egress_table_free(t);
}

static void names_are_bounded(void **state) {
        (void)state;
        struct egress_table *t = egress_table_new();
        char name[NAME_MAX_LEN + 1];
        for (unsigned i = 1; i < 65536; i++) { /* names of 250 bytes: more than what is kept */
                (void)snprintf(name, sizeof name, "%062u.%062u.%062u.%061u", i, 0, 0, 0);
                egress_table_name(t, name, 0xc6120000u + i);
        }
        json_t *names = egress_table_names(t);
        assert_in_range(json_array_size(names), 20000, 40000);
        json_decref(names);
        egress_table_free(t);
}

static void bytes_add_up(void **state) {
        (void)state;
        struct egress_table *t = egress_table_new();
        struct policy_rule rules[] = {
                { .host = (char *)"up.example", .ports = { 80, 443 }, .n_ports = 2, .limit = 1000 },
                { .host = (char *)"free.example", .ports = { 80, 443 }, .n_ports = 2 },
        };
        struct policy p = { .mode = POLICY_FILTERED, .rules = rules, .n_rules = 2 };
        egress_table_limits(t, &p);
        egress_table_limits(t, &p);
        egress_table_total(t, "up.example", "up.example", 10, 1);
        egress_table_total(t, "free.example", "free.example", 500, 500);
        egress_table_total(t, "up.example", "up.example", 5, 2);
        SAYS(egress_table_used(t), "[[\"up.example\",15]]");
        SAYS(egress_table_totals(t), "[{\"host\":\"free.example\",\"rule\":\"free.example\",\"up\":500,\"down\":500},"
                                     "{\"host\":\"up.example\",\"rule\":\"up.example\",\"up\":15,\"down\":3}]");
        egress_table_free(t);
}

static void destinations_are_bounded(void **state) {
        (void)state;
        struct egress_table *t = egress_table_new();
        for (int i = 0; i < 5000; i++) {
                char host[32];
                (void)snprintf(host, sizeof host, "h%d.example", i);
                egress_table_total(t, host, "", 1, 1);
        }
        json_t *totals = egress_table_totals(t);
        assert_in_range(json_array_size(totals), 100, 1024);
        assert_string_equal(json_string_value(json_object_get(json_array_get(totals, 0), "host")), "(others)");
        assert_in_range(json_integer_value(json_object_get(json_array_get(totals, 0), "up")), 3900, 4100);
        json_decref(totals);
        egress_table_free(t);
}

/* The rules after changes in turn, each "+RULE" or "-RULE". */
static char *after(const char *const *changes) {
        struct policy *p = policy_new(POLICY_FILTERED);
        struct policy_rule config = { 0 };
        assert_int_equal(policy_rule_parse("config.example", false, &config, NULL), 0);
        config.origin = nb_strdup("nixbox.yaml:1:1");
        assert_int_equal(policy_add(p, &config, NULL), 0);
        for (; *changes; changes++) {
                struct policy_rule rule = { 0 };
                assert_int_equal(policy_rule_parse(*changes + 1, **changes == '-', &rule, NULL), 0);
                assert_int_equal(policy_change(p, &rule, NULL), 0);
        }
        json_t *words = policy_words(p);
        policy_free(p);
        return text_of(words);
}

#define AFTER(wanted, ...)                                                               \
        do {                                                                             \
                NB_AUTO_FREE char *rules = after((const char *[]){ __VA_ARGS__, NULL }); \
                assert_string_equal(rules, "[\"config.example\"" wanted "]");            \
        } while (0)

static void changes_take_one_another_back(void **state) {
        (void)state;
        AFTER(",\"a.example\"", "+a.example");
        AFTER(",\"a.example\"", "+a.example", "+a.example");
        AFTER(",\"deny a.example\"", "+a.example", "-a.example");
        AFTER(",\"a.example\"", "-a.example", "+a.example");
        AFTER(",\"deny a.example\"", "+a.example:22", "-a.example");
        AFTER(",\"deny a.example\",\"a.example:22\"", "-a.example", "+a.example:22");
        AFTER(",\"a.example:22\"", "-a.example:22", "+a.example:22");
        AFTER(",\"*.a.example\",\"deny a.example\"", "+*.a.example", "-a.example");
        AFTER(",\"deny config.example\"", "-config.example"); /* what the config says stays */
        AFTER("", "-config.example", "+config.example");
        AFTER(",\"10.0.0.0/8:5432\"", "-10.0.0.0/8:5432", "+10.0.0.0/8:5432");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(names_are_one_to_one),
                cmocka_unit_test(names_are_bounded),
                cmocka_unit_test(bytes_add_up),
                cmocka_unit_test(destinations_are_bounded),
                cmocka_unit_test(changes_take_one_another_back),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
