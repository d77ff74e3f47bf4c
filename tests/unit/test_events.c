/* Unit tests of src/box/events.c: whole lines, torn lines, rotation, and text made safe. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "box/events.h"

static int setup(void **state) {
        char *dir = nb_strdup("/tmp/nixbox-events-XXXXXX");
        *state = dir;
        return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state) {
        (void)nb_remove_tree(AT_FDCWD, *state);
        free(*state);
        return 0;
}

static char *slurp(const char *dir, const char *name) {
        NB_AUTO_FREE char *path = nb_path_join(dir, name);
        char *text = NULL;
        assert_int_equal(nb_read_file(path, 64u << 20, &text, NULL), 0);
        return text;
}

static void test_one_line_an_event(void **state) {
        struct events *e = NULL;
        assert_int_equal(events_open(*state, "app", &e, NULL), 0);
        events_add(e, "box.up", json_pack("{s:s, s:s}", "image", "sha256:00", "type", "not this"));
        events_add(e, "box.down", NULL);
        events_close(e);
        NB_AUTO_FREE char *text = slurp(*state, EVENTS_FILE);
        char *second = strchr(text, '\n') + 1;
        json_t *event = events_parse(text, (size_t)(second - text));
        assert_string_equal(json_string_value(json_object_get(event, "type")), "box.up");
        assert_string_equal(json_string_value(json_object_get(event, "box")), "app");
        assert_string_equal(json_string_value(json_object_get(event, "image")), "sha256:00");
        assert_int_equal(strlen(json_string_value(json_object_get(event, "time"))), strlen("2026-01-02T03:04:05.678Z"));
        json_decref(event);
        assert_ptr_equal(strchr(second, '\n') + 1, text + strlen(text));
        NB_AUTO_FREE char *path = nb_path_join(*state, EVENTS_FILE);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_a_torn_line_does_not_swallow_the_next(void **state) {
        NB_AUTO_FREE char *path = nb_path_join(*state, EVENTS_FILE);
        assert_int_equal(nb_write_file_atomic(path, "{\"type\":\"bo", 11, 0600), 0);
        struct events *e = NULL;
        assert_int_equal(events_open(*state, "app", &e, NULL), 0);
        events_add(e, "box.up", NULL);
        events_close(e);
        NB_AUTO_FREE char *text = slurp(*state, EVENTS_FILE);
        char *second = strchr(text, '\n') + 1;
        assert_null(events_parse(text, (size_t)(second - text)));
        json_t *event = events_parse(second, strlen(second));
        assert_non_null(event);
        json_decref(event);
}

static void test_rotation_keeps_one_old_log(void **state) {
        struct events *e = NULL;
        assert_int_equal(events_open(*state, "app", &e, NULL), 0);
        NB_AUTO_FREE char *filler = nb_calloc(100001, 1);
        memset(filler, 'x', 100000);
        for (int i = 0; i < 100; i++)
                events_add(e, "run.exit", json_pack("{s:s}", "reason", filler));
        events_close(e);
        NB_AUTO_FREE char *old = slurp(*state, EVENTS_FILE_OLD);
        NB_AUTO_FREE char *new = slurp(*state, EVENTS_FILE);
        assert_in_range(strlen(old), 8u << 20, (8u << 20) + 200000);
        assert_true(strlen(old) + strlen(new) > 100u * 100000u);
}

static void test_oversized_fields_are_dropped(void **state) {
        struct events *e = NULL;
        assert_int_equal(events_open(*state, "app", &e, NULL), 0);
        NB_AUTO_FREE char *filler = nb_calloc(300001, 1);
        memset(filler, 'x', 300000);
        events_add(e, "error", json_pack("{s:s}", "text", filler));
        events_close(e);
        NB_AUTO_FREE char *text = slurp(*state, EVENTS_FILE);
        json_t *event = events_parse(text, strlen(text));
        assert_non_null(event);
        assert_null(json_object_get(event, "text"));
        json_decref(event);
}

static void test_describe(void **state) {
        (void)state;
        json_t *event =
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:s}", "time", "2026-01-02T03:04:05.678Z", "box", "app", "type",
                      "connect", "decision", "deny", "host", "a\x1b]52;c;x\x07", "port", 443, "reason", "no rule\nallows it");
        NB_AUTO_FREE char *text = events_describe(event);
        assert_string_equal(text,
                            "2026-01-02 03:04:05Z  connect   deny  host=a\\x1b]52;c;x\\x07 port=443: no rule\\x0aallows it");
        json_decref(event);
        json_t *bytes = events_text("\xff\x1b[31m");
        assert_string_equal(json_string_value(bytes), "\\xff\\x1b[31m");
        json_decref(bytes);
}

static void test_garbage_is_not_an_event(void **state) {
        (void)state;
        static const char *const bad[] = { "", "x", "[]", "{}", "{\"type\":1}", "{\"type\":\"x\"", "\xff\xfe", "null" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                assert_null(events_parse(bad[i], strlen(bad[i])));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_one_line_an_event, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_torn_line_does_not_swallow_the_next, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rotation_keeps_one_old_log, setup, teardown),
                cmocka_unit_test_setup_teardown(test_oversized_fields_are_dropped, setup, teardown),
                cmocka_unit_test(test_describe),
                cmocka_unit_test(test_garbage_is_not_an_event),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
