/* ClientHellos: of a real client, and made to measure. */
#include <errno.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "gateway/tls.h"

#define NAME "www.example.org"

static void put(struct nb_buf *b, uint64_t value, unsigned bytes) {
        for (unsigned i = bytes; i-- > 0;) {
                uint8_t byte = (uint8_t)(value >> 8 * i);
                nb_buf_add(b, &byte, 1);
        }
}

static void put_zeros(struct nb_buf *b, size_t len) {
        memset(nb_buf_reserve(b, len), 0, len);
        nb_buf_commit(b, len);
}

static void put_extension(struct nb_buf *b, uint16_t type, const void *bytes, size_t len) {
        put(b, type, 2);
        put(b, len, 2);
        nb_buf_add(b, bytes, len);
}

/* A server_name extension whose list holds one entry. */
static void put_name(struct nb_buf *b, const void *name, size_t len) {
        put(b, 0, 2);
        put(b, len + 5, 2);
        put(b, len + 3, 2);
        put(b, 0, 1);
        put(b, len, 2);
        nb_buf_add(b, name, len);
}

/* A hello with these extensions (NULL: not even their length), as a handshake message. */
static void put_message(struct nb_buf *b, const struct nb_buf *extensions) {
        NB_AUTO_BUF body = { 0 };
        put(&body, 0x0303, 2);
        put_zeros(&body, 32);
        put(&body, 32, 1);
        put_zeros(&body, 32);
        put(&body, 4, 2);
        put(&body, 0x0a0a1301, 4); /* GREASE, and TLS_AES_128_GCM_SHA256 */
        put(&body, 0x0100, 2);
        if (extensions) {
                put(&body, extensions->len, 2);
                nb_buf_add(&body, nb_buf_bytes(extensions), extensions->len);
        }
        put(b, 1, 1);
        put(b, body.len, 3);
        nb_buf_add(b, nb_buf_bytes(&body), body.len);
}

/* The message in records of at most `size` bytes. */
static void put_records(struct nb_buf *b, const struct nb_buf *message, size_t size) {
        for (size_t at = 0; at < message->len; at += size) {
                size_t n = message->len - at < size ? message->len - at : size;
                put(b, 0x160301, 3);
                put(b, n, 2);
                nb_buf_add(b, nb_buf_bytes(message) + at, n);
        }
}

static void put_hello(struct nb_buf *b, const struct nb_buf *extensions, size_t size) {
        NB_AUTO_BUF message = { 0 };
        put_message(&message, extensions);
        put_records(b, &message, size);
}

/* The verdict must be the same however the bytes arrive; up to it, more is asked for. */
static int read_cut(const struct nb_buf *b, struct tls_hello *ret) {
        int r = 0;
        for (size_t n = 0; r == 0 && n <= b->len; n++) {
                NB_AUTO_FREE uint8_t *copy = nb_calloc(1, n + 1);
                memcpy(copy, nb_buf_bytes(b), n);
                uint8_t *exact = nb_realloc(copy, 1, n ? n : 1);
                copy = exact;
                r = tls_hello_read(copy, n, ret);
                assert_true(tls_looks(copy, n) == (n < 2 ? 0 : 1));
        }
        struct tls_hello whole;
        assert_int_equal(tls_hello_read(nb_buf_bytes(b), b->len, &whole), r);
        assert_memory_equal(&whole, ret, sizeof(whole));
        return r;
}

static int read_extensions(const struct nb_buf *extensions, struct tls_hello *ret) {
        NB_AUTO_BUF b = { 0 };
        put_hello(&b, extensions, 16384);
        return read_cut(&b, ret);
}

static void capture(const char *name, int version, struct nb_buf *ret) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        SSL *ssl = SSL_new(ctx);
        BIO *out = BIO_new(BIO_s_mem());
        SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
        SSL_set_security_level(ssl, 0);
        assert_true(SSL_set_min_proto_version(ssl, version) && SSL_set_max_proto_version(ssl, version));
        assert_true(SSL_set_cipher_list(ssl, "ALL:@SECLEVEL=0"));
        assert_true(!name || SSL_set_tlsext_host_name(ssl, name));
        (void)SSL_connect(ssl);
        char *bytes = NULL;
        long len = BIO_get_mem_data(out, &bytes);
        assert_true(len > 0);
        nb_buf_add(ret, bytes, (size_t)len);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
}

