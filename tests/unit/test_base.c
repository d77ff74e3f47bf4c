/* Unit tests of src/base: text, paths, buffers, errors, helper programs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/sha256.h"
#include "base/text.h"

static void test_text_clean(void **state) {
        (void)state;
        static const struct {
                const char *in, *out;
                unsigned flags;
        } cases[] = {
                { "plain", "plain", 0 },
                { "\x1b]52;c;x\x07", "\\x1b]52;c;x\\x07", 0 },
                { "a\nb", "a\\x0ab", 0 },
                { "a\nb\tc", "a\nb\tc", NB_TEXT_KEEP_NEWLINE },
                { "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", 0 },
                { "\xc2\x9b"
                  "31m",
                  "\\xc2\\x9b31m", 0 },
                { "\xff\xc3", "\\xff\\xc3", 0 },
                { "\xe2\x80\xae"
                  "txt",
                  "\\xe2\\x80\\xaetxt", 0 },
                { "\xed\xa0\x80", "\\xed\\xa0\\x80", 0 },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *got = nb_text_clean(cases[i].in, cases[i].flags);
                assert_string_equal(got, cases[i].out);
        }
}

static void test_sizes(void **state) {
        (void)state;
        uint64_t v = 0;
        assert_int_equal(nb_parse_size("8G", &v), 0);
        assert_int_equal(v, 8ull << 30);
        assert_int_equal(nb_parse_size("4096", &v), 0);
        assert_int_equal(v, 4096);
        assert_int_equal(nb_parse_size("", &v), -EINVAL);
        assert_int_equal(nb_parse_size("G", &v), -EINVAL);
        assert_int_equal(nb_parse_size("-1", &v), -EINVAL);
        assert_int_equal(nb_parse_size("99999999999T", &v), -ERANGE);
        assert_int_equal(nb_parse_uint("18446744073709551616", UINT64_MAX, &v), -ERANGE);
        NB_AUTO_FREE char *text = nb_format_size(8ull << 30);
        assert_string_equal(text, "8.0G");
}

static void test_names(void **state) {
        (void)state;
        assert_true(nb_valid_box_name("my-project1"));
        assert_false(nb_valid_box_name(""));
        assert_false(nb_valid_box_name("-a"));
        assert_false(nb_valid_box_name("a-"));
        assert_false(nb_valid_box_name("A"));
        assert_false(nb_valid_box_name("../x"));
        assert_false(nb_valid_box_name("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

static void test_paths(void **state) {
        (void)state;
        static const char *const cases[][2] = {
                { "/a/./b//c/../d/", "/a/b/d" }, { "/..", "/" }, { "/a/../..", "/" }, { "/", "/" }
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *got = nb_path_normalize(cases[i][0]);
                assert_string_equal(got, cases[i][1]);
        }
        assert_true(nb_path_below("/a/b", "/a"));
        assert_true(nb_path_below("/a", "/a"));
        assert_false(nb_path_below("/ab", "/a"));
        assert_true(nb_path_below("/ab", "/"));
}

static void test_buf(void **state) {
        (void)state;
        NB_AUTO_BUF b = { 0 };
        for (unsigned i = 0; i < 1000; i++) {
                nb_buf_add(&b, &i, sizeof i);
                if (i % 3 == 0)
                        nb_buf_consume(&b, sizeof i);
        }
        unsigned first;
        memcpy(&first, nb_buf_bytes(&b), sizeof first);
        assert_int_equal(first, 334);
        assert_int_equal(b.len, (1000 - 334) * sizeof(unsigned));
}

static void test_error(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(nb_fail_errno(&err, ENOENT, "cannot open %s", "x"), -ENOENT);
        assert_string_equal(err.what, "cannot open x: No such file or directory");
        assert_int_equal(nb_context(&err, "starting"), -ENOENT);
        assert_string_equal(err.what, "starting: cannot open x: No such file or directory");
        assert_int_equal(nb_hint(&err, "make %s", "x"), -ENOENT);
        assert_string_equal(err.hint, "make x");
}

static void test_proc(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *out = NULL;
        char *cat[] = { "cat", NULL };
        struct proc_spec spec = {
                .argv = cat, .input = "hello", .input_len = 5, .output_max = 100, .stdout_fd = -1, .stderr_fd = -1
        };
        assert_int_equal(proc_run(&spec, &out, NULL, &err), 0);
        assert_string_equal(out, "hello");
        char *fails[] = { "sh", "-c", "echo why >&2; exit 3", NULL };
        spec = (struct proc_spec){ .argv = fails, .stdout_fd = -1, .stderr_fd = -1 };
        assert_int_equal(proc_run(&spec, NULL, NULL, &err), -ECHILD);
        assert_string_equal(err.what, "sh failed with status 3: why");
        char *absent[] = { "/no/such/program", NULL };
        spec.argv = absent;
        assert_int_equal(proc_run(&spec, NULL, NULL, &err), -ENOENT);
}

static void test_sha256(void **state) {
        (void)state;
        char hex[NB_SHA256_HEX];
        nb_sha256("abc", 3, hex); /* FIPS 180-4 example */
        assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_replace_file(void **state) {
        (void)state;
        char dir[] = "/tmp/nixbox-test-XXXXXX";
        struct stat st;
        NB_AUTO_FREE char *text = NULL;
        assert_non_null(mkdtemp(dir));
        NB_AUTO_FREE char *file = nb_path_join(dir, "file");
        NB_AUTO_FREE char *link = nb_path_join(dir, "link");
        assert_int_equal(nb_replace_file(file, "x", 1), -ENOENT);
        assert_int_equal(nb_write_file_atomic(file, "old", 3, 0640), 0);
        bool root = geteuid() == 0;
        assert_int_equal(root ? chown(file, 12345, 12346) : 0, 0);
        assert_int_equal(nb_replace_file(file, "new", 3), 0);
        assert_int_equal(nb_read_file(file, 10, &text, NULL), 0);
        assert_string_equal(text, "new");
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0640);
        assert_int_equal(st.st_uid, root ? 12345 : geteuid());
        assert_int_equal(st.st_gid, root ? 12346 : getegid());
        assert_int_equal(symlink("file", link), 0);
        assert_int_equal(nb_replace_file(link, "x", 1), -ELOOP);
        assert_int_equal(nb_replace_file(dir, "x", 1), -EINVAL);
        assert_int_equal(nb_remove_tree(-1, dir), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text_clean), cmocka_unit_test(test_sizes),  cmocka_unit_test(test_names),
                cmocka_unit_test(test_paths),      cmocka_unit_test(test_buf),    cmocka_unit_test(test_error),
                cmocka_unit_test(test_proc),       cmocka_unit_test(test_sha256), cmocka_unit_test(test_replace_file),
        };
        return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
