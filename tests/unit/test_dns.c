/* Unit tests of DNS messages: what is read, what is refused, and that what is written is what the C library reads. */
#include <arpa/nameser.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gateway/dns.h"

#define HEAD(flags, qd, an, ns, ar) "\x12\x34" flags "\0" qd "\0" an "\0" ns "\0" ar
#define ASK HEAD("\1\0", "\1", "\0", "\0", "\0")
#define ASK_AR1 HEAD("\1\0", "\1", "\0", "\0", "\1")
#define A_IN "\0\1\0\1"
#define OPT(size, version) "\0\0\x29" size "\0" version "\0\0\0\0"

struct bytes {
        const char *bytes;
        size_t len;
};
#define BYTES(text) \
        { text, sizeof(text) - 1 }

static void test_read(void **state) {
        (void)state;
        struct dns_query q;
        static const char plain[] = ASK "\3wWw\7Example\3com\0" A_IN;
        assert_int_equal(dns_parse((const uint8_t *)plain, sizeof plain - 1, &q), 0);
        assert_int_equal(q.id, 0x1234);
        assert_int_equal(q.type, ns_t_a);
        assert_int_equal(q.class, ns_c_in);
        assert_true(q.recursion && q.valid_name && !q.root && !q.edns);
        assert_string_equal(q.name, "www.example.com");
        assert_int_equal(q.room, 512);
        assert_int_equal(q.question_len, 21);
        assert_memory_equal(q.question, plain + 12, 21);
        static const struct {
                struct bytes message;
                unsigned room;
        } sizes[] = {
                { BYTES(ASK_AR1 "\1a\1b\0" A_IN OPT("\x10\0", "\0")), DNS_UDP_MAX },
                { BYTES(ASK_AR1 "\1a\1b\0" A_IN OPT("\2\x58", "\0")), 600 },
                { BYTES(ASK_AR1 "\1a\1b\0" A_IN OPT("\0\0", "\0")), 512 },
                { BYTES(ASK_AR1 "\1a\1b\0" A_IN OPT("\0\0", "\1")), 512 },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(sizes); i++) {
                assert_int_equal(dns_parse((const uint8_t *)sizes[i].message.bytes, sizes[i].message.len, &q), 0);
                assert_true(q.edns);
                assert_int_equal(q.room, sizes[i].room);
                assert_int_equal(q.edns_version, i == 3);
        }
        static const char root[] = ASK "\0" A_IN;
        assert_int_equal(dns_parse((const uint8_t *)root, sizeof root - 1, &q), 0);
        assert_true(q.root && !q.valid_name);
        static const char notify[] = HEAD("\x20\0", "\1", "\0", "\0", "\0");
        assert_int_equal(dns_parse((const uint8_t *)notify, sizeof notify - 1, &q), 0);
        assert_int_equal(q.opcode, 4);
        assert_int_equal(q.question_len, 0);
}

/* Names that no rule can mean, in messages that are well formed. */
static void test_odd_names(void **state) {
        (void)state;
        static const struct bytes odd[] = {
                BYTES(ASK "\5a\0com\3com\0" A_IN),
                BYTES(ASK "\5a.com\3com\0" A_IN),
                BYTES(ASK "\10a.b.c.d.\3com\0" A_IN),
                BYTES(ASK "\1.\3com\0" A_IN),
                BYTES(ASK "\4com.\0" A_IN),
                BYTES(ASK "\3a b\3com\0" A_IN),
                BYTES(ASK "\7b\xc3\xbc"
                          "cher\2de\0" A_IN),
                BYTES(ASK "\3a\x7f"
                          "b\3com\0" A_IN),
                BYTES(ASK "\3a\n"
                          "b\3com\0" A_IN),
                BYTES(ASK "\1*\3com\0" A_IN),
                BYTES(ASK "\003"
                          "127\0010\0010\0011\0" A_IN),
                BYTES(ASK "\0040x7f\0011\0" A_IN),
                BYTES(ASK "\2-a\3com\0" A_IN),
                BYTES(ASK "\2\\.\3com\0" A_IN),
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(odd); i++) {
                struct dns_query q;
                if (dns_parse((const uint8_t *)odd[i].bytes, odd[i].len, &q) != 0)
                        fail_msg("message %zu was not read", i);
                if (q.valid_name || q.root)
                        fail_msg("name %zu passed as %s", i, q.name);
                assert_true(q.question_len > 0);
        }
}

