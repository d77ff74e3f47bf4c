/* Unit tests of following log files: rotation, truncation, lines without end. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "cli/follow.h"

static int setup(void **state) {
        char *dir = nb_strdup("/tmp/nixbox-follow-XXXXXX");
        *state = dir;
        return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state) {
        assert_int_equal(chdir("/"), 0);
        (void)nb_remove_tree(AT_FDCWD, *state);
        free(*state);
        return 0;
}

static void append(const char *path, const char *text) {
        NB_AUTO_CLOSE int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(nb_write_all(fd, text, strlen(text)), 0);
}

static void assert_line(struct follow *f, const char *want) {
        const char *line;
        size_t len;
        bool got = follow_line(f, false, &line, &len);
        assert_int_equal(got, want != NULL);
        if (want) {
                assert_int_equal(len, strlen(want));
                assert_memory_equal(line, want, len);
        }
}

static void test_growing_and_rotating(void **state) {
        append("log.1", "old\n");
        append("log", "one\ntw");
        struct follow *f = NULL;
        assert_int_equal(follow_new(*state, "log", &f, NULL), 0);
        assert_line(f, "old");
        assert_line(f, "one");
        assert_line(f, NULL);
        append("log", "o\n");
        assert_line(f, "two");
        append("log", "three\n");
        assert_int_equal(rename("log", "log.1"), 0);
        append("log", "four\n");
        assert_line(f, "three");
        assert_line(f, "four");
        assert_line(f, NULL);
        follow_free(f);
}

static void test_a_file_that_comes_later_or_is_made_anew(void **state) {
        struct follow *f = NULL;
        assert_int_equal(follow_new(*state, "log", &f, NULL), 0);
        assert_line(f, NULL);
        append("log", "first line\n");
        assert_line(f, "first line");
        assert_int_equal(truncate("log", 0), 0);
        append("log", "again\n");
        assert_line(f, "again");
        follow_free(f);
}

static void test_a_last_line_without_end(void **state) {
        append("log", "half");
        struct follow *f = NULL;
        const char *line;
        size_t len;
        assert_int_equal(follow_new(*state, "log", &f, NULL), 0);
        assert_line(f, NULL);
        assert_true(follow_line(f, true, &line, &len));
        assert_int_equal(len, 4);
        assert_false(follow_line(f, true, &line, &len));
        follow_free(f);
}

static void test_a_line_without_measure(void **state) {
        NB_AUTO_FREE char *text = nb_calloc(3000001, 1);
        memset(text, 'x', 3000000);
        append("log", text);
        append("log", "\nnext\n");
        struct follow *f = NULL;
        const char *line;
        size_t len;
        assert_int_equal(follow_new(*state, "log", &f, NULL), 0);
        assert_true(follow_line(f, false, &line, &len));
        assert_in_range(len, 512u * 1024u, 700u * 1024u);
        assert_line(f, "next");
        assert_line(f, NULL);
        follow_free(f);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                T(test_growing_and_rotating),
                T(test_a_file_that_comes_later_or_is_made_anew),
                T(test_a_last_line_without_end),
                T(test_a_line_without_measure),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
