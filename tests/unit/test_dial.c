/* Unit tests of dialling: real sockets on this machine's loopback, an invented resolver, the real policy. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/impl.h"
#include "gateway/race.h"
#include "gateway/resolver_wire.h"

#define NAME "db.example"
#define WAIT_MS 30000u
#define TRIES 5 /* of which the quickest counts: any one may have had to wait for a processor */

struct lab {
        struct gateway g;
        int far;                       /* where the resolver would be */
        struct resolver_answer answer; /* of the resolver, to everything */
        unsigned questions;
        struct event asked;
        /* what came of a dial */
        bool over, refused;
        int fd, code;
        struct addr addr;
        char *reason;
};

static struct addr address(const char *text) {
        struct addr a;
        assert_int_equal(addr_parse(text, &a), 0);
        return a;
}

static void on_asked(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct lab *lab = user;
        uint8_t bytes[RESOLVER_REQUEST_MAX];
        struct resolver_request q;
        NB_AUTO_BUF b = { 0 };
        ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n <= 0)
                return;
        assert_int_equal(resolver_read_request(bytes, (size_t)n, &q), 0);
        lab->questions++;
        resolver_put_answer(&b, q.id, &lab->answer);
        assert_int_equal(send(fd, nb_buf_bytes(&b), b.len, 0), b.len);
}

