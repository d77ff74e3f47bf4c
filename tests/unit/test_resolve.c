/* Unit tests of what is read from apt and written for it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "image/apt_text.h"

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const char show[] = "Package: tree\n"
                           "Version: 2.1.1-1\n"
                           "Architecture: amd64\n"
                           "Depends: libc6 (>= 2.34)\n"
                           "Description: lists folders\n"
                           " Size: not a field, but a line of the description\n"
                           "Filename: pool/main/t/tree/tree_2.1.1-1_amd64.deb\n"
                           "Size: 57\n"
                           "SHA256: " HASH "\n"
                           "\n"
                           "Package: linux-image-cloud-amd64\n"
                           "Version: 6.12\n"
                           "Architecture: amd64\n"
                           "Provides: virtual (= 1)\n"
                           "Depends: linux-image-6.12.1-cloud-amd64 (= 6.12.1-1)\n"
                           "Filename: pool/updates/main/l/linux/linux.deb\n"
                           "Size: 1\n"
                           "SHA256: " HASH "\n";

static void test_records(void **state) {
        (void)state;
        struct apt_record r;
        const char *at = show;
        assert_true(apt_find_record(show, &at, "linux-image-cloud-amd64", NULL, &r));
        NB_AUTO_FREE char *version = apt_field(&r, "Version"), *none = apt_field(&r, "Versio"), *size = NULL;
        assert_string_equal(version, "6.12");
        assert_null(none);
        assert_true(apt_find_record(show, &at, "tree", "2.1.1-1", &r)); /* goes round */
        size = apt_field(&r, "Size");
        assert_string_equal(size, "57");
        assert_false(apt_find_record(show, &at, "tree", "2.1.1-2", &r));
        assert_false(apt_find_record(show, &at, "tre", NULL, &r));
        at = "\n\n";
        assert_false(apt_next_record(&at, &r));
}

static void test_providers(void **state) {
        (void)state;
        static const char text[] = "Package: a\nProvides: first (= 1), second\n\nPackage: b\nProvides: third\n\nPackage: c\n";
        static const struct {
                const char *name, *by;
        } cases[] = { { "first", "a" }, { "second", "a" }, { "third", "b" }, { "sec", NULL }, { "b", NULL }, { "=", NULL } };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *by = apt_provider(text, cases[i].name);
                assert_string_equal(by ? by : "-", cases[i].by ? cases[i].by : "-");
        }
}

static void test_uris(void **state) {
        (void)state;
        static const char text[] =
            "Note, selecting something\n"
            "'http://deb.debian.org/debian/pool/main/g/git/git_2.47-1_amd64.deb' git_1%3a2.47-1%2b_amd64.deb 9 MD5Sum:x\n"
            "'file:/m/pool/main/c/ca_2_all.deb' ca_2_all.deb 8 SHA256:y\n";
        struct lock_set set = { 0 };
        assert_int_equal(apt_parse_uris(text, &set), 0);
        assert_int_equal(set.n, 2);
        assert_string_equal(set.packages[0].name, "git");
        assert_string_equal(set.packages[0].version, "1:2.47-1+");
        assert_string_equal(set.packages[1].arch, "all");
        lock_set_clear(&set);
        static const char *const bad[] = { "'http://x' a.deb 1", "'http://x' a_b.deb 1", "'http://x' a_b_c 1", "'x' " };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                assert_int_equal(apt_parse_uris(bad[i], &set), -EBADMSG);
                lock_set_clear(&set);
        }
        assert_int_equal(apt_parse_uris("'", &set), 0);
        assert_int_equal(set.n, 0);
}

static void test_fill(void **state) {
        (void)state;
        struct apt_record r;
        const char *at = show;
        struct lock_package p = { 0 };
        assert_true(apt_next_record(&at, &r));
        assert_int_equal(apt_fill_package(&r, &p), 0);
        assert_string_equal(p.path, "pool/main/t/tree/tree_2.1.1-1_amd64.deb");
        assert_string_equal(p.archive, "debian");
        assert_string_equal(p.sha256, HASH);
        assert_int_equal(p.size, 57);
        assert_true(apt_next_record(&at, &r));
        assert_int_equal(apt_fill_package(&r, &p), 0);
        assert_string_equal(p.archive, "debian-security");
        struct lock_set set = { nb_calloc(1, sizeof p), 1 };
        set.packages[0] = p;
        lock_set_clear(&set);
        static const char *const bad[] = { "Filename: a\nSize: 1\nArchitecture: all\n",
                                           "Filename: a\nSize: -1\nArchitecture: all\nSHA256: " HASH "\n",
                                           "Filename: a\nSize: 1\nArchitecture: all\nSHA256: abc\n" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                struct lock_package q = { 0 };
                at = bad[i];
                assert_true(apt_next_record(&at, &r));
                assert_int_equal(apt_fill_package(&r, &q), -EBADMSG);
        }
}

static void test_exact_dependency(void **state) {
        (void)state;
        struct apt_record r;
        const char *at = show;
        NB_AUTO_FREE char *name = NULL, *version = NULL;
        assert_true(apt_next_record(&at, &r));
        assert_false(apt_exact_dependency(&r, &name, &version));
        assert_true(apt_next_record(&at, &r));
        assert_true(apt_exact_dependency(&r, &name, &version));
        assert_string_equal(name, "linux-image-6.12.1-cloud-amd64");
        assert_string_equal(version, "6.12.1-1");
        at = "Depends: a (= 1";
        assert_true(apt_next_record(&at, &r));
        assert_false(apt_exact_dependency(&r, &name, &version));
}

static void test_status(void **state) {
        (void)state;
        char tree[] = "tree", linux_name[] = "linux-image-cloud-amd64", gone[] = "gone", version[] = "2.1.1-1",
             arch[] = "amd64";
        struct lock_package packages[] = { { .name = linux_name, .version = version, .arch = arch },
                                           { .name = tree, .version = version, .arch = arch },
                                           { .name = gone, .version = version, .arch = arch } };
        const struct lock_set set = { packages, NB_ARRAY_LEN(packages) };
        const struct lock_set *const sets[] = { &set, NULL };
        NB_AUTO_FREE char *text = apt_status(sets, show);
        struct apt_record r;
        const char *at = text;
        for (size_t i = 0; i < set.n; i++) {
                assert_true(apt_next_record(&at, &r));
                NB_AUTO_FREE char *name = apt_field(&r, "Package"), *is = apt_field(&r, "Version");
                NB_AUTO_FREE char *status = apt_field(&r, "Status"), *depends = apt_field(&r, "Depends");
                NB_AUTO_FREE char *provides = apt_field(&r, "Provides");
                assert_string_equal(name, packages[i].name);
                assert_string_equal(is, version);
                assert_string_equal(status, "install ok installed");
                assert_int_equal(depends != NULL, i == 1); /* the only version that has a record */
                assert_int_equal(provides != NULL, i == 0);
        }
        assert_false(apt_next_record(&at, &r));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_records), cmocka_unit_test(test_providers),        cmocka_unit_test(test_uris),
                cmocka_unit_test(test_fill),    cmocka_unit_test(test_exact_dependency), cmocka_unit_test(test_status),
        };
        return cmocka_run_group_tests_name("resolve", tests, NULL, NULL);
}
