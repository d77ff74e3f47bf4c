/* Unit tests of protected paths: what a path is to the patterns, and how lists of them are made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "policy/protect.h"

#define IS PROTECT_IS
#define LEADS PROTECT_LEADS
#define VETTED PROTECT_VETTED
#define LOCK PROTECT_LOCK

static struct protect *defaults(void) {
        struct protect *p = NULL;
        assert_int_equal(protect_new((char *const *)protect_defaults(), &p, NULL), 0);
        return p;
}

static void test_default_list(void **state) {
        (void)state;
        static const struct {
                const char *path;
                unsigned is;
        } cases[] = {
                { "/w/a.c", 0 },
                { "/w", 0 },
                { "/", 0 },
                { "/w/.git", IS | LEADS },
                { "/w/.GIT", IS | LEADS },
                { "/w/sub/deep/.git", IS | LEADS },
                { "/w/.gitignore", 0 },
                { "/w/.gita", 0 },
                { "/w/x.git", 0 },
                { "/w/.git/HEAD", 0 },
                { "/w/.git/index", 0 },
                { "/w/.git/objects/ab/config", 0 },
                { "/w/.git/refs/heads/config", 0 },
                { "/w/.git/config", IS | VETTED },
                { "/w/.git/Config", IS | VETTED },
                { "/w/.git/config.lock", LOCK },
                { "/w/.git/config.LOCK", LOCK },
                { "/w/.git/config.lock.lock", 0 },
                { "/w/.git/index.lock", 0 },
                { "/w/.git/config.worktree", IS },
                { "/w/.git/config.worktree.lock", 0 },
                { "/w/.git/commondir", IS },
                { "/w/.git/hooks", LEADS },
                { "/w/.git/HOOKS", LEADS },
                { "/w/.git/hooks/pre-commit", IS | LEADS },
                { "/w/.git/hooks/pre-commit.sample", LEADS },
                { "/w/.git/hooks/d/x", IS | LEADS },
                { "/w/.git/modules", LEADS },
                { "/w/.git/modules/a", LEADS },
                { "/w/.git/modules/a/HEAD", LEADS },
                { "/w/.git/modules/a/config", IS | LEADS | VETTED },
                { "/w/.git/modules/a/config.lock", LEADS | LOCK },
                { "/w/.git/modules/a/b/hooks/update", IS | LEADS },
                { "/w/.git/worktrees/x/commondir", IS },
                { "/w/.git/worktrees/x/y/commondir", 0 },
                { "/w/.git/worktrees/x/HEAD", 0 },
                { "/w/.gitmodules", IS },
                { "/w/.envrc", IS },
                { "/w/.envrc2", 0 },
                { "/w/.vscode", LEADS },
                { "/w/.vscode/settings.json", IS | LEADS },
                { "/w/.VSCode/a/b", IS | LEADS },
                { "/w/.claude", LEADS },
                { "/w/.claude/settings.json", IS },
                { "/w/.claude/notes.md", 0 },
                { "/w/.claude/hooks", LEADS },
                { "/w/node_modules/x/.idea/a.xml", IS | LEADS },
                { "/w/nixbox.yaml", IS },
        };
        struct protect *p = defaults();
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                unsigned is = protect_match(p, cases[i].path, NULL);
                if (is != cases[i].is)
                        fail_msg("%s: %#x, not %#x", cases[i].path, is, cases[i].is);
        }
        protect_free(p);
}

static unsigned one(const char *pattern, const char *path) {
        char *list[] = { (char *)pattern, NULL };
        struct protect *p = NULL;
        assert_int_equal(protect_new(list, &p, NULL), 0);
        unsigned is = protect_match(p, path, NULL);
        protect_free(p);
        return is;
}

static void test_patterns(void **state) {
        (void)state;
        static const struct {
                const char *pattern, *path;
                unsigned is;
        } cases[] = {
                { "a", "/a", IS },
                { "a", "/x/a", IS },
                { "a", "/a/x", 0 },
                { "a/b", "/x/a", LEADS },
                { "a/b", "/x/a/b", IS },
                { "a/b", "/a/x/b", 0 },
                { "/a/b", "/a/b", IS },
                { "/a/b", "/a", LEADS },
                { "/a/b", "/x/a/b", 0 },
                { "/a/b", "/x/a", 0 },
                { "*.sh", "/x/run.sh", IS },
                { "*.sh", "/x/.sh", IS },
                { "*.sh", "/x/run.shx", 0 },
                { "a*b*c", "/aXbYc", IS },
                { "a*b*c", "/abbbbc", IS },
                { "a*b*c", "/acb", 0 },
                { "?.c", "/a.c", IS },
                { "?.c", "/ab.c", 0 },
                { "a/**", "/a", LEADS },
                { "a/**", "/a/b/c", IS | LEADS },
                { "a/**/z", "/a/z", IS | LEADS },
                { "a/**/z", "/a/b/c/z", IS | LEADS },
                { "a/**/z", "/a/b/c", LEADS },
                { "a/**/z", "/a/z/z", IS | LEADS },
                { "a/**/z", "/z", 0 },
                { "a/a/b", "/a/a/a/b", IS },
                { "a/a/b", "/a/a", LEADS },
                { "x.sample", "/x.sample", 0 },
                { ".git/config", "/w/.git/config", IS | VETTED },
                { "x/config", "/x/config", IS },
                { "x/config", "/x/config.lock", 0 },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                unsigned is = one(cases[i].pattern, cases[i].path);
                if (is != cases[i].is)
                        fail_msg("%s on %s: %#x, not %#x", cases[i].pattern, cases[i].path, is, cases[i].is);
        }
}

