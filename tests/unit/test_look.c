/* Unit tests of looking at a client's first bytes: which protocol it is, whom it asks for, and what of it passes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "gateway/http.h"
#include "gateway/look.h"
#include "gateway/tls.h"

#define NAME "api.example.com"

static void put16(struct nb_buf *b, size_t value) {
        const uint8_t bytes[] = { (uint8_t)(value >> 8), (uint8_t)value };
        nb_buf_add(b, bytes, sizeof bytes);
}

/* A ClientHello of TLS 1.2 with this server name, or none. */
static void hello(struct nb_buf *out, const char *name) {
        static const uint8_t zeros[32] = { 0 };
        NB_AUTO_BUF ext = { 0 };
        NB_AUTO_BUF body = { 0 };
        if (name) {
                size_t n = strlen(name);
                put16(&ext, 0);
                put16(&ext, n + 5);
                put16(&ext, n + 3);
                nb_buf_add(&ext, "\0", 1);
                put16(&ext, n);
                nb_buf_add(&ext, name, n);
        } else {
                put16(&ext, 23);
                put16(&ext, 0);
        }
        nb_buf_add(&body, "\3\3", 2);
        nb_buf_add(&body, zeros, 32);
        nb_buf_add(&body, "\0\0\2\x13\1\1\0", 7);
        put16(&body, ext.len);
        nb_buf_add(&body, nb_buf_bytes(&ext), ext.len);
        nb_buf_add(out, "\x16\3\1", 3);
        put16(out, body.len + 4);
        nb_buf_add(out, "\1\0", 2);
        put16(out, body.len);
        nb_buf_add(out, nb_buf_bytes(&body), body.len);
}

static ssize_t text(struct look *l, const char *bytes) {
        return look_up(l, (const uint8_t *)bytes, strlen(bytes));
}

static bool not_denied(void *user, const char *host) {
        return strcmp(host, user) != 0;
}

static struct look bound(uint16_t port) {
        return (struct look){ .host = NAME, .port = port };
}

static struct look unbound(bool strict) {
        static char denied[] = "denied.example";
        return (struct look){ .port = 443, .strict = strict, .allowed = not_denied, .user = denied };
}

static void test_tls_by_name(void **state) {
        NB_AUTO_BUF b = { 0 };
        struct look l = bound(8443);
        hello(&b, "API.example.com");
        for (size_t i = 0; i < b.len; i++)
                assert_int_equal(look_up(&l, nb_buf_bytes(&b), i), 0);
        assert_false(look_done(&l));
        assert_int_equal(look_up(&l, nb_buf_bytes(&b), b.len), b.len);
        assert_int_equal(l.kind, LOOK_TLS);
        assert_true(l.settled && look_done(&l));
        assert_int_equal(text(&l, "anything"), 8);
        (void)state;
}

static void test_tls_by_another_name(void **state) {
        const char *const names[] = { "example.com", "api.example.com.evil.example", "127.0.0.1", NULL };
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++) {
                NB_AUTO_BUF b = { 0 };
                struct look l = bound(443);
                hello(&b, names[i]);
                assert_int_equal(look_up(&l, nb_buf_bytes(&b), b.len), -EACCES);
                assert_non_null(l.problem);
                assert_string_equal(l.asked, i < 2 ? names[i] : "");
        }
        (void)state;
}

static void test_malformed_tls(void **state) {
        NB_AUTO_BUF b = { 0 };
        struct look l = bound(443), free_one = unbound(false), strict = unbound(true);
        hello(&b, NAME);
        b.data[b.start + 5] = 2; /* a ServerHello */
        assert_int_equal(look_up(&l, nb_buf_bytes(&b), b.len), -EPROTO);
        assert_int_equal(look_up(&free_one, nb_buf_bytes(&b), b.len), b.len);
        assert_int_equal(look_up(&strict, nb_buf_bytes(&b), b.len), -EACCES);
        (void)state;
}

