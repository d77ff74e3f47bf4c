/* Unit tests of the resolver: its messages, the gateway's side with an invented resolver at the other end, and the process
 * itself, which is asked for a name that every host has. */
#include <arpa/nameser.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/impl.h"
#include "gateway/resolver_wire.h"

#define NO_NAMESPACE 77

static struct addr address(const char *text) {
        struct addr a;
        assert_int_equal(addr_parse(text, &a), 0);
        return a;
}

/* ---- messages */

static void requests_come_back(void **state) {
        (void)state;
        struct resolver_request q = { .id = 0xfeedbeef, .type = ns_t_mx, .name = "a.example" }, back;
        NB_AUTO_BUF b = { 0 };
        resolver_put_request(&b, &q);
        assert_int_equal(resolver_read_request(nb_buf_bytes(&b), b.len, &back), 0);
        assert_int_equal(back.id, q.id);
        assert_int_equal(back.type, ns_t_mx);
        assert_string_equal(back.name, "a.example");
}

static void only_canonical_names_are_asked_for(void **state) {
        (void)state;
        static const struct {
                const char *name;
                size_t len;
        } bad[] = { { "A.example", 9 },   { "a.example.", 10 }, { "", 0 },     { "a b", 3 },  { "a\0b", 3 },
                    { "10.0.0.1", 8 },    { "0x7f.1", 6 },      { "-a.b", 4 }, { "a..b", 4 }, { "\xc3\xa4.de", 5 },
                    { "a.example\n", 10 } };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                uint8_t bytes[64] = { 1, 0, 0, 0, 0, 0 };
                struct resolver_request q;
                memcpy(bytes + 6, bad[i].name, bad[i].len);
                assert_int_equal(resolver_read_request(bytes, 6 + bad[i].len, &q), -EPROTO);
        }
        static const uint16_t types[] = { ns_t_opt, 249, ns_t_ixfr, ns_t_axfr, ns_t_any };
        for (size_t i = 0; i < NB_ARRAY_LEN(types); i++) {
                struct resolver_request q = { .type = types[i], .name = "a.example" };
                NB_AUTO_BUF b = { 0 };
                resolver_put_request(&b, &q);
                assert_int_equal(resolver_read_request(nb_buf_bytes(&b), b.len, &q), -EPROTO);
        }
}

static void answers_come_back(void **state) {
        (void)state;
        static const uint8_t text[] = "\5hello";
        struct resolver_answer a = { .status = RESOLVER_OK, .n_addrs = 2, .n_records = 1 }, back;
        a.addrs[0] = (struct resolver_addr){ .addr = address("192.0.2.1") };
        a.addrs[1] = (struct resolver_addr){ .addr = address("2001:db8::1"), .own = true };
        a.records[0] = (struct resolver_record){ .ttl = 300, .type = ns_t_txt, .len = 6, .rdata = text };
        NB_AUTO_BUF b = { 0 };
        uint32_t id = 0;
        resolver_put_answer(&b, 7, &a);
        assert_int_equal(resolver_read_answer(nb_buf_bytes(&b), b.len, &id, &back), 0);
        assert_int_equal(id, 7);
        assert_int_equal(back.n_addrs, 2);
        assert_true(addr_equal(&back.addrs[0].addr, &a.addrs[0].addr) && !back.addrs[0].own);
        assert_true(addr_equal(&back.addrs[1].addr, &a.addrs[1].addr) && back.addrs[1].own);
        assert_int_equal(back.n_records, 1);
        assert_int_equal(back.records[0].ttl, 300);
        assert_memory_equal(back.records[0].rdata, text, 6);
        for (size_t cut = 0; cut < b.len; cut++)
                assert_int_equal(resolver_read_answer(nb_buf_bytes(&b), cut, &id, &back), -EPROTO);
        nb_buf_add(&b, "x", 1);
        assert_int_equal(resolver_read_answer(nb_buf_bytes(&b), b.len, &id, &back), -EPROTO);
}

