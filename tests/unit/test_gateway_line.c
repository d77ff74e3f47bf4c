/* What the supervisor takes from the gateway, and what it does not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/gateway_line.h"

static int parse(const char *line, struct gateway_line *ret) {
        return gateway_line_parse(line, strlen(line), ret);
}

static void good_lines(void **state) {
        (void)state;
        struct gateway_line l;
        assert_int_equal(parse("{\"ready\":true}", &l), 0);
        assert_int_equal(l.kind, GATEWAY_LINE_READY);
        assert_int_equal(parse("{\"applied\":true}", &l), 0);
        assert_int_equal(l.kind, GATEWAY_LINE_APPLIED);
        assert_int_equal(parse("{\"name\":[\"api.example.com\",\"198.18.0.5\"]}", &l), 0);
        assert_int_equal(l.kind, GATEWAY_LINE_NAME);
        assert_string_equal(l.name, "api.example.com");
        assert_int_equal(l.address, 0xc6120005u);
        assert_int_equal(parse("{\"name\":[\"api.example.com\",null]}", &l), 0);
        assert_int_equal(l.address, 0);
        assert_int_equal(parse("{\"total\":{\"host\":\"a.b\",\"rule\":\"*.b:22\",\"up\":7,\"down\":8}}", &l), 0);
        assert_int_equal(l.kind, GATEWAY_LINE_TOTAL);
        assert_string_equal(l.rule, "*.b:22");
        assert_int_equal(l.up, 7);
        assert_int_equal(l.down, 8);
        assert_int_equal(parse("{\"total\":{\"host\":\"a.b\",\"up\":7,\"down\":8}}", &l), 0);
        assert_string_equal(l.rule, "");
}

static void events_know_all_that_a_guest_can_send(void **state) {
        (void)state;
        static const char *const protos[] = { "tcp",  "udp",      "tls",     "http",    "icmp",  "dns", "arp", "ipv6",
                                              "vlan", "fragment", "spoofed", "options", "frame", "0",   "47",  "255" };
        for (size_t i = 0; i < NB_ARRAY_LEN(protos); i++) {
                struct gateway_line l;
                NB_AUTO_FREE char *line = nb_asprintf("{\"event\":{\"type\":\"connect\",\"proto\":\"%s\"}}", protos[i]);
                assert_int_equal(parse(line, &l), 0);
                assert_string_equal(json_string_value(json_object_get(l.fields, "proto")), protos[i]);
                json_decref(l.fields);
        }
}

static void events_keep_what_is_known_and_clean(void **state) {
        (void)state;
        struct gateway_line l;
        assert_int_equal(
            parse("{\"event\":{\"type\":\"connect\",\"decision\":\"deny\",\"host\":\"a\\u001b[2J\",\"ip\":\"2001:db8::1\","
                  "\"port\":443,\"proto\":\"tls\",\"reason\":\"no rule\",\"bytes_up\":1,\"ms\":2,\"count\":3}}",
                  &l),
            0);
        assert_int_equal(l.kind, GATEWAY_LINE_EVENT);
        assert_string_equal(l.type, "connect");
        assert_string_equal(json_string_value(json_object_get(l.fields, "host")), "a\\x1b[2J");
        assert_int_equal(json_object_size(l.fields), 9);
        json_decref(l.fields);
}

static void bad_lines(void **state) {
        (void)state;
        static const char *const bad[] = {
                "",
                "null",
                "[]",
                "{}",
                "{\"ready\":1}",
                "{\"applied\":1}",
                "{\"applied\":true,\"ready\":true}",
                "{\"ready\":true,\"name\":[\"a.b\",null]}",
                "{\"ready\":true}{\"ready\":true}",
                "{\"start\":{}}",
                "{\"name\":[\"api.example.com\"]}",
                "{\"name\":[\"API.example.com\",\"198.18.0.5\"]}",
                "{\"name\":[\"api.example.com.\",\"198.18.0.5\"]}",
                "{\"name\":[\"a b\",\"198.18.0.5\"]}",
                "{\"name\":[\"a.b\",\"198.18.0.0\"]}",
                "{\"name\":[\"a.b\",\"198.19.0.1\"]}",
                "{\"name\":[\"a.b\",\"8.8.8.8\"]}",
                "{\"name\":[\"a.b\",7]}",
                "{\"name\":[\"a.b\\u0000c\",\"198.18.0.5\"]}",
                "{\"event\":{}}",
                "{\"event\":{\"type\":\"box.up\"}}",
                "{\"event\":{\"type\":\"dns\",\"box\":\"other\"}}",
                "{\"event\":{\"type\":\"dns\",\"time\":\"x\"}}",
                "{\"event\":{\"type\":\"dns\",\"decision\":\"maybe\"}}",
                "{\"event\":{\"type\":\"dns\",\"host\":{\"a\":1}}}",
                "{\"event\":{\"type\":\"dns\",\"host\":\"a\\u0000b\"}}",
                "{\"event\":{\"type\":\"dns\",\"ip\":\"1.2.3\"}}",
                "{\"event\":{\"type\":\"dns\",\"port\":65536}}",
                "{\"event\":{\"type\":\"dns\",\"port\":\"53\"}}",
                "{\"event\":{\"type\":\"dns\",\"proto\":\"x\"}}",
                "{\"event\":{\"type\":\"dns\",\"proto\":\"256\"}}",
                "{\"event\":{\"type\":\"dns\",\"proto\":\"0047\"}}",
                "{\"event\":{\"type\":\"dns\",\"ms\":-1}}",
                "{\"event\":{\"type\":\"dns\",\"count\":1e3}}",
                "{\"event\":{\"type\":\"dns\",\"type\":\"http\"}}",
                "{\"total\":{\"host\":\"a\",\"up\":1}}",
                "{\"total\":{\"host\":\"a\",\"rule\":\"r\",\"up\":1,\"down\":-1}}",
                "{\"total\":{\"host\":\"a\",\"up\":1,\"down\":9223372036854775807}}",
                "{\"total\":{\"host\":7,\"up\":1,\"down\":1}}",
                "{\"total\":{\"host\":\"a\",\"up\":1,\"down\":1,\"x\":1}}",
        };
        struct gateway_line l;
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                if (parse(bad[i], &l) != -EPROTO)
                        fail_msg("was taken: %s", bad[i]);
                assert_null(l.fields);
        }
}

static void long_text_is_refused(void **state) {
        (void)state;
        struct gateway_line l;
        char host[GATEWAY_TEXT_MAX + 2];
        memset(host, 'a', sizeof host - 1);
        host[sizeof host - 1] = 0;
        NB_AUTO_FREE char *event = nb_asprintf("{\"event\":{\"type\":\"dns\",\"reason\":\"%s\"}}", host);
        assert_int_equal(parse(event, &l), -EPROTO);
        NB_AUTO_FREE char *total = nb_asprintf("{\"total\":{\"host\":\"%.254s\",\"up\":1,\"down\":1}}", host);
        assert_int_equal(parse(total, &l), -EPROTO);
        /* short enough as it comes, too long once its control characters are written out */
        NB_AUTO_FREE char *grows = nb_strdup("{\"total\":{\"host\":\"");
        for (int i = 0; i < 100; i++) {
                char *longer = nb_asprintf("%s\\u0001", grows);
                free(grows);
                grows = longer;
        }
        NB_AUTO_FREE char *grown = nb_asprintf("%s\",\"up\":1,\"down\":1}}", grows);
        assert_int_equal(parse(grown, &l), -EPROTO);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_lines),
                cmocka_unit_test(events_know_all_that_a_guest_can_send),
                cmocka_unit_test(events_keep_what_is_known_and_clean),
                cmocka_unit_test(bad_lines),
                cmocka_unit_test(long_text_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
