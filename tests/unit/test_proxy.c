/* Unit tests of the way through the host's proxy: URL, NO_PROXY, CONNECT and its answer; then tunnels through invented proxies,
 * plain and with TLS, in a process of their own. */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
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
#include "gateway/proxy_head.h"

#define NAME "far.example"
#define WAIT_MS 30000u

/* ---- URLs */

static void urls_are_read(void **state) {
        (void)state;
        static const struct {
                const char *url, *host, *address, *credentials;
                bool tls;
                uint16_t port;
        } good[] = {
                { "http://proxy.corp.example:3128", "proxy.corp.example", NULL, NULL, false, 3128 },
                { "http://Proxy.Corp.Example", "proxy.corp.example", NULL, NULL, false, 80 },
                { "HTTPS://proxy.example/", "proxy.example", NULL, NULL, true, 443 },
                { "proxy:8080", "proxy", NULL, NULL, false, 8080 },
                { "http://10.0.0.1:3128/", NULL, "10.0.0.1", NULL, false, 3128 },
                { "https://[2001:db8::1]:8443", NULL, "2001:db8::1", NULL, true, 8443 },
                { "http://[::1]", NULL, "::1", NULL, false, 80 },
                { "http://me:pass@proxy:1", "proxy", NULL, "me:pass", false, 1 },
                { "http://me@proxy", "proxy", NULL, "me:", false, 80 },
                { "http://me:p%40ss%3a%2F@proxy", "proxy", NULL, "me:p@ss:/", false, 80 },
                { "http://me:p@ss@proxy:9", "proxy", NULL, "me:p@ss", false, 9 },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(good); i++) {
                struct proxy_url u;
                struct addr a = { 0 };
                assert_int_equal(proxy_url_parse(good[i].url, &u, NULL), 0);
                assert_int_equal(u.tls, good[i].tls);
                assert_int_equal(u.port, good[i].port);
                assert_string_equal(u.host ? u.host : "-", good[i].host ? good[i].host : "-");
                if (good[i].address)
                        assert_int_equal(addr_parse(good[i].address, &a), 0);
                assert_true(u.host || addr_equal(&u.addr, &a));
                assert_string_equal(u.credentials ? u.credentials : "-", good[i].credentials ? good[i].credentials : "-");
                proxy_url_clear(&u);
        }
}

static void bad_urls_are_told_without_their_secret(void **state) {
        (void)state;
        static const char *const bad[] = {
                "",
                "http://",
                "http://:3128",
                "ftp://proxy",
                "socks5://sesame@proxy:1080",
                "socks5h://u:sesame@proxy",
                "http://u:sesame@",
                "http://u:sesame@proxy:0",
                "http://u:sesame@proxy:65536",
                "http://u:sesame@proxy:12x",
                "http://u:sesame@proxy:",
                "http://u:sesame@proxy/path",
                "http://u:sesame@proxy?query",
                "http://u:sesame@pro xy",
                "http://u:sesame%@proxy",
                "http://u:sesame%4@proxy",
                "http://u:sesame%0d%0aX:@proxy",
                "http://u:sesame%00@proxy",
                "http://u:sesame\n@proxy",
                "http://[::1",
                "http://[::1]3128",
                "http://[1.2.3.4]",
                "http://::1",
                "http://1.2.3.4.5",
                "http://0x7f.1",
                "http://[sesame]",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                struct proxy_url u;
                NB_AUTO_ERROR err = { 0 };
                assert_int_equal(proxy_url_parse(bad[i], &u, &err), -EINVAL);
                assert_null(strstr(err.what, "sesame"));
                assert_null(strstr(err.hint, "sesame"));
        }
}