static void long_answers_are_cut_at_a_record(void **state) {
        (void)state;
        static const uint8_t bytes[RESOLVER_RDATA_MAX];
        struct resolver_answer a = { .n_records = RESOLVER_RECORDS_MAX }, back;
        for (size_t i = 0; i < a.n_records; i++)
                a.records[i] = (struct resolver_record){ .type = ns_t_txt, .len = sizeof bytes, .rdata = bytes };
        NB_AUTO_BUF b = { 0 };
        uint32_t id;
        resolver_put_answer(&b, 1, &a);
        assert_true(b.len <= RESOLVER_MESSAGE_MAX);
        assert_int_equal(resolver_read_answer(nb_buf_bytes(&b), b.len, &id, &back), 0);
        assert_int_equal(back.n_records, 15);
}

static void links_hold_their_networks(void **state) {
        (void)state;
        struct resolver_links l = { 0 }, back;
        struct addr lan = address("192.0.2.17"), loop = address("127.0.0.1"), far = address("2001:db8:1::5");
        resolver_links_add(&l, &loop, 8);
        resolver_links_add(&l, &lan, 24);
        resolver_links_add(&l, &lan, 32); /* inside already */
        resolver_links_add(&l, &far, 128);
        resolver_links_add(&l, &far, 64);
        assert_int_equal(l.n, 4);
        static const char *const in[] = { "192.0.2.255", "127.9.9.9", "2001:db8:1::5", "2001:db8:1::6", "::ffff:192.0.2.1" };
        static const char *const out[] = { "192.0.3.1", "198.51.100.1", "2001:db8:2::1", "128.0.0.1" };
        for (size_t i = 0; i < NB_ARRAY_LEN(in); i++) {
                struct addr a = address(in[i]);
                assert_true(resolver_links_hold(&l, &a));
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(out); i++) {
                struct addr a = address(out[i]);
                assert_false(resolver_links_hold(&l, &a));
        }
        NB_AUTO_BUF b = { 0 };
        resolver_put_links(&b, &l);
        assert_int_equal(resolver_read_links(nb_buf_bytes(&b), b.len, &back), 0);
        assert_true(resolver_links_equal(&l, &back));
        for (size_t cut = 0; cut < b.len; cut++)
                assert_int_equal(resolver_read_links(nb_buf_bytes(&b), cut, &back), -EPROTO);
}

static void too_many_links_hold_everything(void **state) {
        (void)state;
        struct resolver_links l = { 0 };
        struct addr a = address("10.0.0.0"), other = address("8.8.8.8");
        for (size_t i = 0; i <= RESOLVER_LINKS_MAX; i++) {
                a.bytes[1] = (uint8_t)i;
                a.bytes[2] = (uint8_t)(i >> 8);
                assert_false(resolver_links_hold(&l, &other));
                resolver_links_add(&l, &a, 24);
        }
        assert_true(resolver_links_hold(&l, &other));
}

static void names_in_records_are_expanded(void **state) {
        (void)state;
        static const uint8_t message[] = {
                0,    1,   0x81, 0x80, 0,   1,   0,   2,   0,   0,   0, 0,                                 /* */
                1,    'a', 7,    'e',  'x', 'a', 'm', 'p', 'l', 'e', 0, 0, 15,  0,  1,                     /* a.example MX */
                0xc0, 12,  0,    15,   0,   1,   0,   0,   1,   44,  0, 7, 0,   10, 2, 'm', 'x', 0xc0, 14, /* 10 mx.example */
                0xc0, 12,  0,    1,    0,   1,   0,   0,   1,   44,  0, 4, 192, 0,  2, 1,                  /* not asked for */
        };
        static const uint8_t expect[] = { 0, 10, 2, 'm', 'x', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0 };
        NB_AUTO_BUF space = { 0 };
        struct resolver_answer a;
        assert_int_equal(resolver_read_dns(message, sizeof message, ns_t_mx, &space, &a), 0);
        assert_int_equal(a.status, RESOLVER_OK);
        assert_int_equal(a.n_records, 1);
        assert_int_equal(a.records[0].ttl, 300);
        assert_int_equal(a.records[0].len, sizeof expect);
        assert_memory_equal(a.records[0].rdata, expect, sizeof expect);
        assert_int_equal(resolver_read_dns(message, sizeof message, ns_t_txt, &space, &a), 0);
        assert_int_equal(a.status, RESOLVER_NODATA);
        for (size_t cut = 0; cut < sizeof message; cut++)
                assert_int_equal(resolver_read_dns(message, cut, ns_t_mx, &space, &a), -EPROTO);
        uint8_t loop[sizeof message];
        memcpy(loop, message, sizeof message);
        loop[45] = 41; /* the name in the record ends with itself */
        assert_int_equal(resolver_read_dns(loop, sizeof loop, ns_t_mx, &space, &a), -EPROTO);
}