static void test_openssl(void **state) {
        (void)state;
        static const int versions[] = { TLS1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION };
        for (size_t i = 0; i < NB_ARRAY_LEN(versions); i++) {
                struct tls_hello h;
                NB_AUTO_BUF with = { 0 };
                capture("WWW.Example.org", versions[i], &with);
                assert_int_equal(read_cut(&with, &h), 1);
                assert_true(h.has_name && h.valid_name && !h.encrypted);
                assert_string_equal(h.name, NAME);
                NB_AUTO_BUF without = { 0 };
                capture(NULL, versions[i], &without);
                assert_int_equal(read_cut(&without, &h), 1);
                assert_false(h.has_name || h.valid_name);
                assert_string_equal(h.name, "");
        }
}

static void test_no_extensions(void **state) {
        (void)state;
        struct tls_hello h;
        assert_int_equal(read_extensions(NULL, &h), 1);
        assert_false(h.has_name);
        assert_int_equal(read_extensions(&(struct nb_buf){ 0 }, &h), 1);
        assert_false(h.has_name);
}

static void add_usual(struct nb_buf *b) {
        put_extension(b, 0x1a1a, "", 0); /* GREASE */
        put_name(b, NAME, strlen(NAME));
        put_extension(b, 0xfe0d, "anything", 8);
        NB_AUTO_BUF share = { 0 };
        put_zeros(&share, 1250); /* X25519MLKEM768 */
        put_extension(b, 51, nb_buf_bytes(&share), share.len);
        put_extension(b, 0x2a2a, "x", 1);
}

static void test_large(void **state) {
        (void)state;
        NB_AUTO_BUF extensions = { 0 }, message = { 0 };
        add_usual(&extensions);
        put_message(&message, &extensions);
        static const size_t sizes[] = { 1, 3, 4, 5, 100, 1460, 16384 };
        for (size_t i = 0; i < NB_ARRAY_LEN(sizes); i++) {
                struct tls_hello h;
                NB_AUTO_BUF b = { 0 };
                put_records(&b, &message, sizes[i]);
                assert_int_equal(read_cut(&b, &h), 1);
                assert_true(h.has_name && h.valid_name && h.encrypted);
                assert_string_equal(h.name, NAME);
                /* what comes after it in records of its own is not looked at */
                nb_buf_add(&b, "\x14\x03\x03\0\1\1garbage", 13);
                assert_int_equal(tls_hello_read(nb_buf_bytes(&b), b.len, &h), 1);
                assert_string_equal(h.name, NAME);
        }
}

static void test_too_large(void **state) {
        (void)state;
        struct tls_hello h;
        NB_AUTO_BUF extensions = { 0 }, b = { 0 }, small = { 0 };
        NB_AUTO_FREE uint8_t *padding = nb_calloc(1, 20000);
        put_extension(&extensions, 21, padding, 20000);
        put_hello(&b, &extensions, 16384);
        assert_int_equal(read_cut(&b, &h), -E2BIG);
        /* small enough, but for the records around it */
        NB_AUTO_BUF other = { 0 };
        put_extension(&other, 21, padding, 15000);
        put_hello(&small, &other, 10);
        assert_int_equal(read_cut(&small, &h), -E2BIG);
        NB_AUTO_BUF fits = { 0 };
        put_hello(&fits, &other, 16384);
        assert_int_equal(tls_hello_read(nb_buf_bytes(&fits), fits.len, &h), 1);
}