static void no_proxy_is_read_as_curl_does(void **state) {
        (void)state;
        static const struct {
                const char *list, *name;
                bool passed;
        } cases[] = {
                { "", "a.example", false },
                { "*", "a.example", true },
                { "x,*", "a.example", true },
                { "*x", "a.example", false },
                { "a.example", "a.example", true },
                { "A.Example.", "a.example", true },
                { "example", "a.example", true },
                { ".example", "a.example", true },
                { "*.example", "a.example", true },
                { ".a.example", "a.example", true },
                { "b.example", "a.example", false },
                { "a.example", "b.a.example", true },
                { "a.example", "ba.example", false },
                { "ample", "a.example", false },
                { "a.example.com", "a.example", false },
                { "localhost, a.example ,b", "a.example", true },
                { "localhost a.example", "a.example", true },
                { ",, ,a.example", "a.example", true },
                { "a.example:443", "a.example", true },
                { "a.example:444", "a.example", false },
                { "a.example:", "a.example", false },
                { "a.example:x", "a.example", false },
                { "10.0.0.0/8,127.0.0.1,::1,[::1]", "a.example", false },
                { ".", "a.example", false },
                { "*.", "a.example", false },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++)
                assert_int_equal(proxy_passed_by(cases[i].list, cases[i].name, 443), cases[i].passed);
        assert_false(proxy_passed_by(NULL, "a.example", 443));
}

/* ---- CONNECT */

static void requests_name_the_far_end(void **state) {
        (void)state;
        struct proxy_url u;
        assert_int_equal(proxy_url_parse("http://Aladdin:open%20sesame@proxy", &u, NULL), 0);
        NB_AUTO_FREE char *with = proxy_request(&u, NAME, 443);
        assert_string_equal(with, "CONNECT " NAME ":443 HTTP/1.1\r\nHost: " NAME ":443\r\n"
                                  "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n");
        proxy_url_clear(&u);
        assert_int_equal(proxy_url_parse("http://proxy", &u, NULL), 0);
        NB_AUTO_FREE char *without = proxy_request(&u, NAME, 22);
        assert_string_equal(without, "CONNECT " NAME ":22 HTTP/1.1\r\nHost: " NAME ":22\r\n\r\n");
        proxy_url_clear(&u);
}

static ssize_t answer(const char *text, struct proxy_answer *ret) {
        return proxy_answer_read((const uint8_t *)text, strlen(text), ret);
}

static void answers_are_read_to_their_end(void **state) {
        (void)state;
        static const char whole[] = "HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\nX-Empty:\r\n\r\n";
        struct proxy_answer a;
        NB_AUTO_FREE char *more = nb_asprintf("%sSSH-2.0-x\r\n", whole);
        assert_int_equal(answer(more, &a), strlen(whole));
        assert_int_equal(a.status, 200);
        assert_string_equal(a.reason, "Connection established");
        for (size_t cut = 0; cut < strlen(whole); cut++)
                assert_int_equal(proxy_answer_read((const uint8_t *)whole, cut, &a), 0);
        assert_true(answer("HTTP/1.0 407 \x1b[31mno\r\n\r\n", &a) > 0);
        assert_int_equal(a.status, 407);
        assert_string_equal(a.reason, "?[31mno");
        assert_true(answer("HTTP/1.1 200\r\n\r\n", &a) > 0);
}

static void odd_answers_are_errors(void **state) {
        (void)state;
        static const char *const bad[] = {
                "SSH-2.0-OpenSSH_9.2\r\n\r\n",
                "\r\nHTTP/1.1 200 OK\r\n\r\n",
                "HTTP/1.1 200 OK\n\n",
                "HTTP/1.1 200 OK\r\nA: b\n\r\n",
                "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
                "HTTP/1.1 200 OK\r\n folded: b\r\n\r\n",
                "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
                "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
                "HTTP/1.1 100 Continue\r\n\r\n",
                "HTTP/1.1 20 OK\r\n\r\n",
                "HTTP/1.1 2000 OK\r\n\r\n",
                "HTTP/1.1  200 OK\r\n\r\n",
                "HTTP/2 200 OK\r\n\r\n",
                "http/1.1 200 OK\r\n\r\n",
        };
        struct proxy_answer a;
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                assert_int_equal(answer(bad[i], &a), -EPROTO);
        NB_AUTO_FREE char *endless = nb_asprintf("HTTP/1.1 200 OK\r\nA: %*s", (int)PROXY_HEAD_MAX, "a");
        assert_int_equal(proxy_answer_read((const uint8_t *)endless, PROXY_HEAD_MAX - 1, &a), 0);
        assert_int_equal(proxy_answer_read((const uint8_t *)endless, PROXY_HEAD_MAX, &a), -E2BIG);
}

/* ---- tunnels */

