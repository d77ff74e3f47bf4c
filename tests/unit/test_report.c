/* Unit tests of what the gateway tells the supervisor: lines and their fields, equal events counted, floods thinned out, totals
 * and limits, and a supervisor that does not read. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/gateway_line.h"
#include "gateway/impl.h"
#include "gateway/totals.h"

struct world {
        struct gateway g;
        int fd;
        struct nb_buf in;
};

static void begin(struct world *w) {
        int fds[2];
        NB_AUTO_ERROR err = { 0 };
        *w = (struct world){ 0 };
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        w->g.base = event_base_new();
        w->fd = fds[1];
        assert_int_equal(report_new(&w->g, fds[0], &w->g.report, &err), 0);
        assert_int_equal(nb_set_nonblock(w->fd, true), 0);
}

static void end(struct world *w) {
        report_free(w->g.report);
        event_base_free(w->g.base);
        nb_buf_clear(&w->in);
        nb_close(w->fd);
}

/* The next line, which the supervisor would take; NULL if there is none now. */
static json_t *line(struct world *w) {
        for (;;) {
                const uint8_t *bytes = nb_buf_bytes(&w->in), *nl = w->in.len ? memchr(bytes, '\n', w->in.len) : NULL;
                if (nl) {
                        size_t len = (size_t)(nl - bytes);
                        struct gateway_line taken;
                        assert_int_equal(gateway_line_parse((const char *)bytes, len, &taken), 0);
                        json_decref(taken.fields);
                        json_t *doc = json_loadb((const char *)bytes, len, 0, NULL);
                        assert_non_null(doc);
                        nb_buf_consume(&w->in, len + 1);
                        return doc;
                }
                (void)event_base_loop(w->g.base, EVLOOP_NONBLOCK);
                ssize_t n = recv(w->fd, nb_buf_reserve(&w->in, 65536), 65536, 0);
                if (n <= 0)
                        return NULL;
                nb_buf_commit(&w->in, (size_t)n);
        }
}

static void expect(struct world *w, const char *text) {
        json_t *got = line(w), *want = json_loads(text, 0, NULL);
        assert_non_null(got);
        assert_non_null(want);
        if (!json_equal(got, want)) {
                NB_AUTO_FREE char *shown = json_dumps(got, JSON_COMPACT);
                print_error("got %s\n", shown);
        }
        assert_true(json_equal(got, want));
        json_decref(got);
        json_decref(want);
}

static void expect_nothing(struct world *w) {
        assert_null(line(w));
}

/* Lets the second pass after which totals and counts are told. */
static void ticks(struct world *w, unsigned n) {
        for (uint64_t until = nb_now_ms() + n * 1000u + 100u; nb_now_ms() < until;) {
                const struct timeval tv = { .tv_usec = 20000 };
                (void)event_base_loopexit(w->g.base, &tv);
                (void)event_base_dispatch(w->g.base);
        }
        (void)event_base_loop(w->g.base, EVLOOP_NONBLOCK); /* what fell due while this had no processor */
}

static void test_lines(void **state) {
        struct world w;
        struct addr ip;
        begin(&w);
        report_ready(w.g.report);
        expect(&w, "{\"ready\":true}");
        report_name(w.g.report, "a.example", 0xc6120005, false);
        expect(&w, "{\"name\":[\"a.example\",\"198.18.0.5\"]}");
        report_name(w.g.report, "a.example", 0xc6120005, true);
        expect(&w, "{\"name\":[\"a.example\",null]}");
        assert_int_equal(addr_parse("192.0.2.7", &ip), 0);
        struct policy_rule rule = { .host = "a.example", .ports = { 22 }, .n_ports = 1 };
        struct report_event e = { .type = "connect",
                                  .allow = true,
                                  .host = "a.example",
                                  .ip = &ip,
                                  .port = 443,
                                  .proto = "tls",
                                  .rule = &rule,
                                  .ended = true,
                                  .bytes_up = 10,
                                  .bytes_down = 20,
                                  .ms = 30 };
        report_event(w.g.report, &e);
        expect(
            &w,
            "{\"event\":{\"type\":\"connect\",\"decision\":\"allow\",\"host\":\"a.example\",\"ip\":\"192.0.2.7\",\"port\":443,"
            "\"proto\":\"tls\",\"rule\":\"a.example:22\",\"bytes_up\":10,\"bytes_down\":20,\"ms\":30}}");
        report_event(w.g.report,
                     &(struct report_event){ .type = "dns", .host = "b.example", .reason = "no rule \"allows\" it" });
        expect(&w, "{\"event\":{\"type\":\"dns\",\"decision\":\"deny\",\"host\":\"b.example\",\"reason\":\"no rule "
                   "\\\"allows\\\" it\"}}");
        expect_nothing(&w);
        end(&w);
        (void)state;
}

