/* The DNS sockets on the box's side, UDP and TCP (RFC 1035, 7766). Every query to whatever server comes here, and each one with
 * an id that can be read is answered at once, if only with an error. What the answer is, answer.c says. The guest is hostile:
 * there are limits on connections, on what one connection may leave unread, on lookups that wait, and on time. */
#include <errno.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/answer.h"

#define UDP_BURST 64        /* queries in one turn of the loop */
#define ACCEPT_BURST 16     /* connections in one turn */
#define CONNS_MAX 64        /* over TCP; more are closed at once */
#define WAITING_MAX 512     /* queries that wait for the resolver, all together, ... */
#define CONN_WAITING_MAX 32 /* ... and of one connection */
#define CONN_OUT_MAX 16384  /* unread answers of one connection; then it is not read from */
#define CONN_IN_MAX (2u + DNS_QUERY_MAX)
#define IDLE_S 10           /* a connection that neither says nor takes anything */
#define ACCEPT_PAUSE_MS 100 /* after accept() failed for want of descriptors */

struct conn {
        struct dnsd *d;
        int fd;
        struct event in_event, out_event;
        struct nb_buf in, out;
        size_t waiting;
        bool eof;   /* nothing more will come; what has come is still answered */
        bool ended; /* what came last was nonsense: nothing more is looked at */
        LIST_ENTRY(conn) link;
};
/* A query whose answer waits for the resolver. */
struct asked {
        struct dnsd *d;
        struct answer *answer;
        struct conn *conn; /* NULL: UDP, to: */
        struct sockaddr_storage peer;
        socklen_t peer_len;
        LIST_ENTRY(asked) link;
};
struct dnsd {
        struct gateway *g;
        int udp, tcp;
        struct event udp_event, tcp_event, pause_event;
        LIST_HEAD(conns, conn) conns;
        LIST_HEAD(askeds, asked) asked;
        size_t n_conns, n_asked;
};

static void conn_update(struct conn *c);
static void conn_process(struct conn *c);

static void conn_free(struct conn *c) {
        for (struct asked *a = LIST_FIRST(&c->d->asked), *next; a; a = next) {
                next = LIST_NEXT(a, link);
                if (a->conn != c)
                        continue;
                answer_cancel(a->answer);
                LIST_REMOVE(a, link);
                c->d->n_asked--;
                free(a);
        }
        event_del(&c->in_event);
        event_del(&c->out_event);
        LIST_REMOVE(c, link);
        c->d->n_conns--;
        nb_buf_clear(&c->in);
        nb_buf_clear(&c->out);
        close(c->fd);
        free(c);
}

static void conn_add(struct conn *c, const struct nb_buf *message) {
        const uint8_t len[2] = { (uint8_t)(message->len >> 8), (uint8_t)message->len };
        nb_buf_add(&c->out, len, sizeof len);
        nb_buf_add(&c->out, nb_buf_bytes(message), message->len);
}

/* Lost datagrams are asked for again. */
static void send_udp(struct dnsd *d, const struct nb_buf *message, const struct sockaddr_storage *peer, socklen_t peer_len) {
        (void)sendto(d->udp, nb_buf_bytes(message), message->len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)peer,
                     peer_len);
}

static void answered(void *user, struct nb_buf *message) {
        struct asked *a = user;
        struct conn *c = a->conn;
        LIST_REMOVE(a, link);
        a->d->n_asked--;
        if (c) {
                c->waiting--;
                conn_add(c, message);
                conn_process(c);
                conn_update(c);
        } else {
                send_udp(a->d, message, &a->peer, a->peer_len);
        }
        free(a);
}

/* One query. The answer is appended to `out`, or comes later. */
static void handle(struct dnsd *d, const uint8_t *bytes, size_t len, struct conn *c, const struct sockaddr_storage *peer,
                   socklen_t peer_len, struct nb_buf *out) {
        struct dns_query q;
        int r = dns_parse(bytes, len, &q);
        if (c)
                q.room = DNS_TCP_MAX;
        if (r == -EBADMSG)
                dns_put_empty(out, &q, DNS_FORMERR);
        if (r < 0)
                return;
        struct asked *a = nb_calloc(1, sizeof *a);
        *a = (struct asked){ .d = d, .conn = c, .peer_len = peer_len };
        if (peer)
                a->peer = *peer;
        a->answer = answer_query(d->g, &q, d->n_asked < WAITING_MAX, answered, a, out);
        if (!a->answer) {
                free(a);
                return;
        }
        LIST_INSERT_HEAD(&d->asked, a, link);
        d->n_asked++;
        if (c)
                c->waiting++;
}

static void on_udp(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct dnsd *d = user;
        uint8_t bytes[DNS_QUERY_MAX + 1]; /* one more, so that what is too long is seen to be so */
        NB_AUTO_BUF out = { 0 };
        for (int i = 0; i < UDP_BURST; i++) {
                struct sockaddr_storage peer;
                socklen_t peer_len = sizeof peer;
                ssize_t n = recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&peer, &peer_len);
                if (n < 0)
                        return;
                handle(d, bytes, (size_t)n, NULL, &peer, peer_len, &out);
                if (out.len > 0)
                        send_udp(d, &out, &peer, peer_len);
                nb_buf_consume(&out, out.len);
        }
}

