/* Unit tests of vetting git's config: what git itself writes passes, what runs a program or leads elsewhere does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "policy/gitconfig.h"

#define CORE "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
#define ORIGIN "[remote \"origin\"]\n\turl = https://github.com/a/b.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
#define BRANCH "[branch \"main\"]\n\tremote = origin\n\tmerge = refs/heads/main\n"
#define OWNER "[core]\n\tfsmonitor = /usr/bin/watch\n[alias]\n\tx = !rm -rf\n"

static bool passes(const char *old, const char *fresh) {
        char *why = NULL;
        bool ok = gitconfig_may_replace(old, strlen(old), fresh, strlen(fresh), &why);
        if (ok ? why != NULL : why == NULL)
                fail_msg("an answer and its reason do not fit for:\n%s", fresh);
        free(why);
        return ok;
}

static void test_what_git_writes(void **state) {
        (void)state;
        static const char *const good[] = {
                CORE,
                CORE ORIGIN,
                CORE ORIGIN BRANCH,
                CORE "[user]\n\tname = A \xc3\xa4 B\n\temail = a@b\n",
                CORE "[remote \"o\"]\n\turl = git@github.com:a/b.git\n\tfetch = +refs/heads/*:refs/remotes/o/*\n",
                CORE
                "[remote \"o\"]\n\turl = ssh://git@[::1]:22/b\n[remote \"p\"]\n\turl = git://1.2.3.4/b\n\ttagOpt = --no-tags\n",
                CORE "[extensions]\n\tobjectformat = sha256\n",
                CORE ORIGIN "[branch \"a\"]\n\tremote = .\n\tmerge = refs/heads/main\n\trebase = true\n",
                CORE "[branch \"with \\\"quotes\\\" and ]\"]\n\tmerge = refs/heads/x\n",
                CORE "# words\n; more\n\n   \n",
                CORE "[submodule]\n\tactive = .\n",
                "",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(good); i++) {
                if (!passes("", good[i]) || !passes(CORE, good[i]))
                        fail_msg("refused:\n%s", good[i]);
                assert_true(gitconfig_harmless(good[i], strlen(good[i])));
        }
}

static void test_what_would_run(void **state) {
        (void)state;
        static const char *const bad[] = {
                "[core]\n\tfsmonitor = x\n",
                "[core]\n\tfsMonitor = x\n",
                "[CORE]\n\tFSMONITOR = x\n",
                "[core]\n\thooksPath = x\n",
                "[core]\n\tsshCommand = x\n",
                "[core]\n\tpager = x\n",
                "[core]\n\teditor = x\n",
                "[core]\n\tworktree = /\n",
                "[core]\n\tattributesfile = x\n",
                "[core]\n\tgitproxy = x\n",
                "[core] fsmonitor = x\n",
                "[core]fsmonitor = x\n",
                "[core]\n\tbare = false\\\n\tfsmonitor = x\n",
                "[core]\n\tbare = \"false\"\n",
                "[core]\n\tbare = false # words\n",
                "[core]\n\tbare\n",
                "[core]\n\tbare = \n",
                "[core]\r\n\tbare = false\r\n",
                "[core \"x\"]\n\tbare = false\n",
                "[core.x]\n\tbare = false\n",
                "[include]\n\tpath = x\n",
                "[includeIf \"gitdir:x\"]\n\tpath = x\n",
                "[alias]\n\tx = !y\n",
                "[filter \"x\"]\n\tclean = y\n",
                "[diff \"x\"]\n\ttextconv = y\n",
                "[merge \"x\"]\n\tdriver = y\n",
                "[credential]\n\thelper = y\n",
                "[url \"x\"]\n\tinsteadOf = y\n",
                "[http]\n\tproxy = y\n",
                "[gpg]\n\tprogram = y\n",
                "[remote \"o\"]\n\turl = ext::sh -c x\n",
                "[remote \"o\"]\n\turl = x::y\n",
                "[remote \"o\"]\n\turl = x://y\n",
                "[remote \"o\"]\n\turl = /a/b\n",
                "[remote \"o\"]\n\turl = ../b\n",
                "[remote \"o\"]\n\turl = b\n",
                "[remote \"o\"]\n\turl = ./a:b\n",
                "[remote \"o\"]\n\turl = file:///a/b\n",
                "[remote \"o\"]\n\turl = -oProxyCommand=x:y\n",
                "[remote \"o\"]\n\turl = git@-oProxyCommand=x:y\n",
                "[remote \"o\"]\n\turl = ssh://-oProxyCommand=x/y\n",
                "[remote \"o\"]\n\turl = ssh://git@-oProxyCommand=x/y\n",
                "[remote \"o\"]\n\turl = https:// x\n",
                "[remote \"o\"]\n\turl = https://\n",
                "[remote \"o\"]\n\tuploadpack = x\n",
                "[remote \"o\"]\n\treceivepack = x\n",
                "[remote \"o\"]\n\tvcs = x\n",
                "[remote \"o\"]\n\tproxy = x\n",
                "[remote]\n\turl = https://a/b\n",
                "[submodule \"s\"]\n\tupdate = !x\n",
                "[branch \"m\"]\n\tremote = origin\n", /* no such remote: a folder of that name */
                "[branch \"m\"]\n\tremote = ../x\n",
                "[branch \"m\"]\n\tpushRemote = x\n",
                "[branch \"m\"]\n\tmerge = -x\n",
                "[remote]\n\tpushDefault = x\n",
                "[extensions]\n\tworktreeConfig = true\n",
                "\xef\xbb\xbf[core]\n\tbare = false\n",
                "bare = false\n",
                "[core\n\tbare = false\n",
                "[core \"x]\n\tbare = false\n",
                "[core \"x\" ]\n\tbare = false\n",
                "[core]\n\tba re = false\n",
                "[core]\n\t= false\n",
                "[core]\n\t\"bare\" = false\n",
                "[user]\n\tname = a\\\n",
                "[user]\n\tname = a\"b\n",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                if (passes("", bad[i]) || passes(CORE, bad[i]))
                        fail_msg("let through:\n%s", bad[i]);
                assert_false(gitconfig_harmless(bad[i], strlen(bad[i])));
        }
        assert_false(gitconfig_harmless("[user]\n\tname = a\0b\n", 20));
}

