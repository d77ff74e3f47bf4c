/* Unit tests of downloading: what comes into the cache, and what does not, from file: addresses. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "image/fetch_engine.h"
#include "image/fetch_part.h"

#define CONTENT "what is downloaded"
#define OTHER "what is not wanted"
#define EMPTY_SHA512                                                                                                         \
        "sha512:"                                                                                                            \
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a5" \
        "38327af927da3e"

struct stage {
        char *dir, *hash, *good, *bad, *missing;
        struct store store;
};

static char *put(const char *dir, const char *name, const char *text) {
        NB_AUTO_FREE char *path = nb_path_join(dir, name);
        assert_int_equal(nb_write_file_atomic(path, text, strlen(text), 0600), 0);
        return nb_asprintf("file://%s", path);
}

static int set_up(void **state) {
        struct stage *s = nb_calloc(1, sizeof *s);
        char hex[NB_SHA256_HEX], dir[] = "/tmp/nixbox-fetch-XXXXXX";
        assert_non_null(mkdtemp(dir));
        s->dir = nb_strdup(dir);
        s->store.cache = nb_path_join(s->dir, "cache");
        nb_sha256(CONTENT, strlen(CONTENT), hex);
        s->hash = nb_asprintf("sha256:%s", hex);
        s->good = put(s->dir, "good", CONTENT);
        s->bad = put(s->dir, "bad", OTHER);
        s->missing = nb_asprintf("file://%s/missing", s->dir);
        *state = s;
        return 0;
}

static int tear_down(void **state) {
        struct stage *s = *state;
        assert_int_equal(nb_remove_tree(AT_FDCWD, s->dir), 0);
        char *const texts[] = { s->dir, s->hash, s->good, s->bad, s->missing, s->store.cache };
        for (size_t i = 0; i < NB_ARRAY_LEN(texts); i++)
                free(texts[i]);
        free(s);
        return 0;
}

static int fetch(const struct stage *s, const char *hash, uint64_t size, const char *first, const char *second,
                 struct nb_error *err) {
        const char *const urls[] = { first, second, NULL };
        const struct fetch_item item = { .label = "thing 1", .urls = urls, .hash = hash, .size = size };
        size_t failed = 9;
        int r = fetch_engine(&s->store, &item, 1, NULL, &failed, err);
        assert_int_equal(failed, r < 0 ? 0 : 1);
        return r;
}

static char *cached(const struct stage *s, const char *hash) {
        NB_AUTO_FREE char *path = fetch_path(&s->store, hash);
        char *text = NULL;
        return nb_read_file(path, 1000, &text, NULL) == 0 ? text : NULL;
}

static void assert_cached(const struct stage *s) {
        NB_AUTO_FREE char *text = cached(s, s->hash);
        assert_non_null(text);
        assert_string_equal(text, CONTENT);
}

static void test_fetched(void **state) {
        const struct stage *s = *state;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(fetch(s, s->hash, strlen(CONTENT), s->good, NULL, &err), 0);
        assert_cached(s);
        assert_int_equal(fetch(s, s->hash, strlen(CONTENT), s->missing, NULL, &err), 0); /* nothing is fetched again */
}

static void test_unknown_size_and_sha512(void **state) {
        const struct stage *s = *state;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(fetch(s, s->hash, 0, s->good, NULL, &err), 0);
        assert_cached(s);
        NB_AUTO_FREE char *empty = put(s->dir, "empty", "");
        assert_int_equal(fetch(s, EMPTY_SHA512, 0, empty, NULL, &err), 0);
        NB_AUTO_FREE char *text = cached(s, EMPTY_SHA512);
        assert_string_equal(text, "");
        assert_int_equal(fetch(s, "sha512:abc", 0, empty, NULL, &err), -EINVAL);
        assert_int_equal(fetch(s, "sha256:../../x", 0, empty, NULL, &err), -EINVAL);
}

static void test_refused(void **state) {
        const struct stage *s = *state;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(fetch(s, s->hash, strlen(CONTENT), s->bad, NULL, &err), -EBADMSG);
        assert_non_null(strstr(err.what, "thing 1: what was downloaded is not what is expected"));
        NB_AUTO_FREE char *text = cached(s, s->hash);
        assert_null(text);
        assert_int_equal(fetch(s, s->hash, 4, s->good, NULL, &err), -EBADMSG);
        assert_non_null(strstr(err.what, "gives more than the 4 bytes"));
        assert_int_equal(fetch(s, s->hash, strlen(CONTENT) + 1, s->good, NULL, &err), -EBADMSG);
        assert_int_equal(fetch(s, s->hash, strlen(CONTENT), s->missing, NULL, &err), -ENOENT);
        assert_int_equal(fetch(s, s->hash, strlen(CONTENT), s->missing, s->bad, &err), -EBADMSG);
        assert_non_null(strstr(err.what, "it is not at "));
        assert_int_equal(fetch(s, s->hash, strlen(CONTENT), "ftp://127.0.0.1/x", NULL, &err), -ENETUNREACH);
        NB_AUTO_FREE char *still = cached(s, s->hash);
        assert_null(still);
}

static void test_next_address(void **state) {
        const struct stage *s = *state;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(fetch(s, s->hash, strlen(CONTENT), s->bad, s->good, &err), 0);
        assert_cached(s);
}

static void leave_part(const struct stage *s, const char *text) {
        NB_AUTO_FREE char *final = fetch_path(&s->store, s->hash), *blobs = nb_path_join(s->store.cache, "blobs");
        NB_AUTO_FREE char *part = nb_asprintf("%s.part", final);
        assert_int_equal(nb_mkdirs(blobs, 0700), 0);
        assert_int_equal(nb_write_file_atomic(part, text, strlen(text), 0600), 0);
}

static void test_goes_on(void **state) {
        const struct stage *s = *state;
        /* the first half of the address's file is not looked at */
        NB_AUTO_FREE char *half = put(s->dir, "half", "XXXX is downloaded");
        NB_AUTO_ERROR err = { 0 };
        leave_part(s, "what");
        assert_int_equal(fetch(s, s->hash, strlen(CONTENT), half, NULL, &err), 0);
        assert_cached(s);
}

static void test_damaged_part(void **state) {
        const struct stage *s = *state;
        static const char *const parts[] = { "XXXX", "XXXX is downloaded", "far more than the whole file ever has", CONTENT };
        for (size_t i = 0; i < NB_ARRAY_LEN(parts); i++) {
                NB_AUTO_FREE char *final = fetch_path(&s->store, s->hash);
                NB_AUTO_ERROR err = { 0 };
                (void)unlink(final);
                leave_part(s, parts[i]);
                assert_int_equal(fetch(s, s->hash, strlen(CONTENT), s->good, NULL, &err), 0);
                assert_cached(s);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_fetched, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_unknown_size_and_sha512, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_next_address, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_goes_on, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_damaged_part, set_up, tear_down),
        };
        return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
