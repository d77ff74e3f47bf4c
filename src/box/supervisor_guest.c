/* The supervisor's end of the line to the conduit: checked frames about the box itself (ready, answers, figures, ends of
 * sessions), and requests to the guest. The conduit has parsed what the guest said; it is still not trusted here. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "box/supervisor_impl.h"

#define REQUESTS_MAX 256             /* requests to the guest that wait for an answer */
#define OUT_MAX (4u * WIRE_HOST_MAX) /* bytes to the conduit that wait; beyond it the conduit is stuck */
#define READ_CHUNK 16384

static void end_protocol(struct supervisor *s, const char *what) {
        super_end(s, EPROTO, "the conduit broke the protocol (%s)", what);
        super_kill(s);
}

/* ERRNO and TEXT of a REPLY or READY, phases of a READY. */
static int take_reply(struct supervisor *s, const struct wire_frame *f, uint32_t *ret_code, char **ret_text) {
        struct wire_reader r;
        struct wire_field field;
        int more;
        wire_reader_init(&r, f->payload, f->len);
        while ((more = wire_next(&r, &field)) > 0) {
                char *text = NULL;
                int bad = 0;
                if (field.tag == WIRE_T_ERRNO)
                        bad = wire_field_u32(&field, ret_code);
                else if (field.tag == WIRE_T_TEXT || field.tag == WIRE_T_PHASE)
                        bad = wire_field_str(&field, &text);
                if (bad < 0)
                        return bad;
                NB_AUTO_FREE char *clean = text ? nb_text_clean(text, 0) : NULL;
                free(text);
                if (clean && field.tag == WIRE_T_PHASE)
                        nb_info("guest phase: %s us", clean);
                else if (clean && !*ret_text)
                        *ret_text = nb_steal(&clean);
        }
        (void)s;
        return more;
}

static void on_ready(struct supervisor *s, const struct wire_frame *f) {
        uint32_t code = 0;
        NB_AUTO_FREE char *text = NULL;
        if (take_reply(s, f, &code, &text) < 0) {
                end_protocol(s, "READY");
        } else if (code != 0) {
                super_end(s, code < 4096 ? (int)code : EIO, "the guest could not set itself up: %s",
                          text ? text : strerror((int)code));
                super_kill(s);
        } else {
                super_ready(s);
        }
}

static struct super_request *find_request(struct supervisor *s, uint32_t id) {
        struct super_request *r;
        TAILQ_FOREACH(r, &s->requests, link)
        if (r->id == id)
                return r;
        return NULL;
}

static void finish_request(struct supervisor *s, struct super_request *r, int code, const char *text) {
        TAILQ_REMOVE(&s->requests, r, link);
        s->n_requests--;
        r->done(s, r->user, code, text);
        free(r);
}

static void on_reply(struct supervisor *s, const struct wire_frame *f) {
        uint32_t code = 0;
        NB_AUTO_FREE char *text = NULL;
        struct super_request *r = find_request(s, f->stream);
        if (!r || take_reply(s, f, &code, &text) < 0)
                end_protocol(s, "REPLY");
        else
                finish_request(s, r, code < 4096 ? (int)code : EIO, text);
}

static void on_stats(struct supervisor *s, const struct wire_frame *f) {
        struct super_request *r = find_request(s, f->stream);
        if (!r || memory_stats(s, f) < 0)
                end_protocol(s, "STATS_REPLY");
        else
                finish_request(s, r, 0, NULL);
}

static void on_exit_frame(struct supervisor *s, const struct wire_frame *f) {
        uint32_t status, signal;
        struct super_session *x = NULL;
        if (wire_get_exit(f, &status, &signal) < 0) {
                end_protocol(s, "EXIT");
                return;
        }
        TAILQ_FOREACH(x, &s->sessions, link) {
                if (x->id != f->stream)
                        continue;
                events_add(s->events, "run.exit",
                           json_pack("{s:I, s:i, s:i, s:I}", "session", (json_int_t)x->id, "status", (int)(status & 0xff),
                                     "signal", (int)(signal & 0x7f), "ms", (json_int_t)(nb_now_ms() - x->since_ms)));
                TAILQ_REMOVE(&s->sessions, x, link);
                s->n_sessions--;
                free(x);
                return;
        }
}