/* A pattern of the owner's own for git's config leaves nothing to vet. */
static void test_refused_twice(void **state) {
        (void)state;
        char *list[] = { ".git/config", ".git/*", NULL };
        struct protect *p = NULL;
        const char *pattern = NULL;
        assert_int_equal(protect_new(list, &p, NULL), 0);
        assert_int_equal(protect_match(p, "/w/.git/config", &pattern), IS);
        assert_string_equal(pattern, ".git/config");
        assert_int_equal(protect_match(p, "/w/other", &pattern), 0);
        assert_null(pattern);
        protect_free(p);
}

static void test_what_is_no_pattern(void **state) {
        (void)state;
        static const char *const bad[] = { "", "/", "**", "**/a", "a/../b", "./a", "a**", "a/**b/c", "a/**/b/**/c", ".." };
        char deep[2 * 64 + 1] = "";
        for (size_t i = 0; i < 2 * 64; i++)
                deep[i] = i % 2 ? '/' : 'a';
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                if (protect_check(bad[i], NULL) == 0)
                        fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(protect_check(deep, NULL), -E2BIG);
        assert_int_equal(protect_check("a/**/b/**", NULL), 0);
}

static void test_lists(void **state) {
        (void)state;
        char *words[] = { "default", "mine", "!.gitmodules", "MINE", NULL };
        char *missing[] = { "!.envrc", "default", NULL };
        char **list = NULL;
        NB_AUTO_ERROR err = { 0 };
        size_t all = nb_strv_len((char *const *)protect_defaults());
        assert_int_equal(protect_resolve(words, &list, NULL), 0);
        assert_int_equal(nb_strv_len(list), all);
        assert_true(nb_strv_has(list, "mine"));
        assert_false(nb_strv_has(list, ".gitmodules"));
        assert_true(nb_strv_has(list, ".envrc"));
        nb_strv_free(list);
        list = NULL;
        assert_int_equal(protect_resolve(missing, &list, &err), -ENOENT);
        assert_non_null(strstr(err.what, ".envrc"));
        assert_int_equal(protect_resolve(NULL, &list, NULL), 0);
        assert_null(list);
}

static void test_long_paths(void **state) {
        (void)state;
        struct protect *p = defaults();
        char *path = nb_calloc(3 * 3000 + 1, 1);
        for (size_t i = 0; i < 3000; i++)
                memcpy(path + 3 * i, "/aa", 3);
        assert_int_equal(protect_match(p, path, NULL), IS | LEADS); /* no such path is there: refused */
        path[3 * 2000] = 0;
        assert_int_equal(protect_match(p, path, NULL), 0);
        free(path);
        protect_free(p);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_default_list),  cmocka_unit_test(test_patterns),
                cmocka_unit_test(test_refused_twice), cmocka_unit_test(test_what_is_no_pattern),
                cmocka_unit_test(test_lists),         cmocka_unit_test(test_long_paths),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
