/* Unit tests of approvals: what needs one, what widens, what a box may have changed, and that approved bytes are what runs. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "config/approval.h"
#include "config/hostrun.h"
#include "config/reach.h"

#define OUTPUT_MAX 4096

static char dir[64]; /* home; the project lies in home/p, nixbox's own folders in home/own */
static int saved_stderr = -1;

static int set_up(void **state) {
        (void)state;
        (void)snprintf(dir, sizeof dir, "/tmp/nixbox-test-XXXXXX");
        if (!mkdtemp(dir) || chdir(dir) < 0 || mkdir("p", 0755) < 0 || chdir("p") < 0)
                return -1;
        setenv("HOME", dir, 1);
        NB_AUTO_FREE char *own = nb_path_join(dir, "own");
        setenv("XDG_STATE_HOME", own, 1);
        setenv("XDG_DATA_HOME", own, 1);
        setenv("XDG_CACHE_HOME", own, 1);
        setenv("XDG_RUNTIME_DIR", own, 1);
        /* what is shown to the owner goes into a file */
        saved_stderr = dup(STDERR_FILENO);
        NB_AUTO_CLOSE int fd = open("../stderr", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        return fd < 0 || dup2(fd, STDERR_FILENO) < 0 ? -1 : 0;
}

static int tear_down(void **state) {
        (void)state;
        (void)dup2(saved_stderr, STDERR_FILENO);
        saved_stderr = nb_close(saved_stderr);
        return chdir("/") < 0 ? -1 : nb_remove_tree(-1, dir);
}

static void put(const char *name, const char *text, mode_t mode) {
        assert_int_equal(nb_write_file_atomic(name, text, strlen(text), mode), 0);
}

/* Loads this text as p/nixbox.yaml and asks without a terminal. */
static int check(const char *text, enum approval_ask ask) {
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(config_freep))) struct config *c = NULL;
        put("nixbox.yaml", text, 0644);
        if (config_load("nixbox.yaml", false, &c, &err) < 0)
                fail_msg("%s: %s", text, err.what);
        return approval_check(c, ask, &err);
}

static char *shown(void) {
        char *text = NULL;
        assert_int_equal(nb_read_file("../stderr", 1u << 20, &text, NULL), 0);
        return text;
}

#define OFF "network: {mode: off}\n"

static void test_what_needs_one(void **state) {
        (void)state;
        static const char *const free_of_it[] = {
                "name: a\n",
                OFF "mounts: [{source: ., write: true}, {source: ./sub, target: /x}]\n",
                "network: {allow: [x.org, '*.y.org', {host: z.org, ports: [22]}]}\n",
                OFF "env: {A: b}\nsetup: [make]\n",
        };
        static const char *const beyond[] = {
                OFF "mounts: [{source: ..}]\n",
                OFF "mounts: [{source: /usr}]\n",
                OFF "hooks: {pre-up: [date]}\n",
                OFF "hooks: {post-down: [date]}\n",
                OFF "secrets: [{name: A, from: env}]\n",
                OFF "secrets: [{name: A, from: 'command:date'}]\n",
                "network: {mode: open}\n",
                "network: {allow: [{host: x.org, private: true}]}\n",
                "network: {allow: [{cidr: 10.0.0.0/8}]}\n",
                "image: {base: 'dir:/usr'}\n",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(free_of_it); i++) {
                assert_int_equal(nb_remove_tree(AT_FDCWD, "../own"), 0);
                assert_int_equal(check(free_of_it[i], APPROVAL_REFUSE), 0);
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(beyond); i++) {
                assert_int_equal(nb_remove_tree(AT_FDCWD, "../own"), 0);
                if (check(beyond[i], APPROVAL_ASK_TERMINAL) != -EPERM)
                        fail_msg("not asked: %s", beyond[i]);
                assert_int_equal(check(beyond[i], APPROVAL_ACCEPT), 0);
                assert_int_equal(check(beyond[i], APPROVAL_REFUSE), 0);
        }
        /* a link inside that leads outside is outside */
        assert_int_equal(symlink("/usr", "inside"), 0);
        assert_int_equal(check(OFF "mounts: [{source: inside}]\n", APPROVAL_REFUSE), -EPERM);
}

