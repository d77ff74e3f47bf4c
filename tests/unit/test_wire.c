/* Unit tests of src/wire: frames and typed fields, whole, split, and malformed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "wire/wire.h"

static void test_frame_layout(void **state) {
        (void)state;
        static const uint8_t expect[] = { 3, 0, 0, 0, 32, 2, 0, 0, 0x04, 0x03, 0x02, 0x01, 'a', 'b', 'c' };
        NB_AUTO_BUF b = { 0 };
        wire_put(&b, WIRE_DATA, WIRE_STDERR, 0x01020304, "abc", 3);
        assert_int_equal(b.len, sizeof expect);
        assert_memory_equal(nb_buf_bytes(&b), expect, sizeof expect);
}

static void test_frame_round_trip(void **state) {
        (void)state;
        NB_AUTO_BUF b = { 0 };
        wire_put(&b, WIRE_DATA, WIRE_STDOUT, 7, "hello", 5);
        wire_put_u32(&b, WIRE_CREDIT, WIRE_STDIN, 7, 0xfeedbeef);
        wire_put_u64(&b, WIRE_TIME, 0, 0x0123456789abcdefull);
        wire_put_exit(&b, 7, 3, 0);
        wire_put_resize(&b, 7, 24, 80);
        wire_put(&b, WIRE_CLOSE, 0, 7, NULL, 0);

        struct wire_frame f;
        int n = wire_parse(&b, WIRE_GUEST_MAX, &f);
        assert_int_equal(n, WIRE_HEADER + 5);
        assert_int_equal(f.type, WIRE_DATA);
        assert_int_equal(f.channel, WIRE_STDOUT);
        assert_int_equal(f.stream, 7);
        assert_memory_equal(f.payload, "hello", 5);
        nb_buf_consume(&b, (size_t)n);

        uint32_t v = 0, sig = 1;
        n = wire_parse(&b, WIRE_GUEST_MAX, &f);
        assert_int_equal(wire_get_u32(&f, &v), 0);
        assert_int_equal(v, 0xfeedbeef);
        nb_buf_consume(&b, (size_t)n);

        uint64_t t = 0;
        n = wire_parse(&b, WIRE_GUEST_MAX, &f);
        assert_int_equal(wire_get_u32(&f, &v), -EPROTO);
        assert_int_equal(wire_get_u64(&f, &t), 0);
        assert_true(t == 0x0123456789abcdefull);
        nb_buf_consume(&b, (size_t)n);

        n = wire_parse(&b, WIRE_GUEST_MAX, &f);
        assert_int_equal(wire_get_exit(&f, &v, &sig), 0);
        assert_int_equal(v, 3);
        assert_int_equal(sig, 0);
        nb_buf_consume(&b, (size_t)n);

        uint16_t rows = 0, cols = 0;
        n = wire_parse(&b, WIRE_GUEST_MAX, &f);
        assert_int_equal(wire_get_resize(&f, &rows, &cols), 0);
        assert_int_equal(rows, 24);
        assert_int_equal(cols, 80);
        nb_buf_consume(&b, (size_t)n);

        n = wire_parse(&b, WIRE_GUEST_MAX, &f);
        assert_int_equal(n, WIRE_HEADER);
        assert_int_equal(f.len, 0);
        nb_buf_consume(&b, (size_t)n);
        assert_int_equal(wire_parse(&b, WIRE_GUEST_MAX, &f), 0);
}

/* A frame that arrives one byte at a time is seen exactly once, when its last byte is there. */
static void test_frame_split(void **state) {
        (void)state;
        NB_AUTO_BUF whole = { 0 }, part = { 0 };
        wire_put(&whole, WIRE_DATA, WIRE_STDIN, 1, "0123456789", 10);
        struct wire_frame f;
        for (size_t i = 0; i < whole.len; i++) {
                assert_int_equal(wire_parse(&part, WIRE_HOST_MAX, &f), 0);
                nb_buf_add(&part, nb_buf_bytes(&whole) + i, 1);
        }
        assert_int_equal(wire_parse(&part, WIRE_HOST_MAX, &f), whole.len);
}

