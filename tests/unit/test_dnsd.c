/* Unit tests of the DNS service: what each query is answered under which policy, and that nothing is asked of the resolver
 * (which the test plays) before it is decided; then the sockets, with unix sockets in the place of UDP and TCP. */
#include <arpa/nameser.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/answer.h"

#define ASKED_MAX 1024

/* ---- the parts around it, played */
struct resolve_query {
        char name[NAME_MAX_LEN + 1];
        uint16_t type;
        resolve_fn done;
        void *user;
};
static struct {
        struct resolve_query *asked[ASKED_MAX];
        size_t n_asked, n_cancelled;
        char events[4096], names[4096];
} world;

struct resolve_query *resolve_ask(struct resolve *r, const char *name, uint16_t type, resolve_fn done, void *user) {
        (void)r;
        struct resolve_query *q = nb_calloc(1, sizeof *q);
        *q = (struct resolve_query){ .type = type, .done = done, .user = user };
        (void)snprintf(q->name, sizeof q->name, "%s", name);
        assert_true(world.n_asked < ASKED_MAX);
        world.asked[world.n_asked++] = q;
        return q;
}

void resolve_cancel(struct resolve_query *q) {
        for (size_t i = 0; i < world.n_asked; i++)
                if (world.asked[i] == q)
                        world.asked[i] = world.asked[--world.n_asked];
        world.n_cancelled++;
        free(q);
}

bool resolve_own(struct resolve *r, const struct addr *a) {
        (void)r;
        return a->bytes[0] == 5; /* the host is in 5.0.0.0/8 */
}

bool proxy_applies(const struct proxy *p, const char *name, uint16_t port, const struct policy_rule *rule) {
        (void)p;
        (void)rule;
        return port == 443 && strcmp(name, "direct.example") != 0;
}

void report_event(struct report *r, const struct report_event *e) {
        (void)r;
        size_t len = strlen(world.events);
        snprintf(world.events + len, sizeof world.events - len, "%s %s %s;", e->type, e->allow ? "allow" : "deny",
                 e->host ? e->host : "-");
}

void report_name(struct report *r, const char *name, uint32_t address, bool gone) {
        (void)r;
        size_t len = strlen(world.names);
        snprintf(world.names + len, sizeof world.names - len, "%c%s=%u;", gone ? '-' : '+', name, address & 0xffff);
}

/* Answers what was asked last, with addresses. */
static void resolve_now(enum resolver_status status, const char *const *addresses) {
        struct resolve_query *q = world.asked[--world.n_asked];
        struct resolver_answer a = { .status = status };
        for (; addresses && *addresses; addresses++) {
                assert_int_equal(addr_parse(*addresses, &a.addrs[a.n_addrs].addr), 0);
                a.addrs[a.n_addrs].own = resolve_own(NULL, &a.addrs[a.n_addrs].addr);
                a.n_addrs++;
        }
        q->done(q->user, &a);
        free(q);
}

static struct gateway start(enum policy_mode mode, const char *const *rules) {
        memset(&world, 0, sizeof world);
        struct gateway g = { .policy = policy_new(mode), .names = names_new(NET_SYNTHETIC, 16) };
        for (; *rules; rules++) {
                struct policy_rule r;
                bool mark = strchr("!+", **rules);
                assert_int_equal(policy_rule_parse(*rules + mark, **rules == '!', &r, NULL), 0);
                r.private = **rules == '+';
                policy_add(g.policy, &r, NULL);
        }
        return g;
}
#define START(mode, ...) start(mode, (const char *const[]){ __VA_ARGS__, NULL })

static void stop(struct gateway *g) {
        policy_free(g->policy);
        names_free(g->names);
        assert_int_equal(world.n_asked, 0);
}