static void test_widening(void **state) {
        (void)state;
        assert_int_equal(check(OFF "mounts: [{source: /usr, write: true}]\nsecrets: [{name: A, from: env}]\n", APPROVAL_ACCEPT),
                         0);
        /* narrower: not asked */
        assert_int_equal(check(OFF "mounts: [{source: /usr}]\nsecrets: [{name: A, from: env}]\n", APPROVAL_REFUSE), 0);
        assert_int_equal(check(OFF "mounts: [{source: /usr}]\nenv: {B: c}\n", APPROVAL_REFUSE), 0);
        /* and back again: asked, with the difference */
        assert_int_equal(check(OFF "mounts: [{source: /usr, write: true}]\n", APPROVAL_ASK_TERMINAL), -EPERM);
        NB_AUTO_FREE char *text = shown();
        assert_non_null(strstr(text, "+ mounts: {\"source\": \"/usr\", \"target\": \"/usr\", \"write\": true}"));
        assert_non_null(strstr(text, "- env.B: c"));
        assert_non_null(strstr(text, "* see and change /usr (as /usr)"));
        assert_int_equal(check(OFF "mounts: [{source: /usr}]\nhooks: {pre-up: [date]}\n", APPROVAL_REFUSE), -EPERM);
}

static void test_network_widening(void **state) {
        (void)state;
        static const char base[] = "mounts: [{source: /usr}]\nnetwork: {allow: ['*.x.org', {host: y.org, ports: [22, 443]}]}\n";
        static const char *const narrower[] = {
                "mounts: [{source: /usr}]\nnetwork: {allow: [a.x.org, {host: y.org, ports: [22]}]}\n",
                "mounts: [{source: /usr}]\nnetwork: {allow: [{host: b.a.x.org, methods: [GET], paths: [/a]}]}\n",
                "mounts: [{source: /usr}]\nnetwork: {mode: off, allow: [z.org]}\n",
        };
        static const char *const wider[] = {
                "mounts: [{source: /usr}]\nnetwork: {allow: [x.org]}\n",
                "mounts: [{source: /usr}]\nnetwork: {allow: [{host: a.x.org, ports: [22]}]}\n",
                "mounts: [{source: /usr}]\nnetwork: {allow: [{host: a.x.org, private: true}]}\n",
                "mounts: [{source: /usr}]\nnetwork: {mode: open}\n",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(narrower); i++) {
                assert_int_equal(check(base, APPROVAL_ACCEPT), 0);
                if (check(narrower[i], APPROVAL_REFUSE) != 0)
                        fail_msg("asked: %s", narrower[i]);
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(wider); i++) {
                assert_int_equal(check(base, APPROVAL_ACCEPT), 0);
                if (check(wider[i], APPROVAL_REFUSE) != -EPERM)
                        fail_msg("not asked: %s", wider[i]);
        }
}

static void test_in_writable_mount(void **state) {
        (void)state;
        static const char first[] = OFF "mounts: [{source: ., write: true}]\n";
        assert_int_equal(check(first, APPROVAL_REFUSE), 0);
        assert_int_equal(check(first, APPROVAL_REFUSE), 0);
        assert_int_equal(check("# a remark\n" OFF "mounts: [{source: ., write: true}]\n", APPROVAL_REFUSE), 0);
        assert_int_equal(check(OFF "mounts: [{source: ., write: true}]\nsetup: [make]\n", APPROVAL_REFUSE), -EPERM);
        /* also when the change takes the mount's writability away, which is what a guest would do first */
        assert_int_equal(check(OFF "mounts: [{source: .}]\nsetup: [make]\n", APPROVAL_REFUSE), -EPERM);
        /* and later as well: a box may still run that can write here */
        assert_int_equal(check(OFF "mounts: [{source: .}]\n", APPROVAL_ACCEPT), 0);
        assert_int_equal(check(OFF "mounts: [{source: .}]\nsetup: [make]\n", APPROVAL_REFUSE), -EPERM);
}

