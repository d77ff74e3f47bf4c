/* Tunnels through a TLS proxy: the relay wants a plain descriptor, so a pair of sockets stands between it and the TLS
 * connection, and here bytes are moved between that pair and TLS, with half-closes, and with memory only for what a peer does
 * not take. */
#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "gateway/proxy_impl.h"

#define CHUNK (16u * 1024u) /* of one TLS record, and of one read */
#define TURNS 16u           /* then others get their chance */

struct proxy_pump {
        LIST_ENTRY(proxy_pump) entry;
        struct proxy *proxy;
        SSL *ssl;
        int far, near;                /* the proxy's socket, our end of the pair */
        struct event on_far, on_near; /* by edges: each run goes on until nothing moves */
        struct nb_buf up, down;       /* read, and not yet taken by the other side */
        bool up_end, down_end;        /* nothing more will be read, and */
        bool up_shut, down_shut;      /* the other side knows */
};

static void pump_free(struct proxy_pump *p) {
        LIST_REMOVE(p, entry);
        (void)event_del(&p->on_far);
        (void)event_del(&p->on_near);
        proxy_tls_end(p->ssl);
        nb_buf_clear(&p->up);
        nb_buf_clear(&p->down);
        nb_close(p->far);
        nb_close(p->near);
        free(p);
}

static bool again(ssize_t n) {
        return n == PROXY_AGAIN_READ || n == PROXY_AGAIN_WRITE;
}

/* Takes what was written off the front. Returns whether anything was, or a negative errno. */
static int written(struct nb_buf *b, ssize_t n) {
        if (n < 0)
                return again(n) ? 0 : (int)n;
        nb_buf_consume(b, (size_t)n);
        if (b->len == 0)
                nb_buf_clear(b);
        return n > 0;
}

/* Keeps what was read. Returns whether anything moved, or a negative errno. */
static int kept(struct nb_buf *b, const uint8_t *bytes, ssize_t n, bool *end) {
        if (n < 0)
                return again(n) ? 0 : (int)n;
        if (n == 0)
                *end = true;
        nb_buf_add(b, bytes, (size_t)n);
        return 1;
}

static int move_down(struct proxy_pump *p) {
        uint8_t bytes[CHUNK];
        if (p->down.len > 0) {
                ssize_t n = send(p->near, nb_buf_bytes(&p->down), p->down.len, MSG_DONTWAIT | MSG_NOSIGNAL);
                return written(&p->down, n < 0 ? -errno : n);
        }
        if (!p->down_end)
                return kept(&p->down, bytes, proxy_tls_read(p->ssl, bytes, sizeof bytes), &p->down_end);
        if (p->down_shut)
                return 0;
        p->down_shut = true;
        (void)shutdown(p->near, SHUT_WR);
        return 1;
}

static int move_up(struct proxy_pump *p) {
        uint8_t bytes[CHUNK];
        if (p->up.len > 0)
                return written(&p->up, proxy_tls_write(p->ssl, nb_buf_bytes(&p->up), p->up.len));
        if (!p->up_end) {
                ssize_t n = recv(p->near, bytes, sizeof bytes, MSG_DONTWAIT);
                return kept(&p->up, bytes, n < 0 ? -errno : n, &p->up_end);
        }
        if (p->up_shut)
                return 0;
        p->up_shut = true;
        proxy_tls_shut(p->ssl);
        return 1;
}

/* Has the other end of the pair been closed altogether, not only for writing? */
static bool near_gone(const struct proxy_pump *p) {
        struct pollfd pfd = { .fd = p->near };
        return poll(&pfd, 1, 0) == 1 && (pfd.revents & (POLLHUP | POLLERR));
}

static void run(struct proxy_pump *p) {
        for (unsigned i = 0; i < TURNS; i++) {
                int down = move_down(p), up = down < 0 ? down : move_up(p);
                if (up < 0 || (p->up_shut && p->down_shut) || (p->up_shut && near_gone(p))) {
                        pump_free(p);
                        return;
                }
                if (down == 0 && up == 0)
                        return;
        }
        event_active(&p->on_near, EV_READ, 0);
}

static void on_event(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        run(user);
}

static int watch(struct proxy_pump *p, struct event *e, int fd) {
        if (event_assign(e, p->proxy->g->base, fd, EV_READ | EV_WRITE | EV_ET | EV_PERSIST, on_event, p) < 0)
                return -EIO;
        return event_add(e, NULL) < 0 ? -EIO : 0;
}

int proxy_pump_new(struct proxy *proxy, SSL *ssl, int far, const void *first, size_t first_len) {
        int pair[2];
        struct proxy_pump *p = nb_calloc(1, sizeof *p);
        *p = (struct proxy_pump){ .proxy = proxy, .ssl = ssl, .far = far, .near = -1 };
        LIST_INSERT_HEAD(&proxy->pumps, p, entry);
        (void)evtimer_assign(&p->on_far, proxy->g->base, on_event, p);
        (void)evtimer_assign(&p->on_near, proxy->g->base, on_event, p);
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
                int code = errno;
                pump_free(p);
                return -code;
        }
        p->near = pair[0];
        nb_buf_add(&p->down, first, first_len);
        if (watch(p, &p->on_far, far) < 0 || watch(p, &p->on_near, pair[0]) < 0) {
                pump_free(p);
                nb_close(pair[1]);
                return -EIO;
        }
        event_active(&p->on_near, EV_READ, 0); /* TLS may hold bytes that the socket does not show any more */
        return pair[1];
}

void proxy_pump_free_all(struct proxy *proxy) {
        for (struct proxy_pump *p = LIST_FIRST(&proxy->pumps), *next; p; p = next) {
                next = LIST_NEXT(p, entry);
                pump_free(p);
        }
}