static void test_names(void **state) {
        (void)state;
        static const struct {
                const char *name, *canonical;
        } cases[] = {
                { "a.example", "a.example" },
                { "A.Example.", "a.example" },
                { "a.example..", NULL },
                { "192.0.2.1", NULL },
                { "2001:db8::1", NULL },
                { "*.example", NULL },
                { "a.example:443", NULL },
                { "b\xc3\xbc"
                  "cher.example",
                  NULL },
                { ".", NULL },
        };
        struct tls_hello h;
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_BUF extensions = { 0 };
                put_name(&extensions, cases[i].name, strlen(cases[i].name));
                assert_int_equal(read_extensions(&extensions, &h), 1);
                assert_true(h.has_name);
                assert_int_equal(h.valid_name, cases[i].canonical != NULL);
                assert_string_equal(h.name, cases[i].canonical ? cases[i].canonical : "");
        }
        NB_AUTO_BUF extensions = { 0 };
        put_name(&extensions, "a.example\0.b", 12);
        assert_int_equal(read_extensions(&extensions, &h), 1);
        assert_true(h.has_name && !h.valid_name);
}

static void test_bad_names(void **state) {
        (void)state;
        static const struct {
                const char *bytes;
                size_t len;
        } cases[] = {
                { "", 0 },
                { "\0\0", 2 },
                { "\0\3\0\0\0", 5 },           /* no name in it */
                { "\0\4\0\0\2a", 6 },          /* longer than the list */
                { "\0\5\0\0\1a", 6 },          /* list longer than the extension */
                { "\0\4\0\0\1ab", 7 },         /* bytes after the list */
                { "\0\5\0\0\1ab", 7 },         /* bytes after the name */
                { "\0\4\1\0\1a", 6 },          /* of a kind nobody knows */
                { "\0\10\0\0\1a\0\0\1b", 10 }, /* two names */
                { "\0\10\1\0\1x\0\0\1a", 10 }, /* an unknown one first */
                { "\0\10\0\0\1a\1\0\1x", 10 }, /* an unknown one after it */
                { "\0\4\0\0\0\0", 6 },
        };
        struct tls_hello h;
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_BUF extensions = { 0 };
                put_extension(&extensions, 0, cases[i].bytes, cases[i].len);
                assert_int_equal(read_extensions(&extensions, &h), -EPROTO);
                assert_false(h.has_name);
        }
}

static void test_duplicates(void **state) {
        (void)state;
        struct tls_hello h;
        NB_AUTO_BUF names = { 0 }, others = { 0 };
        put_name(&names, "a.example", 9);
        put_name(&names, "b.example", 9);
        assert_int_equal(read_extensions(&names, &h), -EPROTO);
        assert_false(h.has_name);
        put_name(&others, "a.example", 9);
        put_extension(&others, 0x1234, "", 0);
        put_extension(&others, 0x1234, "", 0);
        assert_int_equal(read_extensions(&others, &h), -EPROTO);
}

/* Each length field one more and one less: never read, never taken for whole. */
static void test_lengths(void **state) {
        (void)state;
        NB_AUTO_BUF extensions = { 0 }, b = { 0 };
        put_name(&extensions, NAME, strlen(NAME));
        put_hello(&b, &extensions, 16384);
        static const struct {
                size_t at;
                int plus;
        } fields[] = { { 4, -EPROTO },  { 8, 0 },        { 43, -EPROTO }, { 77, -EPROTO }, { 82, -EPROTO },
                       { 85, -EPROTO }, { 89, -EPROTO }, { 91, -EPROTO }, { 94, -EPROTO } };
        for (size_t i = 0; i < NB_ARRAY_LEN(fields); i++) {
                struct tls_hello h;
                b.data[fields[i].at]++;
                assert_int_equal(read_cut(&b, &h), fields[i].plus);
                b.data[fields[i].at] -= 2;
                int r = read_cut(&b, &h);
                assert_true(r == -EPROTO || (fields[i].at == 4 && r == 0));
                b.data[fields[i].at]++;
        }
        struct tls_hello h;
        assert_int_equal(read_cut(&b, &h), 1);
}