/* The guest chooses names, and may find a rule with many ports. */
static void test_long_texts_are_taken(void **state) {
        (void)state;
        struct world w;
        char host[NAME_MAX_LEN + 1], reason[4 * GATEWAY_TEXT_MAX];
        struct policy_rule rule = { .host = host, .below = true, .n_ports = POLICY_PORTS_MAX };
        begin(&w);
        memset(host, 'a', NAME_MAX_LEN);
        for (size_t i = 63; i < NAME_MAX_LEN; i += 64)
                host[i] = '.';
        host[NAME_MAX_LEN] = 0;
        for (uint16_t i = 0; i < POLICY_PORTS_MAX; i++)
                rule.ports[i] = (uint16_t)(60000 + i);
        memset(reason, 'r', sizeof reason);
        memcpy(reason + GATEWAY_TEXT_MAX - 1, "\xc3\xa9", 2); /* one character across the end */
        reason[sizeof reason - 1] = 0;
        report_event(w.g.report, &(struct report_event){ .type = "connect", .host = host, .rule = &rule, .reason = reason });
        json_t *doc = line(&w), *event = json_object_get(doc, "event");
        NB_AUTO_FREE char *text = policy_rule_text(&rule);
        assert_string_equal(json_string_value(json_object_get(event, "rule")), text);
        assert_int_equal(json_string_length(json_object_get(event, "reason")), GATEWAY_TEXT_MAX - 1);
        json_decref(doc);
        assert_true(report_bytes(w.g.report, host, &rule, 1, 2));
        ticks(&w, 1);
        doc = line(&w);
        assert_string_equal(json_string_value(json_object_get(json_object_get(doc, "total"), "rule")), text);
        json_decref(doc);
        end(&w);
}

static void test_equal_events_are_counted(void **state) {
        struct world w;
        begin(&w);
        struct report_event e = { .type = "connect", .host = "a.example", .ended = true, .bytes_up = 1, .ms = 7 };
        for (unsigned i = 0; i < 1000; i++)
                report_event(w.g.report, &e);
        expect(&w,
               "{\"event\":{\"type\":\"connect\",\"decision\":\"deny\",\"host\":\"a.example\",\"bytes_up\":1,\"bytes_down\":0,"
               "\"ms\":7}}");
        expect_nothing(&w);
        ticks(&w, 3);
        expect(
            &w,
            "{\"event\":{\"type\":\"connect\",\"decision\":\"deny\",\"host\":\"a.example\",\"bytes_up\":999,\"bytes_down\":0,"
            "\"ms\":7,\"count\":999}}");
        expect_nothing(&w);
        end(&w);
        (void)state;
}

/* Takes the lines that are there: how many events of a type were told, and how many were left out. */
static unsigned take_told(struct world *w, const char *type, uint64_t *left_out) {
        unsigned told = 0;
        for (json_t *doc; (doc = line(w)); json_decref(doc)) {
                const json_t *event = json_object_get(doc, "event");
                *left_out += (uint64_t)json_integer_value(json_object_get(event, "count"));
                told += strcmp(json_string_value(json_object_get(event, "type")), type) == 0;
        }
        return told;
}

static void test_floods_are_thinned_out(void **state) {
        struct world w;
        begin(&w);
        unsigned told = 0;
        uint64_t left_out = 0, began = nb_now_ms();
        char name[64];
        for (unsigned i = 0; i < 20000; i++) {
                snprintf(name, sizeof name, "n%u.example", i);
                report_event(w.g.report, &(struct report_event){ .type = "dns", .host = name });
                told += take_told(&w, "dns", &left_out);
        }
        assert_in_range(told, 400, 2000 + (nb_now_ms() - began) / 10);
        /* other kinds are not hidden by it */
        report_event(w.g.report, &(struct report_event){ .type = "connect", .host = "a.example" });
        assert_int_equal(take_told(&w, "connect", &left_out), 1);
        ticks(&w, 1);
        (void)take_told(&w, "dns", &left_out);
        assert_int_equal(told + left_out, 20000);
        end(&w);
        (void)state;
}

static void test_totals(void **state) {
        struct world w;
        begin(&w);
        struct policy_rule rule = { .host = "a.example", .ports = { 22 }, .n_ports = 1 };
        assert_true(report_bytes(w.g.report, "a.example", &rule, 10, 0));
        assert_true(report_bytes(w.g.report, "a.example", &rule, 5, 100));
        expect_nothing(&w);
        ticks(&w, 1);
        expect(&w, "{\"total\":{\"host\":\"a.example\",\"rule\":\"a.example:22\",\"up\":15,\"down\":100}}");
        assert_true(report_bytes(w.g.report, "192.0.2.1", NULL, 1, 2));
        ticks(&w, 1);
        expect(&w, "{\"total\":{\"host\":\"192.0.2.1\",\"up\":1,\"down\":2}}");
        expect_nothing(&w);
        end(&w);
        (void)state;
}

