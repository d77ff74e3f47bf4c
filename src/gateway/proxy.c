/* The host's HTTPS_PROXY: a name is reached through it by CONNECT, so the proxy resolves it and nobody here sees its address.
 * The proxy itself may be anywhere, on the host too: it is its owner's setting, not the guest's choice. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "gateway/proxy_impl.h"
#include "gateway/race.h"

enum state { RESOLVING, CONNECTING, SHAKING, SENDING, RECEIVING };
struct proxy_dial {
        struct proxy *proxy;
        char *name;
        uint16_t port;
        proxy_fn done;
        void *user;
        enum state state;
        struct resolve_query *query;
        struct race *race;
        int fd;
        SSL *ssl;
        bool watching;
        struct event ready;
        struct nb_buf request, head;
};

void proxy_dial_free(struct proxy_dial *d) {
        if (!d)
                return;
        if (d->query)
                resolve_cancel(d->query);
        race_free(d->race);
        if (d->watching)
                (void)event_del(&d->ready);
        proxy_tls_end(d->ssl);
        nb_close(d->fd);
        nb_buf_wipe(&d->request);
        nb_buf_clear(&d->head);
        free(d->name);
        free(d);
}

static void finish(struct proxy_dial *d, int fd, int code, const char *reason) {
        proxy_fn done = d->done;
        void *user = d->user;
        proxy_dial_free(d);
        done(user, fd, code, reason);
}

/* "the proxy …"; without its URL, which may hold a password. */
static void fail(struct proxy_dial *d, int code, const char *fmt, ...) NB_PRINTF(3, 4);
static void fail(struct proxy_dial *d, int code, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        char *reason = nb_vasprintf(fmt, ap);
        va_end(ap);
        finish(d, -1, code, reason);
        free(reason);
}

/* ---- the tunnel */

static void deliver(struct proxy_dial *d, size_t head) {
        if (!d->ssl) {
                finish(d, nb_steal_fd(&d->fd), 0, NULL);
                return;
        }
        int fd =
            proxy_pump_new(d->proxy, nb_steal(&d->ssl), nb_steal_fd(&d->fd), nb_buf_bytes(&d->head) + head, d->head.len - head);
        if (fd < 0)
                fail(d, -fd, "cannot join the tunnel: %s", strerror(-fd));
        else
                finish(d, fd, 0, NULL);
}

static void judge(struct proxy_dial *d, size_t head, const struct proxy_answer *a) {
        if (a->status == 200)
                deliver(d, head);
        else
                fail(d, a->status == 407 ? EACCES : ECONNREFUSED, "the proxy refused: %u %s%s", a->status, a->reason,
                     a->status == 407 ? " (the host's HTTPS_PROXY needs a user and password)" : "");
}

/* Reads no byte beyond the end of the head from a plain socket: what follows is the tunnel's. Bytes read, 0 at the end,
 * PROXY_AGAIN_*, or a negative errno. */
static ssize_t read_head(struct proxy_dial *d) {
        uint8_t bytes[4096];
        struct proxy_answer a;
        size_t before = d->head.len;
        ssize_t n = d->ssl ? proxy_tls_read(d->ssl, bytes, sizeof bytes) : recv(d->fd, bytes, sizeof bytes, MSG_PEEK);
        if (n < 0 && !d->ssl)
                return -errno;
        if (n <= 0)
                return n;
        nb_buf_add(&d->head, bytes, (size_t)n);
        if (d->ssl)
                return n;
        ssize_t head = proxy_answer_read(nb_buf_bytes(&d->head), d->head.len, &a);
        size_t take = head > 0 ? (size_t)head - before : (size_t)n;
        d->head.len = before + take;
        ssize_t taken = recv(d->fd, bytes, take, 0);
        return taken == (ssize_t)take ? taken : -EIO;
}

#define GONE (-1)
/* Each step returns 0 when it is done, PROXY_AGAIN_*, or GONE when `d` is. */
static int shake(struct proxy_dial *d) {
        int r = proxy_tls_handshake(d->ssl);
        if (r == 0 || r == PROXY_AGAIN_READ || r == PROXY_AGAIN_WRITE)
                return r;
        NB_AUTO_FREE char *why = proxy_tls_problem(d->ssl);
        fail(d, -r, "cannot talk to the proxy: %s", why);
        return GONE;
}

static int send_request(struct proxy_dial *d) {
        while (d->request.len > 0) {
                const uint8_t *bytes = nb_buf_bytes(&d->request);
                ssize_t n =
                    d->ssl ? proxy_tls_write(d->ssl, bytes, d->request.len) : send(d->fd, bytes, d->request.len, MSG_NOSIGNAL);
                if (n < 0 && !d->ssl)
                        n = errno == EAGAIN ? PROXY_AGAIN_WRITE : -errno;
                if (n == PROXY_AGAIN_READ || n == PROXY_AGAIN_WRITE)
                        return (int)n;
                if (n < 0) {
                        fail(d, (int)-n, "the proxy hung up: %s", strerror((int)-n));
                        return GONE;
                }
                nb_buf_consume(&d->request, (size_t)n);
        }
        return 0;
}