static void test_records(void **state) {
        (void)state;
        NB_AUTO_BUF extensions = { 0 }, message = { 0 };
        struct tls_hello h;
        put_name(&extensions, NAME, strlen(NAME));
        put_message(&message, &extensions);
        {
                NB_AUTO_BUF b = { 0 }; /* a second message in the same record */
                nb_buf_add(&message, "\1\0\0\0", 4);
                put_records(&b, &message, 16384);
                assert_int_equal(read_cut(&b, &h), -EPROTO);
                message.len -= 4;
        }
        {
                NB_AUTO_BUF b = { 0 }; /* an empty record in front */
                nb_buf_add(&b, "\x16\3\1\0\0", 5);
                put_records(&b, &message, 16384);
                assert_int_equal(read_cut(&b, &h), -EPROTO);
        }
        {
                NB_AUTO_BUF b = { 0 }; /* a warning in front, which some servers ignore */
                nb_buf_add(&b, "\x15\3\1\0\2\1\x5a", 7);
                put_records(&b, &message, 16384);
                assert_int_equal(read_cut(&b, &h), -EPROTO);
        }
        {
                NB_AUTO_BUF b = { 0 }; /* another record in the middle */
                put_records(&b, &message, 50);
                memcpy(b.data + 55, "\x17", 1);
                assert_int_equal(read_cut(&b, &h), -EPROTO);
        }
        {
                NB_AUTO_BUF b = { 0 }; /* not a hello */
                put_records(&b, &message, 16384);
                b.data[5] = 2;
                assert_int_equal(read_cut(&b, &h), -EPROTO);
                b.data[5] = 1;
                b.data[9] = 2; /* version 2.3 */
                assert_int_equal(read_cut(&b, &h), -EPROTO);
                b.data[9] = 3;
                b.data[3] = 0x40; /* longer than a record may be */
                b.data[4] = 1;
                assert_int_equal(read_cut(&b, &h), -EPROTO);
        }
}

static void test_looks(void **state) {
        (void)state;
        static const struct {
                const char *bytes;
                size_t len;
                int want;
        } cases[] = {
                { "", 0, 0 },
                { "\x16", 1, 0 },
                { "\x16\3", 2, 1 },
                { "\x16\3\4", 3, 1 },
                { "\x16\2", 2, -EPROTO },
                { "\x15\3", 2, 1 },
                { "\x14\3", 2, 1 },
                { "\x13\3", 2, -EPROTO },
                { "\x19\3", 2, -EPROTO },
                { "GET /", 5, -EPROTO },
                { "SSH-2.0-x", 9, -EPROTO },
                { "\x80", 1, 0 },
                { "\x80\x2e\1\3", 4, 0 },
                { "\x80\x2e\1\3\1", 5, 1 }, /* a TLS hello in the form of SSL 2 */
                { "\x80\x2e\1\0\2", 5, 1 }, /* SSL 2 */
                { "\x80\x2e\1\0\3", 5, -EPROTO },
                { "\x80\1\0\1\0", 5, -EPROTO },   /* Thrift */
                { "\x80\0\0\x28\1", 5, -EPROTO }, /* ONC RPC */
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++)
                assert_int_equal(tls_looks((const uint8_t *)cases[i].bytes, cases[i].len), cases[i].want);
        struct tls_hello h;
        assert_int_equal(tls_hello_read((const uint8_t *)"\x80\x2e\1\3\1", 5, &h), -EPROTO);
}

static void test_alert(void **state) {
        (void)state;
        uint8_t alert[TLS_ALERT_LEN];
        tls_alert(alert, TLS_UNRECOGNIZED_NAME);
        assert_memory_equal(alert, "\x15\3\3\0\2\2\x70", TLS_ALERT_LEN);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_openssl),    cmocka_unit_test(test_no_extensions), cmocka_unit_test(test_large),
                cmocka_unit_test(test_too_large),  cmocka_unit_test(test_names),         cmocka_unit_test(test_bad_names),
                cmocka_unit_test(test_duplicates), cmocka_unit_test(test_lengths),       cmocka_unit_test(test_records),
                cmocka_unit_test(test_looks),      cmocka_unit_test(test_alert),
        };
        return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
