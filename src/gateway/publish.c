/* Published ports: whoever connects to a listening socket of the host is joined with a port of the guest. The socket towards
 * the guest must belong to the box's network namespace, so the portal makes it; answers of the portal come in the order of the
 * questions. Which ports are published is the owner's decision; here is only the carrying out. */
#include <errno.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/impl.h"

#define LISTENERS_MAX 256u
#define INBOUND_MAX 1024u    /* connections at once, those being made included */
#define ACCEPT_TURN 64u      /* then others get their chance */
#define ACCEPT_PAUSE_MS 200u /* when the process has no descriptor left */
#define CONNECT_S 10         /* a guest that neither takes nor refuses a connection */
#define TOLD_AFTER_S 1       /* a connection that lasts longer is told about before its end too */

struct listening {
        LIST_ENTRY(listening) entry;
        struct publish *publish;
        uint32_t id; /* the supervisor's name for it */
        uint16_t guest_port;
        int fd;
        struct event ready;
};
struct inbound {
        LIST_ENTRY(inbound) entry;
        TAILQ_ENTRY(inbound) turn; /* while it waits for the portal */
        struct publish *publish;
        uint32_t listening_id; /* of the socket that it came by */
        uint16_t guest_port;
        bool waiting;           /* for the portal */
        int outer, inner;       /* the host's side, the guest's side; the relay's once it runs */
        struct event connected; /* with the deadline; while the relay runs: the time to tell */
        struct relay *relay;
        struct addr from;
        uint64_t begun_ms, up, down;
};
struct publish {
        struct gateway *g;
        int ports_fd, portal_fd;
        struct event ports_ready, portal_ready, resume;
        LIST_HEAD(listenings, listening) listeners;
        LIST_HEAD(inbounds, inbound) inbound;
        TAILQ_HEAD(inbound_queue, inbound) queue;
        size_t n_listeners, n_inbound;
};

/* ---- one connection */

static void tell(const struct inbound *c, bool allow, bool ended, const char *reason) {
        struct report_event e = { .type = "connect",
                                  .allow = allow,
                                  .host = "guest",
                                  .ip = &c->from,
                                  .port = c->guest_port,
                                  .proto = "tcp",
                                  .reason = reason,
                                  .ended = ended,
                                  .bytes_up = c->up,
                                  .bytes_down = c->down,
                                  .ms = nb_now_ms() - c->begun_ms };
        report_event(c->publish->g->report, &e);
}

static void inbound_free(struct inbound *c) {
        LIST_REMOVE(c, entry);
        c->publish->n_inbound--;
        if (c->waiting)
                TAILQ_REMOVE(&c->publish->queue, c, turn);
        (void)event_del(&c->connected);
        if (c->relay)
                relay_end(c->relay, true);
        if (c->outer >= 0)
                (void)relay_close(c->outer, true);
        nb_close(c->inner);
        free(c);
}

/* Nothing comes of it. A place in the portal's queue is kept, so that its socket goes to nobody else. */
static void end_early(struct inbound *c, bool allow, const char *reason) {
        if (c->outer >= 0) {
                tell(c, allow, true, reason);
                c->outer = relay_close(c->outer, true);
        }
        (void)event_del(&c->connected);
        if (!c->waiting)
                inbound_free(c);
}

static void give_up(struct inbound *c, int code) {
        end_early(c, true, code == ECONNREFUSED ? "nothing in the box listens on this port" : strerror(code));
}

static void take_back(struct inbound *c) {
        static const char why[] = "the port is not published any more";
        if (!c->relay) {
                end_early(c, false, why);
                return;
        }
        tell(c, false, true, why);
        inbound_free(c);
}

static bool on_moved(void *user, uint64_t up, uint64_t down) {
        struct inbound *c = user;
        c->up += up;
        c->down += down;
        return true;
}

static void on_done(void *user, int code) {
        struct inbound *c = user;
        c->relay = NULL;
        tell(c, true, true, code < 0 ? strerror(-code) : NULL);
        inbound_free(c);
}

static void on_told(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        tell(user, true, false, NULL);
}

static void join(struct inbound *c) {
        const struct relay_ops ops = { .moved = on_moved, .done = on_done, .user = c };
        const struct timeval told = { .tv_sec = TOLD_AFTER_S };
        struct event_base *base = c->publish->g->base;
        (void)evtimer_assign(&c->connected, base, on_told, c);
        (void)evtimer_add(&c->connected, &told);
        c->relay = relay_new(base, nb_steal_fd(&c->inner), nb_steal_fd(&c->outer), NULL, 0, &ops);
}