static int receive(struct proxy_dial *d) {
        for (;;) {
                struct proxy_answer a;
                ssize_t n = read_head(d);
                if (n == PROXY_AGAIN_READ || n == PROXY_AGAIN_WRITE)
                        return (int)n;
                if (n <= 0) {
                        fail(d, n < 0 ? (int)-n : ECONNRESET, "the proxy hung up before it answered");
                        return GONE;
                }
                ssize_t head = proxy_answer_read(nb_buf_bytes(&d->head), d->head.len, &a);
                if (head == 0)
                        continue;
                if (head < 0)
                        fail(d, EPROTO, "the proxy's answer is not HTTP that can be read in one way only");
                else
                        judge(d, (size_t)head, &a);
                return GONE;
        }
}

static void on_ready(evutil_socket_t fd, short what, void *user);

static void go_on(struct proxy_dial *d) {
        int r = 0;
        while (r == 0) {
                r = d->state == SHAKING ? shake(d) : d->state == SENDING ? send_request(d) : receive(d);
                if (r == 0)
                        d->state++;
        }
        if (r == GONE)
                return;
        (void)event_assign(&d->ready, d->proxy->g->base, d->fd, r == PROXY_AGAIN_WRITE ? EV_WRITE : EV_READ, on_ready, d);
        d->watching = event_add(&d->ready, NULL) == 0;
        if (!d->watching)
                fail(d, EIO, "cannot wait for the proxy");
}

static void on_ready(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct proxy_dial *d = user;
        d->watching = false;
        go_on(d);
}

/* ---- the connection to the proxy */

static void on_race(void *user, int fd, size_t index, int code) {
        (void)index;
        struct proxy_dial *d = user;
        struct proxy *p = d->proxy;
        d->race = NULL;
        d->fd = fd;
        if (fd < 0) {
                fail(d, code, "the proxy cannot be reached: %s", strerror(code));
                return;
        }
        if (p->tls && !(d->ssl = proxy_tls_begin(p->tls, &p->url, fd))) {
                fail(d, EIO, "cannot begin TLS with the proxy");
                return;
        }
        char *request = proxy_request(&p->url, d->name, d->port);
        nb_buf_add(&d->request, request, strlen(request));
        explicit_bzero(request, strlen(request));
        free(request);
        d->state = p->tls ? SHAKING : SENDING;
        go_on(d);
}

static void connect_to(struct proxy_dial *d, const struct resolver_addr *addrs, size_t n) {
        struct resolver_addr order[RACE_ADDRS_MAX];
        n = race_order(addrs, n, order);
        d->state = CONNECTING;
        d->race = race_new(d->proxy->g->base, order, n, d->proxy->url.port, on_race, d);
}

static void on_addresses(void *user, const struct resolver_answer *a) {
        struct proxy_dial *d = user;
        d->query = NULL;
        if (a->status == RESOLVER_OK && a->n_addrs > 0)
                connect_to(d, a->addrs, a->n_addrs);
        else
                fail(d, EHOSTUNREACH, "the proxy %s cannot be looked up", d->proxy->url.host);
}

struct proxy_dial *proxy_dial(struct proxy *p, const char *name, uint16_t port, proxy_fn done, void *user) {
        struct proxy_dial *d = nb_calloc(1, sizeof *d);
        *d = (struct proxy_dial){ .proxy = p, .name = nb_strdup(name), .port = port, .done = done, .user = user, .fd = -1 };
        struct resolver_addr fixed = { .addr = p->url.addr };
        if (p->url.host)
                d->query = resolve_ask(p->g->resolve, p->url.host, 0, on_addresses, d);
        else
                connect_to(d, &fixed, 1);
        return d;
}

/* ---- */

bool proxy_applies(const struct proxy *p, const char *name, uint16_t port, const struct policy_rule *rule) {
        return p && proxy_serves(p->no_proxy, name, port, rule && rule->private);
}

int proxy_new(struct gateway *g, const json_t *settings, struct proxy **ret, struct nb_error *err) {
        const char *url = json_string_value(json_object_get(settings, "url"));
        const char *no_proxy = json_string_value(json_object_get(settings, "no_proxy"));
        const char *ca = json_string_value(json_object_get(settings, "ca"));
        struct proxy *p = nb_calloc(1, sizeof *p);
        *p = (struct proxy){ .g = g, .no_proxy = nb_strdup(no_proxy) };
        LIST_INIT(&p->pumps);
        int r = url ? proxy_url_parse(url, &p->url, err) : nb_fail(err, EPROTO, "the proxy has no URL");
        if (r == 0 && p->url.tls)
                r = proxy_tls_new(ca ? ca : "", &p->tls, err);
        if (r < 0)
                proxy_free(p);
        else
                *ret = p;
        return r;
}

void proxy_free(struct proxy *p) {
        if (!p)
                return;
        proxy_pump_free_all(p);
        proxy_tls_free(p->tls);
        proxy_url_clear(&p->url);
        free(p->no_proxy);
        free(p);
}