static void test_malformed(void **state) {
        (void)state;
        static const struct {
                struct bytes message;
                int result;
        } bad[] = {
                { BYTES(""), -EPROTO },
                { BYTES("\x12"), -EPROTO },
                { BYTES("\x12\x34"), -EBADMSG },
                { BYTES("\x12\x34\1"), -EBADMSG },
                { BYTES("\x12\x34\x81"), -EPROTO },
                { BYTES("\x12\x34\1\0\0\1\0\0\0\0\0"), -EBADMSG },
                { BYTES(ASK), -EBADMSG },
                { BYTES(HEAD("\x81\0", "\1", "\0", "\0", "\0") "\1a\0" A_IN), -EPROTO },             /* an answer */
                { BYTES(HEAD("\3\0", "\1", "\0", "\0", "\0") "\1a\0" A_IN), -EBADMSG },              /* truncated */
                { BYTES(HEAD("\1\0", "\0", "\0", "\0", "\0")), -EBADMSG },                           /* no question, */
                { BYTES(HEAD("\1\0", "\2", "\0", "\0", "\0") "\1a\0" A_IN "\1b\0" A_IN), -EBADMSG }, /* two, */
                { BYTES(HEAD("\1\0", "\2", "\0", "\0", "\0") "\1a\0" A_IN), -EBADMSG },              /* one of two */
                { BYTES(HEAD("\1\0", "\1", "\1", "\0", "\0") "\1a\0" A_IN "\1a\0" A_IN "\0\0\0\0\0\4\1\2\3\4"), -EBADMSG },
                { BYTES(HEAD("\1\0", "\1", "\0", "\1", "\0") "\1a\0" A_IN "\1a\0" A_IN "\0\0\0\0\0\4\1\2\3\4"), -EBADMSG },
                { BYTES(ASK_AR1 "\1a\0" A_IN "\1a\0" A_IN "\0\0\0\0\0\4\1\2\3\4"), -EBADMSG }, /* not EDNS's */
                { BYTES(HEAD("\1\0", "\1", "\0", "\0", "\2") "\1a\0" A_IN OPT("\4\0", "\0") OPT("\4\0", "\0")), -EBADMSG },
                { BYTES(ASK_AR1 "\1a\0" A_IN "\0\0\x29\4\0\0\0\0\0\0\4"), -EBADMSG }, /* options cut off */
                { BYTES(ASK "\1a\0" A_IN "x"), -EBADMSG },                            /* something behind it */
                { BYTES(ASK "\1a\0\0\1\0"), -EBADMSG },
                { BYTES(ASK "\1a"), -EBADMSG },
                { BYTES(ASK "\5a\0"), -EBADMSG },
                { BYTES(ASK "\xc0\x0c" A_IN), -EBADMSG }, /* points to itself */
                { BYTES(ASK "\1a\xc0\x0c" A_IN), -EBADMSG },
                { BYTES(ASK "\1a\xc0\x0e" A_IN), -EBADMSG },
                { BYTES(ASK "\xc0\x00" A_IN), -EBADMSG },
                { BYTES(ASK "\1a\xff\xff" A_IN), -EBADMSG },
                { BYTES(ASK "\x41\0" A_IN), -EBADMSG }, /* reserved kinds of label */
                { BYTES(ASK "\x80\0" A_IN), -EBADMSG },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                struct dns_query q;
                if (dns_parse((const uint8_t *)bad[i].message.bytes, bad[i].message.len, &q) != bad[i].result)
                        fail_msg("message %zu", i);
                if (bad[i].result == -EBADMSG) {
                        assert_int_equal(q.id, 0x1234);
                        assert_int_equal(q.question_len, 0);
                }
        }
        const uint8_t label[] = { 1, 'a' };
        uint8_t deep[DNS_QUERY_MAX + 1] = ASK; /* a name of 1000 bytes */
        for (size_t i = 12; i + 2 < sizeof deep; i += 2)
                memcpy(deep + i, label, sizeof label);
        struct dns_query q;
        assert_int_equal(dns_parse(deep, sizeof deep - 1, &q), -EBADMSG);
        assert_int_equal(dns_parse(deep, sizeof deep, &q), -EBADMSG);
}