static void on_connected(evutil_socket_t fd, short what, void *user) {
        struct inbound *c = user;
        int code = what & EV_TIMEOUT ? ETIMEDOUT : 0;
        socklen_t len = sizeof code;
        if (code == 0 && fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
                code = errno;
        if (code == 0)
                join(c);
        else
                give_up(c, code);
}

/* The portal's socket is there. */
static void connect_guest(struct inbound *c) {
        const struct timeval limit = { .tv_sec = CONNECT_S };
        struct sockaddr_in to = { .sin_family = AF_INET,
                                  .sin_port = htons(c->guest_port),
                                  .sin_addr.s_addr = htonl(NET_GUEST) };
        struct event_base *base = c->publish->g->base;
        (void)event_del(&c->connected);
        if (connect(c->inner, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
                give_up(c, errno);
        else if (event_assign(&c->connected, base, c->inner, EV_WRITE, on_connected, c) < 0 ||
                 event_add(&c->connected, &limit) < 0)
                give_up(c, EIO);
}

/* ---- the portal */

static void on_portal(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct publish *p = user;
        uint8_t code = 0;
        int got = -1;
        size_t n_fds = 1;
        ssize_t n = nb_recv_fds(fd, &code, sizeof code, &got, &n_fds);
        NB_AUTO_CLOSE int made = n_fds == 1 ? got : -1;
        if (n == -EAGAIN || n == -EINTR)
                return;
        struct inbound *c = TAILQ_FIRST(&p->queue);
        if (n != sizeof code || !c) {
                (void)event_del(&p->portal_ready);
                gateway_fail(p->g, n <= 0 ? "the portal is gone" : "the portal said something that makes no sense");
                return;
        }
        TAILQ_REMOVE(&p->queue, c, turn);
        c->waiting = false;
        if (c->outer < 0) { /* given up while it waited */
                inbound_free(c);
        } else if (made < 0) {
                give_up(c, code ? code : EMFILE); /* it was made, and there was no room for it here */
        } else {
                c->inner = nb_steal_fd(&made);
                connect_guest(c);
        }
}

static void begin(struct listening *l, int fd, const struct sockaddr_storage *from) {
        struct publish *p = l->publish;
        const struct timeval limit = { .tv_sec = CONNECT_S };
        uint16_t port;
        struct inbound *c = nb_calloc(1, sizeof *c);
        *c = (struct inbound){ .publish = p,
                               .listening_id = l->id,
                               .guest_port = l->guest_port,
                               .outer = fd,
                               .inner = -1,
                               .begun_ms = nb_now_ms() };
        LIST_INSERT_HEAD(&p->inbound, c, entry);
        p->n_inbound++;
        (void)evtimer_assign(&c->connected, p->g->base, on_connected, c);
        (void)addr_from_sockaddr((const struct sockaddr *)from, &c->from, &port);
        if (p->n_inbound > INBOUND_MAX) {
                tell(c, false, false, "too many connections to published ports at once");
                inbound_free(c);
        } else if (send(p->portal_fd, "s", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1) {
                give_up(c, errno);
        } else {
                c->waiting = true;
                TAILQ_INSERT_TAIL(&p->queue, c, turn);
                (void)evtimer_add(&c->connected, &limit);
        }
}

/* ---- listening sockets */

static void listening_free(struct listening *l) {
        LIST_REMOVE(l, entry);
        l->publish->n_listeners--;
        (void)event_del(&l->ready);
        nb_close(l->fd);
        free(l);
}

static void on_resume(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct publish *p = user;
        struct listening *l;
        LIST_FOREACH(l, &p->listeners, entry)
        (void)event_add(&l->ready, NULL);
}

static void on_listening(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct listening *l = user;
        const struct timeval pause = { .tv_usec = ACCEPT_PAUSE_MS * 1000 };
        for (unsigned i = 0; i < ACCEPT_TURN; i++) {
                struct sockaddr_storage from;
                socklen_t len = sizeof from;
                int client = accept4(fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (client >= 0) {
                        begin(l, client, &from);
                } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                        (void)event_del(&l->ready);
                        (void)evtimer_add(&l->publish->resume, &pause);
                        return;
                } else if (errno == EAGAIN) {
                        return;
                } else if (errno == EINVAL || errno == EBADF) { /* it does not listen any more */
                        listening_free(l);
                        return;
                }
        }
}

/* What is taken back is closed, too: who came by this socket is not to stay. */
static void unpublish(struct publish *p, uint32_t id) {
        for (struct listening *l = LIST_FIRST(&p->listeners), *next; l; l = next) {
                next = LIST_NEXT(l, entry);
                if (l->id == id)
                        listening_free(l);
        }
        for (struct inbound *c = LIST_FIRST(&p->inbound), *next; c; c = next) {
                next = LIST_NEXT(c, entry);
                if (c->listening_id == id)
                        take_back(c);
        }
}

static void add_listener(struct publish *p, const struct gateway_port *port, int fd) {
        struct listening *l = nb_calloc(1, sizeof *l);
        *l = (struct listening){ .publish = p, .id = port->id, .guest_port = port->guest_port, .fd = fd };
        LIST_INSERT_HEAD(&p->listeners, l, entry);
        p->n_listeners++;
        if (nb_set_nonblock(fd, true) < 0 ||
            event_assign(&l->ready, p->g->base, fd, EV_READ | EV_PERSIST, on_listening, l) < 0 ||
            event_add(&l->ready, NULL) < 0)
                gateway_fail(p->g, "cannot watch a published port");
}

static void on_ports(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct publish *p = user;
        struct gateway_port port;
        int got = -1;
        size_t n_fds = 1;
        ssize_t n = nb_recv_fds(fd, &port, sizeof port, &got, &n_fds);
        NB_AUTO_CLOSE int listener = n_fds == 1 ? got : -1;
        if (n == -EAGAIN || n == -EINTR)
                return;
        if (n == 0) { /* the supervisor is gone; its own line says so */
                (void)event_del(&p->ports_ready);
        } else if (n != sizeof port) {
                gateway_fail(p->g, "a published port cannot be read");
        } else if (listener < 0) {
                unpublish(p, port.id);
        } else if (p->n_listeners < LISTENERS_MAX) {
                add_listener(p, &port, nb_steal_fd(&listener));
        } else {
                gateway_fail(p->g, "there are more than %u published ports", LISTENERS_MAX);
        }
}

/* ---- */

static bool is_socket(int fd) {
        struct stat st;
        return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int watch(struct publish *p, struct event *e, int fd, event_callback_fn fn) {
        if (event_assign(e, p->g->base, fd, EV_READ | EV_PERSIST, fn, p) < 0)
                return -EIO;
        return event_add(e, NULL) < 0 ? -EIO : 0;
}

int publish_new(struct gateway *g, int ports_fd, int portal_fd, struct publish **ret, struct nb_error *err) {
        *ret = NULL;
        if (!is_socket(ports_fd) || !is_socket(portal_fd))
                return 0; /* nothing can be published */
        struct publish *p = nb_calloc(1, sizeof *p);
        *p = (struct publish){ .g = g, .ports_fd = ports_fd, .portal_fd = portal_fd };
        LIST_INIT(&p->listeners);
        LIST_INIT(&p->inbound);
        TAILQ_INIT(&p->queue);
        (void)evtimer_assign(&p->resume, g->base, on_resume, p);
        if (nb_set_nonblock(ports_fd, true) < 0 || nb_set_nonblock(portal_fd, true) < 0 ||
            watch(p, &p->ports_ready, ports_fd, on_ports) < 0 || watch(p, &p->portal_ready, portal_fd, on_portal) < 0) {
                free(p);
                return nb_fail(err, EIO, "cannot watch the published ports");
        }
        *ret = p;
        return 0;
}

void publish_free(struct publish *p) {
        if (!p)
                return;
        for (struct inbound *c = LIST_FIRST(&p->inbound), *next; c; c = next) {
                next = LIST_NEXT(c, entry);
                inbound_free(c);
        }
        for (struct listening *l = LIST_FIRST(&p->listeners), *next; l; l = next) {
                next = LIST_NEXT(l, entry);
                listening_free(l);
        }
        (void)event_del(&p->resume);
        (void)event_del(&p->ports_ready);
        (void)event_del(&p->portal_ready);
        nb_close(p->ports_fd);
        nb_close(p->portal_fd);
        free(p);
}
