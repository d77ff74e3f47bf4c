/* Unit tests of nixbox.lock: what is read, what is refused and why, what is written, and what changed between two locks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "image/lock.h"

#define AUTO_LOCK __attribute__((cleanup(lock_freep))) struct lock
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define ONES "1111111111111111111111111111111111111111111111111111111111111111"
#define SHA512_TEXT "sha512-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
#define TREE_LINE                                                                                         \
        "  {\"name\": \"tree\", \"version\": \"2.1.1-1\", \"arch\": \"amd64\", \"archive\": \"debian\", " \
        "\"path\": \"pool/main/t/tree/tree_2.1.1-1_amd64.deb\", \"size\": 57, \"sha256\": \"" ZEROS "\"}"
#define OPENSSL_LINE                                                                                                         \
        "  {\"name\": \"openssl\", \"version\": \"1:3.5~rc1+b2-1\", \"arch\": \"amd64\", \"archive\": \"debian-security\", " \
        "\"path\": \"pool/updates/main/o/openssl/openssl_3.5_amd64.deb\", \"size\": 1, \"sha256\": \"" ONES "\"}"

/* A lock in the form in which it is written, with everything that one can hold. */
static const char whole[] =
    "{\n"
    " \"lock_version\": 1,\n"
    " \"builder\": \"" LOCK_BUILDER "\",\n"
    " \"resolved\": \"2025-11-26T23:40:00Z\",\n"
    " \"spec\": [\n  \"base debian-13\",\n  \"package tree\"\n ],\n"
    " \"suite\": \"trixie\",\n"
    " \"digest\": \"sha256:" ZEROS "\",\n"
    " \"runtime_digest\": \"sha256:" ONES "\",\n"
    " \"source\": \"sha256:" ONES "\",\n"
    " \"layers\": [\n  {\"size\": 7, \"sha256\": \"" ONES "\"}\n ],\n"
    " \"packages\": [\n" TREE_LINE "\n ],\n"
    " \"npm\": [\n"
    "  {\"path\": \"node_modules/@a/b\", \"name\": \"@a/b\", \"version\": \"1.2.3-rc.1\", "
    "\"url\": \"https://registry.npmjs.org/@a/b/-/b-1.2.3.tgz\", \"integrity\": \"" SHA512_TEXT "\", "
    "\"bin\": [\"b=bin/b.js\", \"c=cli.js\"], \"scripts\": true},\n"
    "  {\"path\": \"node_modules/@a/b/node_modules/c\", \"version\": \"0.1.0\", "
    "\"url\": \"https://registry.npmjs.org/c/-/c-0.1.0.tgz\", \"integrity\": \"" SHA512_TEXT "\"}\n ],\n"
    " \"base\": [\n" OPENSSL_LINE "\n ],\n"
    " \"kernel\": [\n ],\n"
    " \"runtime\": [\n" OPENSSL_LINE ",\n" TREE_LINE "\n ]\n"
    "}\n";

static struct lock *parse(const char *text) {
        struct lock *l = NULL;
        NB_AUTO_ERROR err = { 0 };
        if (lock_parse(text, strlen(text), "nixbox.lock", &l, &err) < 0)
                fail_msg("%s", err.what);
        return l;
}