static void on_bye(struct supervisor *s, const struct wire_frame *f) {
        uint32_t code = 0;
        NB_AUTO_FREE char *text = NULL;
        if (take_reply(s, f, &code, &text) < 0) {
                end_protocol(s, "BYE");
                return;
        }
        if (!s->bye)
                s->bye = nb_strdup(text ? text : "poweroff");
        super_end(s, ESHUTDOWN, "the guest ended itself (%s)", s->bye);
        super_kill(s); /* it has written everything out; switching the machine off from outside is quicker */
}

static void on_frame(struct supervisor *s, const struct wire_frame *f) {
        switch (f->type) {
        case WIRE_READY: on_ready(s, f); break;
        case WIRE_REPLY: on_reply(s, f); break;
        case WIRE_STATS_REPLY: on_stats(s, f); break;
        case WIRE_EXIT: on_exit_frame(s, f); break;
        case WIRE_BYE: on_bye(s, f); break;
        default: end_protocol(s, "a frame of another kind");
        }
}

static void on_readable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct supervisor *s = user;
        ssize_t n = read(fd, nb_buf_reserve(&s->guest_in, READ_CHUNK), READ_CHUNK);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0) { /* the conduit is gone; its exit status says more */
                (void)event_del(s->guest_read);
                return;
        }
        nb_buf_commit(&s->guest_in, (size_t)n);
        for (;;) {
                struct wire_frame f;
                int used = wire_parse(&s->guest_in, WIRE_GUEST_MAX, &f);
                if (used < 0)
                        end_protocol(s, "a malformed frame");
                if (used <= 0 || s->phase >= SUPER_KILLING)
                        return;
                on_frame(s, &f);
                nb_buf_consume(&s->guest_in, (size_t)used);
        }
}

static void on_writable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct supervisor *s = user;
        ssize_t n = write(fd, nb_buf_bytes(&s->guest_out), s->guest_out.len);
        if (n > 0)
                nb_buf_consume(&s->guest_out, (size_t)n);
        if ((n < 0 && errno != EINTR && errno != EAGAIN) || s->guest_out.len == 0)
                (void)event_del(s->guest_write);
}

int guest_begin(struct supervisor *s, struct nb_error *err) {
        (void)nb_set_nonblock(s->super_fd, true);
        s->guest_read = event_new(s->base, s->super_fd, EV_READ | EV_PERSIST, on_readable, s);
        s->guest_write = event_new(s->base, s->super_fd, EV_WRITE | EV_PERSIST, on_writable, s);
        if (!s->guest_read || !s->guest_write || event_add(s->guest_read, NULL) < 0)
                return nb_fail(err, ENOMEM, "cannot watch the conduit");
        return 0;
}

void guest_send(struct supervisor *s, uint8_t type, uint32_t stream, const void *payload, size_t len) {
        if (!s->guest_write || s->phase >= SUPER_KILLING)
                return;
        if (s->guest_out.len + len > OUT_MAX) {
                super_end(s, EIO, "the conduit takes no more requests");
                super_kill(s);
                return;
        }
        wire_put(&s->guest_out, type, 0, stream, payload, len);
        (void)event_add(s->guest_write, NULL);
}

int guest_request(struct supervisor *s, uint8_t type, const void *payload, size_t len,
                  void (*done)(struct supervisor *, void *, int, const char *), void *user) {
        if (s->n_requests >= REQUESTS_MAX)
                return -EBUSY;
        struct super_request *r = nb_calloc(1, sizeof *r);
        *r = (struct super_request){ .id = ++s->next_request, .done = done, .user = user };
        TAILQ_INSERT_TAIL(&s->requests, r, link);
        s->n_requests++;
        guest_send(s, type, r->id, payload, len);
        return 0;
}

void guest_free(struct supervisor *s) {
        struct super_request *r;
        while ((r = TAILQ_FIRST(&s->requests)))
                finish_request(s, r, ECONNRESET, "the box ended");
        struct super_session *x;
        while ((x = TAILQ_FIRST(&s->sessions))) {
                TAILQ_REMOVE(&s->sessions, x, link);
                free(x);
        }
        if (s->guest_read)
                event_free(s->guest_read);
        if (s->guest_write)
                event_free(s->guest_write);
        s->guest_read = s->guest_write = NULL;
        nb_buf_clear(&s->guest_in);
        nb_buf_clear(&s->guest_out);
        s->super_fd = nb_close(s->super_fd);
        s->clients_fd = nb_close(s->clients_fd);
}
