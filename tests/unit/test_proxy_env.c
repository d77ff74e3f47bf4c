/* Unit tests of what the caller's environment says about a proxy. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/proxy_env.h"

#define ONE "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
#define TWO "-----BEGIN CERTIFICATE-----\ndHdv\n-----END CERTIFICATE-----\n"
#define KEY "-----BEGIN PRIVATE KEY-----\nc2VzYW1l\n-----END PRIVATE KEY-----\n"

static int begin(void **state) {
        static const char *const names[] = { "https_proxy", "HTTPS_PROXY",   "no_proxy",
                                             "NO_PROXY",    "SSL_CERT_FILE", "SSL_CERT_DIR" };
        char path[] = "/tmp/nixbox-test-XXXXXX";
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++)
                (void)unsetenv(names[i]);
        *state = nb_strdup(mkdtemp(path));
        return *state ? 0 : -1;
}

static int end(void **state) {
        (void)nb_remove_tree(AT_FDCWD, *state);
        free(*state);
        return 0;
}

static const char *member(const json_t *o, const char *key) {
        const char *text = json_string_value(json_object_get(o, key));
        return text ? text : "-";
}

static char *file(const char *dir, const char *name, const char *text) {
        char *path = nb_asprintf("%s/%s", dir, name);
        assert_int_equal(nb_write_file_atomic(path, text, strlen(text), 0600), 0);
        return path;
}

static void none_is_none(void **state) {
        (void)state;
        json_t *o = NULL;
        assert_int_equal(proxy_settings(&o, NULL), 0);
        assert_null(o);
        (void)setenv("HTTPS_PROXY", "", 1);
        (void)setenv("NO_PROXY", "x", 1);
        assert_int_equal(proxy_settings(&o, NULL), 0);
        assert_null(o);
}

static void lower_case_counts(void **state) {
        (void)state;
        json_t *o = NULL;
        (void)setenv("HTTPS_PROXY", "http://upper:1", 1);
        (void)setenv("NO_PROXY", "upper", 1);
        assert_int_equal(proxy_settings(&o, NULL), 0);
        assert_string_equal(member(o, "url"), "http://upper:1");
        assert_string_equal(member(o, "no_proxy"), "upper");
        assert_string_equal(member(o, "ca"), "-");
        json_decref(o);
        (void)setenv("https_proxy", "http://lower:1", 1);
        (void)setenv("no_proxy", "", 1);
        assert_int_equal(proxy_settings(&o, NULL), 0);
        assert_string_equal(member(o, "url"), "http://lower:1");
        assert_string_equal(member(o, "no_proxy"), "-");
        json_decref(o);
}

static void a_bad_url_is_an_error_without_its_secret(void **state) {
        (void)state;
        static const char *const bad[] = { "socks5://u:sesame@p:1", "http://u:sesame@p:x", "http://u:sesame@p/path" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                NB_AUTO_ERROR err = { 0 };
                json_t *o = NULL;
                (void)setenv("https_proxy", bad[i], 1);
                assert_int_equal(proxy_settings(&o, &err), -EINVAL);
                assert_null(o);
                assert_non_null(strstr(err.what, "HTTPS_PROXY"));
                assert_null(strstr(err.what, "sesame"));
                assert_null(strstr(err.hint, "sesame"));
        }
}

static void only_certificates_are_taken(void **state) {
        const char *dir = *state;
        json_t *o = NULL;
        NB_AUTO_FREE char *bundle = file(dir, "bundle.pem", "# \xff\n" ONE KEY "# Acme\n");
        NB_AUTO_FREE char *folder = nb_asprintf("%s/more", dir);
        assert_int_equal(mkdir(folder, 0700), 0);
        free(file(folder, "corp.crt", TWO));
        free(file(folder, "README", "nothing"));
        (void)setenv("https_proxy", "https://proxy", 1);
        (void)setenv("SSL_CERT_FILE", bundle, 1);
        assert_int_equal(proxy_settings(&o, NULL), 0);
        assert_string_equal(member(o, "ca"), ONE);
        json_decref(o);
        (void)setenv("SSL_CERT_DIR", folder, 1);
        assert_int_equal(proxy_settings(&o, NULL), 0);
        assert_string_equal(member(o, "ca"), ONE TWO);
        json_decref(o);
}

static void missing_certificates_are_an_error(void **state) {
        const char *dir = *state;
        NB_AUTO_ERROR err = { 0 };
        json_t *o = NULL;
        (void)setenv("https_proxy", "https://proxy", 1);
        (void)setenv("SSL_CERT_FILE", "/nowhere", 1);
        assert_int_equal(proxy_settings(&o, &err), -ENOENT);
        assert_non_null(strstr(err.hint, "SSL_CERT_FILE"));
        NB_AUTO_FREE char *empty = file(dir, "empty", KEY);
        (void)setenv("SSL_CERT_FILE", empty, 1);
        assert_int_equal(proxy_settings(&o, &err), -ENOENT);
        (void)setenv("SSL_CERT_FILE", dir, 1); /* a folder */
        assert_int_equal(proxy_settings(&o, &err), -EINVAL);
        assert_null(o);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(none_is_none, begin, end),
                cmocka_unit_test_setup_teardown(lower_case_counts, begin, end),
                cmocka_unit_test_setup_teardown(a_bad_url_is_an_error_without_its_secret, begin, end),
                cmocka_unit_test_setup_teardown(only_certificates_are_taken, begin, end),
                cmocka_unit_test_setup_teardown(missing_certificates_are_an_error, begin, end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
