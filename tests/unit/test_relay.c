/* Unit tests of the relay: bytes both ways, half-closes, slow receivers, resets, inspection that holds back, and ends. Over
 * pairs of Unix sockets, and over loopback TCP where it matters what kind of end the other side sees. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/impl.h"

#define WAIT_MS 20000 /* longer than any of the kernel's timers that a full buffer may start */
#define MUCH (3u * 1024u * 1024u)
#define BUFFER (64 * 1024) /* of each socket */

struct world {
        struct event_base *base;
        int client, server; /* the far ends of what the relay joins */
        struct relay *relay;
        uint64_t up, down;
        int code;
        unsigned dones, halves;
        uint64_t stop_after; /* moved() says no from here on; 0: never */
        ssize_t (*look)(struct world *w, const uint8_t *bytes, size_t len);
        bool open_gate; /* of look_gate() */
        size_t seen_down;
        int taken; /* done() takes side a out */
        bool take;
};

static bool on_moved(void *user, uint64_t up, uint64_t down) {
        struct world *w = user;
        w->up += up;
        w->down += down;
        return w->stop_after == 0 || w->up < w->stop_after;
}

static void on_done(void *user, int code) {
        struct world *w = user;
        w->code = code;
        w->dones++;
        w->taken = w->take ? relay_take(w->relay) : -1;
}

static void on_half(void *user) {
        struct world *w = user;
        w->halves++;
}

static ssize_t on_look(void *user, const uint8_t *bytes, size_t len) {
        struct world *w = user;
        return w->look(w, bytes, len);
}

static bool on_down(void *user, const uint8_t *bytes, size_t len) {
        struct world *w = user;
        w->seen_down += len;
        if (len > 0 && bytes[0] == '!')
                w->open_gate = true;
        return len != 6 || memcmp(bytes, "# stop", 6) != 0;
}

static void tcp_pair(int ret[2]) {
        struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof sin;
        NB_AUTO_CLOSE int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(listener >= 0);
        assert_int_equal(bind(listener, (struct sockaddr *)&sin, len), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *)&sin, &len), 0);
        ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(ret[0], (struct sockaddr *)&sin, len), 0);
        ret[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(ret[1] >= 0);
}

static void begin(struct world *w, bool tcp, const char *first) {
        int a[2], b[2];
        w->base = event_base_new();
        if (tcp) {
                tcp_pair(a);
                tcp_pair(b);
        } else {
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
        }
        for (int i = 0; i < 4; i++) {
                int fd = i < 2 ? a[i] : b[i - 2], size = BUFFER;
                assert_int_equal(nb_set_nonblock(fd, true), 0);
                assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
                assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
        }
        struct relay_ops ops = { .moved = on_moved, .done = on_done, .half = on_half, .user = w };
        if (w->look) {
                ops.inspect_up = on_look;
                ops.inspect_down = on_down;
        }
        w->client = a[1];
        w->server = b[1];
        w->relay = relay_new(w->base, a[0], b[0], first, first ? strlen(first) : 0, &ops);
}

static void turn(struct world *w) {
        (void)event_base_loop(w->base, EVLOOP_NONBLOCK);
}

/* For what must not happen. */
static void turns(struct world *w) {
        for (uint64_t until = nb_now_ms() + 20; nb_now_ms() < until;)
                turn(w);
}

static void end(struct world *w) {
        if (w->dones == 0)
                relay_end(w->relay, false);
        nb_close(w->client);
        nb_close(w->server);
        nb_close(w->taken > 0 ? w->taken : -1);
        event_base_free(w->base);
}

/* Receives once something is there; 0 at the end, -errno. */
static ssize_t wait_for(struct world *w, int fd, void *bytes, size_t len) {
        ssize_t n = -1;
        errno = EAGAIN;
        for (uint64_t until = nb_now_ms() + WAIT_MS; n < 0 && errno == EAGAIN && nb_now_ms() < until;) {
                turn(w);
                n = recv(fd, bytes, len, 0);
        }
        return n < 0 ? -errno : n;
}

