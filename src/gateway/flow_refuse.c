/* How a connection that is not allowed ends: with an event, and for the program inside with an answer in its own protocol, so
 * that it learns why instead of waiting. HTTP gets a 403, TLS an alert, all of them a RST, none a time-out. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/flow.h"
#include "gateway/http.h"
#include "gateway/tls.h"

#define FIRST_BYTES_MS 1000u /* for a refused client to say something: a guest under emulation may need long for that */
#define LEAVE_MS 1000u       /* for it to read the answer and go */
#define DRAIN_MAX 64u        /* pieces of what it still says are thrown away before others have their turn */
#define PEEK 1024u           /* enough to tell protocols apart; whoever needs more gets no words */

static const char *proto_of(const struct flow *f) {
        static const char *const names[] = { "tcp", "tls", "http", "tcp" };
        return names[f->look.kind];
}

/* Address events show: what was connected to, or else what the guest asked for; never a synthetic one that has a name. */
static const struct addr *shown_address(const struct flow *f) {
        if (f->far.family)
                return &f->far;
        return f->name ? NULL : &f->to;
}

void flow_tell(struct flow *f, bool ended, const char *reason) {
        struct report_event e = { .type = "connect",
                                  .allow = true,
                                  .host = f->label,
                                  .ip = shown_address(f),
                                  .port = f->port,
                                  .proto = proto_of(f),
                                  .rule = f->found.rule,
                                  .reason = reason,
                                  .ended = ended,
                                  .bytes_up = f->up,
                                  .bytes_down = f->down,
                                  .ms = nb_now_ms() - f->begun_ms };
        report_event(f->all->g->report, &e);
}

static void tell_refused(struct flow *f) {
        bool moved = f->up > 0 || f->down > 0;
        struct report_event e = { .type = f->look.kind == LOOK_HTTP && f->look.problem ? "http" : "connect",
                                  .host = f->label,
                                  .ip = shown_address(f),
                                  .port = f->port,
                                  .proto = proto_of(f),
                                  .rule = f->found.rule,
                                  .reason = f->why,
                                  .ended = moved,
                                  .bytes_up = f->up,
                                  .bytes_down = f->down,
                                  .ms = moved ? nb_now_ms() - f->begun_ms : 0 };
        report_event(f->all->g->report, &e);
}

static void wake_at(struct flow *f, int bytes) {
        (void)setsockopt(f->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

static void answer(struct flow *f, enum look_kind kind) {
        const char *asked = f->look.problem && f->look.asked[0] ? f->look.asked : f->label;
        NB_AUTO_FREE char *page = kind == LOOK_HTTP ? http_refusal(asked, f->why, f->command) : NULL;
        uint8_t alert[TLS_ALERT_LEN];
        if (page) {
                (void)send(f->fd, page, strlen(page), MSG_DONTWAIT | MSG_NOSIGNAL);
        } else if (kind == LOOK_TLS) {
                tls_alert(alert, f->alert);
                (void)send(f->fd, alert, sizeof alert, MSG_DONTWAIT | MSG_NOSIGNAL);
        } else {
                flow_free(f, true);
                return;
        }
        (void)shutdown(f->fd, SHUT_WR);
        wake_at(f, 1);
        f->state = FLOW_LEAVING;
        flow_wait(f, LEAVE_MS);
        flow_refusing(f);
}

void flow_refuse(struct flow *f, char *why) {
        free(f->why);
        f->why = why;
        tell_refused(f);
        f->state = FLOW_REFUSING;
        if (f->looked > 0)
                wake_at(f, 1);
        f->looked = 0;
        (void)event_add(&f->readable, NULL);
        flow_wait(f, FIRST_BYTES_MS);
}

void flow_refuse_late(struct flow *f, char *why, int fd) {
        free(f->why);
        f->why = why;
        tell_refused(f);
        f->fd = fd;
        if (fd < 0) {
                flow_free(f, true);
                return;
        }
        (void)event_add(&f->readable, NULL);
        answer(f, f->look.kind);
}

/* What it says is thrown away: unread, it would turn the end into a RST that may overtake the answer. */
static void drain(struct flow *f) {
        uint8_t bytes[PEEK];
        ssize_t n = 1;
        for (unsigned i = 0; i < DRAIN_MAX && n > 0; i++)
                n = recv(f->fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_TRUNC);
        if (n > 0)
                return;
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
                flow_free(f, n < 0);
}

void flow_refusing(struct flow *f) {
        uint8_t bytes[PEEK];
        if (f->state == FLOW_LEAVING) {
                drain(f);
                return;
        }
        ssize_t n = recv(f->fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        bool more = n > 0 && (size_t)n > f->looked; /* the same again: nothing will follow */
        int tls = n > 0 ? tls_looks(bytes, (size_t)n) : -EPROTO, http = n > 0 ? http_looks(bytes, (size_t)n) : -EPROTO;
        f->looked = n > 0 ? (size_t)n : 0;
        if (tls == 1 || http == 1) {
                f->look.kind = tls == 1 ? LOOK_TLS : LOOK_HTTP;
                answer(f, f->look.kind);
        } else if (!more || (tls < 0 && http < 0) || n == PEEK) {
                flow_free(f, true);
        } else {
                wake_at(f, (int)n + 1);
        }
}

void flow_refusing_over(struct flow *f) {
        flow_free(f, true);
}
