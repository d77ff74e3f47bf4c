/* Unit tests of src/box/prereq: the table of subordinate ids; and that the checks run at all and hold together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/host.h"
#include "base/mem.h"
#include "box/prereq.h"

static void test_subordinate_ids(void **state) {
        (void)state;
        const char *table = "alice:100000:65536\nbob:165536:1000\n# alice:1:1\n1002:300000:7\nalice:400000:1\nbroken:1\n:::\n";
        assert_int_equal(nb_subordinate_ids(table, "alice", 1000), 65537);
        assert_int_equal(nb_subordinate_ids(table, "bob", 1001), 1000);
        assert_int_equal(nb_subordinate_ids(table, "carol", 1002), 7);
        assert_int_equal(nb_subordinate_ids(table, "ali", 1), 0);
        assert_int_equal(nb_subordinate_ids("alice:1:-5\nalice:1:99999999999\nalice:1:2x\n", "alice", 1000), 0);
        assert_int_equal(nb_subordinate_ids("", "alice", 1000), 0);
}

static void test_subordinate_map(void **state) {
        (void)state;
        const char *table = "alice:100000:10\nbob:7:9\n1000:200000:10\n";
        char **map = nb_subordinate_map(table, "alice", 1000, 15);
        const char *const wanted[] = { "1", "100000", "10", "11", "200000", "5" };
        for (size_t i = 0; i < 6; i++)
                assert_string_equal(map[i], wanted[i]);
        assert_null(map[6]);
        nb_strv_free(map);
        assert_null(nb_subordinate_map(table, "alice", 1000, 21));
        assert_null(nb_subordinate_map("", "alice", 1000, 1));
}

static void test_every_problem_has_a_fix_or_is_a_note(void **state) {
        (void)state;
        size_t count = 0;
        struct prereq *list = prereq_check(&count);
        assert_true(count >= 8);
        for (size_t i = 0; i < count; i++) {
                assert_non_null(list[i].detail);
                assert_null(strchr(list[i].detail, '\n'));
                assert_true(list[i].state != PREREQ_MISSING || list[i].fix != NULL);
        }
        prereq_free(list, count);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_subordinate_ids),
                cmocka_unit_test(test_subordinate_map),
                cmocka_unit_test(test_every_problem_has_a_fix_or_is_a_note),
        };
        return cmocka_run_group_tests_name("prereq", tests, NULL, NULL);
}