static struct dns_query query(const char *name, uint16_t type, bool edns) {
        struct dns_query q = { .id = 7, .type = type, .class = ns_c_in, .recursion = true, .edns = edns, .room = 512 };
        uint8_t wire[NS_MAXCDNAME];
        assert_int_not_equal(ns_name_pton(name, wire, sizeof wire), -1);
        size_t len = strlen(name) + 2;
        memcpy(q.question, wire, len);
        ns_put16(type, q.question + len);
        ns_put16(ns_c_in, q.question + len + 2);
        q.question_len = len + 4;
        (void)snprintf(q.name, sizeof q.name, "%s", name);
        q.valid_name = true;
        return q;
}

static void check(const struct nb_buf *out, ns_msg *m, unsigned rcode, unsigned answers, bool edns) {
        assert_int_equal(ns_initparse(nb_buf_bytes(out), (int)out->len, m), 0);
        assert_int_equal(ns_msg_id(*m), 7);
        assert_int_equal(ns_msg_getflag(*m, ns_f_qr), 1);
        assert_int_equal(ns_msg_getflag(*m, ns_f_ra), 1);
        assert_int_equal(ns_msg_getflag(*m, ns_f_rcode), rcode & 0xf);
        assert_int_equal(ns_msg_count(*m, ns_s_an), answers);
        assert_int_equal(ns_msg_count(*m, ns_s_ns), 0);
        assert_int_equal(ns_msg_count(*m, ns_s_ar), edns);
        ns_rr rr;
        if (!edns)
                return;
        assert_int_equal(ns_parserr(m, ns_s_ar, 0, &rr), 0);
        assert_int_equal(ns_rr_type(rr), ns_t_opt);
        assert_int_equal(ns_rr_class(rr), DNS_UDP_MAX);
        assert_int_equal(ns_rr_ttl(rr), (rcode >> 4) << 24);
}

static void test_write(void **state) {
        (void)state;
        for (int edns = 0; edns < 2; edns++) {
                ns_msg m;
                ns_rr rr;
                NB_AUTO_BUF out = { 0 };
                struct dns_query q = query("www.example.com", ns_t_a, edns);
                dns_put_empty(&out, &q, DNS_NXDOMAIN);
                check(&out, &m, DNS_NXDOMAIN, 0, edns);
                nb_buf_clear(&out);
                if (edns) {
                        dns_put_empty(&out, &q, DNS_BADVERS);
                        check(&out, &m, DNS_BADVERS, 0, true);
                        nb_buf_clear(&out);
                }
                static const uint32_t addresses[] = { 0xc6120005, 0x01020304 };
                dns_put_address(&out, &q, addresses, 2, 60);
                check(&out, &m, DNS_NOERROR, 2, edns);
                for (int i = 0; i < 2; i++) {
                        assert_int_equal(ns_parserr(&m, ns_s_an, i, &rr), 0);
                        assert_string_equal(ns_rr_name(rr), "www.example.com");
                        assert_int_equal(ns_rr_type(rr), ns_t_a);
                        assert_int_equal(ns_rr_ttl(rr), 60);
                        assert_int_equal(ns_get32(ns_rr_rdata(rr)), addresses[i]);
                }
                nb_buf_clear(&out);
                q = query("5.0.18.198.in-addr.arpa", ns_t_ptr, edns);
                dns_put_pointer(&out, &q, "www.example.com", 60);
                check(&out, &m, DNS_NOERROR, 1, edns);
                assert_int_equal(ns_parserr(&m, ns_s_an, 0, &rr), 0);
                char name[NS_MAXDNAME];
                assert_int_equal(ns_name_uncompress(ns_msg_base(m), ns_msg_end(m), ns_rr_rdata(rr), name, sizeof name),
                                 ns_rr_rdlen(rr));
                assert_string_equal(name, "www.example.com");
        }
        NB_AUTO_BUF out = { 0 };
        static const struct dns_query none = { .id = 7 };
        dns_put_empty(&out, &none, DNS_FORMERR);
        assert_int_equal(out.len, 12);
}

