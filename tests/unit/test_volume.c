/* Unit tests of src/box/volume.c: making, locking, listing and removing volumes, among what guests may have left there. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/volume.h"
#include "config/config.h"
#include "scratch.h"

/* Opens a volume that must be fine; returns its path. */
static char *open_fine(const char *name, int *ret_lock) {
        NB_AUTO_ERROR err = { 0 };
        char *path = NULL;
        if (volume_open(name, &path, ret_lock, &err) < 0)
                fail_msg("%s", err.what);
        return path;
}

static void test_made_private_and_kept(void **state) {
        (void)state;
        NB_AUTO_CLOSE int lock = -1;
        NB_AUTO_CLOSE int again = -1;
        NB_AUTO_FREE char *path = open_fine("npm-cache", &lock);
        NB_AUTO_FREE char *file = nb_asprintf("%s/x", path);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_int_equal(nb_write_file_atomic(file, "kept", 4, 0644), 0);
        assert_int_equal(chmod(path, 0777), 0); /* a guest can do that */
        NB_AUTO_FREE char *same = open_fine("npm-cache", &again);
        assert_string_equal(same, path);
        assert_int_equal(access(file, F_OK), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
}

static void test_removed_only_when_nobody_holds_it(void **state) {
        (void)state;
        NB_AUTO_CLOSE int lock = -1;
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *path = open_fine("cargo", &lock);
        assert_int_equal(volume_remove("cargo", &err), -EBUSY);
        assert_non_null(strstr(err.what, "in use"));
        assert_int_equal(access(path, F_OK), 0);
        nb_error_clear(&err);
        lock = nb_close(lock);
        assert_int_equal(volume_remove("cargo", &err), 0);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(volume_remove("cargo", &err), -ENOENT);
        assert_non_null(strstr(err.hint, "volume ls"));
}

static void test_removal_stays_inside(void **state) {
        (void)state;
        NB_AUTO_CLOSE int lock = -1;
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *path = open_fine("hostile", &lock), *link = nb_asprintf("%s/out", path);
        NB_AUTO_FREE char *closed = nb_asprintf("%s/closed", path), *deep = nb_asprintf("%s/closed/file", path);
        assert_int_equal(mkdir("mine", 0755), 0);
        assert_int_equal(nb_write_file_atomic("mine/file", "x", 1, 0644), 0);
        NB_AUTO_FREE char *target = nb_asprintf("%s/mine", scratch_dir);
        assert_int_equal(symlink(target, link), 0);
        assert_int_equal(mkdir(closed, 0755), 0);
        assert_int_equal(nb_write_file_atomic(deep, "x", 1, 0444), 0);
        assert_int_equal(chmod(closed, 0), 0); /* as module caches of some languages are */
        lock = nb_close(lock);
        assert_int_equal(volume_remove("hostile", &err), 0);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(access("mine/file", F_OK), 0);
}

static void test_a_link_is_no_volume(void **state) {
        (void)state;
        NB_AUTO_CLOSE int lock = -1;
        int none = -1;
        NB_AUTO_FREE char *first = open_fine("first", &lock), *all = config_volume_path(NULL), *path = NULL;
        NB_AUTO_FREE char *link = nb_asprintf("%s/link", all);
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(symlink(scratch_dir, link), 0);
        assert_true(volume_open("link", &path, &none, &err) < 0);
        assert_null(path);
        nb_error_clear(&err);
        assert_true(volume_remove("link", &err) < 0);
        assert_int_equal(access(scratch_dir, F_OK), 0);
        nb_error_clear(&err);
        assert_int_equal(volume_remove("../volumes", &err), -ENOENT);
        assert_int_equal(access(first, F_OK), 0);
}

static void test_list(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        json_t *list = NULL;
        assert_int_equal(volume_list(&list, &err), 0); /* before there is any */
        assert_int_equal(json_array_size(list), 0);
        json_decref(list);
        static const char *const names[] = { "b", "a", "c" };
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++) {
                NB_AUTO_CLOSE int lock = -1;
                NB_AUTO_FREE char *path = open_fine(names[i], &lock), *file = nb_asprintf("%s/x", path);
                assert_int_equal(nb_write_file_atomic(file, scratch_dir, sizeof scratch_dir, 0644), 0);
        }
        assert_int_equal(volume_list(&list, &err), 0);
        assert_int_equal(json_array_size(list), 3);
        assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")), "a");
        assert_string_equal(json_string_value(json_object_get(json_array_get(list, 2), "name")), "c");
        assert_true(json_integer_value(json_object_get(json_array_get(list, 0), "size")) > 0);
        assert_int_equal(json_array_size(json_object_get(json_array_get(list, 0), "boxes")), 0);
        json_decref(list);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_made_private_and_kept, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_removed_only_when_nobody_holds_it, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_removal_stays_inside, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_a_link_is_no_volume, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_list, scratch_set_up, scratch_tear_down),
        };
        return cmocka_run_group_tests_name("volume", tests, NULL, NULL);
}
