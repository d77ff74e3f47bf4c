/* HTTP request heads: what passes, what does not, and that it does not matter how the bytes are cut. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gateway/http.h"

#define HOST "h.example"
#define GET "GET / HTTP/1.1\r\nHost: h.example\r\n"
#define POST "POST / HTTP/1.1\r\nHost: h.example\r\n"
#define NEXT "GET /next HTTP/1.1\r\nHost: h.example\r\n\r\n"
#define ALL SIZE_MAX

/* Feeds all bytes, at most `step` new ones at a time and first `first` of them. Returns the code, *ret the bytes passed. */
static int feed(struct http *h, const char *bytes, size_t len, size_t first, size_t step, size_t *ret) {
        size_t passed = 0;
        for (size_t given = first < len ? first : len;; given = given + step < len ? given + step : len) {
                for (ssize_t n = 1; n > 0 && passed < given;) {
                        /* memory of its own, so that a read past the end is seen */
                        NB_AUTO_FREE uint8_t *copy = nb_calloc(1, given - passed);
                        memcpy(copy, bytes + passed, given - passed);
                        n = http_up(h, copy, given - passed);
                        if (n < 0) {
                                *ret = passed;
                                return (int)n;
                        }
                        passed += (size_t)n;
                }
                if (given == len)
                        break;
        }
        *ret = passed;
        return 0;
}

static void check(const char *bytes, size_t len, uint16_t port, int code, size_t passed) {
        struct http h;
        size_t got = 0;
        if (passed == ALL)
                passed = len;
        for (size_t first = 0; first <= len; first++) {
                http_begin(&h, HOST, port);
                assert_int_equal(feed(&h, bytes, len, first, first == 0 ? 1 : len, &got), code);
                assert_int_equal(got, passed);
                assert_true((code < 0) == (h.problem != NULL));
        }
}

struct http_case {
        const char *bytes;
        int code;
        size_t passed; /* before the end, or before what waits */
};
#define FIRST(text) (sizeof(text) - 1)

static void run_cases(const struct http_case *cases, size_t n, uint16_t port) {
        for (size_t i = 0; i < n; i++)
                check(cases[i].bytes, strlen(cases[i].bytes), port, cases[i].code, cases[i].passed);
}