/* ---- the gateway's side */

struct client {
        struct gateway g;
        int far;
        unsigned calls;
        struct resolver_answer last;
        struct resolve_query *cancel; /* by the next answer */
        bool ask_again;
};

static int begin(void **state) {
        struct client *c = nb_calloc(1, sizeof *c);
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        c->far = pair[1];
        c->g.base = event_base_new();
        assert_int_equal(resolve_new(&c->g, pair[0], &c->g.resolve, NULL), 0);
        *state = c;
        return 0;
}

static int end(void **state) {
        struct client *c = *state;
        resolve_free(c->g.resolve);
        event_base_free(c->g.base);
        nb_close(c->far);
        free(c);
        return 0;
}

static void turn(struct client *c) {
        (void)event_base_loop(c->g.base, EVLOOP_NONBLOCK);
}

static void on_answer(void *user, const struct resolver_answer *a) {
        struct client *c = user;
        c->calls++;
        c->last = *a;
        if (c->cancel)
                resolve_cancel(c->cancel);
        c->cancel = NULL;
        if (c->ask_again) {
                c->ask_again = false;
                (void)resolve_ask(c->g.resolve, "a.example", 0, on_answer, c);
        }
}

/* The next request at the other end; id 0xffffffff if there is none. */
static struct resolver_request asked(struct client *c) {
        uint8_t bytes[RESOLVER_REQUEST_MAX];
        struct resolver_request q = { .id = 0xffffffff };
        ssize_t n = recv(c->far, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n >= 0)
                assert_int_equal(resolver_read_request(bytes, (size_t)n, &q), 0);
        return q;
}

static void reply(struct client *c, uint32_t id, enum resolver_status status) {
        struct resolver_answer a = { .status = status };
        NB_AUTO_BUF b = { 0 };
        resolver_put_answer(&b, id, &a);
        assert_int_equal(send(c->far, nb_buf_bytes(&b), b.len, 0), b.len);
        turn(c);
}

static void equal_questions_are_asked_once(void **state) {
        struct client *c = *state;
        (void)resolve_ask(c->g.resolve, "a.example", 0, on_answer, c);
        (void)resolve_ask(c->g.resolve, "a.example", 0, on_answer, c);
        (void)resolve_ask(c->g.resolve, "a.example", ns_t_txt, on_answer, c);
        struct resolver_request first = asked(c), second = asked(c);
        assert_string_equal(first.name, "a.example");
        assert_int_equal(first.type, 0);
        assert_int_equal(second.type, ns_t_txt);
        assert_int_equal(asked(c).id, 0xffffffff);
        assert_int_equal(c->calls, 0);
        reply(c, second.id, RESOLVER_NODATA);
        assert_int_equal(c->calls, 1);
        reply(c, first.id, RESOLVER_OK);
        assert_int_equal(c->calls, 3);
        reply(c, first.id, RESOLVER_OK); /* nobody waits */
        assert_int_equal(c->calls, 3);
}

static void who_cancels_is_not_called(void **state) {
        struct client *c = *state;
        struct resolve_query *q = resolve_ask(c->g.resolve, "a.example", 0, on_answer, c);
        (void)resolve_ask(c->g.resolve, "a.example", 0, on_answer, c);
        resolve_cancel(q);
        reply(c, asked(c).id, RESOLVER_OK);
        assert_int_equal(c->calls, 1);
        /* and the answer to one may cancel another and ask again */
        (void)resolve_ask(c->g.resolve, "a.example", 0, on_answer, c);
        c->cancel = resolve_ask(c->g.resolve, "a.example", 0, on_answer, c);
        c->ask_again = true;
        struct resolver_request before = asked(c);
        reply(c, before.id, RESOLVER_OK);
        assert_int_equal(c->calls, 2);
        struct resolver_request after = asked(c);
        assert_int_not_equal(after.id, before.id);
        reply(c, after.id, RESOLVER_OK);
        assert_int_equal(c->calls, 3);
}