static void tell_links(struct lab *lab, const char *network, unsigned bits) {
        struct resolver_links l = { 0 };
        NB_AUTO_BUF b = { 0 };
        struct addr a = address(network);
        resolver_links_add(&l, &a, bits);
        resolver_put_links(&b, &l);
        assert_int_equal(send(lab->far, nb_buf_bytes(&b), b.len, 0), b.len);
        (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
}

static int begin(void **state) {
        struct lab *lab = nb_calloc(1, sizeof *lab);
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        lab->far = pair[1];
        lab->fd = -1;
        lab->g.base = event_base_new();
        lab->g.policy = policy_new(POLICY_FILTERED);
        assert_int_equal(resolve_new(&lab->g, pair[0], &lab->g.resolve, NULL), 0);
        (void)event_assign(&lab->asked, lab->g.base, lab->far, EV_READ | EV_PERSIST, on_asked, lab);
        (void)event_add(&lab->asked, NULL);
        tell_links(lab, "127.0.0.0", 8);
        *state = lab;
        return 0;
}

static int end(void **state) {
        struct lab *lab = *state;
        (void)event_del(&lab->asked);
        resolve_free(lab->g.resolve);
        policy_free(lab->g.policy);
        event_base_free(lab->g.base);
        nb_close(lab->far);
        nb_close(lab->fd);
        free(lab->reason);
        free(lab);
        return 0;
}

static void rule(struct lab *lab, const char *text) {
        struct policy_rule r;
        assert_int_equal(policy_rule_parse(text, false, &r, NULL), 0);
        assert_int_equal(policy_add(lab->g.policy, &r, NULL), 0);
}

static void resolves_to(struct lab *lab, const char *text) {
        struct addr a = address(text);
        lab->answer.addrs[lab->answer.n_addrs++] = (struct resolver_addr){ .addr = a, .own = resolve_own(lab->g.resolve, &a) };
}

/* A listening socket; *port 0 chooses one. */
static int listener(const char *text, int backlog, uint16_t *port) {
        struct addr a = address(text);
        struct sockaddr_storage ss;
        socklen_t len = addr_to_sockaddr(&a, *port, &ss);
        int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
        assert_int_equal(listen(fd, backlog), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
        (void)addr_from_sockaddr((struct sockaddr *)&ss, &a, port);
        return fd;
}

static void on_done(void *user, const struct dial_result *r) {
        struct lab *lab = user;
        assert_false(lab->over);
        lab->over = true;
        lab->fd = r->fd;
        lab->code = r->code;
        lab->refused = r->refused_by_policy;
        lab->addr = r->addr;
        lab->reason = nb_strdup(r->reason);
}

static void wait_done(struct lab *lab) {
        uint64_t limit = nb_now_ms() + WAIT_MS;
        assert_false(lab->over);
        while (!lab->over && nb_now_ms() < limit)
                (void)event_base_loop(lab->g.base, EVLOOP_ONCE);
        assert_true(lab->over);
}

static void dial(struct lab *lab, const char *name, uint16_t port) {
        struct policy_decision found = policy_connect(lab->g.policy, name, port);
        assert_true(found.allow);
        (void)dial_name(&lab->g, name, port, &found, on_done, lab);
        wait_done(lab);
}

/* Forgets what came of the dial before. */
static void again(struct lab *lab) {
        lab->over = false;
        nb_close(lab->fd);
        lab->fd = -1;
        free(nb_steal(&lab->reason));
}

static char *with_port(const char *text, uint16_t port) {
        return nb_asprintf("%s:%u", text, (unsigned)port);
}

static bool was_connected(int listening) {
        int fd = accept(listening, NULL, NULL);
        nb_close(fd);
        return fd >= 0;
}

/* Dials again and again, each time to this listener in the end; how long that took at the least. */
static uint64_t least_ms(struct lab *lab, uint16_t port, int listening) {
        uint64_t least = UINT64_MAX;
        for (int i = 0; i < TRIES; i++) {
                uint64_t before = nb_now_ms();
                again(lab);
                dial(lab, NAME, port);
                uint64_t took = nb_now_ms() - before;
                assert_true(lab->fd >= 0);
                assert_true(was_connected(listening));
                least = took < least ? took : least;
        }
        return least;
}

/* ---- the order */

static void families_take_turns(void **state) {
        (void)state;
        static const char *const in[] = { "2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2" };
        static const char *const expect[] = { "2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3" };
        struct resolver_addr from[NB_ARRAY_LEN(in)], to[RACE_ADDRS_MAX];
        for (size_t i = 0; i < NB_ARRAY_LEN(in); i++)
                from[i] = (struct resolver_addr){ .addr = address(in[i]) };
        assert_int_equal(race_order(from, NB_ARRAY_LEN(in), to), NB_ARRAY_LEN(in));
        for (size_t i = 0; i < NB_ARRAY_LEN(in); i++) {
                struct addr a = address(expect[i]);
                assert_true(addr_equal(&to[i].addr, &a));
        }
        assert_int_equal(race_order(from, 0, to), 0);
}

static void not_all_of_many_are_tried(void **state) {
        (void)state;
        struct resolver_addr from[RESOLVER_ADDRS_MAX] = { 0 }, to[RACE_ADDRS_MAX];
        for (size_t i = 0; i < RESOLVER_ADDRS_MAX; i++) {
                from[i].addr = address("192.0.2.0");
                from[i].addr.bytes[3] = (uint8_t)i;
        }
        from[RESOLVER_ADDRS_MAX - 1].addr = address("2001:db8::1");
        assert_int_equal(race_order(from, RESOLVER_ADDRS_MAX, to), RACE_ADDRS_MAX);
        assert_int_equal(to[1].addr.family, AF_INET6);
        assert_int_equal(to[7].addr.bytes[3], 6);
}

/* ---- names */

static void a_name_is_connected_to(void **state) {
        struct lab *lab = *state;
        uint16_t port = 0;
        NB_AUTO_CLOSE int l = listener("127.0.0.1", 8, &port);
        NB_AUTO_FREE char *name = with_port(NAME, port), *range = with_port("127.0.0.0/8", port);
        rule(lab, name);
        rule(lab, range);
        resolves_to(lab, "127.0.0.1");
        dial(lab, NAME, port);
        assert_int_equal(lab->questions, 1);
        assert_true(lab->fd >= 0);
        assert_true(was_connected(l));
        struct addr a = address("127.0.0.1");
        assert_true(addr_equal(&lab->addr, &a));
}

static void no_packet_goes_to_what_is_not_allowed(void **state) {
        struct lab *lab = *state;
        uint16_t port = 0;
        NB_AUTO_CLOSE int l = listener("127.0.0.1", 8, &port);
        NB_AUTO_FREE char *name = with_port(NAME, port);
        rule(lab, name);
        resolves_to(lab, "127.0.0.1");
        dial(lab, NAME, port);
        assert_int_equal(lab->fd, -1);
        assert_true(lab->refused);
        assert_int_equal(lab->code, EACCES);
        assert_non_null(strstr(lab->reason, NAME " resolves to 127.0.0.1, "));
        assert_null(strstr(lab->reason, "private: true")); /* no way to loopback */
        assert_false(was_connected(l));
}

static void a_private_result_says_how_to_allow_it(void **state) {
        struct lab *lab = *state;
        rule(lab, NAME ":5432");
        resolves_to(lab, "10.1.2.3");
        dial(lab, NAME, 5432);
        assert_true(lab->refused);
        assert_string_equal(lab->reason, NAME " resolves to 10.1.2.3, a private address; allow it with {host: " NAME
                                              ", ports: [5432], private: true}");
}

static void an_allowed_one_among_others_is_taken(void **state) {
        struct lab *lab = *state;
        uint16_t port = 0;
        NB_AUTO_CLOSE int bad = listener("127.0.0.1", 8, &port);
        NB_AUTO_CLOSE int good = listener("127.0.0.2", 8, &port);
        NB_AUTO_FREE char *name = with_port(NAME, port), *range = with_port("127.0.0.2/32", port);
        rule(lab, name);
        rule(lab, range);
        resolves_to(lab, "127.0.0.1");
        resolves_to(lab, "10.0.0.1");
        resolves_to(lab, "169.254.169.254");
        resolves_to(lab, "127.0.0.2");
        dial(lab, NAME, port);
        assert_true(lab->fd >= 0);
        assert_false(was_connected(bad));
        assert_true(was_connected(good));
}

static void a_refusing_address_is_left_at_once(void **state) {
        struct lab *lab = *state;
        uint16_t port = 0;
        NB_AUTO_CLOSE int l = listener("127.0.0.2", 8, &port);
        NB_AUTO_FREE char *name = with_port(NAME, port), *range = with_port("127.0.0.0/8", port);
        rule(lab, name);
        rule(lab, range);
        resolves_to(lab, "127.0.0.1");
        resolves_to(lab, "127.0.0.2");
        assert_true(least_ms(lab, port, l) < RACE_STEP_MS);
}

/* Fills a listener's queue: what comes then gets no answer. Returns how many connections hold it. */
static size_t fill_queue(const char *text, uint16_t port, int *fds, size_t max) {
        struct addr a = address(text);
        struct sockaddr_storage ss;
        socklen_t len = addr_to_sockaddr(&a, port, &ss);
        for (size_t i = 0; i < max; i++) {
                fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                (void)connect(fds[i], (struct sockaddr *)&ss, len);
        }
        return max;
}

static void a_silent_address_is_not_waited_for(void **state) {
        struct lab *lab = *state;
        uint16_t port = 0;
        int fds[4];
        NB_AUTO_CLOSE int silent = listener("127.0.0.1", 0, &port);
        NB_AUTO_CLOSE int l = listener("127.0.0.2", 8, &port);
        NB_AUTO_FREE char *name = with_port(NAME, port), *range = with_port("127.0.0.0/8", port);
        size_t n = fill_queue("127.0.0.1", port, fds, NB_ARRAY_LEN(fds));
        rule(lab, name);
        rule(lab, range);
        resolves_to(lab, "127.0.0.1");
        resolves_to(lab, "127.0.0.2");
        assert_in_range(least_ms(lab, port, l), RACE_STEP_MS - 10, 4 * RACE_STEP_MS);
        while (n > 0)
                nb_close(fds[--n]);
        assert_true(was_connected(silent)); /* by those that filled it */
}

static void failures_say_why(void **state) {
        struct lab *lab = *state;
        uint16_t port = 0;
        int l = listener("127.0.0.1", 1, &port);
        nb_close(l);
        NB_AUTO_FREE char *name = with_port(NAME, port), *range = with_port("127.0.0.0/8", port);
        rule(lab, name);
        rule(lab, range);
        resolves_to(lab, "127.0.0.1");
        dial(lab, NAME, port);
        assert_int_equal(lab->code, ECONNREFUSED);
        assert_false(lab->refused);
        again(lab);
        lab->answer = (struct resolver_answer){ .status = RESOLVER_NONE };
        dial(lab, NAME, port);
        assert_int_equal(lab->code, EHOSTUNREACH);
        assert_string_equal(lab->reason, NAME " does not exist");
}

static void a_cancelled_dial_is_silent(void **state) {
        struct lab *lab = *state;
        rule(lab, NAME ":443");
        struct policy_decision found = policy_connect(lab->g.policy, NAME, 443);
        struct dial *asking = dial_name(&lab->g, NAME, 443, &found, on_done, lab);
        dial_cancel(asking);
        struct addr a = address("10.0.0.1");
        dial_cancel(dial_address(&lab->g, &a, 443, on_done, lab));
        for (int i = 0; i < 5; i++)
                (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
        assert_false(lab->over);
}

/* ---- the host */

static void the_host_is_its_loopback(void **state) {
        struct lab *lab = *state;
        uint16_t port = 0;
        NB_AUTO_CLOSE int l = listener("127.0.0.1", 8, &port);
        NB_AUTO_FREE char *name = with_port(POLICY_HOST, port);
        rule(lab, name);
        dial(lab, POLICY_HOST, port);
        assert_int_equal(lab->questions, 0);
        assert_true(lab->fd >= 0);
        assert_true(was_connected(l));
}

static void an_address_needs_its_rule(void **state) {
        struct lab *lab = *state;
        uint16_t port = 0;
        NB_AUTO_CLOSE int l = listener("127.0.0.1", 8, &port);
        struct addr a = address("127.0.0.1");
        (void)dial_address(&lab->g, &a, port, on_done, lab);
        wait_done(lab);
        assert_true(lab->refused);
        assert_false(was_connected(l));
        lab->over = false;
        free(nb_steal(&lab->reason));
        NB_AUTO_FREE char *range = with_port("127.0.0.1/32", port);
        rule(lab, range);
        (void)dial_address(&lab->g, &a, port, on_done, lab);
        wait_done(lab);
        assert_true(lab->fd >= 0);
}

static void mode_open_does_not_reach_own_networks(void **state) {
        struct lab *lab = *state;
        lab->g.policy->mode = POLICY_OPEN;
        tell_links(lab, "8.8.8.0", 24); /* say, this host is at 8.8.8.1 */
        struct addr a = address("8.8.8.8");
        (void)dial_address(&lab->g, &a, 53, on_done, lab);
        wait_done(lab);
        assert_true(lab->refused);
        assert_non_null(strstr(lab->reason, "own network"));
}

/* Alone in a network namespace, with a public address on the loopback device. */
static bool own_network(const char *text) {
        struct ifreq r = { 0 };
        struct sockaddr_in in = { .sin_family = AF_INET };
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 && unshare(CLONE_NEWNET) < 0)
                return false;
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM, 0);
        (void)inet_pton(AF_INET, text, &in.sin_addr);
        (void)snprintf(r.ifr_name, sizeof r.ifr_name, "lo");
        r.ifr_flags = IFF_UP;
        if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
                return false;
        (void)snprintf(r.ifr_name, sizeof r.ifr_name, "lo:1");
        memcpy(&r.ifr_addr, &in, sizeof in);
        return ioctl(fd, SIOCSIFADDR, &r) == 0;
}

#define NO_NAMESPACE 77

static void an_unlisted_own_address_is_found_out(void **state) {
        pid_t pid = fork();
        if (pid == 0) {
                struct lab *lab = *state;
                uint16_t port = 0;
                if (!own_network("8.8.8.8"))
                        _exit(NO_NAMESPACE);
                NB_AUTO_CLOSE int l = listener("8.8.8.8", 8, &port);
                NB_AUTO_FREE char *name = with_port(NAME, port);
                (void)event_reinit(lab->g.base);
                rule(lab, name);
                resolves_to(lab, "8.8.8.8");
                dial(lab, NAME, port);
                _exit(was_connected(l) && lab->fd < 0 && lab->refused && strstr(lab->reason, "the host's own network") ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NO_NAMESPACE)
                skip();
        assert_int_equal(status, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(families_take_turns),
                cmocka_unit_test(not_all_of_many_are_tried),
                cmocka_unit_test_setup_teardown(a_name_is_connected_to, begin, end),
                cmocka_unit_test_setup_teardown(no_packet_goes_to_what_is_not_allowed, begin, end),
                cmocka_unit_test_setup_teardown(a_private_result_says_how_to_allow_it, begin, end),
                cmocka_unit_test_setup_teardown(an_allowed_one_among_others_is_taken, begin, end),
                cmocka_unit_test_setup_teardown(a_refusing_address_is_left_at_once, begin, end),
                cmocka_unit_test_setup_teardown(a_silent_address_is_not_waited_for, begin, end),
                cmocka_unit_test_setup_teardown(failures_say_why, begin, end),
                cmocka_unit_test_setup_teardown(a_cancelled_dial_is_silent, begin, end),
                cmocka_unit_test_setup_teardown(the_host_is_its_loopback, begin, end),
                cmocka_unit_test_setup_teardown(an_address_needs_its_rule, begin, end),
                cmocka_unit_test_setup_teardown(mode_open_does_not_reach_own_networks, begin, end),
                cmocka_unit_test_setup_teardown(an_unlisted_own_address_is_found_out, begin, end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
