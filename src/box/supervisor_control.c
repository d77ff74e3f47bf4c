/* The control socket: connections of the owner's commands, each with one request (see control.h). A connection that asks for
 * a session is handed to the conduit once it is answered; not a byte after the request line is read here. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/supervisor_requests.h"

#define CLIENTS_MAX 256    /* connections that wait for something; further ones wait in the kernel's queue */
#define REQUEST_SECONDS 10 /* to send the request, and to take the answer */
#define PEEK_SIZE 4096

static void client_free(struct super_client *c) {
        struct supervisor *s = c->super;
        TAILQ_REMOVE(&s->clients, c, link);
        if (s->n_clients-- == CLIENTS_MAX && s->control_event)
                (void)event_add(s->control_event, NULL);
        if (c->op)
                c->op->client = NULL;
        if (c->readable)
                event_free(c->readable);
        if (c->writable)
                event_free(c->writable);
        for (size_t i = 0; i < c->n_fds; i++)
                nb_close(c->fds[i]);
        nb_close(c->fd);
        nb_buf_clear(&c->in);
        nb_buf_clear(&c->out);
        free(c);
}

/* The answer is out. */
static void finish(struct super_client *c) {
        struct supervisor *s = c->super;
        if (c->session != 0) {
                uint8_t id[4] = { (uint8_t)c->session, (uint8_t)(c->session >> 8), (uint8_t)(c->session >> 16),
                                  (uint8_t)(c->session >> 24) };
                ssize_t n = nb_send_fds(s->clients_fd, id, sizeof id, &c->fd, 1);
                if (n < 0)
                        nb_warn("cannot hand session %u to the conduit: %s", c->session, strerror((int)-n));
        }
        client_free(c);
}

static void flush(struct super_client *c) {
        while (c->out.len > 0) {
                ssize_t n = send(c->fd, nb_buf_bytes(&c->out), c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        (void)event_add(c->writable, &(struct timeval){ .tv_sec = REQUEST_SECONDS });
                        return;
                }
                if (n < 0) {
                        client_free(c);
                        return;
                }
                nb_buf_consume(&c->out, (size_t)n);
        }
        if (c->state == CLIENT_ANSWERED)
                finish(c);
}

static void on_writable(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        if (what & EV_TIMEOUT)
                client_free(user);
        else
                flush(user);
}

static void put_line(struct super_client *c, json_t *line) {
        char *text = json_dumps(line, JSON_COMPACT);
        json_decref(line);
        if (text) {
                nb_buf_add(&c->out, text, strlen(text));
                nb_buf_add(&c->out, "\n", 1);
        }
        free(text);
}

void client_progress(struct super_client *c, json_t *line) {
        put_line(c, line);
        flush(c);
}

void client_answer(struct super_client *c, json_t *answer) {
        if (!answer)
                answer = json_pack("{s:b}", "ok", 1);
        if (!json_object_get(answer, "ok"))
                (void)json_object_set_new(answer, "ok", json_true());
        c->state = CLIENT_ANSWERED;
        (void)event_del(c->readable);
        put_line(c, answer);
        flush(c);
}

void client_refuse(struct super_client *c, int code, const char *hint, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *text = nb_vasprintf(fmt, ap);
        va_end(ap);
        client_answer(c, json_pack("{s:b, s:i, s:s, s:s*}", "ok", 0, "code", code, "error", text, "hint", hint));
}

static void take_request(struct super_client *c) {
        json_t *request = json_loadb((const char *)nb_buf_bytes(&c->in), c->in.len, JSON_REJECT_DUPLICATES, NULL);
        nb_buf_clear(&c->in);
        if (!json_is_object(request))
                client_refuse(c, EPROTO, NULL, "the request is not a JSON object");
        else
                request_dispatch(c, request);
        json_decref(request);
}

/* Moves bytes of the request line, and descriptors that came with them, out of the socket; nothing beyond the newline.
 * 1: the line is whole. */
static int take_line_part(struct super_client *c) {
        char peek[PEEK_SIZE];
        ssize_t n = recv(c->fd, peek, sizeof peek, MSG_PEEK | MSG_DONTWAIT);
        if (n <= 0)
                return n == 0 ? -ECONNRESET : errno == EINTR || errno == EAGAIN ? 0 : -errno;
        const char *end = memchr(peek, '\n', (size_t)n);
        size_t want = end ? (size_t)(end - peek) + 1 : (size_t)n;
        if (c->in.len + want > CONTROL_LINE_MAX)
                return -EMSGSIZE;
        while (want > 0) {
                size_t room = NB_ARRAY_LEN(c->fds) - c->n_fds;
                n = nb_recv_fds(c->fd, nb_buf_reserve(&c->in, want), want, c->fds + c->n_fds, &room);
                if (n <= 0)
                        return n == 0 ? -ECONNRESET : (int)n;
                c->n_fds += room;
                nb_buf_commit(&c->in, (size_t)n);
                want -= (size_t)n;
        }
        return end != NULL;
}

