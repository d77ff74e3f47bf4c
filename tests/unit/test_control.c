/* Unit tests of src/box/control.c: lines of JSON on a socket, exactly one at a time. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/control.h"

static void pair(int ret[2]) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret), 0);
}

static void test_read_stops_at_the_newline(void **state) {
        (void)state;
        static const char text[] = "{\"ok\": true, \"session\": 7}\nframes follow";
        int fd[2];
        pair(fd);
        assert_int_equal(nb_write_all(fd[1], text, sizeof text - 1), 0);
        json_t *answer = NULL;
        assert_int_equal(control_read(fd[0], &answer, NULL), 0);
        assert_int_equal(json_integer_value(json_object_get(answer, "session")), 7);
        json_decref(answer);
        char rest[32] = { 0 };
        assert_int_equal(read(fd[0], rest, sizeof rest), 13);
        assert_string_equal(rest, "frames follow");
        nb_close(fd[0]);
        nb_close(fd[1]);
}

static void test_a_refusal_becomes_an_error_with_its_hint(void **state) {
        (void)state;
        static const char text[] = "{\"ok\":false,\"code\":16,\"error\":\"in use\",\"hint\":\"--force\"}\n";
        int fd[2];
        pair(fd);
        assert_int_equal(nb_write_all(fd[1], text, sizeof text - 1), 0);
        json_t *request = json_pack("{s:s}", "op", "unmount");
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(control_call(fd[0], request, NULL, 0, NULL, &err), -EBUSY);
        assert_string_equal(err.what, "in use");
        assert_string_equal(err.hint, "--force");
        char sent[64] = { 0 };
        assert_int_equal(read(fd[1], sent, sizeof sent), 17);
        assert_string_equal(sent, "{\"op\":\"unmount\"}\n");
        json_decref(request);
        nb_close(fd[0]);
        nb_close(fd[1]);
}

static void test_descriptors_travel_with_the_request(void **state) {
        (void)state;
        int fd[2], got[2];
        size_t n = 2;
        char line[64];
        pair(fd);
        json_t *request = json_pack("{s:s}", "op", "mount");
        assert_int_equal(control_send(fd[0], request, fd, 2, NULL), 0);
        assert_true(nb_recv_fds(fd[1], line, sizeof line, got, &n) > 0);
        assert_int_equal(n, 2);
        nb_close(got[0]);
        nb_close(got[1]);
        json_decref(request);
        nb_close(fd[0]);
        nb_close(fd[1]);
}

static void test_bad_lines(void **state) {
        (void)state;
        static const char *const bad[] = { "[1]\n", "{\"a\":1,\"a\":2}\n", "nonsense\n", "\n", "{\"ok\":true}" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                int fd[2];
                pair(fd);
                assert_int_equal(nb_write_all(fd[1], bad[i], strlen(bad[i])), 0);
                nb_close(fd[1]);
                json_t *answer = NULL;
                NB_AUTO_ERROR err = { 0 };
                assert_true(control_read(fd[0], &answer, &err) < 0);
                assert_non_null(err.what);
                assert_null(answer);
                nb_close(fd[0]);
        }
}

static void test_an_endless_line_is_refused(void **state) {
        (void)state;
        int fd[2];
        pair(fd);
        size_t len = CONTROL_LINE_MAX + 8192;
        int size = (int)(2 * len);
        (void)setsockopt(fd[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
        (void)nb_set_nonblock(fd[1], true);
        (void)nb_set_nonblock(fd[0], true);
        NB_AUTO_FREE char *text = nb_calloc(len, 1);
        memset(text, 'x', len);
        ssize_t n = write(fd[1], text, len);
        json_t *answer = NULL;
        int r = control_read(fd[0], &answer, NULL);
        assert_int_equal(r, n == (ssize_t)len ? -EMSGSIZE : -EAGAIN); /* a small socket buffer cannot hold it all */
        nb_close(fd[0]);
        nb_close(fd[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_read_stops_at_the_newline),
                cmocka_unit_test(test_a_refusal_becomes_an_error_with_its_hint),
                cmocka_unit_test(test_descriptors_travel_with_the_request),
                cmocka_unit_test(test_bad_lines),
                cmocka_unit_test(test_an_endless_line_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