struct lab {
        struct gateway g;
        int far; /* where the resolver would be */
        int listener;
        uint16_t port;
        pid_t server;
        char *ca;
        X509 *cert;
        EVP_PKEY *key;
        bool over;
        int fd, code;
        char *reason;
};

static void make_certificate(struct lab *lab) {
        lab->key = EVP_EC_gen("P-256");
        lab->cert = X509_new();
        X509_NAME *name = X509_get_subject_name(lab->cert);
        (void)X509_set_version(lab->cert, 2);
        (void)ASN1_INTEGER_set(X509_get_serialNumber(lab->cert), 1);
        (void)X509_gmtime_adj(X509_getm_notBefore(lab->cert), -3600);
        (void)X509_gmtime_adj(X509_getm_notAfter(lab->cert), 3600);
        (void)X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"a proxy", -1, -1, 0);
        (void)X509_set_issuer_name(lab->cert, name);
        (void)X509_set_pubkey(lab->cert, lab->key);
        X509_EXTENSION *alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:proxy.example,IP:127.0.0.1");
        (void)X509_add_ext(lab->cert, alt, -1);
        X509_EXTENSION_free(alt);
        assert_true(X509_sign(lab->cert, lab->key, EVP_sha256()) > 0);
        BIO *out = BIO_new(BIO_s_mem());
        char *text;
        (void)PEM_write_bio_X509(out, lab->cert);
        long len = BIO_get_mem_data(out, &text);
        lab->ca = nb_strndup(text, (size_t)len);
        BIO_free(out);
}

static int begin(void **state) {
        struct lab *lab = nb_calloc(1, sizeof *lab);
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof in;
        int pair[2];
        (void)signal(SIGPIPE, SIG_IGN);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        lab->far = pair[1];
        lab->fd = -1;
        lab->g.base = event_base_new();
        lab->g.policy = policy_new(POLICY_FILTERED);
        struct policy_rule r;
        assert_int_equal(policy_rule_parse(NAME, false, &r, NULL), 0);
        assert_int_equal(policy_add(lab->g.policy, &r, NULL), 0);
        assert_int_equal(resolve_new(&lab->g, pair[0], &lab->g.resolve, NULL), 0);
        lab->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(lab->listener, (struct sockaddr *)&in, sizeof in), 0);
        assert_int_equal(listen(lab->listener, 8), 0);
        assert_int_equal(getsockname(lab->listener, (struct sockaddr *)&in, &len), 0);
        lab->port = ntohs(in.sin_port);
        make_certificate(lab);
        *state = lab;
        return 0;
}

static int end(void **state) {
        struct lab *lab = *state;
        if (lab->server > 0) {
                (void)kill(lab->server, SIGKILL);
                (void)waitpid(lab->server, NULL, 0);
        }
        proxy_free(lab->g.proxy);
        resolve_free(lab->g.resolve);
        policy_free(lab->g.policy);
        event_base_free(lab->g.base);
        X509_free(lab->cert);
        EVP_PKEY_free(lab->key);
        nb_close(lab->far);
        nb_close(lab->fd);
        nb_close(lab->listener);
        free(lab->reason);
        free(lab->ca);
        free(lab);
        return 0;
}

static ssize_t get(int fd, SSL *ssl, void *bytes, size_t len) {
        return ssl ? SSL_read(ssl, bytes, (int)len) : read(fd, bytes, len);
}

static void put(int fd, SSL *ssl, const void *bytes, size_t len) {
        if ((ssl ? SSL_write(ssl, bytes, (int)len) : write(fd, bytes, len)) != (ssize_t)len)
                _exit(3);
}

