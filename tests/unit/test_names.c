/* Unit tests of the table of synthetic addresses, with a clock of the test's own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gateway/names.h"

#define BASE 0xc6120000u

static char lost[NAME_MAX_LEN + 1];

static uint32_t give(struct names *n, const char *name, bool pinned, uint64_t now, bool expect_new) {
        uint32_t address = 0;
        bool new = !expect_new;
        if (names_give(n, name, pinned, now, &address, &new, lost) < 0)
                fail_msg("%s got no address", name);
        assert_int_equal(new, expect_new);
        return address;
}

static void full(struct names *n, const char *name, bool pinned, uint64_t now) {
        uint32_t address = 1;
        bool new = true;
        assert_int_equal(names_give(n, name, pinned, now, &address, &new, lost), -ENOSPC);
        assert_int_equal(address, 0);
        assert_false(new);
        assert_string_equal(lost, "");
}

static void test_one_for_one(void **state) {
        (void)state;
        struct names *n = names_new(BASE, 16);
        uint32_t a = give(n, "a.example", false, 1, true), b = give(n, "b.example", true, 2, true);
        assert_int_not_equal(a, b);
        assert_int_not_equal(a, BASE);
        assert_int_equal(give(n, "a.example", false, 3, false), a);
        assert_string_equal(names_find(n, a, 4), "a.example");
        assert_string_equal(names_find(n, b, 4), "b.example");
        assert_null(names_find(n, BASE, 4));
        assert_null(names_find(n, BASE - 1, 4));
        assert_null(names_find(n, BASE + 15, 4));
        assert_null(names_find(n, BASE + 16, 4));
        assert_null(names_find(n, 0, 4));
        assert_null(names_find(n, UINT32_MAX, 4));
        assert_int_equal(names_count(n), 2);
        names_free(n);
        names_free(NULL);
}

static void test_exhaustion(void **state) {
        (void)state;
        struct names *n = names_new(BASE, 4); /* three addresses */
        uint32_t a = give(n, "a.example", false, 0, true);
        uint32_t b = give(n, "b.example", false, 10, true);
        give(n, "c.example", true, 20, true);
        full(n, "d.example", false, 30);
        full(n, "d.example", true, NAMES_HOLD_MS - 1);
        assert_int_equal(give(n, "d.example", false, NAMES_HOLD_MS, true), a);
        assert_string_equal(lost, "a.example");
        assert_string_equal(names_find(n, a, NAMES_HOLD_MS), "d.example");
        assert_int_equal(names_count(n), 3);
        /* b was asked for again, so it stays as long again; finding counts as well */
        full(n, "e.example", false, NAMES_HOLD_MS + 9);
        give(n, "b.example", false, NAMES_HOLD_MS + 9, false);
        full(n, "e.example", false, NAMES_HOLD_MS + 10);
        names_find(n, b, NAMES_HOLD_MS + 50);
        assert_int_equal(give(n, "e.example", false, 2 * NAMES_HOLD_MS, true), a);
        assert_string_equal(lost, "d.example");
        full(n, "f.example", false, 2 * NAMES_HOLD_MS + 49);
        assert_int_equal(give(n, "f.example", false, 2 * NAMES_HOLD_MS + 50, true), b);
        assert_string_equal(lost, "b.example");
        names_free(n);
}

static void test_hold(void **state) {
        (void)state;
        struct names *n = names_new(BASE, 3);
        uint64_t day = 24 * UINT64_C(3600000);
        uint32_t a = give(n, "a.example", false, 0, true), b = give(n, "b.example", false, 1, true);
        names_hold(n, a, 1, 5);
        names_hold(n, a, 1, 6);
        names_hold(n, b, 1, 7);
        full(n, "c.example", false, day);
        names_hold(n, a, -1, day);
        full(n, "c.example", false, 2 * day);
        names_hold(n, a, -1, 2 * day); /* the end of the last one is a use */
        full(n, "c.example", false, 2 * day + NAMES_HOLD_MS - 1);
        assert_int_equal(give(n, "c.example", false, 2 * day + NAMES_HOLD_MS, true), a);
        names_hold(n, b, -7, 3 * day); /* more than there are: none */
        names_hold(n, BASE, 1, 3 * day);
        names_hold(n, 1, -1, 3 * day);
        full(n, "d.example", false, 2 * day + NAMES_HOLD_MS); /* nor when the clock goes back */
        names_free(n);
}

static void test_unpin(void **state) {
        (void)state;
        struct names *n = names_new(BASE, 3);
        uint32_t a = give(n, "a.example", true, 0, true);
        give(n, "b.example", false, 0, true);
        give(n, "b.example", true, 0, false);  /* pinned from now on, */
        give(n, "b.example", false, 0, false); /* whoever asks */
        full(n, "c.example", false, 10 * (uint64_t)NAMES_HOLD_MS);
        names_unpin(n, 10);
        give(n, "b.example", true, 20, false);
        full(n, "c.example", false, 9);
        assert_int_equal(give(n, "c.example", false, 10 + NAMES_HOLD_MS, true), a);
        full(n, "d.example", false, 10 + NAMES_HOLD_MS);
        names_free(n);
}