static void test_other_box_can_write(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(config_freep))) struct config *other = NULL;
        assert_int_equal(check(OFF, APPROVAL_REFUSE), 0);
        assert_int_equal(check(OFF "setup: [make]\n", APPROVAL_REFUSE), 0);
        assert_int_equal(mkdir("../q", 0755), 0);
        put("../q/nixbox.yaml", OFF "mounts: [{source: .., write: true}]\n", 0644);
        assert_int_equal(config_load("../q/nixbox.yaml", false, &other, &err), 0);
        assert_int_equal(approval_check(other, APPROVAL_ACCEPT, &err), 0);
        assert_int_equal(check(OFF "setup: [make all]\n", APPROVAL_REFUSE), -EPERM);
}

static void test_note_writable(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *project = nb_path_join(dir, "p");
        NB_AUTO_FREE char *file = nb_path_join(project, "nixbox.yaml");
        assert_int_equal(check(OFF, APPROVAL_REFUSE), 0);
        assert_int_equal(approval_note_writable(file, project, &err), 0);
        assert_int_equal(check(OFF, APPROVAL_REFUSE), 0);
        assert_int_equal(check(OFF "setup: [make]\n", APPROVAL_REFUSE), -EPERM);
}

static void test_scripts(void **state) {
        (void)state;
        static const char config[] = OFF "hooks: {pre-up: [./hook.sh a]}\n";
        put("hook.sh", "#!/bin/sh\necho one $1\n", 0755);
        assert_int_equal(check(config, APPROVAL_ACCEPT), 0);
        assert_int_equal(check(config, APPROVAL_REFUSE), 0);
        put("hook.sh", "#!/bin/sh\necho two $1\n", 0755);
        assert_int_equal(check(config, APPROVAL_REFUSE), -EPERM);
        assert_int_equal(check(config, APPROVAL_ACCEPT), 0);
        /* the same for a file further on the line */
        put("data", "1", 0644);
        assert_int_equal(check(OFF "hooks: {pre-up: ['cat --x=./data']}\n", APPROVAL_ACCEPT), 0);
        put("data", "2", 0644);
        assert_int_equal(check(OFF "hooks: {pre-up: ['cat --x=./data']}\n", APPROVAL_REFUSE), -EPERM);
}

static void test_profile_content(void **state) {
        (void)state;
        put("own.yaml", OFF, 0644);
        static const char config[] = "profiles: [./own.yaml]\nmounts: [{source: ., write: true}]\n";
        assert_int_equal(check(config, APPROVAL_REFUSE), 0);
        put("own.yaml", OFF "setup: [make]\n", 0644);
        assert_int_equal(check(config, APPROVAL_REFUSE), -EPERM);
}

static void test_damaged_record(void **state) {
        (void)state;
        assert_int_equal(check(OFF "hooks: {pre-up: [date]}\n", APPROVAL_ACCEPT), 0);
        static const char *const empty_all[] = { "sh", "-c", "for f in ../own/nixbox/approvals/*; do echo '{' > $f; done",
                                                 NULL };
        struct proc_spec spec = { .argv = (char *const *)empty_all, .stdout_fd = -1, .stderr_fd = -1 };
        assert_int_equal(proc_run(&spec, NULL, NULL, NULL), 0);
        assert_int_equal(check(OFF, APPROVAL_REFUSE), -EPERM);
        assert_int_equal(check(OFF, APPROVAL_ACCEPT), 0);
}

