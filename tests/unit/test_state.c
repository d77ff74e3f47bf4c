/* Unit tests of src/box/state.c: locks, stale folders, long paths. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "box/state.h"

static char *root_dir;

static int set_up(void **state) {
        (void)state;
        char template[] = "/tmp/nb-state-XXXXXX";
        root_dir = nb_strdup(mkdtemp(template));
        assert_non_null(root_dir);
        (void)setenv("XDG_RUNTIME_DIR", root_dir, 1);
        NB_AUTO_FREE char *home = nb_path_join(root_dir, "state");
        (void)setenv("XDG_STATE_HOME", home, 1);
        return 0;
}

static int tear_down(void **state) {
        (void)state;
        (void)nb_remove_tree(AT_FDCWD, root_dir);
        free(root_dir);
        return 0;
}

static struct box_paths *paths_of(const char *name) {
        struct box_paths *p = NULL;
        assert_int_equal(box_paths_new(name, &p, NULL), 0);
        return p;
}

static enum box_state probe(const struct box_paths *p) {
        enum box_state state;
        assert_int_equal(box_probe(p, &state, NULL), 0);
        return state;
}

static void test_names(void **state) {
        (void)state;
        static const char *const bad[] = { "", "..", "a/b", "-a", "A", "a_b" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                NB_AUTO_ERROR err = { 0 };
                struct box_paths *p = NULL;
                assert_int_equal(box_paths_new(bad[i], &p, &err), -EINVAL);
                assert_non_null(err.hint);
        }
}

static void test_life(void **state) {
        (void)state;
        __attribute__((cleanup(box_paths_freep))) struct box_paths *p = paths_of("life");
        struct box_lock lock, second;
        assert_int_equal(probe(p), BOX_NONE);
        assert_int_equal(access(p->runtime, F_OK), -1); /* asking makes nothing */
        assert_int_equal(box_claim(p, &lock, NULL), 0);
        assert_int_equal(probe(p), BOX_STARTING);
        assert_int_equal(box_claim(p, &second, NULL), -EALREADY);
        box_mark(p, &lock, BOX_RUNNING);
        assert_int_equal(probe(p), BOX_RUNNING);
        box_mark(p, &lock, BOX_STOPPING);
        assert_int_equal(probe(p), BOX_STOPPING);
        struct stat st;
        assert_int_equal(stat(p->runtime, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        assert_true(box_in_place(p, &lock));
        box_release(p, &lock);
        assert_int_equal(access(p->runtime, F_OK), -1);
        assert_int_equal(probe(p), BOX_NONE);
        int fd;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(box_connect(p, &fd, &err), -ENOENT);
        assert_non_null(strstr(err.hint, "nixbox up"));
}

static void test_stale(void **state) {
        (void)state;
        __attribute__((cleanup(box_paths_freep))) struct box_paths *p = paths_of("stale");
        pid_t pid = fork();
        if (pid == 0) {
                struct box_lock lock;
                if (box_claim(p, &lock, NULL) == 0)
                        box_mark(p, &lock, BOX_RUNNING);
                (void)raise(SIGKILL);
        }
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        NB_AUTO_FREE char *disk = nb_path_join(p->state, "disk.raw");
        assert_int_equal(nb_write_file_atomic(disk, "x", 1, 0600), 0);
        assert_int_equal(access(p->runtime, F_OK), 0);
        NB_AUTO_STRV char **names = NULL;
        assert_int_equal(box_list(&names, NULL), 0);
        assert_int_equal(nb_strv_len(names), 0);
        assert_int_equal(access(p->runtime, F_OK), -1);
        assert_int_equal(access(disk, F_OK), -1);
        NB_AUTO_FREE char *log = nb_path_join(p->state, "events.jsonl");
        NB_AUTO_FREE char *text = NULL;
        assert_int_equal(nb_read_file(log, 65536, &text, NULL), 0);
        assert_non_null(strstr(text, "killed while the box was running"));
        assert_null(strchr(strchr(text, '\n') + 1, '\n')); /* said once */
}

static void test_two_claims_at_once(void **state) {
        (void)state;
        __attribute__((cleanup(box_paths_freep))) struct box_paths *p = paths_of("race");
        for (int round = 0; round < 20; round++) {
                int won = 0, hold[2];
                assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
                pid_t pids[4];
                for (size_t i = 0; i < NB_ARRAY_LEN(pids); i++) {
                        pids[i] = fork();
                        if (pids[i] != 0)
                                continue;
                        struct box_lock lock;
                        char end;
                        nb_close(hold[1]);
                        int r = box_claim(p, &lock, NULL);
                        (void)!read(hold[0], &end, r == 0 ? 1 : 0); /* the winner holds it until all have tried */
                        if (r == 0 && round % 2)
                                box_release(p, &lock);
                        _exit(r == 0 ? 0 : r == -EALREADY ? 1 : 2);
                }
                nb_close(hold[0]);
                for (size_t left = NB_ARRAY_LEN(pids); left > 0; left--) {
                        int status;
                        if (left == 1)
                                nb_close(hold[1]);
                        assert_true(waitpid(-1, &status, 0) > 0);
                        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
                        won += WEXITSTATUS(status) == 0;
                }
                assert_int_equal(won, 1);
        }
        assert_int_equal(probe(p), BOX_NONE);
}

static void test_long_path(void **state) {
        (void)state;
        NB_AUTO_FREE char *dir = nb_asprintf("%s/%0150d", root_dir, 7);
        assert_int_equal(mkdir(dir, 0700), 0);
        (void)setenv("XDG_RUNTIME_DIR", dir, 1);
        __attribute__((cleanup(box_paths_freep))) struct box_paths *p = paths_of("long");
        struct box_lock lock;
        int listener, client;
        assert_int_equal(box_claim(p, &lock, NULL), 0);
        assert_int_equal(box_listen(p, &listener, NULL), 0);
        struct stat st;
        assert_int_equal(stat(p->control, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(box_connect(p, &client, NULL), 0);
        nb_close(client);
        nb_close(listener);
        box_release(p, &lock);
        (void)setenv("XDG_RUNTIME_DIR", root_dir, 1);
}

static void test_folder_removed(void **state) {
        (void)state;
        __attribute__((cleanup(box_paths_freep))) struct box_paths *p = paths_of("gone");
        struct box_lock lock;
        assert_int_equal(box_claim(p, &lock, NULL), 0);
        assert_int_equal(nb_remove_tree(AT_FDCWD, p->runtime), 0);
        assert_false(box_in_place(p, &lock));
        assert_int_equal(probe(p), BOX_NONE);
        box_mark(p, &lock, BOX_RUNNING);
        assert_int_equal(access(p->runtime, F_OK), -1); /* nothing comes back */
        box_release(p, &lock);
        assert_int_equal(box_claim(p, &lock, NULL), 0);
        box_release(p, &lock);
}

static void test_foreign_folder(void **state) {
        (void)state;
        __attribute__((cleanup(box_paths_freep))) struct box_paths *p = paths_of("link");
        NB_AUTO_ERROR err = { 0 };
        struct box_lock lock;
        assert_int_equal(symlink("/tmp", p->runtime), 0);
        assert_true(box_claim(p, &lock, &err) < 0);
        assert_int_equal(unlink(p->runtime), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),          cmocka_unit_test(test_life),
                cmocka_unit_test(test_stale),          cmocka_unit_test(test_two_claims_at_once),
                cmocka_unit_test(test_long_path),      cmocka_unit_test(test_folder_removed),
                cmocka_unit_test(test_foreign_folder),
        };
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
