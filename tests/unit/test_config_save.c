/* Unit tests of saving rules: the text around them stays as it is, odd shapes are refused, files keep mode and kind. */
#include <errno.h>
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
#include "config/save.h"
#include "scratch.h"

static char dir[SCRATCH_PATH];

static int set_up(void **state) {
        (void)state;
        return scratch_enter(dir, "p");
}

static int tear_down(void **state) {
        (void)state;
        return scratch_leave(dir);
}

static void put(const char *name, const char *text, mode_t mode) {
        assert_int_equal(nb_write_file_atomic(name, text, strlen(text), mode), 0);
}

static char *get(const char *name) {
        char *text = NULL;
        assert_int_equal(nb_read_file(name, 1u << 20, &text, NULL), 0);
        return text;
}

struct edit_case {
        const char *before;
        const char *rules; /* separated by spaces; '!' before the first: network.deny */
        const char *after; /* NULL: refused; "=": nothing to do */
};

static char **split(const char *rules) {
        char **list = NULL;
        while (*rules) {
                size_t len = strcspn(rules, " ");
                NB_AUTO_FREE char *one = nb_strndup(rules, len);
                nb_strv_add(&list, one);
                rules += len + (rules[len] == ' ');
        }
        return list;
}

static void check_case(const struct edit_case *c) {
        NB_AUTO_ERROR err = { 0 };
        bool deny = c->rules[0] == '!', changed = false;
        NB_AUTO_STRV char **rules = split(c->rules + deny);
        put("nixbox.yaml", c->before, 0644);
        int r = config_save_rules("nixbox.yaml", rules, deny, &changed, &err);
        NB_AUTO_FREE char *after = get("nixbox.yaml");
        if (!c->after) {
                if (r != -ENOTSUP || strcmp(after, c->before) != 0 || !strstr(err.hint, "by hand"))
                        fail_msg("not refused: %s\n%s\n%s %s", c->before, after, err.what, err.hint);
                return;
        }
        bool same = strcmp(c->after, "=") == 0;
        if (r < 0)
                fail_msg("%s\n%s: %s\n%s", c->before, c->rules, err.what, err.hint);
        if (strcmp(after, same ? c->before : c->after) != 0)
                fail_msg("%s\n%s\ngave:\n%s\nnot:\n%s", c->before, c->rules, after, c->after);
        assert_int_equal(changed, !same);
}