static void on_readable(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        struct super_client *c = user;
        if ((what & EV_TIMEOUT) || c->state != CLIENT_READING) { /* too slow; or gone while it waited */
                client_free(c);
                return;
        }
        int r = take_line_part(c);
        if (r < 0) {
                client_free(c);
        } else if (r == 1) {
                c->state = CLIENT_WAITING;
                (void)event_del(c->readable);
                (void)event_add(c->readable, NULL); /* from now on without a deadline: tells when the client goes */
                take_request(c);
        }
}

static bool is_owner(int fd) {
        struct ucred peer;
        socklen_t len = sizeof peer;
        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == getuid();
}

static void on_connection(evutil_socket_t listener, short what, void *user) {
        (void)what;
        struct supervisor *s = user;
        NB_AUTO_CLOSE int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
                return;
        if (!is_owner(fd)) {
                nb_warn("a connection of another user was refused");
                return;
        }
        struct super_client *c = nb_calloc(1, sizeof *c);
        c->super = s;
        c->fd = nb_steal_fd(&fd);
        TAILQ_INSERT_TAIL(&s->clients, c, link);
        if (++s->n_clients == CLIENTS_MAX)
                (void)event_del(s->control_event);
        c->readable = event_new(s->base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
        c->writable = event_new(s->base, c->fd, EV_WRITE, on_writable, c);
        if (!c->readable || !c->writable || event_add(c->readable, &(struct timeval){ .tv_sec = REQUEST_SECONDS }) < 0)
                client_free(c);
}

int control_begin(struct supervisor *s, struct nb_error *err) {
        /* A connection names the process that listened last as its other end (SO_PEERCRED, unix(7)). That was the starting
         * command; from now on it is this one, whose end `down` waits for. */
        if (listen(s->control_fd, BOX_BACKLOG) < 0)
                return nb_fail_errno(err, errno, "cannot listen on the control socket");
        s->control_event = event_new(s->base, s->control_fd, EV_READ | EV_PERSIST, on_connection, s);
        if (!s->control_event || event_add(s->control_event, NULL) < 0)
                return nb_fail(err, ENOMEM, "cannot watch the control socket");
        return 0;
}

void control_up(struct supervisor *s) {
        struct super_client *c, *next;
        for (c = TAILQ_FIRST(&s->clients); c; c = next) {
                next = TAILQ_NEXT(c, link);
                if (c->state == CLIENT_WAITING && c->waits_for == WAITS_READY)
                        client_answer(c, NULL);
        }
}

void control_policy(struct supervisor *s, unsigned change) {
        struct super_client *c, *next;
        for (c = TAILQ_FIRST(&s->clients); c; c = next) {
                next = TAILQ_NEXT(c, link);
                if (c->state == CLIENT_WAITING && c->waits_for == WAITS_POLICY && c->change <= change)
                        client_answer(c, json_pack("{s:i}", "rules", (int)s->m.policy->n_rules));
        }
}

void control_phase(struct supervisor *s, const char *name, unsigned long ms) {
        struct super_client *c, *next;
        for (c = TAILQ_FIRST(&s->clients); c; c = next) {
                next = TAILQ_NEXT(c, link);
                if (c->state == CLIENT_WAITING && c->waits_for == WAITS_READY)
                        client_progress(c, json_pack("{s:s, s:I}", "phase", name, "ms", (json_int_t)ms));
        }
}

void control_over(struct supervisor *s) {
        struct super_client *c, *next;
        for (c = TAILQ_FIRST(&s->clients); c; c = next) {
                next = TAILQ_NEXT(c, link);
                if (c->state == CLIENT_WAITING && c->waits_for == WAITS_END)
                        client_answer(c, json_pack("{s:s}", "reason", s->reason));
                else if (c->state == CLIENT_WAITING)
                        client_refuse(c, ECONNRESET, "nixbox events and nixbox logs say more", "the box ended: %s", s->reason);
        }
}

void control_free(struct supervisor *s) {
        if (s->control_event)
                event_free(s->control_event);
        s->control_event = NULL;
        s->control_fd = nb_close(s->control_fd);
        struct super_client *c, *next;
        for (c = TAILQ_FIRST(&s->clients); c; c = next) {
                next = TAILQ_NEXT(c, link);
                client_free(c);
        }
}