static void expect(struct world *w, int fd, const char *text) {
        char got[256] = { 0 };
        for (size_t len = 0; len < strlen(text);) {
                ssize_t n = wait_for(w, fd, got + len, strlen(text) - len);
                assert_true(n > 0);
                len += (size_t)n;
        }
        assert_string_equal(got, text);
}

static void say(int fd, const char *text) {
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void expect_end(struct world *w, int fd) {
        char c;
        assert_int_equal(wait_for(w, fd, &c, 1), 0);
}

static void expect_reset(struct world *w, int fd) {
        char c;
        assert_int_equal(wait_for(w, fd, &c, 1), -ECONNRESET);
}

static void expect_nothing(struct world *w, int fd) {
        char c;
        turns(w);
        assert_int_equal(recv(fd, &c, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
}

static void expect_done(struct world *w, int code) {
        for (uint64_t until = nb_now_ms() + WAIT_MS; w->dones == 0 && nb_now_ms() < until;)
                turn(w);
        assert_int_equal(w->dones, 1);
        assert_int_equal(w->code, code);
}

static void test_both_ways_and_half_closes(void **state) {
        for (int tcp = 0; tcp < 2; tcp++) {
                struct world w = { 0 };
                begin(&w, tcp, NULL);
                say(w.client, "question");
                expect(&w, w.server, "question");
                assert_int_equal(shutdown(w.client, SHUT_WR), 0);
                expect_end(&w, w.server);
                assert_int_equal(w.halves, 1);
                say(w.server, "the answer ");
                expect(&w, w.client, "the answer ");
                say(w.server, "in two parts");
                expect(&w, w.client, "in two parts");
                assert_int_equal(w.dones, 0);
                assert_int_equal(shutdown(w.server, SHUT_WR), 0);
                expect_end(&w, w.client);
                assert_int_equal(w.dones, 1);
                assert_int_equal(w.code, 0);
                assert_int_equal(w.halves, 1);
                assert_int_equal(w.up, 8);
                assert_int_equal(w.down, 23);
                end(&w);
        }
        (void)state;
}

static void test_server_ends_first(void **state) {
        struct world w = { 0 };
        begin(&w, true, NULL);
        say(w.server, "bye");
        assert_int_equal(shutdown(w.server, SHUT_WR), 0);
        expect(&w, w.client, "bye");
        expect_end(&w, w.client);
        say(w.client, "still here");
        expect(&w, w.server, "still here");
        assert_int_equal(shutdown(w.client, SHUT_WR), 0);
        expect_end(&w, w.server);
        expect_done(&w, 0);
        end(&w);
        (void)state;
}

static void test_first_bytes(void **state) {
        struct world w = { 0 };
        begin(&w, false, "before ");
        say(w.client, "after");
        expect(&w, w.server, "before after");
        assert_int_equal(w.up, 12);
        end(&w);
        (void)state;
}

static uint8_t pattern(size_t at) {
        return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

/* One end sends much, the other reads in steps of `step` bytes, with pauses. */
static void much(struct world *w, int from, int to, size_t step) {
        size_t sent = 0, got = 0;
        bool full = false;
        for (uint64_t until = nb_now_ms() + WAIT_MS; got < MUCH && nb_now_ms() < until;) {
                uint8_t bytes[65536];
                size_t len = 0;
                while (len < sizeof bytes && sent + len < MUCH) {
                        bytes[len] = pattern(sent + len);
                        len++;
                }
                ssize_t n = len > 0 ? send(from, bytes, len, MSG_NOSIGNAL) : 0;
                full = full || n < 0;
                sent += n > 0 ? (size_t)n : 0;
                turn(w);
                if (sent < MUCH && !full) /* the reader wakes up when everything is full */
                        continue;
                n = recv(to, bytes, step, 0);
                for (ssize_t i = 0; i < n; i++)
                        assert_int_equal(bytes[i], pattern(got + (size_t)i));
                got += n > 0 ? (size_t)n : 0;
        }
        assert_true(full);
        assert_int_equal(got, MUCH);
}

static ssize_t look_pass(struct world *w, const uint8_t *bytes, size_t len) {
        (void)w;
        (void)bytes;
        return (ssize_t)len;
}

/* Passes at most 1000 bytes at a time, and nothing of fewer than 10. */
static ssize_t look_pieces(struct world *w, const uint8_t *bytes, size_t len) {
        (void)w;
        (void)bytes;
        return len < 10 ? 0 : len > 1000 ? 1000 : (ssize_t)len;
}

static void test_slow_receivers(void **state) {
        ssize_t (*const looks[])(struct world *, const uint8_t *, size_t) = { NULL, look_pass, look_pieces };
        for (size_t i = 0; i < NB_ARRAY_LEN(looks); i++) {
                for (int tcp = 0; tcp < 2; tcp++) {
                        struct world w = { .look = looks[i] };
                        begin(&w, tcp, NULL);
                        much(&w, w.client, w.server, 50000);
                        much(&w, w.server, w.client, 7001);
                        assert_int_equal(w.up, MUCH);
                        assert_int_equal(w.down, MUCH);
                        assert_int_equal(w.dones, 0);
                        assert_int_equal(shutdown(w.client, SHUT_RDWR), 0);
                        assert_int_equal(shutdown(w.server, SHUT_RDWR), 0);
                        expect_done(&w, 0);
                        end(&w);
                }
        }
        (void)state;
}

static void test_end_after_slow_receiver(void **state) {
        struct world w = { 0 };
        begin(&w, true, NULL);
        uint8_t bytes[4096] = { 0 };
        size_t sent = 0, got = 0;
        ssize_t n;
        for (unsigned i = 0; i < 4000; i++) {
                sent += (n = send(w.server, bytes, sizeof bytes, MSG_NOSIGNAL)) > 0 ? (size_t)n : 0;
                turn(&w);
        }
        assert_int_equal(shutdown(w.server, SHUT_WR), 0);
        assert_int_equal(shutdown(w.client, SHUT_WR), 0);
        turns(&w);
        assert_int_equal(w.dones, 0); /* what was sent is not lost */
        for (uint64_t until = nb_now_ms() + WAIT_MS; w.dones == 0 && nb_now_ms() < until;) {
                turn(&w);
                got += (n = recv(w.client, bytes, sizeof bytes, 0)) > 0 ? (size_t)n : 0;
        }
        while ((n = recv(w.client, bytes, sizeof bytes, 0)) > 0)
                got += (size_t)n;
        assert_int_equal(n, 0);
        assert_int_equal(got, sent);
        assert_int_equal(w.code, 0);
        end(&w);
        (void)state;
}

static void test_reset_is_passed_on(void **state) {
        struct linger now = { .l_onoff = 1 };
        for (int side = 0; side < 2; side++) {
                struct world w = { 0 };
                begin(&w, true, NULL);
                int *goes = side ? &w.server : &w.client, stays = side ? w.client : w.server;
                assert_int_equal(setsockopt(*goes, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
                *goes = nb_close(*goes);
                expect_reset(&w, stays);
                assert_int_equal(w.dones, 1);
                assert_int_equal(w.code, -ECONNRESET);
                end(&w);
        }
        (void)state;
}

static void test_answer_of_a_server_that_takes_no_more(void **state) {
        struct world w = { 0 };
        begin(&w, true, NULL);
        say(w.server, "413 too much");
        say(w.client, "request");
        w.server = nb_close(w.server);
        turn(&w);
        say(w.client, "rest of it");
        expect(&w, w.client, "413 too much");
        end(&w);
        (void)state;
}

static void test_moved_says_no(void **state) {
        struct world w = { .stop_after = 10 };
        begin(&w, true, NULL);
        say(w.client, "12345678");
        expect(&w, w.server, "12345678");
        say(w.client, "9abc");
        expect_done(&w, -ECANCELED);
        expect_reset(&w, w.client);
        end(&w);
        (void)state;
}

/* "go" lines pass, up to and with the newline; "no" ends; else more is needed. */
static ssize_t look_lines(struct world *w, const uint8_t *bytes, size_t len) {
        (void)w;
        const uint8_t *end_of_line = memchr(bytes, '\n', len);
        if (!end_of_line)
                return 0;
        return memcmp(bytes, "no", 2) == 0 ? -EACCES : end_of_line - bytes + 1;
}

static void test_inspection_holds_back(void **state) {
        struct world w = { .look = look_lines };
        begin(&w, true, "g");
        turns(&w);
        say(w.client, "o one");
        expect_nothing(&w, w.server);
        say(w.client, "\ngo t");
        expect(&w, w.server, "go one\n");
        say(w.server, "server speaks meanwhile");
        expect(&w, w.client, "server speaks meanwhile");
        assert_int_equal(w.seen_down, 23);
        say(w.client, "wo\ngo three\ngo fo");
        expect(&w, w.server, "go two\ngo three\n");
        say(w.client, "ur\nno five\n");
        expect(&w, w.server, "go four\n");
        expect_done(&w, -EACCES);
        expect_reset(&w, w.client);
        end(&w);
        (void)state;
}

static void test_end_in_the_middle_of_what_is_held(void **state) {
        struct world w = { .look = look_lines };
        begin(&w, true, NULL);
        say(w.client, "go one\ngo");
        assert_int_equal(shutdown(w.client, SHUT_WR), 0);
        expect_done(&w, -EPROTO);
        end(&w);
        (void)state;
}

static ssize_t look_gate(struct world *w, const uint8_t *bytes, size_t len) {
        (void)bytes;
        return w->open_gate ? (ssize_t)len : 0;
}

static void test_server_opens_the_gate(void **state) {
        struct world w = { .look = look_gate };
        begin(&w, true, NULL);
        uint8_t bytes[1000];
        memset(bytes, 'x', sizeof bytes);
        size_t sent = 0;
        for (unsigned i = 0; i < 3000; i++) {
                ssize_t n = send(w.client, bytes, sizeof bytes, MSG_NOSIGNAL);
                sent += n > 0 ? (size_t)n : 0;
                turn(&w);
        }
        assert_true(sent > RELAY_HOLD);
        expect_nothing(&w, w.server);
        say(w.server, "!");
        expect(&w, w.client, "!");
        assert_int_equal(shutdown(w.client, SHUT_WR), 0);
        size_t got = 0;
        ssize_t n = -1;
        for (uint64_t until = nb_now_ms() + WAIT_MS; n != 0 && nb_now_ms() < until;) {
                turn(&w);
                got += (n = recv(w.server, bytes, sizeof bytes, 0)) > 0 ? (size_t)n : 0;
        }
        assert_int_equal(got, sent);
        end(&w);
        (void)state;
}

static void test_inspection_of_what_comes_down(void **state) {
        struct world w = { .look = look_pass };
        begin(&w, true, NULL);
        say(w.server, "# stop");
        expect_done(&w, -ECANCELED);
        end(&w);
        (void)state;
}

static void test_last_word_to_the_client(void **state) {
        struct world w = { .look = look_lines, .take = true };
        begin(&w, true, NULL);
        say(w.client, "no\n");
        expect_done(&w, -EACCES);
        assert_true(w.taken >= 0);
        say(w.taken, "403");
        w.taken = nb_close(w.taken);
        expect(&w, w.client, "403");
        expect_end(&w, w.client);
        end(&w);
        (void)state;
}

static void test_ended_from_outside(void **state) {
        struct world w = { 0 };
        begin(&w, true, "held back");
        relay_end(w.relay, true);
        w.dones = 1; /* for end() */
        expect_reset(&w, w.client);
        expect_reset(&w, w.server);
        end(&w);
        (void)state;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_both_ways_and_half_closes),
                cmocka_unit_test(test_server_ends_first),
                cmocka_unit_test(test_first_bytes),
                cmocka_unit_test(test_slow_receivers),
                cmocka_unit_test(test_end_after_slow_receiver),
                cmocka_unit_test(test_reset_is_passed_on),
                cmocka_unit_test(test_answer_of_a_server_that_takes_no_more),
                cmocka_unit_test(test_moved_says_no),
                cmocka_unit_test(test_inspection_holds_back),
                cmocka_unit_test(test_end_in_the_middle_of_what_is_held),
                cmocka_unit_test(test_server_opens_the_gate),
                cmocka_unit_test(test_inspection_of_what_comes_down),
                cmocka_unit_test(test_last_word_to_the_client),
                cmocka_unit_test(test_ended_from_outside),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