static void test_limits(void **state) {
        struct world w;
        begin(&w);
        struct policy_rule rule = { .host = "a.example", .below = true, .ports = { 443, 80 }, .n_ports = 2, .limit = 100 };
        struct policy_rule copy = rule;
        assert_false(report_spent(w.g.report, &rule));
        assert_true(report_bytes(w.g.report, "x.a.example", &rule, 50, 1000));
        assert_true(report_bytes(w.g.report, "y.a.example", &rule, 49, 0));
        report_policy_goes(w.g.report);
        assert_false(report_bytes(w.g.report, "x.a.example", &copy, 1, 0));
        assert_true(report_spent(w.g.report, &copy));
        copy.limit = 200;
        assert_false(report_spent(w.g.report, &copy));
        NB_AUTO_FREE char *text = policy_rule_text(&copy);
        report_used(w.g.report, text, 100);
        assert_true(report_spent(w.g.report, &copy));
        end(&w);
        (void)state;
}

static void test_too_many_destinations(void **state) {
        struct totals *t = totals_new();
        struct policy_rule rule = { .host = "limit.example", .ports = { 443 }, .n_ports = 1, .limit = 10 };
        char name[64];
        for (unsigned i = 0; i < TOTALS_MAX + 50; i++) {
                snprintf(name, sizeof name, "n%u.example", i);
                assert_true(totals_add(t, name, NULL, 1, 2));
        }
        assert_true(totals_add(t, "limit.example", &rule, 9, 0)); /* limits hold all the same */
        assert_false(totals_add(t, "limit.example", &rule, 1, 0));
        struct totals_line l;
        uint64_t up = 0, down = 0, other = 0;
        unsigned n = 0;
        for (; totals_take(t, &l); n++) {
                up += l.up;
                down += l.down;
                other += strcmp(l.host, TOTALS_OTHER) == 0 ? l.up : 0;
                free(l.host);
                free(l.rule);
        }
        assert_int_equal(n, TOTALS_MAX + 1);
        assert_int_equal(up, TOTALS_MAX + 50 + 10);
        assert_int_equal(down, 2 * (TOTALS_MAX + 50));
        assert_int_equal(other, 60);
        totals_free(t);
        (void)state;
}

static void test_supervisor_that_does_not_read(void **state) {
        struct world w;
        begin(&w);
        char name[64];
        for (unsigned i = 0; i < 30000; i++) { /* names and totals wait, events need not */
                snprintf(name, sizeof name, "a-name-that-takes-some-room-%u.example", i);
                report_name(w.g.report, name, 0xc6120001 + i, false);
                report_event(w.g.report, &(struct report_event){ .type = "connect", .host = name });
                (void)report_bytes(w.g.report, "a.example", NULL, 1, 0);
        }
        ticks(&w, 1);
        assert_int_equal(w.g.status, 0);
        unsigned names = 0, events = 0;
        uint64_t up = 0;
        for (unsigned round = 0; round < 3; round++) {
                for (json_t *doc; (doc = line(&w)); json_decref(doc)) {
                        names += json_object_get(doc, "name") != NULL;
                        events += json_object_get(doc, "event") != NULL;
                        up += (uint64_t)json_integer_value(json_object_get(json_object_get(doc, "total"), "up"));
                }
                ticks(&w, 1);
        }
        assert_int_equal(names, 30000);
        assert_int_equal(up, 30000);
        assert_in_range(events, 1, 1000);
        end(&w);
        (void)state;
}

/* Neither the loop nor memory waits for a supervisor that is stuck for good: the gateway ends. */
void gateway_fail(struct gateway *g, const char *fmt, ...) {
        (void)fmt;
        g->status = GATEWAY_EXIT_FAILED;
}

static void test_supervisor_that_never_reads(void **state) {
        struct world w;
        begin(&w);
        char name[NAME_MAX_LEN + 1];
        memset(name, 'a', sizeof name);
        name[NAME_MAX_LEN] = 0;
        for (unsigned i = 0; i < 65536; i++)
                report_name(w.g.report, name, 0xc6120000 + i, false);
        assert_int_equal(w.g.status, 0);
        for (unsigned i = 0; i < 65536; i++)
                report_name(w.g.report, name, 0xc6120000 + i, false);
        assert_int_equal(w.g.status, GATEWAY_EXIT_FAILED);
        end(&w);
        (void)state;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_long_texts_are_taken),
                cmocka_unit_test(test_equal_events_are_counted),
                cmocka_unit_test(test_floods_are_thinned_out),
                cmocka_unit_test(test_totals),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_too_many_destinations),
                cmocka_unit_test(test_supervisor_that_does_not_read),
                cmocka_unit_test(test_supervisor_that_never_reads),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