static void test_frame_refused(void **state) {
        (void)state;
        static const struct {
                uint8_t header[WIRE_HEADER];
                int expect;
        } cases[] = {
                { { 0, 0, 0, 0, WIRE_READY }, WIRE_HEADER },
                { { 0, 0, 0, 0, 0 }, -EPROTO },
                { { 0, 0, 0, 0, WIRE_CLOSE + 1 }, -EPROTO },
                { { 0, 0, 0, 0, WIRE_CREDIT + 1 }, -EPROTO },
                { { 0, 0, 0, 0, WIRE_BYE + 1 }, -EPROTO },
                { { 0, 0, 0, 0, 255 }, -EPROTO },
                { { 0, 0, 0, 0, WIRE_READY, 1 }, -EPROTO },
                { { 0, 0, 0, 0, WIRE_EOF, 2 }, WIRE_HEADER },
                { { 0, 0, 0, 0, WIRE_EOF, 3 }, -EPROTO },
                { { 0, 0, 0, 0, WIRE_EOF, 0, 1 }, -EPROTO },
                { { 0, 0, 0, 0, WIRE_EOF, 0, 0, 1 }, -EPROTO },
                { { 0, 0, 1, 0, WIRE_READY }, 0 },         /* exactly 64 KiB: not there yet */
                { { 1, 0, 1, 0, WIRE_READY }, -EPROTO },   /* one more than the guest may send */
                { { 0, 0x80, 0, 0, WIRE_DATA }, 0 },       /* 32 KiB of data */
                { { 1, 0x80, 0, 0, WIRE_DATA }, -EPROTO }, /* one more */
                { { 255, 255, 255, 255, WIRE_DATA }, -EPROTO },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_BUF b = { 0 };
                struct wire_frame f;
                nb_buf_add(&b, cases[i].header, WIRE_HEADER);
                assert_int_equal(wire_parse(&b, WIRE_GUEST_MAX, &f), cases[i].expect);
        }
}

static void test_exit_range(void **state) {
        (void)state;
        NB_AUTO_BUF b = { 0 };
        wire_put_exit(&b, 1, 256, 0);
        struct wire_frame f;
        uint32_t status = 0, sig = 0;
        int n = wire_parse(&b, WIRE_GUEST_MAX, &f);
        assert_int_equal(wire_get_exit(&f, &status, &sig), -EPROTO);
        nb_buf_consume(&b, (size_t)n);
        wire_put_exit(&b, 1, 0, 65);
        (void)wire_parse(&b, WIRE_GUEST_MAX, &f);
        assert_int_equal(wire_get_exit(&f, &status, &sig), -EPROTO);
}

static void test_fields(void **state) {
        (void)state;
        NB_AUTO_BUF p = { 0 }, nested = { 0 };
        wire_tlv_u32(&p, WIRE_T_VERSION, WIRE_VERSION);
        wire_tlv_str(&p, WIRE_T_HOSTNAME, "box");
        wire_tlv_u64(&p, WIRE_T_TIME, 1234567890123456789ull);
        wire_tlv_str(&nested, WIRE_T_ID, "0");
        wire_tlv_bytes(&p, WIRE_T_MOUNT, nb_buf_bytes(&nested), nested.len);
        wire_tlv_str(&p, WIRE_T_ENV, "");

        struct wire_reader r;
        struct wire_field f;
        uint32_t v = 0;
        uint64_t t = 0;
        wire_reader_init(&r, nb_buf_bytes(&p), p.len);
        assert_int_equal(wire_next(&r, &f), 1);
        assert_int_equal(wire_field_u32(&f, &v), 0);
        assert_int_equal(v, WIRE_VERSION);
        assert_int_equal(wire_field_u64(&f, &t), -EPROTO);
        assert_int_equal(wire_next(&r, &f), 1);
        NB_AUTO_FREE char *host = NULL;
        assert_int_equal(wire_field_str(&f, &host), 0);
        assert_string_equal(host, "box");
        assert_int_equal(wire_field_u32(&f, &v), -EPROTO);
        assert_int_equal(wire_next(&r, &f), 1);
        assert_int_equal(wire_field_u64(&f, &t), 0);
        assert_true(t == 1234567890123456789ull);
        assert_int_equal(wire_next(&r, &f), 1);
        struct wire_reader inner;
        struct wire_field id;
        wire_reader_init(&inner, f.bytes, f.len);
        assert_int_equal(wire_next(&inner, &id), 1);
        assert_int_equal(id.tag, WIRE_T_ID);
        assert_int_equal(wire_next(&inner, &id), 0);
        assert_int_equal(wire_next(&r, &f), 1);
        NB_AUTO_FREE char *empty = NULL;
        assert_int_equal(wire_field_str(&f, &empty), 0);
        assert_string_equal(empty, "");
        assert_int_equal(wire_next(&r, &f), 0);
}

