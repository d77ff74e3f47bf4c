/* Unit tests for the share tree's pure parts: when to ask the guest for descriptors, and reading a mount list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/share_internal.h"

/* A guest that looks up files without a pause, and forgets only what it is asked to forget, 300 ms after it was asked. */
static unsigned long peak_use(unsigned long limit, unsigned long lookups_per_ms) {
        unsigned long held = 0, peak = 0, asked_at = 0, look_at = 0;
        bool asked = false;
        for (unsigned long ms = 1; ms < 60000; ms++) {
                held += lookups_per_ms;
                if (asked && ms - asked_at >= 300) {
                        held = 0;
                        asked = false;
                }
                if (held > peak)
                        peak = held;
                if (ms < look_at)
                        continue;
                struct share_pressure p = share_fd_pressure(held, limit);
                if (p.ask && !asked) {
                        asked = true;
                        asked_at = ms;
                }
                look_at = ms + p.next_ms;
        }
        return peak;
}

static void pressure_keeps_a_fast_guest_under_the_limit(void **state) {
        (void)state;
        assert_true(peak_use(20000, 10) < 20000);
        assert_true(peak_use(20000, 30) < 20000);
        assert_true(peak_use(1048576, 100) < 1048576);
}

static void pressure_is_quiet_while_there_is_room(void **state) {
        (void)state;
        assert_false(share_fd_pressure(100, 20000).ask);
        assert_false(share_fd_pressure(7000, 20000).ask);
        assert_true(share_fd_pressure(7500, 20000).ask);
        assert_true(share_fd_pressure(20000, 20000).ask);
        assert_true(share_fd_pressure(0, 0).ask); /* no limit known: the careful answer */
        assert_int_equal(share_fd_pressure(0, 1048576).next_ms, 1000);
        assert_in_range(share_fd_pressure(0, 20000).next_ms, 20, 100);
        assert_int_equal(share_fd_pressure(7499, 20000).next_ms, 20);
}

static void mount_list_is_matched_by_whole_names(void **state) {
        (void)state;
        static const char text[] = "96 99 0:39 / / ro,nosuid master:1 - tmpfs none rw\n"
                                   "97 96 254:0 /tmp/w /m1 rw,nosuid master:2 - ext4 /dev/vda rw\n"
                                   "98 97 254:0 / /m1/sub\\040dir rw,nosuid - ext4 /dev/vda rw\n"
                                   "99 96 254:0 /m1 /m10 ro,nosuid - ext4 /dev/vda rw\n"
                                   "garbage\n\n"
                                   "100 96 254:0 /x /m2 ro - ext4 /dev/vda rw";
        NB_AUTO_FREE int *ids = NULL;
        assert_int_equal(share_parse_mounts(text, "/m1", &ids), 2);
        assert_int_equal(ids[0], 97);
        assert_int_equal(ids[1], 98);
        NB_AUTO_FREE int *two = NULL;
        assert_int_equal(share_parse_mounts(text, "/m2", &two), 1);
        assert_int_equal(two[0], 100);
        NB_AUTO_FREE int *none = NULL;
        assert_int_equal(share_parse_mounts(text, "/m3", &none), 0);
        assert_int_equal(share_parse_mounts("", "/m1", &none), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(pressure_keeps_a_fast_guest_under_the_limit),
                cmocka_unit_test(pressure_is_quiet_while_there_is_room),
                cmocka_unit_test(mount_list_is_matched_by_whole_names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