static void test_http_by_host(void **state) {
        struct look l = bound(80);
        const char *one = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
        assert_int_equal(text(&l, "GET"), 0);
        assert_int_equal(text(&l, one), strlen(one));
        assert_true(look_done(&l));
        assert_false(l.settled);
        assert_int_equal(text(&l, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"), -EACCES);
        assert_string_equal(l.asked, "other.example");
        look_clear(&l);
        (void)state;
}

static void test_websocket(void **state) {
        for (int agreed = 0; agreed < 2; agreed++) {
                struct look l = bound(80);
                const char *ask =
                    "GET / HTTP/1.1\r\nHost: api.example.com\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
                assert_int_equal(text(&l, ask), strlen(ask));
                assert_int_equal(text(&l, "\x81\x05hello"), 0);
                const char *answer = agreed ? "HTTP/1.1 101 Switching" : "HTTP/1.1 400 Bad Request";
                for (size_t i = 0; i < strlen(answer); i++)
                        look_down(&l, (const uint8_t *)answer + i, 1);
                assert_int_equal(text(&l, "\x81\x05hello\n"), agreed ? 8 : -EPROTO);
                look_clear(&l);
        }
        (void)state;
}

static void test_other_protocols(void **state) {
        const uint16_t only_known[] = { 443, 80 };
        struct look l = bound(22);
        assert_int_equal(text(&l, "SSH-2.0-OpenSSH_9.2p1\r\n"), 23);
        assert_int_equal(l.kind, LOOK_OTHER);
        assert_true(l.settled);
        for (size_t i = 0; i < NB_ARRAY_LEN(only_known); i++) {
                l = bound(only_known[i]);
                assert_int_equal(text(&l, "SSH-2.0-OpenSSH_9.2p1\r\n"), -EPROTO);
        }
        (void)state;
}

static void test_without_a_name(void **state) {
        NB_AUTO_BUF b = { 0 };
        struct look l = unbound(true);
        hello(&b, "fine.example");
        assert_int_equal(look_up(&l, nb_buf_bytes(&b), b.len), b.len);
        assert_string_equal(l.asked, "fine.example");
        nb_buf_clear(&b);
        hello(&b, "denied.example");
        l = unbound(true);
        assert_int_equal(look_up(&l, nb_buf_bytes(&b), b.len), -EACCES);
        l = unbound(true);
        assert_int_equal(text(&l, "GET / HTTP/1.1\r\nHost: denied.example:443\r\n\r\n"), -EACCES);
        look_clear(&l);
        l = unbound(true);
        const char *by_address = "GET / HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n";
        assert_int_equal(text(&l, by_address), strlen(by_address));
        look_clear(&l);
        l = unbound(false);
        const char *request = "GET / HTTP/1.1\r\nHost: a.example:443\r\n\r\nwhatever";
        assert_int_equal(text(&l, request), strlen(request));
        assert_true(l.settled);
        assert_string_equal(l.asked, "a.example");
        look_clear(&l);
        l = unbound(true);
        assert_int_equal(text(&l, "\1\2\3binary"), 9);
        (void)state;
}

/* Gives the bytes one by one, as somebody types them who waits for each; returns how many passed before the refusal. */
static int typed(struct look *l, const char *bytes, int *ret) {
        char held[512];
        size_t n_held = 0;
        int passed = 0;
        *ret = 0;
        for (; *bytes; bytes++) {
                held[n_held++] = *bytes;
                ssize_t n = look_up(l, (uint8_t *)held, n_held);
                if (n < 0) {
                        *ret = (int)n;
                        break;
                }
                memmove(held, held + n, n_held - (size_t)n);
                n_held -= (size_t)n;
                passed += (int)n;
        }
        return passed;
}

static void test_overdue(void **state) {
        int r;
        struct look l = bound(2181);
        assert_int_equal(text(&l, "ruok"), 0);
        l.overdue = true;
        assert_int_equal(text(&l, "ruok"), 4);
        assert_int_equal(text(&l, "\r\n"), 2);
        assert_true(l.settled && l.kind == LOOK_OTHER && l.n_passed == 0);
        /* what began early is still judged: only the letters of the method pass */
        l = bound(8080);
        l.overdue = true;
        assert_int_equal(typed(&l, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", &r), 4);
        assert_int_equal(r, -EACCES);
        look_clear(&l);
        l = bound(8080);
        l.overdue = true;
        const char *good = "GET / HTTP/1.1\r\nHost: api.example.com:8080\r\n\r\n";
        assert_int_equal(typed(&l, good, &r), strlen(good));
        assert_int_equal(r, 0);
        assert_true(l.kind == LOOK_HTTP && !l.settled && l.n_passed == 0);
        assert_int_equal(typed(&l, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", &r), 0);
        assert_int_equal(r, -EACCES);
        look_clear(&l);
        /* the first byte of TLS */
        NB_AUTO_BUF b = { 0 };
        hello(&b, "other.example");
        l = bound(8443);
        l.overdue = true;
        assert_int_equal(look_up(&l, nb_buf_bytes(&b), 1), 1);
        assert_int_equal(look_up(&l, nb_buf_bytes(&b) + 1, b.len - 2), 0);
        assert_int_equal(look_up(&l, nb_buf_bytes(&b) + 1, b.len - 1), -EACCES);
        look_clear(&l);
        (void)state;
}

static void test_overdue_has_bounds(void **state) {
        char line[2 * LOOK_PASSED_MAX];
        int r;
        struct look l = bound(8080), web = bound(80), free_one = unbound(false);
        memset(line, 'a', sizeof line);
        line[3] = ' ';
        line[sizeof line - 1] = 0;
        l.overdue = web.overdue = true;
        assert_int_equal(typed(&l, line, &r), LOOK_PASSED_MAX);
        assert_int_equal(r, -EPROTO); /* no time-out */
        look_clear(&l);
        assert_int_equal(typed(&web, "GET", &r), 0);
        assert_int_equal(text(&free_one, "l"), 1); /* nothing is denied there: no waiting */
        (void)state;
}

static void test_end(void **state) {
        struct look l = bound(2181), web = bound(80), request = bound(8080);
        assert_int_equal(text(&l, "ruok"), 0);
        assert_true(look_end(&l));
        assert_int_equal(text(&l, "ruok"), 4);
        assert_int_equal(text(&web, "ruok"), 0);
        assert_false(look_end(&web));
        assert_int_equal(text(&request, "GET / HTTP/1.1\r\n"), 0);
        assert_false(look_end(&request));
        look_clear(&request);
        (void)state;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_tls_by_name),        cmocka_unit_test(test_tls_by_another_name),
                cmocka_unit_test(test_malformed_tls),      cmocka_unit_test(test_http_by_host),
                cmocka_unit_test(test_websocket),          cmocka_unit_test(test_other_protocols),
                cmocka_unit_test(test_without_a_name),     cmocka_unit_test(test_overdue),
                cmocka_unit_test(test_overdue_has_bounds), cmocka_unit_test(test_end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