static void test_restore(void **state) {
        (void)state;
        struct names *n = names_new(BASE, 5);
        assert_int_equal(names_restore(n, "b.example", BASE + 2, 0), 0);
        assert_int_equal(names_restore(n, "a.example", BASE + 1, 0), 0);
        assert_int_equal(names_restore(n, "c.example", BASE + 2, 0), -EEXIST);
        assert_int_equal(names_restore(n, "b.example", BASE + 3, 0), -EEXIST);
        assert_int_equal(names_restore(n, "c.example", BASE, 0), -ERANGE);
        assert_int_equal(names_restore(n, "c.example", BASE + 5, 0), -ERANGE);
        assert_int_equal(names_restore(n, "c.example", BASE - 1, 0), -ERANGE);
        assert_int_equal(names_restore(n, "C.example", BASE + 3, 0), -EINVAL);
        assert_int_equal(names_restore(n, "", BASE + 3, 0), -EINVAL);
        assert_int_equal(give(n, "b.example", false, 1, false), BASE + 2);
        assert_int_equal(give(n, "c.example", false, 1, true), BASE + 3);
        assert_int_equal(give(n, "d.example", false, 1, true), BASE + 4);
        full(n, "e.example", false, 1);
        /* the box may hold a restored address as long as any other */
        full(n, "e.example", false, NAMES_HOLD_MS - 1);
        assert_int_equal(give(n, "e.example", false, NAMES_HOLD_MS, true), BASE + 1);
        names_free(n);
}

#define KEPT 4096u /* for names that are pinned */

/* All 65535 addresses, each to one name; then round and round. */
static void test_whole_range(void **state) {
        (void)state;
        struct names *n = names_new(BASE, 65536);
        char name[64];
        for (unsigned i = 1; i < 65536 - KEPT; i++) {
                snprintf(name, sizeof name, "n%u.example.com", i);
                assert_int_equal(give(n, name, i == 7, i, true), BASE + i);
        }
        full(n, "more.example.com", false, 65536);
        for (unsigned i = 1; i < 65536 - KEPT; i++) {
                snprintf(name, sizeof name, "n%u.example.com", i);
                assert_string_equal(names_find(n, BASE + i, 100000 + i), name);
        }
        for (unsigned i = 1; i < 65535 - KEPT; i++) {
                snprintf(name, sizeof name, "m%u.example.com", i);
                assert_int_equal(give(n, name, false, 200000 + NAMES_HOLD_MS + i, true), BASE + i + (i >= 7));
        }
        full(n, "more.example.com", false, 200000 + NAMES_HOLD_MS + 65535);
        assert_int_equal(names_count(n), 65535 - KEPT);
        for (unsigned i = 0; i < KEPT; i++) {
                snprintf(name, sizeof name, "p%u.example.com", i);
                assert_int_equal(give(n, name, true, 300000 + NAMES_HOLD_MS, true), BASE + 65536 - KEPT + i);
        }
        full(n, "more.example.com", true, 300000 + NAMES_HOLD_MS);
        assert_string_equal(names_find(n, BASE + 7, 300000 + NAMES_HOLD_MS), "n7.example.com");
        assert_string_equal(names_find(n, BASE + 65535, 300000 + NAMES_HOLD_MS), "p4095.example.com");
        /* a rule that goes leaves its address to whoever needs one, in its time */
        names_unpin(n, 300000 + NAMES_HOLD_MS);
        give(n, "more.example.com", false, 300000 + 2 * (uint64_t)NAMES_HOLD_MS, true);
        names_free(n);
}

static void test_long_names(void **state) {
        (void)state;
        struct names *n = names_new(BASE, 2);
        char name[NAME_MAX_LEN + 2];
        memset(name, 'a', sizeof name);
        name[NAME_MAX_LEN + 1] = 0;
        uint32_t address;
        bool new;
        assert_int_equal(names_give(n, name, false, 0, &address, &new, lost), -EINVAL);
        name[NAME_MAX_LEN] = 0;
        give(n, name, false, 0, true);
        give(n, "b", false, NAMES_HOLD_MS, true);
        assert_string_equal(lost, name);
        names_free(n);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_one_for_one), cmocka_unit_test(test_exhaustion), cmocka_unit_test(test_hold),
                cmocka_unit_test(test_unpin),       cmocka_unit_test(test_restore),    cmocka_unit_test(test_whole_range),
                cmocka_unit_test(test_long_names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