static void test_passes(void **state) {
        (void)state;
        static const struct http_case cases[] = {
                { GET "\r\n", 0, ALL },
                { GET "\r\n" NEXT NEXT, 0, ALL },
                { "GET / HTTP/1.0\r\nHost: h.example\r\n\r\n", 0, ALL },
                { "GET / HTTP/1.1\r\nhOsT:H.Example\r\n\r\n", 0, ALL },
                { "GET / HTTP/1.1\r\nHost: \t h.example. \t\r\n\r\n", 0, ALL },
                { "GET / HTTP/1.1\r\nHost: h.example:80\r\n\r\n", 0, ALL },
                { "GET /a?b=%20&c='\"\xc3\xbc HTTP/1.1\r\nHost: h.example\r\nX: \xff\ty\r\nEmpty:\r\n\r\n", 0, ALL },
                { "GET //evil.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n", 0, ALL },
                { "GET http://h.example/x HTTP/1.1\r\nHost: h.example\r\n\r\n", 0, ALL },
                { "GET HTTP://H.example:80?x HTTP/1.1\r\nHost: h.example\r\n\r\n", 0, ALL },
                { "GET http://h.example HTTP/1.1\r\nHost: h.example\r\n\r\n", 0, ALL },
                { "OPTIONS * HTTP/1.1\r\nHost: h.example\r\n\r\n", 0, ALL },
                { "M-SEARCH / HTTP/1.1\r\nHost: h.example\r\n\r\n", 0, ALL },
                { "VERSION-CONTROL / HTTP/1.1\r\nHost: h.example\r\n\r\n", 0, ALL },
                { POST "Content-Length: 0\r\n\r\n" NEXT, 0, ALL },
                { POST "Content-Length:5\r\n\r\nhello" NEXT, 0, ALL },
                { POST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello" NEXT, 0, ALL },
                { POST "content-length: 10\r\n\r\nGET / HTTP" NEXT, 0, ALL },
                { POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0A\r\n0123456789\r\n0\r\n\r\n" NEXT, 0, ALL },
                { POST "Transfer-Encoding: chunked\r\n\r\n00000a\r\n0123456789\r\n000\r\n\r\n" NEXT, 0, ALL },
                { GET "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n" NEXT, 0, ALL },
                /* what is not whole yet waits */
                { "", 0, 0 },
                { "GET / HTTP/1.1\r\nHost: h.exam", 0, 0 },
                { GET "\r", 0, 0 },
                { GET "\r\nGET /next HT", 0, FIRST(GET "\r\n") },
                { POST "Content-Length: 5\r\n\r\nhe", 0, ALL },
                { POST "Transfer-Encoding: chunked\r\n\r\n5", 0, FIRST(POST "Transfer-Encoding: chunked\r\n\r\n") },
                { POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", 0, ALL },
                { POST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r", 0, FIRST(POST "Transfer-Encoding: chunked\r\n\r\n0\r\n") },
                /* a websocket: nothing more before the server has answered */
                { GET "Upgrade: WebSocket\r\nConnection: Upgrade\r\n\r\nmore", 0,
                  FIRST(GET "Upgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n") },
        };
        run_cases(cases, NB_ARRAY_LEN(cases), 80);
}

static void test_other_host(void **state) {
        (void)state;
        static const struct http_case cases[] = {
                { "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example.evil.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: evilh.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost:\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example..\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example, other.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example other.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: user@h.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example@evil.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example/\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example#x\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: http://h.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example:\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example:81\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example:080\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example:65616\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example:4294967376\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example:+80\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example:80:80\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example:80@evil.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h\xef\xbc\x8e"
                  "example\r\n\r\n",
                  -EACCES, 0 },
                { "GET http://other.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n", -EACCES, 0 },
                { "GET http://h.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n", -EACCES, 0 },
                { "GET http://user@h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n", -EACCES, 0 },
                { "GET http://h.example@evil.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n", -EACCES, 0 },
                { "GET http://h.example\\@evil.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n", -EACCES, 0 },
                { "GET http://h.example:81/ HTTP/1.1\r\nHost: h.example\r\n\r\n", -EACCES, 0 },
                { "GET http:///evil.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n", -EACCES, 0 },
                /* later requests count as well */
                { GET "\r\nGET / HTTP/1.1\r\nHost: other.example\r\n\r\n", -EACCES, FIRST(GET "\r\n") },
                { POST "Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: other.example\r\n\r\n", -EACCES,
                  FIRST(POST "Content-Length: 3\r\n\r\nabc") },
                { POST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: other.example\r\n\r\n", -EACCES,
                  FIRST(POST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n") },
        };
        run_cases(cases, NB_ARRAY_LEN(cases), 80);
}

static void test_malformed(void **state) {
        (void)state;
        static const char *const cases[] = {
                /* the request line */
                "GET /\r\n",
                "GET / HTTP/0.9\r\n",
                "GET / HTTP/1.2\r\n",
                "GET / HTTP/2.0\r\n",
                "GET / HTTP/1.10\r\n",
                "GET / http/1.1\r\n",
                "GET / HTTP/1.1 \r\n",
                "GET  / HTTP/1.1\r\n",
                "GET /  HTTP/1.1\r\n",
                "GET\t/ HTTP/1.1\r\n",
                "GET /a b HTTP/1.1\r\n",
                "GET /a\tb HTTP/1.1\r\n",
                "GET /#x HTTP/1.1\r\n",
                "GET  HTTP/1.1\r\n",
                "GET HTTP/1.1\r\n",
                "GET x HTTP/1.1\r\n",
                "GET * HTTP/1.1\r\n",
                "GET ftp://h.example/ HTTP/1.1\r\n",
                "GET https://h.example/ HTTP/1.1\r\n",
                "GET http:/h.example/ HTTP/1.1\r\n",
                "GET http:\\\\h.example/ HTTP/1.1\r\n",
                "get / HTTP/1.1\r\n",
                "G\x80T / HTTP/1.1\r\n",
                " GET / HTTP/1.1\r\n",
                "\r\n",
                "\n",
                "x\r\n",
                "ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n",
                "CONNECT h.example:443 HTTP/1.1\r\n",
                "CONNECT / HTTP/1.1\r\n",
                "TRACE / HTTP/1.1\r\n",
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                "OPTIONS ** HTTP/1.1\r\n",
                /* ends of lines */
                "GET / HTTP/1.1\nHost: h.example\n\n",
                "GET / HTTP/1.1\rHost: h.example\r\r",
                GET "X: a\nY: b\r\n\r\n",
                GET "X: a\rY: b\r\n\r\n",
                GET "X: a\r\r\n\r\n",
                GET "\n",
                GET "\r\r\n",
                GET "X: a\n\r\n\r\n",
                /* headers */
                "GET / HTTP/1.1\r\n\r\n",
                "GET / HTTP/1.0\r\n\r\n",
                "GET / HTTP/1.1\r\nX-Host: h.example\r\n\r\n",
                "GET / HTTP/1.1\r\n Host: h.example\r\n\r\n",
                "GET http://h.example/ HTTP/1.1\r\n\r\n",
                "GET / HTTP/1.1\r\nHost : h.example\r\n\r\n",
                "GET / HTTP/1.1\r\nHost\t: h.example\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: h.example\r\n .evil.example\r\n\r\n",
                "GET / HTTP/1.1\r\nHost:\r\n h.example\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: h.example\r\nHost: h.example\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: h.example\r\nHOST: other.example\r\n\r\n",
                GET " X: folded\r\n\r\n",
                GET "X: a\r\n\tfolded\r\n\r\n",
                GET "X\r\n\r\n",
                GET ": x\r\n\r\n",
                GET "X y: z\r\n\r\n",
                GET "X\x80: z\r\n\r\n",
                GET "(X): z\r\n\r\n",
                GET "X: a\x01\r\n\r\n",
                GET "X: a\x7f\r\n\r\n",
                GET "X: a\x0b\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: h.example\x0c\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: \x0bh.example\r\n\r\n",
                /* Content-Length */
                POST "Content-Length: \r\n\r\n",
                POST "Content-Length: +5\r\n\r\nhello",
                POST "Content-Length: -5\r\n\r\nhello",
                POST "Content-Length: -0\r\n\r\n",
                POST "Content-Length: 0x5\r\n\r\nhello",
                POST "Content-Length: 05\r\n\r\nhello",
                POST "Content-Length: 5.0\r\n\r\nhello",
                POST "Content-Length: 5e0\r\n\r\nhello",
                POST "Content-Length: 5 5\r\n\r\nhello",
                POST "Content-Length: 5, 5\r\n\r\nhello",
                POST "Content-Length: 5,\r\n\r\nhello",
                POST "Content-Length: \"5\"\r\n\r\nhello",
                POST "Content-Length: 1 \x0b\r\n\r\nh",
                POST "Content-Length: 18446744073709551615\r\n\r\n",
                POST "Content-Length: 18446744073709551621\r\n\r\n",
                POST "Content-Length: 99999999999999999999999999999999\r\n\r\n",
                POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
                POST "Content-Length: 5\r\ncontent-length: 6\r\n\r\nhello",
                POST "Content_Length: 5\r\n\r\nhello",
                POST "Content-Length : 5\r\n\r\nhello",
                POST "Content-Length:\r\n 5\r\n\r\nhello",
                /* Transfer-Encoding */
                POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                POST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: identity\r\n\r\n",
                POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding:\x0b"
                     "chunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
                POST "Transfer-Encoding:\r\n\r\n0\r\n\r\n",
                POST "Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
                POST "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                POST " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "POST / HTTP/1.0\r\nHost: h.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                /* websockets */
                POST "Upgrade: websocket\r\n\r\n",
                GET "Upgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
                GET "Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "GET / HTTP/1.0\r\nHost: h.example\r\nUpgrade: websocket\r\n\r\n",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++)
                check(cases[i], strlen(cases[i]), 80, -EPROTO, 0);
        check("GET / HTTP/1.1\r\nHost: h.example\0.evil\r\n\r\n", 39, 80, -EPROTO, 0);
        check("\0", 1, 80, -EPROTO, 0);
}

static void test_malformed_chunks(void **state) {
        (void)state;
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
        static const char *const cases[] = {
                "\r\n",
                "-1\r\n",
                "+1\r\na",
                "0x1\r\na",
                " 1\r\na",
                "1 \r\na",
                "1\t\r\n",
                "1;x\r\n",
                "1;x=\"\r\n\"\r\n",
                "1 ; x\r\n",
                "1\na",
                "1\ra",
                "g\r\n",
                "1,\r\n",
                "FFFFFFFFFFFFFFFF\r\n",
                "10000000000000001\r\na",
                "0000000000000000\r\n\r\n",
                "1;\r\n",
                "\x80\r\n",
                "0\n\r\n",
                "0 \r\n\r\n",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *text = nb_asprintf("%s%s", CHUNKED, cases[i]);
                check(text, strlen(text), 80, -EPROTO, FIRST(CHUNKED));
        }
        static const struct http_case later[] = {
                { CHUNKED "1\r\nab\r\n0\r\n\r\n", -EPROTO, FIRST(CHUNKED "1\r\na") },
                { CHUNKED "1\r\na\n0\r\n\r\n", -EPROTO, FIRST(CHUNKED "1\r\na") },
                { CHUNKED "1\r\na\r0\r\n\r\n", -EPROTO, FIRST(CHUNKED "1\r\na") },
                { CHUNKED "0\r\nHost: other.example\r\n\r\n", -EPROTO, FIRST(CHUNKED "0\r\n") },
                { CHUNKED "0\r\n\n", -EPROTO, FIRST(CHUNKED "0\r\n") },
                { GET "\r\n\r\n" NEXT, -EPROTO, FIRST(GET "\r\n") },
                { GET "\r\nhello", 0, FIRST(GET "\r\n") },
                { GET "\r\n\x81\x05\x01\x02\x03\x04\r\n", -EPROTO, FIRST(GET "\r\n") },
                { GET "\r\nGET / HTTP/1.1\r\nHost: h.example\r\nUpgrade: websocket\r\n\r\n", -EPROTO, FIRST(GET "\r\n") },
        };
        run_cases(later, NB_ARRAY_LEN(later), 80);
}

static void test_port(void **state) {
        (void)state;
        static const struct http_case cases[] = {
                { "GET / HTTP/1.1\r\nHost: h.example:8080\r\n\r\n", 0, ALL },
                { "GET http://h.example:8080/ HTTP/1.1\r\nHost: h.example:8080\r\n\r\n", 0, ALL },
                { "GET http://h.example/ HTTP/1.1\r\nHost: h.example:8080\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example\r\n\r\n", -EACCES, 0 },
                { "GET / HTTP/1.1\r\nHost: h.example:80\r\n\r\n", -EACCES, 0 },
        };
        run_cases(cases, NB_ARRAY_LEN(cases), 8080);
}

static void test_long(void **state) {
        (void)state;
        struct http h;
        size_t passed = 0;
        for (size_t extra = 0; extra < 2; extra++) {
                NB_AUTO_FREE char *text = nb_calloc(1, HTTP_HEAD_MAX + 2);
                size_t n = (size_t)sprintf(text, GET "X: ");
                memset(text + n, 'a', HTTP_HEAD_MAX + extra - n - 4);
                (void)sprintf(text + HTTP_HEAD_MAX + extra - 4, "\r\n\r\n");
                http_begin(&h, HOST, 80);
                assert_int_equal(feed(&h, text, HTTP_HEAD_MAX + extra, 0, 997, &passed), extra ? -EPROTO : 0);
                assert_int_equal(passed, extra ? 0 : HTTP_HEAD_MAX);
        }
        NB_AUTO_FREE char *endless = nb_calloc(1, 4 * HTTP_HEAD_MAX);
        memset(endless, 'A', 4 * HTTP_HEAD_MAX - 1);
        http_begin(&h, HOST, 80);
        assert_int_equal(feed(&h, endless, 4 * HTTP_HEAD_MAX - 1, 0, 1024, &passed), -EPROTO);
        assert_int_equal(passed, 0);
        /* a body may be as long as it likes */
        const char *head = POST "Content-Length: 999999999999999999\r\n\r\n";
        http_begin(&h, HOST, 80);
        assert_int_equal(http_up(&h, (const uint8_t *)head, strlen(head)), strlen(head));
        for (size_t i = 0; i < 100; i++)
                assert_int_equal(http_up(&h, (const uint8_t *)endless, 4 * HTTP_HEAD_MAX - 1), 4 * HTTP_HEAD_MAX - 1);
}

static void test_what_was_asked(void **state) {
        (void)state;
        struct http h;
        const char *first = GET "\r\n", *second = "DELETE / HTTP/1.1\r\nHost: Other.Example.\r\n\r\n";
        http_begin(&h, HOST, 80);
        assert_int_equal(http_up(&h, (const uint8_t *)first, strlen(first)), strlen(first));
        assert_string_equal(h.method, "GET");
        assert_string_equal(h.asked, HOST);
        assert_int_equal(h.requests, 1);
        assert_int_equal(http_up(&h, (const uint8_t *)second, strlen(second)), -EACCES);
        assert_string_equal(h.method, "DELETE");
        assert_string_equal(h.asked, "other.example");
        assert_int_equal(h.requests, 1);
        /* it stays refused */
        assert_int_equal(http_up(&h, (const uint8_t *)first, strlen(first)), -EACCES);
}

static bool not_denied(void *user, const char *host) {
        (*(int *)user)++;
        return strcmp(host, "denied.example") != 0;
}

static int free_host(const char *target, const char *host, const char *version) {
        struct http h;
        int seen = 0;
        NB_AUTO_FREE char *text = nb_asprintf("GET %s HTTP/%s\r\n%s%s%s\r\n", target, version, host ? "Host: " : "",
                                              host ? host : "", host ? "\r\n" : "");
        http_begin(&h, NULL, 80);
        h.allowed = not_denied;
        h.user = &seen;
        ssize_t r = http_up(&h, (const uint8_t *)text, strlen(text));
        return r > 0 && seen == 1 ? 0 : (int)r;
}

static void test_any_host(void **state) {
        (void)state;
        assert_int_equal(free_host("/", "other.example", "1.1"), 0);
        assert_int_equal(free_host("/", "other.example:8080", "1.1"), 0);
        assert_int_equal(free_host("/", "192.0.2.1", "1.1"), 0);
        assert_int_equal(free_host("/", "192.0.2.1:8080", "1.1"), 0);
        assert_int_equal(free_host("/", "[2001:db8::1]:8080", "1.1"), 0);
        assert_int_equal(free_host("http://192.0.2.1/", "192.0.2.1", "1.1"), 0);
        assert_int_equal(free_host("/", NULL, "1.0"), 0);
        assert_int_equal(free_host("/", NULL, "1.1"), -EPROTO);
        assert_int_equal(free_host("/", "denied.example", "1.1"), -EACCES);
        assert_int_equal(free_host("/", "Denied.Example.:80", "1.1"), -EACCES);
        assert_int_equal(free_host("/", "denied.example..", "1.1"), -EPROTO);
        assert_int_equal(free_host("/", "user@denied.example", "1.1"), -EPROTO);
        assert_int_equal(free_host("/", "127.1", "1.1"), -EPROTO);
        assert_int_equal(free_host("/", "[::1", "1.1"), -EPROTO);
        assert_int_equal(free_host("http://denied.example/", "other.example", "1.1"), -EPROTO);
        assert_int_equal(free_host("http://denied.example/", NULL, "1.0"), -EPROTO);
}

static void test_websocket(void **state) {
        (void)state;
        struct http h;
        const char *ask = GET "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", *frame = "\x81\x01\x02\x03\x04\x05\n";
        const char *yes = "HTTP/1.1 101 Switching Protocols\r\n", *no = "HTTP/1.1 200 OK\r\n";
        for (size_t cut = 0; cut < 12; cut++) {
                http_begin(&h, HOST, 80);
                assert_int_equal(http_up(&h, (const uint8_t *)ask, strlen(ask)), strlen(ask));
                assert_true(h.upgrade);
                assert_int_equal(http_up(&h, (const uint8_t *)frame, 7), 0);
                assert_int_equal(http_switched(&h, (const uint8_t *)yes, cut), 0);
                assert_int_equal(http_up(&h, (const uint8_t *)frame, 7), 0);
                assert_int_equal(http_switched(&h, (const uint8_t *)yes, strlen(yes)), 1);
                assert_true(h.raw);
                assert_false(h.upgrade);
                assert_int_equal(http_up(&h, (const uint8_t *)frame, 7), 7);
        }
        /* the server did not switch: still HTTP */
        http_begin(&h, HOST, 80);
        assert_int_equal(http_up(&h, (const uint8_t *)ask, strlen(ask)), strlen(ask));
        assert_int_equal(http_switched(&h, (const uint8_t *)no, 9), 0);
        assert_int_equal(http_switched(&h, (const uint8_t *)no, 10), 1);
        assert_false(h.raw);
        assert_false(h.upgrade);
        assert_int_equal(http_up(&h, (const uint8_t *)NEXT, strlen(NEXT)), strlen(NEXT));
        assert_int_equal(http_up(&h, (const uint8_t *)frame, 7), -EPROTO);
        /* nobody asked: an answer changes nothing */
        http_begin(&h, HOST, 80);
        assert_int_equal(http_switched(&h, (const uint8_t *)yes, strlen(yes)), 1);
        assert_false(h.raw);
}

static void test_looks(void **state) {
        (void)state;
        static const struct {
                const char *bytes;
                int want;
        } cases[] = {
                { "", 0 },
                { "G", 0 },
                { "GET", 0 },
                { "GET ", 0 },
                { "GET /", 1 },
                { "get /x", 1 },
                { "GET\t/", 1 },
                { "GET   /", 1 },
                { "\r\n\r\nGET /", 1 },
                { " GET /", 1 },
                { "\n", 0 },
                { "PRI *", 1 },
                { "OPTIONS *", 1 },
                { "GET http:", 1 },
                { "GET HTTPS:", 1 },
                { "GET htt", 0 },
                { "GET x HTTP/1.1", 1 },
                { "GET x\thttp/", 1 },
                { "CONNECT h:443 HTTP/1.0\r\n", 1 },
                { "CONNECT h:443", 0 },
                { "0GET / HTTP/1.1\r\n", 1 },
                { "GET x\r\n", -EPROTO },
                { "GET x\n", -EPROTO },
                { "EHLO mail.example\r\n", -EPROTO },
                { "EHLO http.example\r\n", -EPROTO },
                { "SSH-2.0-OpenSSH_9.2p1 Debian\r\n", -EPROTO },
                { "SSH-2.0-Go\r\n", -EPROTO },
                { "USER anna\r\n", -EPROTO },
                { "a001 LOGIN anna pw\r\n", -EPROTO },
                { "*1\r\n$4\r\nPING\r\n", -EPROTO },
                { "PING\r\n", -EPROTO },
                { "NICK anna\r\n", -EPROTO },
                { "<?xml version='1.0'?>", -EPROTO },
                { "{\"a\": 1}", -EPROTO },
                { "\x16\x03\x01", -EPROTO },
                { "0 \x02\x01\x01", -EPROTO },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++)
                assert_int_equal(http_looks((const uint8_t *)cases[i].bytes, strlen(cases[i].bytes)), cases[i].want);
        assert_int_equal(http_looks((const uint8_t *)"0032git-upload-pack /p.git\0host=h", 33), -EPROTO);
        assert_int_equal(http_looks((const uint8_t *)"\0\0\0\x08", 4), -EPROTO);
        char endless[HTTP_HEAD_MAX];
        memset(endless, ' ', sizeof(endless));
        assert_int_equal(http_looks((const uint8_t *)endless, sizeof(endless) - 1), 0);
        assert_int_equal(http_looks((const uint8_t *)endless, sizeof(endless)), 1);
        memset(endless, 'M', sizeof(endless));
        assert_int_equal(http_looks((const uint8_t *)endless, sizeof(endless) - 1), 0);
        assert_int_equal(http_looks((const uint8_t *)endless, sizeof(endless)), 1);
        endless[1000] = ' ';
        endless[1001] = '/';
        assert_int_equal(http_looks((const uint8_t *)endless, 1002), 1);
}

static void test_refusal(void **state) {
        (void)state;
        NB_AUTO_FREE char *text = http_refusal("a.example", "no rule allows it\x1b[2J", "nixbox allow a.example");
        const char *body = strstr(text, "\r\n\r\n");
        assert_non_null(body);
        assert_true(strncmp(text, "HTTP/1.1 403 ", 13) == 0);
        assert_non_null(strstr(body, "a.example"));
        assert_non_null(strstr(body, "nixbox allow a.example\n"));
        assert_null(strchr(text, 0x1b));
        NB_AUTO_FREE char *length = nb_asprintf("Content-Length: %zu\r\n", strlen(body) - 4);
        assert_non_null(strstr(text, length));
        NB_AUTO_FREE char *bare = http_refusal("", "the request line is malformed", NULL);
        assert_non_null(strstr(bare, "this request: the request line is malformed\n"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_passes),         cmocka_unit_test(test_other_host),
                cmocka_unit_test(test_malformed),      cmocka_unit_test(test_malformed_chunks),
                cmocka_unit_test(test_port),           cmocka_unit_test(test_long),
                cmocka_unit_test(test_what_was_asked), cmocka_unit_test(test_any_host),
                cmocka_unit_test(test_websocket),      cmocka_unit_test(test_looks),
                cmocka_unit_test(test_refusal),
        };
        return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
