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

static void describes(const char *event, const char *expect) {
        json_t *doc = json_loads(event, 0, NULL);
        assert_non_null(doc);
        NB_AUTO_FREE char *text = events_describe(doc);
        assert_string_equal(text, expect);
        json_decref(doc);
}

static void test_describe(void **state) {
        (void)state;
        describes("{\"time\":\"2026-01-02T03:04:05.678Z\",\"box\":\"app\",\"type\":\"mount\",\"source\":\"/a\",\"write\":true}",
                  "2026-01-02 03:04:05Z  mount     source=/a write=true");
        describes("{\"time\":\"now\",\"type\":\"error\",\"reason\":\"a\\nb\\u001b\"}", "now  error    : a\\x0ab\\x1b");
        describes("{\"type\":7,\"decision\":{}}", "           ");
        json_t *bytes = events_text("\xff\x1b[31m");
        assert_string_equal(json_string_value(bytes), "\\xff\\x1b[31m");
        json_decref(bytes);
}

#define AT "\"time\":\"2026-01-02T03:04:05.678Z\",\"box\":\"app\","
#define SEEN "2026-01-02 03:04:05Z  "

static void test_describe_network(void **state) {
        (void)state;
        describes(
            "{" AT "\"type\":\"connect\",\"decision\":\"allow\",\"host\":\"api.example.com\",\"ip\":\"192.0.2.1\","
            "\"port\":443,\"proto\":\"tls\",\"rule\":\"*.example.com\",\"bytes_up\":2048,\"bytes_down\":1048576,\"ms\":1540}",
            SEEN "connect   allow api.example.com:443 at 192.0.2.1, tls, by *.example.com, sent 2.0K, received 1.0M, 1.5 s");
        describes("{" AT "\"type\":\"dns\",\"decision\":\"deny\",\"host\":\"evil.example\",\"proto\":\"dns\",\"count\":3,"
                  "\"reason\":\"no rule allows it\"}",
                  SEEN "dns       deny  evil.example, 3 times: no rule allows it");
        describes("{" AT "\"type\":\"connect\",\"decision\":\"deny\",\"ip\":\"8.8.8.8\",\"port\":53,\"proto\":\"udp\"}",
                  SEEN "connect   deny  8.8.8.8:53, udp");
        describes("{" AT "\"type\":\"http\",\"decision\":\"deny\",\"host\":\"a\\u001b]52;c;x\\u0007\",\"port\":80,\"other\":1,"
                  "\"reason\":\"Host\\nis b\"}",
                  SEEN "http      deny  a\\x1b]52;c;x\\x07:80 other=1: Host\\x0ais b");
        describes("{" AT "\"type\":\"connect\",\"decision\":\"deny\",\"host\":\"a.example\",\"port\":80,\"proto\":\"tcp\","
                  "\"rule\":\"a.example:22\","
                  "\"reason\":\"a.example:22 (here) allows port 22, not 80\"}",
                  SEEN "connect   deny  a.example:80: a.example:22 (here) allows port 22, not 80");
        describes("{" AT "\"type\":\"connect\",\"host\":1,\"port\":\"x\",\"bytes_up\":-5,\"ms\":125000}",
                  SEEN "connect   ?, sent 0, received 0, 2m05s");
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
                cmocka_unit_test(test_describe_network),
                cmocka_unit_test(test_garbage_is_not_an_event),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