/* The whole messages that have arrived, as far as their answers may be kept. */
static void conn_process(struct conn *c) {
        while (!c->ended && c->in.len >= 2 && c->out.len < CONN_OUT_MAX && c->waiting < CONN_WAITING_MAX) {
                const uint8_t *bytes = nb_buf_bytes(&c->in);
                size_t len = (size_t)bytes[0] << 8 | bytes[1];
                NB_AUTO_BUF message = { 0 };
                if (len > DNS_QUERY_MAX && c->in.len >= 4) { /* not even read; its id is */
                        const struct dns_query q = { .id = (uint16_t)(bytes[2] << 8 | bytes[3]) };
                        dns_put_empty(&message, &q, DNS_FORMERR);
                        c->ended = true;
                } else if (len < 2) {
                        c->ended = true;
                } else if (c->in.len < 2 + len) {
                        return;
                } else {
                        handle(c->d, bytes + 2, len, c, NULL, 0, &message);
                        nb_buf_consume(&c->in, 2 + len);
                }
                if (message.len > 0)
                        conn_add(c, &message);
        }
}

/* Sends what can be sent, and sets what to wait for; may end the connection. */
static void conn_update(struct conn *c) {
        const struct timeval idle = { .tv_sec = IDLE_S };
        while (c->out.len > 0) {
                ssize_t n = send(c->fd, nb_buf_bytes(&c->out), c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0) {
                        conn_free(c);
                        return;
                }
                nb_buf_consume(&c->out, (size_t)n);
                conn_process(c); /* there may be room for more answers now */
        }
        if ((c->ended || c->eof) && c->out.len == 0 && c->waiting == 0) {
                conn_free(c);
                return;
        }
        if (c->out.len == 0)
                nb_buf_clear(&c->out);
        if (c->in.len == 0)
                nb_buf_clear(&c->in);
        if (c->out.len > 0)
                event_add(&c->out_event, &idle);
        else
                event_del(&c->out_event);
        if (!c->ended && !c->eof && c->in.len < CONN_IN_MAX && c->out.len < CONN_OUT_MAX && c->waiting < CONN_WAITING_MAX)
                event_add(&c->in_event, &idle);
        else
                event_del(&c->in_event);
}

static void on_conn_in(evutil_socket_t fd, short what, void *user) {
        struct conn *c = user;
        if (what & EV_TIMEOUT) {
                if (c->waiting == 0) /* else it is the resolver that takes its time */
                        conn_free(c);
                return;
        }
        size_t room = CONN_IN_MAX - c->in.len;
        ssize_t n = recv(fd, nb_buf_reserve(&c->in, room), room, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < 0) {
                conn_free(c);
                return;
        }
        nb_buf_commit(&c->in, (size_t)n);
        c->eof = n == 0;
        conn_process(c);
        conn_update(c);
}

static void on_conn_out(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        if (what & EV_TIMEOUT)
                conn_free(user);
        else
                conn_update(user);
}

static void accept_one(struct dnsd *d, int fd) {
        if (d->n_conns >= CONNS_MAX) {
                const struct report_event e = { .type = "error",
                                                .proto = "dns",
                                                .reason = "too many DNS connections are open" };
                report_event(d->g->report, &e);
                close(fd);
                return;
        }
        struct conn *c = nb_calloc(1, sizeof *c);
        *c = (struct conn){ .d = d, .fd = fd };
        event_assign(&c->in_event, d->g->base, fd, EV_READ | EV_PERSIST, on_conn_in, c);
        event_assign(&c->out_event, d->g->base, fd, EV_WRITE | EV_PERSIST, on_conn_out, c);
        LIST_INSERT_HEAD(&d->conns, c, link);
        d->n_conns++;
        conn_update(c);
}

static void on_tcp(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct dnsd *d = user;
        for (int i = 0; i < ACCEPT_BURST; i++) {
                int conn = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (conn >= 0) {
                        accept_one(d, conn);
                } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                        const struct timeval pause = { .tv_usec = ACCEPT_PAUSE_MS * 1000 };
                        event_del(&d->tcp_event);
                        event_add(&d->pause_event, &pause);
                        return;
                } else if (errno != EINTR && errno != ECONNABORTED) {
                        return;
                }
        }
}

static void on_pause(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct dnsd *d = user;
        event_add(&d->tcp_event, NULL);
}

int dnsd_new(struct gateway *g, int udp_fd, int tcp_fd, struct dnsd **ret, struct nb_error *err) {
        int r = nb_set_nonblock(udp_fd, true);
        if (r == 0)
                r = nb_set_nonblock(tcp_fd, true);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot use the DNS sockets");
        struct dnsd *d = nb_calloc(1, sizeof *d);
        *d = (struct dnsd){ .g = g, .udp = udp_fd, .tcp = tcp_fd };
        LIST_INIT(&d->conns);
        LIST_INIT(&d->asked);
        event_assign(&d->udp_event, g->base, udp_fd, EV_READ | EV_PERSIST, on_udp, d);
        event_assign(&d->tcp_event, g->base, tcp_fd, EV_READ | EV_PERSIST, on_tcp, d);
        evtimer_assign(&d->pause_event, g->base, on_pause, d);
        if (event_add(&d->udp_event, NULL) < 0 || event_add(&d->tcp_event, NULL) < 0) {
                dnsd_free(d);
                return nb_fail(err, EIO, "cannot wait for DNS queries");
        }
        *ret = d;
        return 0;
}

void dnsd_free(struct dnsd *d) {
        if (!d)
                return;
        for (struct conn *c = LIST_FIRST(&d->conns), *next; c; c = next) {
                next = LIST_NEXT(c, link);
                conn_free(c);
        }
        for (struct asked *a = LIST_FIRST(&d->asked), *next; a; a = next) {
                next = LIST_NEXT(a, link);
                answer_cancel(a->answer);
                free(a);
        }
        event_del(&d->udp_event);
        event_del(&d->tcp_event);
        event_del(&d->pause_event);
        free(d);
}
