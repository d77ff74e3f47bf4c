/* The canonical form of names: everything that the DNS, SNI, Host and the config might be fed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "policy/name.h"

static void test_canonical(void **state) {
        (void)state;
        static const char *const pairs[][2] = {
                { "example.com", "example.com" },
                { "Example.COM", "example.com" },
                { "example.com.", "example.com" },
                { "_dmarc.a-b.io", "_dmarc.a-b.io" },
                { "xn--bcher-kva.de", "xn--bcher-kva.de" },
                { "localhost", "localhost" },
                { "1.2.3.com", "1.2.3.com" },
                { "0xfg.example", "0xfg.example" },
        };
        char got[NAME_MAX_LEN + 1];
        for (size_t i = 0; i < NB_ARRAY_LEN(pairs); i++) {
                assert_int_equal(name_canonical(pairs[i][0], strlen(pairs[i][0]), got), strlen(pairs[i][1]));
                assert_string_equal(got, pairs[i][1]);
                assert_null(name_problem(pairs[i][0], strlen(pairs[i][0])));
        }
}

static void test_none(void **state) {
        (void)state;
        static const struct {
                const char *bytes;
                size_t len;
        } bad[] = {
                { "", 0 },
                { ".", 1 },
                { "a..b", 4 },
                { ".a", 2 },
                { "a.b..", 5 },
                { "a\0.com", 6 },
                { "a b.com", 7 },
                { "b\xc3\xbc"
                  "cher.de",
                  10 },
                { "-a.com", 6 },
                { "a-.com", 6 },
                { "a/b.com", 7 },
                { "a:443", 5 },
                { "127.1", 5 },
                { "127.0.0.1", 9 },
                { "0x7f.1", 6 },
                { "2130706433", 10 },
                { "a.0x7f", 6 },
                { "a.0x", 4 },
                { "0177.0.0.01", 11 },
                { "[::1]", 5 },
                { "a\x7f.com", 6 },
                { "a\n.com", 6 },
                { "*.com", 5 },
                { "a%2ecom", 7 },
        };
        char got[NAME_MAX_LEN + 1];
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                assert_int_equal(name_canonical(bad[i].bytes, bad[i].len, got), -EINVAL);
                assert_string_equal(got, "");
                assert_non_null(name_problem(bad[i].bytes, bad[i].len));
        }
}

static void test_lengths(void **state) {
        (void)state;
        char name[300], got[NAME_MAX_LEN + 1];
        memset(name, 'a', sizeof name);
        assert_int_equal(name_canonical(name, 63, got), 63);
        assert_int_equal(name_canonical(name, 64, got), -EINVAL);
        for (size_t i = 63; i < sizeof name; i += 64)
                name[i] = '.';
        assert_int_equal(name_canonical(name, 253, got), 253);
        assert_int_equal(name_canonical(name, 254, got), -EINVAL);
        name[253] = '.'; /* the root's dot does not count */
        assert_int_equal(name_canonical(name, 254, got), 253);
}

static void test_below(void **state) {
        (void)state;
        assert_true(name_below("a.npmjs.org", "npmjs.org"));
        assert_true(name_below("a.b.npmjs.org", "npmjs.org"));
        assert_false(name_below("npmjs.org", "npmjs.org"));
        assert_false(name_below("evilnpmjs.org", "npmjs.org"));
        assert_false(name_below("org", "npmjs.org"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_canonical),
                cmocka_unit_test(test_none),
                cmocka_unit_test(test_lengths),
                cmocka_unit_test(test_below),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
