/* Unit tests of src/box/room: floors of file systems, when a box stands still and goes on, and the memory of its processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/cgroup.h"
#include "box/room.h"
#include "config/config.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static void test_the_usual_floor_is_a_gibibyte_or_a_twentieth(void **state) {
        (void)state;
        assert_int_equal(CONFIG_FLOOR_USUAL, ROOM_FLOOR_USUAL);
        assert_int_equal(room_floor(500 * GIB, ROOM_FLOOR_USUAL), GIB);
        assert_int_equal(room_floor(20 * GIB, ROOM_FLOOR_USUAL), GIB);
        assert_int_equal(room_floor(100 * MIB, ROOM_FLOOR_USUAL), 5 * MIB);
        assert_int_equal(room_floor(0, ROOM_FLOOR_USUAL), 0);
        assert_int_equal(room_floor(500 * GIB, 7 * GIB), 7 * GIB);
        assert_int_equal(room_floor(500 * GIB, 0), 0);
}

static void test_a_box_goes_on_with_a_quarter_more(void **state) {
        (void)state;
        assert_true(room_low(GIB - 1, GIB, false));
        assert_false(room_low(GIB, GIB, false));
        assert_true(room_low(GIB, GIB, true));
        assert_true(room_low(GIB + GIB / 4 - 1, GIB, true));
        assert_false(room_low(GIB + GIB / 4, GIB, true));
        assert_false(room_low(0, 0, false));
        assert_false(room_low(0, 0, true));
}

static void test_servers_are_not_asked(void **state) {
        (void)state;
        assert_true(room_remote(0x6969));
        assert_true(room_remote(0xffffffffff534d42)); /* as a signed number of 32 bits becomes a longer one */
        assert_false(room_remote(0xef53));            /* ext4 */
        assert_false(room_remote(0x01021994));        /* tmpfs */
}

static void test_memory_has_a_bound(void **state) {
        (void)state;
        assert_in_range(room_memory(GIB, false), GIB + GIB, 3 * GIB);
        assert_true(room_memory(GIB, true) > room_memory(GIB, false));
        assert_in_range(room_memory(4096 * GIB, true), 4096 * GIB, 4096 * GIB / 100 * 102);
}

static void test_the_cgroup_holds_what_the_box_may_use(void **state) {
        (void)state;
        struct cgroup_limits l = room_limits(GIB, 4, true);
        assert_int_equal(l.memory, room_memory(GIB, true));
        assert_int_equal(l.swap, GIB);
        assert_in_range(l.tasks, 4 + 128, 1000);
        assert_in_range(l.weight, 1, 99);
        NB_AUTO_FREE char *there = room_describe(&l, "/sys/fs/cgroup/user.slice", NULL);
        assert_non_null(strstr(there, "below /sys/fs/cgroup/user.slice: memory 3.5G, swap 1.0G, 260 tasks"));
        NB_AUTO_FREE char *none = room_describe(&l, NULL, "no tree");
        assert_non_null(strstr(none, "none (no tree); the supervisor ends the box"));
}

static void test_the_own_cgroup_is_found(void **state) {
        (void)state;
        NB_AUTO_FREE char *own = cgroup_parse_own("1:name=systemd:/x\n0::/user.slice/app.scope\n");
        assert_string_equal(own, "/user.slice/app.scope");
        assert_null(cgroup_parse_own("9:memory:/x\n0:cpu:/y\n"));
        assert_null(cgroup_parse_own(""));
        char *root = NULL;
        NB_AUTO_FREE char *point = cgroup_parse_mount(
            "24 1 0:21 / /proc rw - proc proc rw\n30 1 0:26 /a /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 c rw\n", &root);
        assert_string_equal(point, "/sys/fs/cgroup");
        assert_string_equal(root, "/a");
        free(root);
        assert_null(cgroup_parse_mount("30 1 0:26 / /sys/fs/cgroup rw - cgroup c rw\n", &root));
        assert_null(cgroup_parse_mount("30 1 0:26 / /with\\040space rw - cgroup2 c rw\n", &root));
        assert_null(cgroup_parse_mount("- cgroup2 \n - cgroup2 c\n", &root));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_the_usual_floor_is_a_gibibyte_or_a_twentieth),
                cmocka_unit_test(test_a_box_goes_on_with_a_quarter_more),
                cmocka_unit_test(test_servers_are_not_asked),
                cmocka_unit_test(test_memory_has_a_bound),
                cmocka_unit_test(test_the_cgroup_holds_what_the_box_may_use),
                cmocka_unit_test(test_the_own_cgroup_is_found),
        };
        return cmocka_run_group_tests_name("room", tests, NULL, NULL);
}