/* ---- answers */
static size_t make_query(uint8_t *ret, uint16_t id, const char *name, uint16_t type) {
        ns_put16(id, ret);
        const uint8_t recursive_one_question[] = { 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
        memcpy(ret + 2, recursive_one_question, sizeof recursive_one_question);
        assert_int_not_equal(ns_name_pton(name, ret + 12, NS_MAXCDNAME), -1);
        size_t len = 13;
        for (const uint8_t *p = ret + 12; *p; p += 1 + *p)
                len += 1u + *p;
        ns_put16(type, ret + len);
        ns_put16(ns_c_in, ret + len + 2);
        return len + 4;
}

/* "NOERROR 198.18.0.1 1.2.3.4", "NXDOMAIN", ... */
static void words(const uint8_t *bytes, size_t len, char ret[512]) {
        static const char *const codes[] = { "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED" };
        ns_msg m;
        ns_rr rr;
        assert_int_equal(ns_initparse(bytes, (int)len, &m), 0);
        assert_in_range(ns_msg_getflag(m, ns_f_rcode), 0, 5);
        (void)snprintf(ret, 512, "%s", codes[ns_msg_getflag(m, ns_f_rcode)]);
        for (int i = 0; i < ns_msg_count(m, ns_s_an); i++) {
                size_t at = strlen(ret);
                assert_int_equal(ns_parserr(&m, ns_s_an, i, &rr), 0);
                const uint8_t *d = ns_rr_rdata(rr);
                char name[NS_MAXDNAME] = "";
                if (ns_rr_type(rr) == ns_t_a)
                        snprintf(name, sizeof name, "%u.%u.%u.%u", d[0], d[1], d[2], d[3]);
                else if (ns_rr_type(rr) == ns_t_ptr)
                        ns_name_uncompress(bytes, bytes + len, d, name, sizeof name);
                else
                        snprintf(name, sizeof name, "type%u", ns_rr_type(rr));
                snprintf(ret + at, 512 - at, " %s", name);
        }
}

static char later[512];

static void keep(void *user, struct nb_buf *message) {
        (void)user;
        words(nb_buf_bytes(message), message->len, later);
}

struct ask_case {
        const char *name;
        uint16_t type;
        const char *answer; /* "?TYPE": the resolver is asked for it */
        const char *event;
};

static void check(struct gateway *g, const struct ask_case *cases, size_t n) {
        for (size_t i = 0; i < n; i++) {
                uint8_t bytes[DNS_QUERY_MAX];
                char got[512];
                struct dns_query q;
                NB_AUTO_BUF out = { 0 };
                world.events[0] = 0;
                size_t len = make_query(bytes, 1, cases[i].name, cases[i].type);
                assert_int_equal(dns_parse(bytes, len, &q), 0);
                struct answer *a = answer_query(g, &q, true, keep, NULL, &out);
                if (a) {
                        assert_int_equal(out.len, 0);
                        assert_int_equal(world.n_asked, 1);
                        snprintf(got, sizeof got, "?%u", world.asked[0]->type);
                        assert_string_equal(world.asked[0]->name, q.name);
                        answer_cancel(a);
                } else {
                        words(nb_buf_bytes(&out), out.len, got);
                }
                assert_int_equal(world.n_asked, 0);
                if (strcmp(got, cases[i].answer) != 0)
                        fail_msg("%s %u: %s", cases[i].name, cases[i].type, got);
                if (strcmp(world.events, cases[i].event) != 0)
                        fail_msg("%s %u: %s", cases[i].name, cases[i].type, world.events);
        }
}

static void test_filtered(void **state) {
        (void)state;
        struct gateway g = START(POLICY_FILTERED, "api.example.com", "*.npmjs.org", "!evil.npmjs.org", "host.nixbox.internal:1",
                                 "git.example:22");
        dnsd_pin(&g);
        assert_string_equal(world.names, "+api.example.com=1;+host.nixbox.internal=2;+git.example=3;");
        static const struct ask_case cases[] = {
                { "api.example.com", ns_t_a, "NOERROR 198.18.0.1", "dns allow api.example.com;" },
                { "API.Example.COM", ns_t_a, "NOERROR 198.18.0.1", "dns allow api.example.com;" },
                { "api.example.com", ns_t_any, "NOERROR 198.18.0.1", "dns allow api.example.com;" },
                { "api.example.com", ns_t_aaaa, "NOERROR", "" },
                { "api.example.com", 64, "NOERROR", "" },
                { "api.example.com", 65, "NOERROR", "" },
                { "api.example.com", ns_t_null, "NOERROR", "" },
                { "api.example.com", ns_t_ns, "NOERROR", "" },
                { "api.example.com", ns_t_axfr, "REFUSED", "" },
                { "api.example.com", ns_t_txt, "?16", "dns allow api.example.com;" },
                { "api.example.com", ns_t_mx, "?15", "dns allow api.example.com;" },
                { "api.example.com", ns_t_srv, "?33", "dns allow api.example.com;" },
                { "api.example.com", ns_t_cname, "?5", "dns allow api.example.com;" },
                { "git.example", ns_t_a, "NOERROR 198.18.0.3", "dns allow git.example;" },
                { "www.npmjs.org", ns_t_a, "NOERROR 198.18.0.4", "dns allow www.npmjs.org;" },
                { "c2VjcmV0.x.npmjs.org", ns_t_txt, "NOERROR", "" },
                { "c2VjcmV0.x.npmjs.org", ns_t_mx, "NOERROR", "" },
                { "c2VjcmV0.x.npmjs.org", ns_t_cname, "NOERROR", "" },
                { "npmjs.org", ns_t_a, "NXDOMAIN", "dns deny npmjs.org;" },
                { "evilnpmjs.org", ns_t_a, "NXDOMAIN", "dns deny evilnpmjs.org;" },
                { "evil.npmjs.org", ns_t_a, "NXDOMAIN", "dns deny evil.npmjs.org;" },
                { "evil.npmjs.org", ns_t_txt, "NXDOMAIN", "dns deny evil.npmjs.org;" },
                { "x.api.example.com", ns_t_txt, "NXDOMAIN", "dns deny x.api.example.com;" },
                { "other.example", ns_t_aaaa, "NXDOMAIN", "dns deny other.example;" },
                { "other.example", ns_t_any, "NXDOMAIN", "dns deny other.example;" },
                { "localhost", ns_t_a, "NXDOMAIN", "dns deny localhost;" },
                { "127.1", ns_t_a, "NXDOMAIN", "dns deny -;" },
                { "a\\000.npmjs.org", ns_t_a, "NXDOMAIN", "dns deny -;" },
                { "a\\.b.npmjs.org", ns_t_a, "NXDOMAIN", "dns deny -;" },
                { ".", ns_t_ns, "NOERROR", "" },
                { "host.nixbox.internal", ns_t_a, "NOERROR 198.18.0.2", "dns allow host.nixbox.internal;" },
                { "host.nixbox.internal", ns_t_txt, "NOERROR", "" },
                { "x.host.nixbox.internal", ns_t_a, "NXDOMAIN", "dns deny x.host.nixbox.internal;" },
                { "1.0.18.198.in-addr.arpa", ns_t_ptr, "NOERROR api.example.com", "" },
                { "1.0.18.198.in-addr.arpa", ns_t_txt, "NOERROR", "" },
                { "4.0.18.198.in-addr.arpa", ns_t_ptr, "NOERROR www.npmjs.org", "" },
                { "9.0.18.198.in-addr.arpa", ns_t_ptr, "NXDOMAIN", "" },
                { "8.8.8.8.in-addr.arpa", ns_t_ptr, "NXDOMAIN", "" },
                { "1.0.0.10.in-addr.arpa", ns_t_ptr, "NXDOMAIN", "" },
                { "1.ip6.arpa", ns_t_ptr, "NXDOMAIN", "dns deny 1.ip6.arpa;" },
        };
        check(&g, cases, NB_ARRAY_LEN(cases));
        stop(&g);
}

static void test_empty(void **state) {
        (void)state;
        struct gateway g = start(POLICY_FILTERED, (const char *const[]){ NULL });
        dnsd_pin(&g);
        static const struct ask_case cases[] = { { "example.com", ns_t_a, "NXDOMAIN", "dns deny example.com;" } };
        check(&g, cases, 1);
        stop(&g);
}

static void test_open(void **state) {
        (void)state;
        struct gateway g = START(POLICY_OPEN, "+db.corp.example:5432", "!bad.example", "!smtp.example:25", "plain.example",
                                 "!9.9.9.9/32", "10.1.2.0/24:1");
        dnsd_pin(&g);
        assert_string_equal(world.names, "+db.corp.example=1;");
        static const struct ask_case cases[] = {
                { "any.example", ns_t_a, "?0", "" },
                { "any.example", ns_t_any, "?0", "" },
                { "any.example", ns_t_aaaa, "NOERROR", "" },
                { "any.example", 65, "NOERROR", "" },
                { "any.example", ns_t_txt, "?16", "dns allow any.example;" },
                { "plain.example", ns_t_a, "?0", "" },
                { "db.corp.example", ns_t_a, "NOERROR 198.18.0.1", "dns allow db.corp.example;" },
                { "smtp.example", ns_t_a, "NOERROR 198.18.0.2", "dns allow smtp.example;" },
                { "bad.example", ns_t_a, "NXDOMAIN", "dns deny bad.example;" },
                { "bad.example", ns_t_txt, "NXDOMAIN", "dns deny bad.example;" },
                { "host.nixbox.internal", ns_t_a, "NXDOMAIN", "dns deny host.nixbox.internal;" },
                { "8.8.8.8.in-addr.arpa", ns_t_ptr, "?12", "" },
                { "9.9.9.9.in-addr.arpa", ns_t_ptr, "NXDOMAIN", "" },
                { "1.0.0.10.in-addr.arpa", ns_t_ptr, "NXDOMAIN", "" },
                { "1.0.0.5.in-addr.arpa", ns_t_ptr, "NXDOMAIN", "" },
                { "1.ip6.arpa", ns_t_ptr, "NXDOMAIN", "" },
        };
        check(&g, cases, NB_ARRAY_LEN(cases));
        stop(&g);
}

/* What the host reaches through a proxy it may not be able to resolve. */
static void test_open_proxy(void **state) {
        (void)state;
        struct gateway g = START(POLICY_OPEN, "!bad.example");
        g.proxy = (struct proxy *)&g; /* is only looked at by proxy_applies() */
        static const struct ask_case cases[] = {
                { "any.example", ns_t_a, "NOERROR 198.18.0.1", "dns allow any.example;" },
                { "direct.example", ns_t_a, "?0", "" },
                { "bad.example", ns_t_a, "NXDOMAIN", "dns deny bad.example;" },
        };
        check(&g, cases, NB_ARRAY_LEN(cases));
        stop(&g);
}

static void ask_later(struct gateway *g, const char *name) {
        uint8_t bytes[DNS_QUERY_MAX];
        struct dns_query q;
        NB_AUTO_BUF out = { 0 };
        world.events[0] = later[0] = 0;
        assert_int_equal(dns_parse(bytes, make_query(bytes, 1, name, ns_t_a), &q), 0);
        assert_non_null(answer_query(g, &q, true, keep, NULL, &out));
}

static void test_open_results(void **state) {
        (void)state;
        struct gateway g = START(POLICY_OPEN, "!9.9.9.9/32", "10.1.2.0/24:1");
        static const struct {
                const char *addresses[6], *answer, *events;
        } cases[] = {
                { { "1.2.3.4", "4.3.2.1" }, "NOERROR 1.2.3.4 4.3.2.1", "dns allow a.example;" },
                { { "1.2.3.4", "127.0.0.1", "10.0.0.1", "2a00::1" }, "NOERROR 1.2.3.4", "dns allow a.example;" },
                { { "5.6.7.8" }, "NOERROR", "dns deny a.example;" },
                { { "169.254.169.254" }, "NOERROR", "dns deny a.example;" },
                { { "9.9.9.9", "8.8.8.8" }, "NOERROR 8.8.8.8", "dns allow a.example;" },
                { { "10.1.2.3" }, "NOERROR 10.1.2.3", "dns allow a.example;" },
                { { "2a00::1" }, "NOERROR", "dns allow a.example;" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                ask_later(&g, "a.example");
                resolve_now(RESOLVER_OK, cases[i].addresses);
                assert_string_equal(later, cases[i].answer);
                assert_string_equal(world.events, cases[i].events);
        }
        static const char *const codes[] = { "NOERROR", "NXDOMAIN", "NOERROR", "SERVFAIL", "SERVFAIL" };
        for (int i = RESOLVER_NONE; i <= RESOLVER_BUSY; i++) {
                ask_later(&g, "a.example");
                resolve_now((enum resolver_status)i, NULL);
                assert_string_equal(later, codes[i]);
        }
        /* the rules changed while the resolver was asked */
        ask_later(&g, "a.example");
        struct policy_rule r;
        assert_int_equal(policy_rule_parse("a.example", true, &r, NULL), 0);
        policy_add(g.policy, &r, NULL);
        resolve_now(RESOLVER_OK, (const char *const[]){ "1.2.3.4", NULL });
        assert_string_equal(later, "NXDOMAIN");
        assert_string_equal(world.events, "dns deny a.example;");
        stop(&g);
}

static void test_exhaustion(void **state) {
        (void)state;
        struct gateway g = START(POLICY_FILTERED, "*.example.com", "a.example");
        dnsd_pin(&g);
        for (int i = 0; i < 13; i++) { /* of 15; one is kept for the names of rules */
                char name[32], answer[32], event[64];
                snprintf(name, sizeof name, "n%d.example.com", i);
                snprintf(answer, sizeof answer, "NOERROR 198.18.0.%d", i + 2);
                snprintf(event, sizeof event, "dns allow %s;", name);
                const struct ask_case one = { name, ns_t_a, answer, event };
                check(&g, &one, 1);
        }
        static const struct ask_case full[] = {
                { "more.example.com", ns_t_a, "SERVFAIL", "error deny more.example.com;" },
                { "n3.example.com", ns_t_a, "NOERROR 198.18.0.5", "dns allow n3.example.com;" },
                { "a.example", ns_t_a, "NOERROR 198.18.0.1", "dns allow a.example;" },
        };
        check(&g, full, NB_ARRAY_LEN(full));
        struct policy_rule r;
        assert_int_equal(policy_rule_parse("late.example", false, &r, NULL), 0);
        policy_add(g.policy, &r, NULL);
        dnsd_pin(&g);
        static const struct ask_case late[] = { { "late.example", ns_t_a, "NOERROR 198.18.0.15", "dns allow late.example;" } };
        check(&g, late, 1);
        stop(&g);
}

/* ---- sockets */
struct served {
        struct gateway g;
        int udp, tcp;
        struct sockaddr_un address;
        socklen_t address_len;
        struct dnsd *d;
};

static void serve(struct served *s, struct gateway g) {
        int pair[2];
        *s = (struct served){ .g = g, .address_len = sizeof s->address };
        s->g.base = event_base_new();
        assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
        s->udp = pair[0];
        s->tcp = socket(AF_UNIX, SOCK_STREAM, 0);
        struct sockaddr_un any = { .sun_family = AF_UNIX };
        assert_int_equal(bind(s->tcp, (struct sockaddr *)&any, sizeof any.sun_family), 0); /* an abstract address */
        assert_int_equal(listen(s->tcp, 128), 0);
        assert_int_equal(getsockname(s->tcp, (struct sockaddr *)&s->address, &s->address_len), 0);
        assert_int_equal(dnsd_new(&s->g, pair[1], s->tcp, &s->d, NULL), 0);
}

static void unserve(struct served *s) {
        dnsd_free(s->d);
        close(s->udp);
        close(s->tcp);
        event_base_free(s->g.base);
        stop(&s->g);
}

static void turn(struct served *s) {
        for (int i = 0; i < 20; i++)
                event_base_loop(s->g.base, EVLOOP_NONBLOCK);
}

static int dial(struct served *s) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&s->address, s->address_len), 0);
        return fd;
}