static void test_fields_refused(void **state) {
        (void)state;
        static const struct {
                uint8_t bytes[8];
                size_t len;
                int expect;
        } cases[] = {
                { { 0 }, 0, 0 },
                { { WIRE_T_USER, 0, 0, 0, 0 }, 5, -EPROTO },
                { { WIRE_T_USER, 0, 0, 0, 0, 0 }, 6, 1 },
                { { WIRE_T_USER, 0, 1, 0, 0, 0 }, 6, -EPROTO },
                { { WIRE_T_USER, 0, 255, 255, 255, 255 }, 6, -EPROTO },
                { { 0, 0, 0, 0, 0, 0 }, 6, -EPROTO },
                { { WIRE_T_LAST + 1, 0, 0, 0, 0, 0 }, 6, -EPROTO },
                { { WIRE_T_USER, 1, 0, 0, 0, 0 }, 6, -EPROTO },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                struct wire_reader r;
                struct wire_field f;
                wire_reader_init(&r, cases[i].bytes, cases[i].len);
                assert_int_equal(wire_next(&r, &f), cases[i].expect);
        }
        struct wire_field nul = { .tag = WIRE_T_USER, .len = 3, .bytes = (const uint8_t *)"a\0b" };
        char *text = NULL;
        assert_int_equal(wire_field_str(&nul, &text), -EPROTO);
        assert_null(text);
}

static const struct wire_net some_net = { 0xc613fffe, 30, 0xc613fffd, 1500 };

static void test_net(void **state) {
        (void)state;
        NB_AUTO_BUF p = { 0 };
        wire_tlv_net(&p, &some_net);
        struct wire_reader r;
        struct wire_field f;
        wire_reader_init(&r, nb_buf_bytes(&p), p.len);
        assert_int_equal(wire_next(&r, &f), 1);
        assert_int_equal(f.tag, WIRE_T_NET);
        struct wire_net net = { 0 };
        assert_int_equal(wire_field_net(&f, &net), 0);
        assert_memory_equal(&net, &some_net, sizeof net);
        assert_int_equal(wire_next(&r, &f), 0);
}

/* A field too few, one twice, one that does not belong, one of another size. */
static void test_net_refused(void **state) {
        (void)state;
        NB_AUTO_BUF good = { 0 };
        wire_tlv_net(&good, &some_net);
        const uint8_t *fields = nb_buf_bytes(&good) + 6;
        size_t one = 10, all = good.len - 6;
        struct wire_net net;
        for (size_t i = 0; i < 4; i++) {
                NB_AUTO_BUF few = { 0 }, twice = { 0 }, other = { 0 }, size = { 0 };
                nb_buf_add(&few, fields, i * one);
                nb_buf_add(&few, fields + (i + 1) * one, all - (i + 1) * one);
                nb_buf_add(&twice, fields, all);
                nb_buf_add(&twice, fields + i * one, one);
                nb_buf_add(&other, fields, all);
                wire_tlv_u32(&other, WIRE_T_UID, 1);
                nb_buf_add(&size, nb_buf_bytes(&few), few.len);
                wire_tlv_u64(&size, (uint16_t)(WIRE_T_NET_ADDRESS + i), 1);
                const struct nb_buf *bad[] = { &few, &twice, &other, &size };
                for (size_t k = 0; k < NB_ARRAY_LEN(bad); k++) {
                        struct wire_field f = { WIRE_T_NET, (uint32_t)bad[k]->len, nb_buf_bytes(bad[k]) };
                        assert_int_equal(wire_field_net(&f, &net), -EPROTO);
                }
        }
        struct wire_field cut = { WIRE_T_NET, (uint32_t)all - 1, fields }, empty = { WIRE_T_NET, 0, NULL };
        assert_int_equal(wire_field_net(&cut, &net), -EPROTO);
        assert_int_equal(wire_field_net(&empty, &net), -EPROTO);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_frame_layout),   cmocka_unit_test(test_frame_round_trip),
                cmocka_unit_test(test_frame_split),    cmocka_unit_test(test_frame_refused),
                cmocka_unit_test(test_exit_range),     cmocka_unit_test(test_fields),
                cmocka_unit_test(test_fields_refused), cmocka_unit_test(test_net),
                cmocka_unit_test(test_net_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
