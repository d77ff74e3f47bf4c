/* Unit tests of how a session begins: the announcement, the caller's folder inside, the OPEN frame. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/session_open.h"
#include "wire/wire.h"

static void test_map_cwd(void **state) {
        (void)state;
        json_t *mounts = json_pack("[{s:s,s:s,s:b},{s:s,s:s,s:b},{s:s,s:s,s:b},{s:i}]", "source", "/home/u/app", "target",
                                   "/home/u/app", "file", 0, "source", "/home/u/app/lib", "target", "/opt/lib", "file", 0,
                                   "source", "/home/u/app/notes", "target", "/notes", "file", 1, "source", 3);
        static const struct {
                const char *cwd, *want;
        } cases[] = {
                { "/home/u/app", "/home/u/app" },
                { "/home/u/app/src/x", "/home/u/app/src/x" },
                { "/home/u/app/lib", "/opt/lib" },
                { "/home/u/app/lib/a", "/opt/lib/a" },
                { "/home/u/app/library", "/home/u/app/library" },
                { "/home/u", NULL },
                { "/home/u/apple", NULL },
                { "/", NULL },
                { "/home/u/app/notes", "/home/u/app/notes" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *got = session_map_cwd(mounts, cases[i].cwd);
                if (cases[i].want)
                        assert_string_equal(got, cases[i].want);
                else
                        assert_null(got);
        }
        json_decref(mounts);
        json_t *root = json_pack("[{s:s,s:s}]", "source", "/", "target", "/host");
        NB_AUTO_FREE char *below = session_map_cwd(root, "/etc/x");
        assert_string_equal(below, "/host/etc/x");
        json_decref(root);
        assert_null(session_map_cwd(NULL, "/x"));
}

static void test_open_frame(void **state) {
        (void)state;
        char *argv[] = { "printf", "", "a b", NULL }, *env[] = { "A=1", NULL };
        const struct session_spec spec = { .argv = argv, .env = env, .user = "root", .pty = true };
        NB_AUTO_BUF out = { 0 };
        assert_int_equal(session_put_open(&out, &spec, "/w", "xterm", 24, 80, NULL), 0);
        struct wire_frame f;
        assert_int_equal(wire_parse(&out, WIRE_HOST_MAX, &f), out.len);
        assert_int_equal(f.type, WIRE_OPEN);
        assert_int_equal(f.stream, SESSION_STREAM);
        static const uint16_t tags[] = { WIRE_T_FLAGS, WIRE_T_ARG, WIRE_T_ARG,  WIRE_T_ARG,  WIRE_T_ENV,
                                         WIRE_T_USER,  WIRE_T_CWD, WIRE_T_TERM, WIRE_T_ROWS, WIRE_T_COLS };
        struct wire_reader r;
        struct wire_field field;
        wire_reader_init(&r, f.payload, f.len);
        for (size_t i = 0; i < NB_ARRAY_LEN(tags); i++) {
                assert_int_equal(wire_next(&r, &field), 1);
                assert_int_equal(field.tag, tags[i]);
        }
        assert_int_equal(wire_next(&r, &field), 0);
}

static void test_open_without_terminal_says_nothing_of_one(void **state) {
        (void)state;
        char *argv[] = { "ls", NULL };
        const struct session_spec spec = { .argv = argv, .shell = true };
        NB_AUTO_BUF out = { 0 };
        assert_int_equal(session_put_open(&out, &spec, NULL, "xterm", 24, 80, NULL), 0);
        assert_int_equal(out.len, WIRE_HEADER + 6 + 4 + 6 + 2);
}

static void test_a_command_that_is_too_long(void **state) {
        (void)state;
        NB_AUTO_FREE char *large = nb_calloc(WIRE_HOST_MAX + 1, 1);
        memset(large, 'x', WIRE_HOST_MAX);
        char *argv[] = { large, NULL };
        const struct session_spec spec = { .argv = argv };
        NB_AUTO_BUF out = { 0 };
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(session_put_open(&out, &spec, NULL, NULL, 0, 0, &err), -E2BIG);
        assert_non_null(err.hint);
        assert_int_equal(out.len, 0);
        json_t *request = session_request(&spec);
        NB_AUTO_FREE char *text = json_dumps(request, 0);
        assert_true(strlen(text) < 8192);
        json_decref(request);
}

static void test_the_announcement_is_valid_whatever_the_bytes(void **state) {
        (void)state;
        char *argv[] = { "\xff\x1b[2J", "\"quoted\"\n", NULL };
        const struct session_spec spec = { .argv = argv };
        json_t *request = session_request(&spec);
        NB_AUTO_FREE char *text = json_dumps(request, JSON_COMPACT);
        assert_string_equal(text, "{\"op\":\"session\",\"argv\":[\"\\\\xff\\\\x1b[2J\",\"\\\"quoted\\\"\\n\"]}");
        json_decref(request);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_map_cwd),
                cmocka_unit_test(test_open_frame),
                cmocka_unit_test(test_open_without_terminal_says_nothing_of_one),
                cmocka_unit_test(test_a_command_that_is_too_long),
                cmocka_unit_test(test_the_announcement_is_valid_whatever_the_bytes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