static void test_udp(void **state) {
        (void)state;
        struct served s;
        serve(&s, START(POLICY_OPEN, "!bad.example"));
        uint8_t bytes[2048];
        char got[512];
        size_t len = make_query(bytes, 77, "bad.example", ns_t_a);
        assert_int_equal(send(s.udp, bytes, len, 0), len);
        assert_int_equal(send(s.udp, bytes, 5, 0), 5);       /* an id and no more */
        assert_int_equal(send(s.udp, bytes, 1, 0), 1);       /* not even that */
        assert_int_equal(send(s.udp, bytes, 2000, 0), 2000); /* too long */
        bytes[2] |= 0x80;
        assert_int_equal(send(s.udp, bytes, len, 0), len); /* an answer */
        turn(&s);
        static const char *const answers[] = { "NXDOMAIN", "FORMERR", "FORMERR" };
        for (size_t i = 0; i < NB_ARRAY_LEN(answers); i++) {
                ssize_t n = recv(s.udp, bytes, sizeof bytes, 0);
                assert_true(n >= 12);
                assert_int_equal(bytes[1], 77);
                words(bytes, (size_t)n, got);
                assert_string_equal(got, answers[i]);
        }
        assert_int_equal(recv(s.udp, bytes, sizeof bytes, 0), -1);
        len = make_query(bytes, 78, "good.example", ns_t_a);
        assert_int_equal(send(s.udp, bytes, len, 0), len);
        turn(&s);
        assert_int_equal(recv(s.udp, bytes, sizeof bytes, 0), -1);
        resolve_now(RESOLVER_OK, (const char *const[]){ "1.2.3.4", NULL });
        ssize_t n = recv(s.udp, bytes, sizeof bytes, 0);
        assert_true(n > 0);
        words(bytes, (size_t)n, got);
        assert_string_equal(got, "NOERROR 1.2.3.4");
        /* lookups that wait are bounded */
        for (int i = 0; i < 513; i++) {
                len = make_query(bytes, 79, "good.example", ns_t_a);
                assert_int_equal(send(s.udp, bytes, len, 0), len);
                event_base_loop(s.g.base, EVLOOP_NONBLOCK);
        }
        turn(&s);
        n = recv(s.udp, bytes, sizeof bytes, 0);
        assert_true(n > 0);
        words(bytes, (size_t)n, got);
        assert_string_equal(got, "SERVFAIL");
        assert_int_equal(world.n_asked, 512);
        unserve(&s);
        assert_int_equal(world.n_cancelled, 512);
}