/* One connection: reads the head, answers, and then gives everything back, until the end, which it answers with "bye". */
static _Noreturn void serve(const struct lab *lab, bool tls, const char *says) {
        int fd = accept(lab->listener, NULL, NULL);
        SSL *ssl = NULL;
        char head[4096] = "";
        if (tls) {
                SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
                (void)SSL_CTX_use_certificate(ctx, lab->cert);
                (void)SSL_CTX_use_PrivateKey(ctx, lab->key);
                ssl = SSL_new(ctx);
                (void)SSL_set_fd(ssl, fd);
                if (SSL_accept(ssl) != 1)
                        _exit(2);
        }
        for (size_t n = 0; !strstr(head, "\r\n\r\n") && n < sizeof head - 1;) {
                ssize_t got = get(fd, ssl, head + n, 1);
                if (got <= 0)
                        _exit(2);
                n += (size_t)got;
        }
        if (!strstr(head, "CONNECT " NAME ":443 HTTP/1.1\r\n"))
                _exit(4);
        put(fd, ssl, says, strlen(says));
        char bytes[4096];
        for (ssize_t n; (n = get(fd, ssl, bytes, sizeof bytes)) > 0;)
                put(fd, ssl, bytes, (size_t)n);
        put(fd, ssl, "bye", 3);
        if (ssl)
                (void)SSL_shutdown(ssl);
        (void)shutdown(fd, SHUT_WR);
        (void)get(fd, NULL, bytes, sizeof bytes);
        _exit(0);
}

static void use_proxy(struct lab *lab, const char *host, bool tls, const char *says) {
        lab->server = fork();
        if (lab->server == 0)
                serve(lab, tls, says);
        NB_AUTO_FREE char *url = nb_asprintf("%s://%s:%u", tls ? "https" : "http", host, (unsigned)lab->port);
        json_t *settings = json_pack("{s:s, s:s}", "url", url, "ca", lab->ca);
        assert_int_equal(proxy_new(&lab->g, settings, &lab->g.proxy, NULL), 0);
        json_decref(settings);
}

static void on_done(void *user, const struct dial_result *r) {
        struct lab *lab = user;
        assert_false(lab->over);
        lab->over = true;
        lab->fd = r->fd;
        lab->code = r->code;
        lab->reason = nb_strdup(r->reason);
        assert_int_equal(r->addr.family, 0);
}

static void dial(struct lab *lab) {
        uint64_t limit = nb_now_ms() + WAIT_MS;
        struct policy_decision found = policy_connect(lab->g.policy, NAME, 443);
        (void)dial_name(&lab->g, NAME, 443, &found, on_done, lab);
        while (!lab->over && nb_now_ms() < limit)
                (void)event_base_loop(lab->g.base, EVLOOP_ONCE);
        assert_true(lab->over);
}