static void test_record_is_private(void **state) {
        (void)state;
        struct stat st;
        assert_int_equal(check(OFF, APPROVAL_REFUSE), 0);
        assert_int_equal(stat("../own/nixbox/approvals", &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
}

static void run(const struct config *c, const struct config_hook *h, const char *want) {
        NB_AUTO_ERROR err = { 0 };
        struct approval_command cmd = { 0 };
        NB_AUTO_FREE char *out = NULL;
        if (approval_command(c, h->command, h->dir, &cmd, &err) < 0)
                fail_msg("%s", err.what);
        struct proc_spec spec = {
                .argv = cmd.argv, .dir = cmd.dir, .output_max = OUTPUT_MAX, .stdout_fd = -1, .stderr_fd = -1
        };
        int r = proc_run(&spec, &out, NULL, &err);
        approval_command_clear(&cmd);
        if (r < 0)
                fail_msg("%s", err.what);
        assert_string_equal(out, want);
}

static void test_approved_bytes_run(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(config_freep))) struct config *c = NULL;
        put("hook.sh", "#!/bin/sh\necho good \"$@\"\n", 0755);
        put("plain", "echo no interpreter named\n", 0755);
        put("data", "old\n", 0644);
        put("nixbox.yaml",
            OFF "hooks:\n  pre-up:\n  - X=1 './hook.sh' a 'b c' | cat && ./plain\n  - cat data\n  - echo $PWD ./data > "
                "/dev/null; pwd\n",
            0644);
        if (config_load("nixbox.yaml", false, &c, &err) < 0)
                fail_msg("%s", err.what);
        assert_int_equal(c->n_files, 3);
        put("hook.sh", "#!/bin/sh\necho evil\n", 0755);
        put("plain", "echo evil\n", 0755);
        run(c, &c->pre_up[0], "good a b c\nno interpreter named\n");
        run(c, &c->pre_up[1], "old\n");
        NB_AUTO_FREE char *where = nb_asprintf("%s/p\n", dir);
        run(c, &c->pre_up[2], where);
        put("data", "new\n", 0644);
        struct approval_command cmd = { 0 };
        assert_int_equal(approval_command(c, c->pre_up[1].command, c->pre_up[1].dir, &cmd, &err), -EPERM);
        assert_non_null(strstr(err.what, "has changed since it was approved"));
        assert_int_equal(unlink("data"), 0);
        assert_int_equal(approval_command(c, "cat nixbox.yaml", c->dir, &cmd, &err), -EPERM);
}

static void test_words(void **state) {
        (void)state;
        struct hostrun_word w[8];
        static const char text[] = "A=1 \"./a b\".sh x'y'\\ z; ./c >out $D/e";
        static const struct {
                const char *text;
                bool command, plain;
        } want[] = { { "A=1", true, true }, { "./a b.sh", true, true }, { "xy z", false, true },
                     { "./c", true, true }, { "out", false, true },     { "$D/e", false, false } };
        assert_int_equal(hostrun_words(text, w, NB_ARRAY_LEN(w)), NB_ARRAY_LEN(want));
        for (size_t i = 0; i < NB_ARRAY_LEN(want); i++) {
                assert_string_equal(w[i].text, want[i].text);
                assert_int_equal(w[i].command, want[i].command);
                assert_int_equal(w[i].plain, want[i].plain);
        }
        hostrun_words_clear(w, NB_ARRAY_LEN(want));
        assert_int_equal(hostrun_words("a b c d e f g h i j", w, 4), 4);
        hostrun_words_clear(w, 4);
}

static void test_diff(void **state) {
        (void)state;
        json_t *old = json_pack("{s:{s:[s,s],s:s}}", "values", "setup", "a", "b", "name", "x");
        json_t *now = json_pack("{s:{s:[s,s],s:s}}", "values", "setup", "b", "c\x1b[31m", "name", "x");
        NB_AUTO_STRV char **diff = reach_diff(old, now);
        assert_int_equal(nb_strv_len(diff), 2);
        assert_string_equal(diff[0], "- setup: a");
        assert_null(reach_diff(now, now));
        json_decref(old);
        json_decref(now);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_what_needs_one, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_widening, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_network_widening, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_in_writable_mount, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_other_box_can_write, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_note_writable, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_scripts, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_profile_content, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_damaged_record, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_record_is_private, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_approved_bytes_run, set_up, tear_down),
                cmocka_unit_test(test_words),
                cmocka_unit_test(test_diff),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