static void a_full_table_refuses(void **state) {
        struct client *c = *state;
        char name[32];
        for (unsigned i = 0; i < RESOLVER_PENDING_MAX; i++) {
                (void)snprintf(name, sizeof name, "n%u.example", i);
                (void)resolve_ask(c->g.resolve, name, 0, on_answer, c);
                assert_string_equal(asked(c).name, name);
        }
        (void)resolve_ask(c->g.resolve, "more.example", 0, on_answer, c);
        assert_int_equal(c->calls, 0); /* never before it returns */
        turn(c);
        assert_int_equal(c->calls, 1);
        assert_int_equal(c->last.status, RESOLVER_BUSY);
}

static void own_addresses_are_known(void **state) {
        struct client *c = *state;
        struct resolver_links l = { 0 };
        struct addr lan = address("192.0.2.17"), far = address("198.51.100.1");
        assert_true(resolve_own(c->g.resolve, &far)); /* nothing is known yet */
        resolver_links_add(&l, &lan, 24);
        NB_AUTO_BUF b = { 0 };
        resolver_put_links(&b, &l);
        assert_int_equal(send(c->far, nb_buf_bytes(&b), b.len, 0), b.len);
        turn(c);
        assert_true(resolve_own(c->g.resolve, &lan));
        assert_false(resolve_own(c->g.resolve, &far));
}

static void nonsense_ends_it(void **state) {
        struct client *c = *state;
        assert_int_equal(send(c->far, "\1nonsense", 9, 0), 9);
        turn(c);
        assert_int_equal(c->g.status, GATEWAY_EXIT_FAILED);
        c->g.status = 0;
        c->far = nb_close(c->far);
        turn(c);
        assert_int_equal(c->g.status, GATEWAY_EXIT_FAILED);
}

/* ---- the process */

static pid_t start_process(int *ret_fd) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        pid_t pid = fork();
        if (pid == 0) {
                char *argv[] = { "resolver", "0", NULL };
                int socket = fcntl(pair[1], F_DUPFD, 20), null = open("/dev/null", O_RDWR);
                if (dup2(null, RESOLVER_FD_LOG) < 0 || dup2(socket, RESOLVER_FD) < 0)
                        _exit(99);
                if (geteuid() != 0 && unshare(CLONE_NEWUSER) < 0) /* the supervisor has one, and so rights to give up */
                        _exit(NO_NAMESPACE);
                _exit(resolver_main(2, argv));
        }
        nb_close(pair[1]);
        *ret_fd = pair[0];
        return pid;
}

static void the_process_asks_the_host(void **state) {
        (void)state;
        int fd, status;
        pid_t pid = start_process(&fd);
        uint8_t bytes[RESOLVER_MESSAGE_MAX];
        struct resolver_links l;
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n == 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == NO_NAMESPACE)
                skip();
        assert_true(n > 0);
        assert_int_equal(resolver_read_links(bytes, (size_t)n, &l), 0);

        struct resolver_request q = { .id = 42, .name = "localhost" };
        struct resolver_answer a;
        uint32_t id = 0;
        NB_AUTO_BUF b = { 0 };
        resolver_put_request(&b, &q);
        assert_int_equal(send(fd, nb_buf_bytes(&b), b.len, 0), b.len);
        n = recv(fd, bytes, sizeof bytes, 0);
        assert_true(n > 0);
        assert_int_equal(resolver_read_answer(bytes, (size_t)n, &id, &a), 0);
        assert_int_equal(id, 42);
        assert_int_equal(a.status, RESOLVER_OK);
        for (size_t i = 0; i < a.n_addrs; i++)
                assert_int_equal(addr_kind(&a.addrs[i].addr), ADDR_LOOPBACK);
        nb_close(fd);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(requests_come_back),
                cmocka_unit_test(only_canonical_names_are_asked_for),
                cmocka_unit_test(answers_come_back),
                cmocka_unit_test(long_answers_are_cut_at_a_record),
                cmocka_unit_test(links_hold_their_networks),
                cmocka_unit_test(too_many_links_hold_everything),
                cmocka_unit_test(names_in_records_are_expanded),
                cmocka_unit_test_setup_teardown(equal_questions_are_asked_once, begin, end),
                cmocka_unit_test_setup_teardown(who_cancels_is_not_called, begin, end),
                cmocka_unit_test_setup_teardown(a_full_table_refuses, begin, end),
                cmocka_unit_test_setup_teardown(own_addresses_are_known, begin, end),
                cmocka_unit_test_setup_teardown(nonsense_ends_it, begin, end),
                cmocka_unit_test(the_process_asks_the_host),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