static void test_what_the_owner_has(void **state) {
        (void)state;
        assert_true(passes(OWNER, OWNER));
        assert_true(passes(CORE OWNER, CORE OWNER ORIGIN));
        assert_true(passes(CORE OWNER ORIGIN, CORE OWNER));
        assert_true(passes(OWNER, CORE "[core]\n  fsmonitor = /usr/bin/watch\n[alias]\n\tx = !rm -rf\n"));
        assert_false(passes(CORE OWNER, CORE));
        assert_false(passes(CORE, CORE OWNER));
        assert_false(passes(OWNER, OWNER OWNER));
        assert_false(passes(OWNER, "[core]\n\tfsmonitor = /usr/bin/other\n[alias]\n\tx = !rm -rf\n"));
        assert_false(passes(OWNER, "[alias]\n\tx = !rm -rf\n[core]\n\tfsmonitor = /usr/bin/watch\n"));
        assert_false(passes(OWNER, "[core \"\"]\n\tfsmonitor = /usr/bin/watch\n[alias]\n\tx = !rm -rf\n"));
        /* the same text under another section is another setting */
        assert_false(passes("[x]\n\tpager = y\n", "[core]\n\tpager = y\n"));
        assert_false(passes("[a \"b\"]\n\tx = y\n", "[a]\n\tx = y\n"));
}

/* What cannot be read stays as it is, to the byte. */
static void test_what_is_not_understood(void **state) {
        (void)state;
        static const char odd[] = "[core]\n\teditor = a \\\n  b\n";
        assert_true(passes(odd, odd));
        assert_false(passes(odd, "[core]\n\teditor = a \\\n  b\n[user]\n\tname = x\n"));
        char *big = nb_calloc(GITCONFIG_MAX + 2, 1);
        memset(big, '\n', GITCONFIG_MAX + 1);
        assert_false(gitconfig_harmless(big, GITCONFIG_MAX + 1));
        assert_true(gitconfig_harmless(big, GITCONFIG_MAX));
        free(big);
}

static void test_reasons(void **state) {
        (void)state;
        char *why = NULL;
        assert_false(gitconfig_may_replace("", 0, OWNER, strlen(OWNER), &why));
        assert_string_equal(why, "it would set core.fsmonitor");
        free(why);
        assert_false(gitconfig_may_replace(OWNER, strlen(OWNER), CORE, strlen(CORE), &why));
        assert_string_equal(why, "it would lose core.fsmonitor");
        free(why);
        assert_false(gitconfig_may_replace("", 0, "\n[x", 3, &why));
        assert_string_equal(why, "line 2 of the new config was not understood");
        free(why);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_git_writes),
                cmocka_unit_test(test_what_would_run),
                cmocka_unit_test(test_what_the_owner_has),
                cmocka_unit_test(test_what_is_not_understood),
                cmocka_unit_test(test_reasons),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