static void test_adding(void **state) {
        (void)state;
        static const struct edit_case cases[] = {
                /* nothing there */
                { "", "x.org", "network:\n  allow:\n    - x.org\n" },
                { "# a\n\n", "x.org", "# a\n\nnetwork:\n  allow:\n    - x.org\n" },
                { "---\n", "x.org", "---\nnetwork:\n  allow:\n    - x.org\n" },
                { "name: a", "x.org", "name: a\nnetwork:\n  allow:\n    - x.org\n" },
                { "name: a # b\n# c\n", "x.org *.y.org",
                  "name: a # b\n# c\nnetwork:\n  allow:\n    - x.org\n    - \"*.y.org\"\n" },
                { "name: a\n\nsetup: [b]\n", "x.org", "name: a\n\nsetup: [b]\n\nnetwork:\n  allow:\n    - x.org\n" },
                { "  name: a\n", "!x.org", "  name: a\n  network:\n    deny:\n      - x.org\n" },
                { "name: a\r\n", "x.org", "name: a\r\nnetwork:\r\n  allow:\r\n    - x.org\r\n" },
                { "{name: a}\n", "x.org", NULL },
                { "name: a\n...\n", "x.org", NULL },
                { "setup:\n- |+\n  a\n", "x.org", "setup:\n- |+\n  a\nnetwork:\n  allow:\n    - x.org\n" },
                { "setup:\n- |\n  a", "x.org", NULL }, /* a newline more would be in the command */
                /* a network without the list */
                { "network:\n", "x.org", "network:\n  allow:\n    - x.org\n" },
                { "network: # c\n# d\nname: a\n", "x.org", "network: # c\n  allow:\n    - x.org\n# d\nname: a\n" },
                { "network: ~\n", "x.org", NULL },
                { "network: {}\n", "x.org", "network: {allow: [x.org]}\n" },
                { "network: {mode: filtered}\n", "x.org:22 *.y.org",
                  "network: {mode: filtered, allow: [{host: x.org, ports: [22]}, \"*.y.org\"]}\n" },
                { "network:\n    mode: filtered   # yes\n\n# d\nname: a\n", "x.org",
                  "network:\n    mode: filtered   # yes\n    allow:\n      - x.org\n\n# d\nname: a\n" },
                { "network:\n  mode: filtered", "x.org", "network:\n  mode: filtered\n  allow:\n    - x.org\n" },
                /* comments that belong to the list above stay with it: an example for allow must not become one for deny */
                { "network:\n  allow:\n    # - a.org\n    - y.org\n    # - b.org\n      # b\n\nsetup: [c]\n", "!x.org",
                  "network:\n  allow:\n    # - a.org\n    - y.org\n    # - b.org\n      # b\n  deny:\n    - x.org\n\nsetup: "
                  "[c]\n" },
                { "network:\n  allow:\n    # - a.org", "!x.org", "network:\n  allow:\n    # - a.org\n  deny:\n    - x.org\n" },
                { "network:\n  deny:\n    - a.org # b\n  mode: filtered\n", "x.org",
                  "network:\n  deny:\n    - a.org # b\n  mode: filtered\n  allow:\n    - x.org\n" },
                { "network: &n {mode: filtered}\n", "x.org", NULL },
                { "network: &n\n  mode: filtered\n", "x.org", NULL },
                { "network:\n  mode: |-\n    filtered\n", "x.org", NULL },
                /* an empty list */
                { "network:\n  allow:\n", "x.org", "network:\n  allow:\n    - x.org\n" },
                { "network:\n  allow:   # none\n    # - a.org\n  mode: open\n", "x.org",
                  "network:\n  allow:   # none\n    - x.org\n    # - a.org\n  mode: open\n" },
                { "network:\n  allow: []  # none\n", "x.org *.y.org", "network:\n  allow: [x.org, \"*.y.org\"]  # none\n" },
                { "network:\n  allow: [ ]\n", "x.org", "network:\n  allow: [x.org]\n" },
                { "network:\n  allow: [ # none\n  ]\n", "x.org", "network:\n  allow: [x.org # none\n  ]\n" },
                { "network: {allow: [], mode: open}\n", "x.org", "network: {allow: [x.org], mode: open}\n" },
                { "network:\n  allow: null\n", "x.org", NULL },
                { "network: {allow: }\n", "x.org", NULL },
                /* lists in [ ] */
                { "network:\n  allow: [a.org, b.org]  # c\n", "x.org", "network:\n  allow: [a.org, b.org, x.org]  # c\n" },
                { "network:\n  allow: [a.org, {host: b.org, ports: [22]}, ]\n", "x.org",
                  "network:\n  allow: [a.org, {host: b.org, ports: [22]}, x.org, ]\n" },
                { "network:\n  allow: [\n    a.org,  # a\n    b.org   # b\n  ]\n", "x.org y.org",
                  "network:\n  allow: [\n    a.org,  # a\n    b.org,   # b\n    x.org,\n    y.org\n  ]\n" },
                { "network:\n  allow: [\n    a.org,\n    b.org,  # b\n  ]\n", "x.org y.org",
                  "network:\n  allow: [\n    a.org,\n    b.org,  # b\n    x.org,\n    y.org,\n  ]\n" },
                { "network:\n  allow: [a.org,\n          b.org]\n", "x.org",
                  "network:\n  allow: [a.org,\n          b.org, x.org]\n" },
                { "network:\n  allow: [a.org\n    ]\n", "x.org", "network:\n  allow: [a.org, x.org\n    ]\n" },
                { "network:\n  allow: &l [a.org]\n", "x.org", NULL },
                /* lists with dashes */
                { "network:\n  allow:\n    - a.org\n", "x.org", "network:\n  allow:\n    - a.org\n    - x.org\n" },
                { "network:\n  allow:\n  - a.org", "x.org", "network:\n  allow:\n  - a.org\n  - x.org\n" },
                { "network:\n   allow:\n         -   a.org   # a\n         # between\n         -   b.org   # b\n         # "
                  "after\n"
                  "   mode: open\n",
                  "x.org",
                  "network:\n   allow:\n         -   a.org   # a\n         # between\n         -   b.org   # b\n         - "
                  "x.org\n"
                  "         # after\n   mode: open\n" },
                { "network:\n  allow:\n    - host: a.org\n      # ports\n      ports:\n        - 22  # ssh\n    # end\nname: "
                  "a\n",
                  "x.org",
                  "network:\n  allow:\n    - host: a.org\n      # ports\n      ports:\n        - 22  # ssh\n    - x.org\n    # "
                  "end\n"
                  "name: a\n" },
                { "network:\n  allow:\n    - \"a.org\"\n    - 'b.org'\n\n\n", "x.org",
                  "network:\n  allow:\n    - \"a.org\"\n    - 'b.org'\n    - x.org\n\n\n" },
                { "env: {A: \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80}\nnetwork:\n  allow:\n    - a.org # \xc3\xa4\n", "x.org",
                  "env: {A: \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80}\nnetwork:\n  allow:\n    - a.org # \xc3\xa4\n    - x.org\n" },
                { "\xef\xbb\xbfnetwork:\n  allow:\n    - a.org\n", "x.org",
                  "\xef\xbb\xbfnetwork:\n  allow:\n    - a.org\n    - x.org\n" },
                { "network:\r\n  allow:\r\n    - a.org # b\r\n", "x.org",
                  "network:\r\n  allow:\r\n    - a.org # b\r\n    - x.org\r\n" },
                { "network:\n  allow:\n    - |-\n      a.org\n", "x.org", NULL },
                { "network:\n  allow: &l\n    - a.org\n", "x.org", NULL },
                { "network:\n  allow:\n    - &a a.org\n  deny: [*a]\n", "x.org",
                  "network:\n  allow:\n    - &a a.org\n    - x.org\n  deny: [*a]\n" },
                { "network:\n  deny: &l [a.org]\n  allow: *l\n", "x.org", NULL },
                { "network:\n  \"allow\":\n    - a.org\n", "x.org", "network:\n  \"allow\":\n    - a.org\n    - x.org\n" },
                { "? network\n: allow: [a.org]\n", "x.org", "? network\n: allow: [a.org, x.org]\n" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++)
                check_case(&cases[i]);
}

static void test_forms(void **state) {
        (void)state;
        static const struct edit_case cases[] = {
                { "network: {allow: []}\n", "X.Org.", "network: {allow: [x.org]}\n" },
                { "network: {allow: []}\n", "x.org:443,80", "network: {allow: [x.org]}\n" },
                { "network: {allow: []}\n", "*.x.org:8080,22", "network: {allow: [{host: \"*.x.org\", ports: [22, 8080]}]}\n" },
                { "network: {allow: []}\n", "10.0.0.0/8", "network: {allow: [{cidr: 10.0.0.0/8}]}\n" },
                { "network: {allow: []}\n", "10.0.0.0/8:5432", "network: {allow: [{cidr: 10.0.0.0/8, ports: [5432]}]}\n" },
                { "network: {allow: []}\n", "[fd00::/8]:22", "network: {allow: [{cidr: \"fd00::/8\", ports: [22]}]}\n" },
                { "network: {allow: []}\n", "host.nixbox.internal:80,443",
                  "network: {allow: [{host: host.nixbox.internal, ports: [80, 443]}]}\n" },
                { "network: {deny: []}\n", "!x.org", "network: {deny: [x.org]}\n" },
                { "network: {deny: []}\n", "!x.org:80,443", "network: {deny: [{host: x.org, ports: [80, 443]}]}\n" },
                { "network: {deny: []}\n", "!1.2.3.0/24", "network: {deny: [{cidr: 1.2.3.0/24}]}\n" },
                { "network: {deny: []}\n", "!*.com", "network: {deny: [\"*.com\"]}\n" },
                /* what is there already */
                { "network: {allow: [x.org]}\n", "x.org X.ORG x.org:80,443", "=" },
                { "network: {allow: [{host: x.org, ports: [443, 80]}]}\n", "x.org y.org y.org",
                  "network: {allow: [{host: x.org, ports: [443, 80]}, y.org]}\n" },
                { "network: {allow: [{host: x.org, private: true}]}\n", "x.org",
                  "network: {allow: [{host: x.org, private: true}, x.org]}\n" },
                { "network: {allow: [{host: x.org, methods: [GET]}]}\n", "x.org",
                  "network: {allow: [{host: x.org, methods: [GET]}, x.org]}\n" },
                { "network: {deny: [{cidr: 1.2.3.0/24}]}\n", "!1.2.3.0/24", "=" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++)
                check_case(&cases[i]);
}

static void test_opposite(void **state) {
        (void)state;
        static const struct edit_case cases[] = {
                { "network: {deny: [x.org]}\n", "x.org", "network: {deny: [], allow: [x.org]}\n" },
                { "network: {allow: [x.org], deny: [a.org, X.org, b.org]}\n", "x.org",
                  "network: {allow: [x.org], deny: [a.org, b.org]}\n" },
                { "network: {allow: [a.org, {host: x.org, ports: [22]}]}\n", "!x.org:22",
                  "network: {allow: [a.org], deny: [{host: x.org, ports: [22]}]}\n" },
                { "network:\n  allow:\n    - a.org  # a\n    # about x\n    - x.org  # x\n    - b.org  # b\n  deny:\n    - "
                  "c.org\n",
                  "!x.org",
                  "network:\n  allow:\n    - a.org  # a\n    # about x\n    - b.org  # b\n  deny:\n    - c.org\n    - "
                  "x.org\n" },
                { "network:\n  deny:\n  - x.org\n", "x.org", "network:\n  deny:\n  allow:\n    - x.org\n" },
                { "network:\n  allow:\n  deny:\n  - host: x.org\n    ports:\n    - 22\n  - y.org\n", "x.org:22 y.org",
                  "network:\n  allow:\n    - {host: x.org, ports: [22]}\n    - y.org\n  deny:\n" },
                { "network:\n  deny: [\n    x.org,  # x\n    y.org   # y\n  ]\n  allow: [a.org]\n", "x.org",
                  "network:\n  deny: [\n    y.org   # y\n  ]\n  allow: [a.org, x.org]\n" },
                { "network:\n  deny: [\n    y.org,  # y\n    x.org   # x\n  ]\n  allow: [a.org]\n", "x.org",
                  "network:\n  deny: [\n    y.org,  # y\n  ]\n  allow: [a.org, x.org]\n" },
                { "network:\n  deny: [x.org,\n    y.org]\n", "x.org", NULL },
                { "network:\n  deny: &l [x.org]\n", "x.org", NULL },
                { "network:\n  deny: [&a x.org]\nsecrets: [{name: A, from: env, hosts: [*a]}]\n", "x.org", NULL },
                { "network:\n  deny:\n    -\n      x.org\n  allow: [x.org]\n", "x.org", NULL },
                /* what says more than the new rule takes back stays */
                { "network: {allow: [{host: x.org, private: true}, {host: x.org, limit: 1M}]}\n", "!x.org",
                  "network: {allow: [{host: x.org, private: true}, {host: x.org, limit: 1M}], deny: [x.org]}\n" },
                { "network: {allow: ['*.x.org', {host: x.org, ports: [22]}]}\n", "!x.org",
                  "network: {allow: ['*.x.org', {host: x.org, ports: [22]}], deny: [x.org]}\n" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++)
                check_case(&cases[i]);
}

static int save_one(const char *rule, struct nb_error *err) {
        bool changed = false;
        char *const rules[] = { (char *)rule, NULL };
        return config_save_rules("nixbox.yaml", rules, false, &changed, err);
}

static void test_errors(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(save_one("x.org", &err), -ENOENT);
        assert_non_null(err.hint);
        put("nixbox.yaml", "name: a\n", 0644);
        assert_int_equal(save_one("*.com", &err), -EINVAL);
        assert_int_equal(save_one("http://x.org", &err), -EINVAL);
        put("nixbox.yaml", "nam: a\n", 0644);
        assert_int_equal(save_one("x.org", &err), -EINVAL);
        assert_non_null(strstr(err.what, "nixbox.yaml:1:1"));
        put("nixbox.yaml", "network: &n {mode: open}\n", 0644);
        assert_int_equal(save_one("*.x.org", &err), -ENOTSUP);
        assert_string_equal(err.hint, "add this below network.allow by hand: \"- \"*.x.org\"\"");
}

static void test_files(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        struct stat st;
        put("nixbox.yaml", "name: a\n", 0640);
        assert_int_equal(save_one("x.org", &err), 0);
        assert_int_equal(stat("nixbox.yaml", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0640);
        /* a link stays a link, and what it leads to is edited */
        assert_int_equal(rename("nixbox.yaml", "real.yaml"), 0);
        assert_int_equal(symlink("real.yaml", "nixbox.yaml"), 0);
        assert_int_equal(save_one("y.org", &err), 0);
        assert_int_equal(lstat("nixbox.yaml", &st), 0);
        assert_true(S_ISLNK(st.st_mode));
        NB_AUTO_FREE char *text = get("real.yaml");
        assert_non_null(strstr(text, "- y.org\n"));
        /* but nothing outside the folder */
        put("../other.yaml", "name: a\n", 0644);
        assert_int_equal(unlink("nixbox.yaml"), 0);
        assert_int_equal(symlink("../other.yaml", "nixbox.yaml"), 0);
        assert_int_equal(save_one("x.org", &err), -EXDEV);
        NB_AUTO_FREE char *other = get("../other.yaml");
        assert_string_equal(other, "name: a\n");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_adding, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_forms, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_opposite, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
