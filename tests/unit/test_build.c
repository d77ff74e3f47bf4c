/* Unit tests of the parts of building that need no packages: control data and what must be there first, byte code, listings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "image/build_inside.h"
#include "image/deb.h"
#include "image/listing.h"

static void test_control(void **state) {
        (void)state;
        struct deb_control c;
        deb_parse_control("Package: dash\nEssential: yes\nPre-Depends: libc6 (>= 2.38),\n debconf | debconf-2.0\n"
                          "Depends: awk:any, x [amd64]\nProvides: sh (= 1)\nDescription: Package: no\n Depends: none\n",
                          &c);
        static const char *const needs[] = { "libc6", "debconf", "debconf-2.0", "awk", "x" };
        assert_string_equal(c.name, "dash");
        assert_true(c.essential);
        assert_int_equal(nb_strv_len(c.needs), 5);
        for (size_t i = 0; i < 5; i++)
                assert_string_equal(c.needs[i], needs[i]);
        assert_string_equal(c.provides[0], "sh");
        deb_control_clear(&c);
        deb_parse_control(" ,,|\n:\nPackage", &c);
        assert_null(c.name);
        deb_control_clear(&c);
}

static void test_bootstrap(void **state) {
        (void)state;
        static const char *const texts[] = { "Package: base-files\nEssential: yes\nPre-Depends: awk\n",
                                             "Package: mawk\nProvides: awk\nPre-Depends: libc6\n", "Package: libc6\n",
                                             "Package: git\nDepends: libc6\n", "Package: dpkg\n" };
        static const bool wanted[] = { true, true, true, false, true };
        struct deb_control c[5];
        bool marked[5];
        for (size_t i = 0; i < 5; i++)
                deb_parse_control(texts[i], &c[i]);
        deb_bootstrap(c, 5, marked);
        for (size_t i = 0; i < 5; i++) {
                assert_int_equal(marked[i], wanted[i]);
                deb_control_clear(&c[i]);
        }
}

static void test_byte_code(void **state) {
        (void)state;
        assert_true(build_pyc_is_hashed((const unsigned char *)"\xf3\r\r\n\3\0\0\0", 8));
        assert_false(build_pyc_is_hashed((const unsigned char *)"\xf3\r\r\n\0\0\0\0", 8));
        assert_false(build_pyc_is_hashed((const unsigned char *)"\xf3\r\r\n\1\0\0\0", 8)); /* never checked */
        assert_false(build_pyc_is_hashed((const unsigned char *)"\xf3\r\r\n\3", 5));
}

static void test_difference(void **state) {
        (void)state;
        assert_null(listing_difference("a\nb\n", "a\nb\n"));
        assert_null(listing_difference("", ""));
        NB_AUTO_FREE char *changed = listing_difference("a\nb\nc\n", "a\nx\nc\n"),
                          *longer = listing_difference("a\n", "a\nb\n"), *part = listing_difference("a\nbc\n", "a\nb\n");
        assert_string_equal(changed, "was 'b', is 'x'");
        assert_string_equal(longer, "was '', is 'b'");
        assert_string_equal(part, "was 'bc', is 'b'");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_control),
                cmocka_unit_test(test_bootstrap),
                cmocka_unit_test(test_byte_code),
                cmocka_unit_test(test_difference),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