static size_t put_tcp(uint8_t *at, uint16_t id, const char *name) {
        size_t len = make_query(at + 2, id, name, ns_t_a);
        at[0] = 0;
        at[1] = (uint8_t)len;
        return len + 2;
}

/* Takes one answer off the stream: its id, and *ret_words. */
static int take_tcp(int fd, char ret_words[512]) {
        uint8_t bytes[2048];
        if (recv(fd, bytes, 2, 0) != 2)
                return -1;
        size_t len = (size_t)bytes[0] << 8 | bytes[1];
        assert_true(len <= sizeof bytes);
        assert_int_equal(recv(fd, bytes, len, 0), len);
        words(bytes, len, ret_words);
        return bytes[0] << 8 | bytes[1];
}

/* Closed by the other side, be it with what it had not read. */
static bool is_over(int fd) {
        uint8_t byte;
        ssize_t n = recv(fd, &byte, 1, 0);
        return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void test_tcp(void **state) {
        (void)state;
        struct served s;
        serve(&s, START(POLICY_OPEN, "!bad.example"));
        int fd = dial(&s), other = dial(&s);
        uint8_t bytes[4096];
        char got[512];
        /* three at once, the last one cut; the first waits and does not hold up the second */
        size_t len = put_tcp(bytes, 1, "good.example"), cut;
        len += put_tcp(bytes + len, 2, "bad.example");
        cut = len + 7;
        len += put_tcp(bytes + len, 3, "bad.example");
        assert_int_equal(send(fd, bytes, cut, 0), cut);
        turn(&s);
        assert_int_equal(take_tcp(fd, got), 2);
        assert_string_equal(got, "NXDOMAIN");
        assert_int_equal(take_tcp(fd, got), -1);
        for (size_t i = cut; i < len; i++) {
                assert_int_equal(send(fd, bytes + i, 1, 0), 1);
                turn(&s);
        }
        assert_int_equal(take_tcp(fd, got), 3);
        /* the client has nothing more to say, but waits for its answer */
        shutdown(fd, SHUT_WR);
        turn(&s);
        resolve_now(RESOLVER_OK, (const char *const[]){ "1.2.3.4", NULL });
        assert_int_equal(take_tcp(fd, got), 1);
        assert_string_equal(got, "NOERROR 1.2.3.4");
        turn(&s);
        assert_int_equal(recv(fd, bytes, 1, 0), 0);
        close(fd);

        /* nonsense: an id is answered, then it is over */
        assert_int_equal(send(other, "\xff\xff\0\5rest", 8, 0), 8);
        turn(&s);
        assert_int_equal(take_tcp(other, got), 5);
        assert_string_equal(got, "FORMERR");
        assert_true(is_over(other));
        close(other);
        fd = dial(&s);
        assert_int_equal(send(fd, "\0\1x", 3, 0), 3);
        turn(&s);
        assert_true(is_over(fd));
        close(fd);

        /* gone while the resolver is asked */
        fd = dial(&s);
        len = put_tcp(bytes, 1, "good.example");
        assert_int_equal(send(fd, bytes, len, 0), len);
        turn(&s);
        assert_int_equal(world.n_asked, 1);
        close(fd);
        turn(&s);
        if (world.n_asked > 0) /* a half-closed client looks the same: it is sent, and fails */
                resolve_now(RESOLVER_OK, (const char *const[]){ "1.2.3.4", NULL });
        turn(&s);
        unserve(&s);
}

static void test_tcp_limits(void **state) {
        (void)state;
        struct served s;
        serve(&s, START(POLICY_OPEN, "!bad.example"));
        int fds[70];
        uint8_t bytes[64 * 64];
        char got[512];
        for (size_t i = 0; i < NB_ARRAY_LEN(fds); i++)
                fds[i] = dial(&s);
        turn(&s);
        for (size_t i = 0; i < NB_ARRAY_LEN(fds); i++) {
                errno = 0;
                ssize_t n = recv(fds[i], bytes, 1, 0);
                if (i < 64 ? n != -1 || errno != EAGAIN : n != 0)
                        fail_msg("connection %zu", i);
        }
        assert_non_null(strstr(world.events, "error deny -;"));
        /* one that asks for more than may wait is not read any further until there are answers */
        size_t len = 0;
        for (unsigned i = 0; i < 40; i++)
                len += put_tcp(bytes + len, (uint16_t)i, "good.example");
        assert_int_equal(send(fds[0], bytes, len, 0), len);
        turn(&s);
        assert_int_equal(world.n_asked, 32);
        for (unsigned i = 0; i < 40; i++) {
                resolve_now(RESOLVER_OK, (const char *const[]){ "1.2.3.4", NULL });
                turn(&s);
        }
        for (unsigned i = 0; i < 40; i++)
                assert_true(take_tcp(fds[0], got) >= 0);
        assert_int_equal(take_tcp(fds[0], got), -1);
        /* one that does not read its answers */
        len = 0;
        for (unsigned i = 0; i < 64; i++)
                len += put_tcp(bytes + len, (uint16_t)i, "bad.example");
        size_t sent = 0;
        for (unsigned i = 0; i < 2000; i++) {
                ssize_t n = send(fds[1], bytes + sent % len, len - sent % len, 0);
                turn(&s);
                if (n < 0)
                        break;
                sent += (size_t)n;
        }
        assert_true(sent < 10000000); /* it was stopped */
        size_t n = 0;
        for (; n < sent / (len / 64) && take_tcp(fds[1], got) >= 0; n++)
                turn(&s);
        assert_int_equal(n, sent / (len / 64)); /* and nothing was lost */
        for (size_t i = 0; i < NB_ARRAY_LEN(fds); i++)
                close(fds[i]);
        turn(&s);
        unserve(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_filtered),     cmocka_unit_test(test_empty),      cmocka_unit_test(test_open),
                cmocka_unit_test(test_open_results), cmocka_unit_test(test_open_proxy), cmocka_unit_test(test_exhaustion),
                cmocka_unit_test(test_udp),          cmocka_unit_test(test_tcp),        cmocka_unit_test(test_tcp_limits),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