/* Answers that do not fit. */
static void test_room(void **state) {
        (void)state;
        uint32_t many[200] = { 0 };
        ns_msg m;
        NB_AUTO_BUF out = { 0 };
        struct dns_query q = query("www.example.com", ns_t_a, true);
        dns_put_address(&out, &q, many, NB_ARRAY_LEN(many), 60);
        check(&out, &m, DNS_NOERROR, (512 - 12 - 21 - 11) / 16, true);
        nb_buf_clear(&out);
        q.room = DNS_UDP_MAX;
        dns_put_address(&out, &q, many, NB_ARRAY_LEN(many), 60);
        assert_true(out.len <= DNS_UDP_MAX && out.len > DNS_UDP_MAX - 16);
        nb_buf_clear(&out);

        static uint8_t text[300] = { 255 };
        struct resolver_answer a = { .status = RESOLVER_OK, .n_records = 5 };
        for (size_t i = 0; i < 5; i++)
                a.records[i] = (struct resolver_record){ .ttl = UINT32_MAX, .type = ns_t_txt, .len = 256, .rdata = text };
        a.records[4].type = ns_t_cname; /* was not asked for */
        q = query("www.example.com", ns_t_txt, true);
        dns_put_records(&out, &q, &a);
        check(&out, &m, DNS_NOERROR, 0, true);
        assert_int_equal(ns_msg_getflag(m, ns_f_tc), 1);
        nb_buf_clear(&out);
        q.room = DNS_TCP_MAX;
        dns_put_records(&out, &q, &a);
        check(&out, &m, DNS_NOERROR, 4, true);
        assert_int_equal(ns_msg_getflag(m, ns_f_tc), 0);
        ns_rr rr;
        assert_int_equal(ns_parserr(&m, ns_s_an, 3, &rr), 0);
        assert_int_equal(ns_rr_rdlen(rr), 256);
        assert_int_equal(ns_rr_ttl(rr), INT32_MAX);

        char name[NAME_MAX_LEN + 1];
        memset(name, 'a', sizeof name);
        for (size_t i = 63; i < sizeof name; i += 64)
                name[i] = '.';
        name[NAME_MAX_LEN] = 0;
        nb_buf_clear(&out);
        q = query(name, ns_t_ptr, true);
        dns_put_pointer(&out, &q, name, 60); /* the longest there can be, twice */
        check(&out, &m, DNS_NOERROR, 0, true);
        assert_int_equal(ns_msg_getflag(m, ns_f_tc), 1);
        nb_buf_clear(&out);
        q.room = DNS_UDP_MAX;
        dns_put_pointer(&out, &q, name, 60);
        check(&out, &m, DNS_NOERROR, 1, true);
}

static void test_pointer(void **state) {
        (void)state;
        static const struct {
                const char *name;
                uint32_t address;
        } good[] = {
                { "5.0.18.198.in-addr.arpa", 0xc6120005 },
                { "255.255.255.255.in-addr.arpa", 0xffffffff },
                { "0.0.0.0.in-addr.arpa", 0 },
                { "1.0.0.127.in-addr.arpa", 0x7f000001 },
        };
        static const char *const bad[] = {
                "",
                "in-addr.arpa",
                "18.198.in-addr.arpa",
                "5.0.18.198",
                "5.0.18.198.in-addr.arpa.com",
                "5.0.18.198.ip6.arpa",
                "05.0.18.198.in-addr.arpa",
                "256.0.18.198.in-addr.arpa",
                "1000.0.18.198.in-addr.arpa",
                "5.0.18.198.1.in-addr.arpa",
                "x.5.0.18.198.in-addr.arpa",
                "5..18.198.in-addr.arpa",
                "-5.0.18.198.in-addr.arpa",
                "5.0.18.198.in-addr.arpa ",
                "5.0.18.198in-addr.arpa",
        };
        uint32_t address;
        for (size_t i = 0; i < NB_ARRAY_LEN(good); i++) {
                assert_true(dns_pointer_address(good[i].name, &address));
                assert_int_equal(address, good[i].address);
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                if (dns_pointer_address(bad[i], &address))
                        fail_msg("%s passed", bad[i]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_read),  cmocka_unit_test(test_odd_names), cmocka_unit_test(test_malformed),
                cmocka_unit_test(test_write), cmocka_unit_test(test_room),      cmocka_unit_test(test_pointer),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