/* `text` with the first `from` replaced. New string. */
static char *changed(const char *text, const char *from, const char *to) {
        const char *at = strstr(text, from);
        if (!at)
                fail_msg("the text has no %s", from);
        return nb_asprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static void test_round_trip(void **state) {
        (void)state;
        AUTO_LOCK *l = parse(whole);
        assert_string_equal(l->spec, "base debian-13\npackage tree\n");
        assert_string_equal(l->suite, "trixie");
        assert_null(l->kernel_digest);
        assert_int_equal(l->packages.n, 1);
        assert_string_equal(l->packages.packages[0].path, "pool/main/t/tree/tree_2.1.1-1_amd64.deb");
        assert_int_equal(l->packages.packages[0].size, 57);
        assert_string_equal(l->base.packages[0].archive, "debian-security");
        assert_int_equal(l->runtime.n, 2);
        assert_int_equal(l->kernel.n, 0);
        assert_int_equal(l->n_layers, 1);
        assert_string_equal(l->npm->bin[1], "c=cli.js");
        assert_true(l->npm->scripts);
        assert_false(l->npm->next->scripts);
        assert_null(l->npm->next->name);
        NB_AUTO_FREE char *text = lock_format(l);
        assert_string_equal(text, whole);
}

static void test_refused(void **state) {
        (void)state;
        static const struct {
                const char *from, *to, *said;
        } cases[] = {
                { " \"suite\": \"trixie\",\n", "", "suite: is missing" },
                { " \"suite\"", " \"more\": 1, \"suite\"", "more: is not known" },
                { "\"size\": 57", "\"size\": 57, \"x\": 1", "packages, entry 1, x: is not known" },
                { "\"size\": 57", "\"size\": 0", "packages, entry 1, size" },
                { "\"size\": 57", "\"size\": -1", "size" },
                { "\"size\": 57", "\"size\": 1.5", "size" },
                { "\"size\": 57", "\"size\": \"57\"", "size" },
                { "\"size\": 57", "\"size\": 99999999999999", "size" },
                { "\"size\": 57", "\"size\": 999999999999999999999999", "nixbox.lock:" },
                { "\"name\": \"tree\"", "\"name\": \"Tree\"", "name" },
                { "\"name\": \"tree\"", "\"name\": \"--tree\"", "name" },
                { "\"name\": \"tree\"", "\"name\": 4", "packages, entry 1, name: must be a string" },
                { "\"name\": \"tree\"", "\"name\": \"tree\", \"name\": \"tree\"", "nixbox.lock:17:" },
                { "\"name\": \"tree\", ", "", "packages, entry 1, name: is missing" },
                { "\"version\": \"2.1.1-1\"", "\"version\": \"2.1 1\"", "version" },
                { "\"version\": \"2.1.1-1\"", "\"version\": \"-2\"", "version" },
                { "\"version\": \"2.1.1-1\"", "\"version\": \"\"", "version" },
                { "\"arch\": \"amd64\"", "\"arch\": \"i386\"", "arch" },
                { "\"archive\": \"debian\"", "\"archive\": \"evil\"", "archive" },
                { "pool/main/t/tree/", "../main/t/tree/", "path" },
                { "pool/main/t/tree/", "pool/../../etc/", "path" },
                { "pool/main/t/tree/", "pool/main//", "path" },
                { "pool/main/t/tree/", "pool/./main/", "path" },
                { "pool/main/t/tree/", "/pool/main/", "path" },
                { "pool/main/t/tree/", "pool/main?x/", "path" },
                { "_amd64.deb\", \"size\": 57", "_amd64.de\", \"size\": 57", "path" },
                { ZEROS "\"}\n ]", "000\"}\n ]", "sha256" },
                { "\"sha256\": \"" ONES, "\"sha256\": \"G" ONES, "sha256" },
                { "sha256:" ZEROS, "md5:" ZEROS, "digest" },
                { "2025-11-26T23:40:00Z", "yesterday", "resolved" },
                { "2025-11-26T23:40:00Z", "2025-13-26T23:40:00Z", "resolved" },
                { "\"base debian-13\"", "\"base \\u001b[31m\"", "spec" },
                { "\"base debian-13\"", "[]", "spec" },
                { "\"node_modules/@a/b\", \"name\"", "\"node_modules/../b\", \"name\"", "npm, entry 1, path" },
                { "\"node_modules/@a/b\", \"name\"", "\"node_modules/@/b\", \"name\"", "path" },
                { "\"node_modules/@a/b\", \"name\"", "\"bin/b\", \"name\"", "path" },
                { "\"node_modules/@a/b\", \"name\"", "\"node_modules/z\", \"name\"",
                  "npm, entry 2, path: the list must be sorted" },
                { "https://registry.npmjs.org/@a", "ftp://x/@a", "url" },
                { "https://registry.npmjs.org/@a", "https://a b/@a", "url" },
                { "sha512-A", "sha512-", "integrity" },
                { "sha512-A", "sha512-!", "integrity" },
                { "b=bin/b.js", "b=../b.js", "bin" },
                { "b=bin/b.js", "b=/b.js", "bin" },
                { "b=bin/b.js", "../b=b.js", "bin" },
                { "b=bin/b.js", "b", "bin" },
                { "\"scripts\": true", "\"scripts\": 1", "scripts" },
                { "\"kernel\": [\n ]", "\"kernel\": {}", "kernel: must be a list" },
                { "\"kernel\": [\n ]", "\"kernel\": [1]", "kernel, entry 1: must be an object" },
                { "\"name\": \"openssl\"", "\"name\": \"tree\"", "tree: this package is listed twice" },
                { "\"lock_version\": 1", "\"lock_version\": 0", "not a lock file" },
                { "{\n", "[] {", "nixbox.lock:1:" },
                { "]\n}\n", "]\n} {}", "nixbox.lock:" },
                { "]\n}\n", "]\n", "the lock file is damaged" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *text = changed(whole, cases[i].from, cases[i].to);
                NB_AUTO_ERROR err = { 0 };
                AUTO_LOCK *l = NULL;
                int r = lock_parse(text, strlen(text), "nixbox.lock", &l, &err);
                if (r != -EBADMSG || !strstr(err.what, cases[i].said) || !err.hint || l)
                        fail_msg("%zu: '%s' gave %d %s", i, cases[i].to, r, err.what);
        }
}

static void test_damaged_file(void **state) {
        (void)state;
        for (size_t len = 0; len < strlen(whole) - 1; len += 7) {
                AUTO_LOCK *l = NULL;
                NB_AUTO_ERROR err = { 0 };
                assert_int_equal(lock_parse(whole, len, "x.lock", &l, &err), -EBADMSG);
                assert_non_null(strstr(err.what, "x.lock"));
        }
        NB_AUTO_FREE char *large = nb_calloc(LOCK_MAX + 1, 1);
        AUTO_LOCK *l = NULL;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(lock_parse(large, LOCK_MAX + 1, "x.lock", &l, &err), -EBADMSG);
        NB_AUTO_FREE char *newer = changed(whole, "\"lock_version\": 1", "\"lock_version\": 2");
        assert_int_equal(lock_parse(newer, strlen(newer), "x.lock", &l, &err), -ENOTSUP);
        assert_non_null(strstr(err.what, "newer nixbox"));
}

static void test_matches(void **state) {
        (void)state;
        AUTO_LOCK *l = parse(whole);
        NB_AUTO_ERROR err = { 0 };
        char base[] = "debian-13", tree[] = "tree", jq[] = "jq", npm[] = "x";
        char *packages[] = { tree, tree, NULL, NULL }, *npms[] = { npm, NULL };
        struct config_image c = { .base = base, .packages = packages };
        NB_AUTO_FREE char *spec = lock_spec(&c);
        assert_string_equal(spec, "base debian-13\npackage tree\n");
        assert_int_equal(lock_matches(l, &c, "nixbox.lock", &err), 0);
        packages[1] = jq;
        c.npm = npms;
        assert_int_equal(lock_matches(l, &c, "nixbox.lock", &err), -ESTALE);
        assert_string_equal(err.what,
                            "nixbox.lock does not fit image: the config asks for 'package jq', the config asks for 'npm x'");
        assert_string_equal(err.hint, "run nixbox image lock");
        c = (struct config_image){ .base = base };
        assert_int_equal(lock_matches(l, &c, "nixbox.lock", &err), -ESTALE);
        assert_string_equal(err.what, "nixbox.lock does not fit image: the lock was made for 'package tree'");
        free(l->builder);
        l->builder = nb_strdup("other");
        assert_int_equal(lock_matches(l, &c, "nixbox.lock", &err), -ESTALE);
        assert_non_null(strstr(err.what, "builder other"));
}

static void test_changes(void **state) {
        (void)state;
        AUTO_LOCK *l = parse(whole);
        NB_AUTO_FREE char *none = lock_changes(l, l);
        assert_string_equal(none, "");
        NB_AUTO_FREE char *a = changed(whole, "\"version\": \"2.1.1-1\"", "\"version\": \"2.1.2-1\"");
        NB_AUTO_FREE char *b = changed(a, "1:3.5~rc1+b2-1", "1:3.5-2"), *c = changed(b, "\"0.1.0\"", "\"0.2.0\"");
        NB_AUTO_FREE char *d = changed(c, OPENSSL_LINE ",\n", "");
        NB_AUTO_FREE char *e = changed(d, ZEROS "\"}\n ]\n}", ONES "\"}\n ]\n}");
        AUTO_LOCK *after = parse(e);
        NB_AUTO_FREE char *text = lock_changes(l, after), *back = lock_changes(after, l);
        assert_string_equal(text, "openssl 1:3.5~rc1+b2-1 -> 1:3.5-2 (security)\n"
                                  "tree 2.1.1-1 -> 2.1.2-1\n"
                                  "npm: node_modules/@a/b/node_modules/c 0.1.0 -> 0.2.0\n"
                                  "runtime: openssl 1:3.5~rc1+b2-1 (removed)\n"
                                  "runtime: tree 2.1.1-1 (other content)\n");
        assert_non_null(strstr(back, "runtime: openssl 1:3.5~rc1+b2-1 (new)\n"));
}

static void test_set_key(void **state) {
        (void)state;
        AUTO_LOCK *l = parse(whole);
        char one[NB_SHA256_HEX], other[NB_SHA256_HEX];
        lock_set_key(&l->runtime, "a", one);
        lock_set_key(&l->runtime, "a", other);
        assert_string_equal(one, other);
        lock_set_key(&l->runtime, "b", other);
        assert_string_not_equal(one, other);
        struct lock_package first = l->runtime.packages[0];
        l->runtime.packages[0] = l->runtime.packages[1];
        l->runtime.packages[1] = first;
        lock_set_key(&l->runtime, "a", other);
        assert_string_not_equal(one, other);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refused), cmocka_unit_test(test_damaged_file),
                cmocka_unit_test(test_matches),    cmocka_unit_test(test_changes), cmocka_unit_test(test_set_key),
        };
        return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