/* Reads exactly this from the tunnel while the loop turns. */
static void expect(struct lab *lab, const char *text, size_t len) {
        uint64_t limit = nb_now_ms() + WAIT_MS;
        for (size_t n = 0; n < len;) {
                char bytes[65536];
                ssize_t got = recv(lab->fd, bytes, len - n < sizeof bytes ? len - n : sizeof bytes, MSG_DONTWAIT);
                if (got > 0) {
                        assert_memory_equal(bytes, text + n, (size_t)got);
                        n += (size_t)got;
                } else {
                        assert_true(got < 0 && nb_now_ms() < limit);
                        (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
                }
        }
}

static void talk(struct lab *lab) {
        enum { LEN = 300000 }; /* more than the sockets hold */
        NB_AUTO_FREE char *much = nb_calloc(LEN, 1);
        char byte;
        for (size_t i = 0; i < LEN; i++)
                much[i] = (char)(i * 7 + i / 251);
        expect(lab, "first", 5); /* came with the answer */
        for (size_t sent = 0; sent < LEN;) {
                size_t part = LEN - sent < 20000 ? LEN - sent : 20000;
                assert_int_equal(send(lab->fd, much + sent, part, 0), part);
                expect(lab, much + sent, part);
                sent += part;
        }
        (void)shutdown(lab->fd, SHUT_WR);
        expect(lab, "bye", 3);
        uint64_t limit = nb_now_ms() + WAIT_MS;
        ssize_t n;
        while ((n = recv(lab->fd, &byte, 1, MSG_DONTWAIT)) < 0 && nb_now_ms() < limit)
                (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
        assert_int_equal(n, 0);
}

static void a_plain_proxy_is_used(void **state) {
        struct lab *lab = *state;
        use_proxy(lab, "127.0.0.1", false, "HTTP/1.1 200 OK\r\nVia: x\r\n\r\nfirst");
        dial(lab);
        assert_true(lab->fd >= 0);
        talk(lab);
}

static void a_tls_proxy_is_used(void **state) {
        struct lab *lab = *state;
        use_proxy(lab, "127.0.0.1", true, "HTTP/1.1 200 OK\r\nVia: x\r\n\r\nfirst");
        dial(lab);
        if (lab->fd < 0)
                fail_msg("%s", lab->reason);
        talk(lab);
}

static void a_tls_proxy_must_be_who_it_says(void **state) {
        struct lab *lab = *state;
        char *ca = nb_steal(&lab->ca);
        X509_free(lab->cert);
        EVP_PKEY_free(lab->key);
        make_certificate(lab); /* another one than is trusted */
        free(lab->ca);
        lab->ca = ca;
        use_proxy(lab, "127.0.0.1", true, "");
        dial(lab);
        assert_int_equal(lab->fd, -1);
        assert_non_null(strstr(lab->reason, "certificate"));
}

static void refusals_are_passed_on(void **state) {
        struct lab *lab = *state;
        use_proxy(lab, "127.0.0.1", false, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno");
        dial(lab);
        assert_int_equal(lab->fd, -1);
        assert_non_null(strstr(lab->reason, "the proxy refused: 407 Proxy Authentication Required"));
        assert_non_null(strstr(lab->reason, "HTTPS_PROXY"));
}

static void an_absent_proxy_is_told(void **state) {
        struct lab *lab = *state;
        lab->listener = nb_close(lab->listener);
        json_t *settings = json_object();
        NB_AUTO_FREE char *url = nb_asprintf("http://127.0.0.1:%u", (unsigned)lab->port);
        (void)json_object_set_new(settings, "url", json_string(url));
        assert_int_equal(proxy_new(&lab->g, settings, &lab->g.proxy, NULL), 0);
        json_decref(settings);
        dial(lab);
        assert_int_equal(lab->code, ECONNREFUSED);
        assert_non_null(strstr(lab->reason, "the proxy cannot be reached"));
}

static void some_names_go_past_it(void **state) {
        struct lab *lab = *state;
        struct policy_rule private = { .private = true };
        json_t *settings = json_pack("{s:s, s:s}", "url", "http://127.0.0.1:1", "no_proxy", "corp.example,x.example:443");
        assert_int_equal(proxy_new(&lab->g, settings, &lab->g.proxy, NULL), 0);
        json_decref(settings);
        assert_true(proxy_applies(lab->g.proxy, NAME, 443, NULL));
        assert_false(proxy_applies(NULL, NAME, 443, NULL));
        assert_false(proxy_applies(lab->g.proxy, NAME, 443, &private));
        assert_false(proxy_applies(lab->g.proxy, POLICY_HOST, 443, NULL));
        assert_false(proxy_applies(lab->g.proxy, "db.corp.example", 5432, NULL));
        assert_false(proxy_applies(lab->g.proxy, "x.example", 443, NULL));
        assert_true(proxy_applies(lab->g.proxy, "x.example", 80, NULL));
}

static void tls_needs_certificates(void **state) {
        struct lab *lab = *state;
        NB_AUTO_ERROR err = { 0 };
        json_t *settings = json_pack("{s:s, s:s}", "url", "https://u:sesame@127.0.0.1:1", "ca", "none");
        assert_int_equal(proxy_new(&lab->g, settings, &lab->g.proxy, &err), -EINVAL);
        assert_null(strstr(err.what, "sesame"));
        json_decref(settings);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(urls_are_read),
                cmocka_unit_test(bad_urls_are_told_without_their_secret),
                cmocka_unit_test(no_proxy_is_read_as_curl_does),
                cmocka_unit_test(requests_name_the_far_end),
                cmocka_unit_test(answers_are_read_to_their_end),
                cmocka_unit_test(odd_answers_are_errors),
                cmocka_unit_test_setup_teardown(a_plain_proxy_is_used, begin, end),
                cmocka_unit_test_setup_teardown(a_tls_proxy_is_used, begin, end),
                cmocka_unit_test_setup_teardown(a_tls_proxy_must_be_who_it_says, begin, end),
                cmocka_unit_test_setup_teardown(refusals_are_passed_on, begin, end),
                cmocka_unit_test_setup_teardown(an_absent_proxy_is_told, begin, end),
                cmocka_unit_test_setup_teardown(some_names_go_past_it, begin, end),
                cmocka_unit_test_setup_teardown(tls_needs_certificates, begin, end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
