/* The line to the gateway: documents out, lines in. What comes in has been made by a process that parses what the guest sends:
 * it is read in small pieces, no faster than a limit, checked by gateway_line.c, and the first line that is not as it should be
 * ends the gateway. */
#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/gateway_line.h"
#include "box/supervisor_gateway.h"
#include "gateway/gateway.h"

#define READ_CHUNK 16384
#define LINES_PER_SECOND 4000 /* beyond this the gateway waits: twice its fastest guest, and little work for us */
#define LINES_BURST 8000
#define PAUSE_MS 50
#define OUT_MAX (2u * GATEWAY_IN_MAX) /* bytes that wait for the gateway; beyond it, it is stuck */

static void refill(struct egress *e) {
        uint64_t now = nb_now_ms(), more = (now - e->budget_ms) * LINES_PER_SECOND / 1000;
        if (more == 0)
                return;
        e->budget = e->budget + more > LINES_BURST ? LINES_BURST : e->budget + more;
        e->budget_ms = now;
}

static void take(struct egress *e, struct gateway_line *l) {
        struct supervisor *s = e->super;
        switch (l->kind) {
        case GATEWAY_LINE_READY: egress_ready(e); break;
        case GATEWAY_LINE_APPLIED: egress_applied(e); break;
        case GATEWAY_LINE_NAME: egress_table_name(e->table, l->name, l->address); break;
        case GATEWAY_LINE_EVENT: events_add(s->events, l->type, nb_steal(&l->fields)); break;
        case GATEWAY_LINE_TOTAL: egress_table_total(e->table, l->name, l->rule, l->up, l->down); break;
        }
}

/* Takes whole lines while the budget lasts. False: the gateway broke the rules, and everything here is gone. */
static bool take_lines(struct egress *e) {
        refill(e);
        while (e->budget > 0) {
                const char *bytes = (const char *)nb_buf_bytes(&e->in);
                const char *end = e->in.len > 0 ? memchr(bytes, '\n', e->in.len) : NULL;
                if (!end && e->in.len <= GATEWAY_OUT_MAX)
                        return true;
                struct gateway_line l;
                if (!end || gateway_line_parse(bytes, (size_t)(end - bytes), &l) < 0) {
                        egress_broke(e, "the gateway said something that it must not");
                        return false;
                }
                nb_buf_consume(&e->in, (size_t)(end - bytes) + 1);
                e->budget--;
                take(e, &l);
                if (e->line_fd < 0)
                        return false;
        }
        (void)event_del(e->readable);
        (void)event_add(e->pause_timer, &(struct timeval){ .tv_usec = PAUSE_MS * 1000 });
        return true;
}

static void on_pause(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct egress *e = user;
        (void)event_add(e->readable, NULL);
        (void)take_lines(e);
}

static void on_readable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct egress *e = user;
        ssize_t n = read(fd, nb_buf_reserve(&e->in, READ_CHUNK), READ_CHUNK);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0) { /* it is ending; its status says more */
                (void)event_del(e->readable);
                return;
        }
        nb_buf_commit(&e->in, (size_t)n);
        (void)take_lines(e);
}

static void on_writable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct egress *e = user;
        ssize_t n = write(fd, nb_buf_bytes(&e->out), e->out.len);
        if (n > 0)
                nb_buf_consume(&e->out, (size_t)n);
        if ((n < 0 && errno != EINTR && errno != EAGAIN) || e->out.len == 0)
                (void)event_del(e->writable);
}

int egress_line_begin(struct egress *e, int fd, struct nb_error *err) {
        struct event_base *base = e->super->base;
        e->line_fd = fd;
        e->budget = LINES_BURST;
        e->budget_ms = nb_now_ms();
        (void)nb_set_nonblock(fd, true);
        e->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, e);
        e->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, e);
        e->pause_timer = evtimer_new(base, on_pause, e);
        if (!e->readable || !e->writable || !e->pause_timer || event_add(e->readable, NULL) < 0)
                return nb_fail(err, ENOMEM, "cannot watch the gateway");
        return 0;
}

void egress_line_end(struct egress *e) {
        struct event **all[] = { &e->readable, &e->writable, &e->pause_timer };
        for (size_t i = 0; i < NB_ARRAY_LEN(all); i++) {
                if (*all[i])
                        event_free(*all[i]);
                *all[i] = NULL;
        }
        nb_buf_clear(&e->in);
        nb_buf_wipe(&e->out); /* a proxy's password may be in it */
        e->line_fd = nb_close(e->line_fd);
}

void egress_say(struct egress *e, json_t *doc) {
        char *text = e->line_fd < 0 ? NULL : json_dumps(doc, JSON_COMPACT);
        json_decref(doc);
        if (!text)
                return; /* nobody listens; the next one is told everything at its start */
        size_t len = strlen(text);
        bool fits = e->out.len + len < OUT_MAX;
        if (fits) {
                nb_buf_add(&e->out, text, len);
                nb_buf_add(&e->out, "\n", 1);
                (void)event_add(e->writable, NULL);
        }
        free(text);
        if (!fits)
                egress_broke(e, "the gateway takes no more messages");
}
