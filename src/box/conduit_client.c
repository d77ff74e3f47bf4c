/* The side of the conduit's state machine that faces the clients (see conduit_core.h): their frames toward the guest, fairly
 * and within credit, and the guest's output toward them. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "box/conduit_core.h"
#include "box/conduit_state.h"
#include "wire/wire.h"

#define IN_MAX (64u * 1024u) /* from one client, waiting; OPEN may be larger */
#define GUEST_DATA_MAX \
        (32u * 1024u) /* while more than this waits for the guest, no more stdin is added, so that signals find room */
#define TO_CLIENT_MAX (64u * 1024u) /* frames made ready for one client */
#define KEEP_MAX (16u * 1024u)      /* memory an empty buffer may keep */
#define FAILED_STATUS 125u          /* exit status of a session that never began */

static void release_if_empty(struct nb_buf *b) {
        if (b->len == 0 && b->cap > KEEP_MAX)
                nb_buf_clear(b);
}

void conduit_slot_free(struct conduit *c, unsigned slot) {
        struct session *s = c->slots[slot];
        if (!s)
                return;
        nb_buf_clear(&s->in);
        nb_buf_clear(&s->to_client);
        for (size_t i = 0; i < NB_ARRAY_LEN(s->out); i++)
                nb_buf_clear(&s->out[i].data);
        free(s);
        c->slots[slot] = NULL;
        while (c->top > 0 && !c->slots[c->top - 1])
                c->top--;
}

int conduit_client_add(struct conduit *c, uint32_t session) {
        unsigned slot = 0;
        while (slot < WIRE_STREAMS_MAX && c->slots[slot])
                slot++;
        if (slot == WIRE_STREAMS_MAX) {
                conduit_report_exit(c, session, FAILED_STATUS, 0);
                return -EMFILE;
        }
        struct session *s = nb_calloc(1, sizeof *s);
        s->number = session;
        s->attached = true;
        c->slots[slot] = s;
        if (slot >= c->top)
                c->top = slot + 1;
        return (int)slot;
}

size_t conduit_client_room(const struct conduit *c, unsigned slot) {
        const struct session *s = c->slots[slot];
        if (!s || s->done)
                return 0;
        size_t max = s->state == SESSION_NEW ? WIRE_HEADER + WIRE_HOST_MAX : IN_MAX;
        size_t room = s->in.len < max ? max - s->in.len : 0;
        return room < CONDUIT_READ_MAX ? room : CONDUIT_READ_MAX;
}

void conduit_from_client(struct conduit *c, unsigned slot, const void *bytes, size_t len) {
        struct session *s = c->slots[slot];
        if (s && !s->done && s->state != SESSION_EXITED)
                nb_buf_add(&s->in, bytes, len);
}

/* The caller is gone or no longer served: the guest ends the session in its own time. */
static void close_stream(struct conduit *c, struct session *s) {
        if ((s->state == SESSION_OPENED || s->state == SESSION_STARTED) && !s->close_sent)
                wire_put(&c->guest_out, WIRE_CLOSE, 0, s->stream, NULL, 0);
        s->close_sent = true;
        nb_buf_clear(&s->in);
}

static void drop_output(struct session *s) {
        for (size_t i = 0; i < NB_ARRAY_LEN(s->out); i++)
                nb_buf_clear(&s->out[i].data);
}

void conduit_client_gone(struct conduit *c, unsigned slot) {
        struct session *s = c->slots[slot];
        if (!s || !s->attached)
                return;
        s->attached = false;
        close_stream(c, s);
        drop_output(s);
        nb_buf_clear(&s->to_client);
        if (s->state == SESSION_NEW)
                conduit_report_exit(c, s->number, FAILED_STATUS, 0);
        if (s->state == SESSION_NEW || s->state == SESSION_EXITED)
                conduit_slot_free(c, slot);
}

/* Frames of one output stream, at most one at a time. Returns whether there was something. */
static bool put_output(struct session *s, unsigned which) {
        struct output *o = &s->out[which];
        uint8_t channel = (uint8_t)(WIRE_STDOUT + which);
        if (o->data.len > 0) {
                size_t len = o->data.len < WIRE_DATA_MAX ? o->data.len : WIRE_DATA_MAX;
                wire_put(&s->to_client, WIRE_DATA, channel, s->client_id, nb_buf_bytes(&o->data), len);
                nb_buf_consume(&o->data, len);
                release_if_empty(&o->data);
                return true;
        }
        if (o->eof && !o->eof_told) {
                wire_put(&s->to_client, WIRE_EOF, channel, s->client_id, NULL, 0);
                o->eof_told = true;
        }
        return false;
}

void conduit_dismiss(struct session *s, const char *why) {
        NB_AUTO_BUF fields = { 0 };
        wire_tlv_str(&fields, WIRE_T_TEXT, why);
        while (put_output(s, 0) || put_output(s, 1)) /* what was said before the end is still delivered */
                ;
        wire_put(&s->to_client, WIRE_BYE, 0, s->client_id, nb_buf_bytes(&fields), fields.len);
        nb_buf_clear(&s->in);
        s->done = true;
}

static void misbehaved(struct conduit *c, struct session *s, const char *what) {
        nb_warn("session %u: %s; disconnected", s->number, what);
        close_stream(c, s);
        drop_output(s);
        conduit_dismiss(s, what);
}

static void open_stream(struct conduit *c, unsigned slot, const struct wire_frame *f) {
        struct session *s = c->slots[slot];
        c->generation = c->generation + 1 < UINT32_MAX / WIRE_STREAMS_MAX ? c->generation + 1 : 1;
        s->stream = c->generation * WIRE_STREAMS_MAX + slot;
        s->client_id = f->stream;
        s->state = SESSION_OPENED;
        s->stdin_credit = s->out[0].credit = s->out[1].credit = WIRE_WINDOW;
        wire_put(&c->guest_out, WIRE_OPEN, 0, s->stream, f->payload, f->len);
}

/* Returns what is wrong with the client's credit frame, or NULL. */
static const char *pass_credit(struct conduit *c, struct session *s, const struct wire_frame *f) {
        uint32_t more;
        if (f->channel == WIRE_STDIN || wire_get_u32(f, &more) < 0)
                return "the client sent malformed credit";
        struct output *o = &s->out[f->channel - WIRE_STDOUT];
        if (more > WIRE_WINDOW - o->credit - (uint32_t)o->data.len)
                return "the client grants more credit than the window";
        o->credit += more;
        if (more > 0 && !o->eof)
                wire_put(&c->guest_out, f->type, f->channel, s->stream, f->payload, f->len);
        return NULL;
}

static const char *pass_data(struct conduit *c, struct session *s, const struct wire_frame *f) {
        if (f->channel != WIRE_STDIN || s->stdin_eof)
                return "the client sent data where it may not";
        if (f->len > s->stdin_credit)
                return "the client sent more than its credit";
        s->stdin_credit -= f->len;
        if (f->len > 0)
                wire_put(&c->guest_out, f->type, f->channel, s->stream, f->payload, f->len);
        return NULL;
}

static const char *pass_eof(struct conduit *c, struct session *s, const struct wire_frame *f) {
        if (f->channel != WIRE_STDIN || s->stdin_eof || f->len != 0)
                return "the client sent an end of stream where it may not";
        s->stdin_eof = true;
        wire_put(&c->guest_out, f->type, f->channel, s->stream, NULL, 0);
        return NULL;
}

static const char *pass_signal(struct conduit *c, struct session *s, const struct wire_frame *f) {
        uint32_t number;
        if (wire_get_u32(f, &number) < 0 || number == 0 || number > WIRE_SIGNAL_MAX)
                return "the client sent a malformed signal";
        wire_put(&c->guest_out, f->type, 0, s->stream, f->payload, f->len);
        return NULL;
}

static const char *pass_resize(struct conduit *c, struct session *s, const struct wire_frame *f) {
        uint16_t rows, cols;
        if (wire_get_resize(f, &rows, &cols) < 0)
                return "the client sent a malformed window size";
        wire_put(&c->guest_out, f->type, 0, s->stream, f->payload, f->len);
        return NULL;
}

static void pass_frame(struct conduit *c, unsigned slot, const struct wire_frame *f) {
        struct session *s = c->slots[slot];
        const char *wrong = NULL;
        if (s->state == SESSION_NEW) {
                if (f->type == WIRE_OPEN && f->stream != 0)
                        open_stream(c, slot, f);
                else
                        wrong = "the client did not begin with OPEN";
        } else if (f->stream != s->client_id) {
                wrong = "the client sent a frame for another stream";
        } else {
                switch (f->type) {
                case WIRE_DATA: wrong = pass_data(c, s, f); break;
                case WIRE_EOF: wrong = pass_eof(c, s, f); break;
                case WIRE_CREDIT: wrong = pass_credit(c, s, f); break;
                case WIRE_SIGNAL: wrong = pass_signal(c, s, f); break;
                case WIRE_RESIZE: wrong = pass_resize(c, s, f); break;
                case WIRE_CLOSE:
                        close_stream(c, s);
                        drop_output(s);
                        return;
                default: wrong = "the client sent a frame that it may not send";
                }
        }
        if (wrong)
                misbehaved(c, s, wrong);
}

/* Passes on one frame of this client if there is one and room for it. */
static bool pump_one(struct conduit *c, unsigned slot) {
        struct session *s = c->slots[slot];
        struct wire_frame f;
        if (!s || s->in.len == 0 || s->done)
                return false;
        if (s->close_sent || s->state == SESSION_EXITED) {
                nb_buf_clear(&s->in);
                return false;
        }
        int n = wire_parse(&s->in, s->state == SESSION_NEW ? WIRE_HOST_MAX : WIRE_DATA_MAX, &f);
        if (n < 0) {
                misbehaved(c, s, "the client sent a malformed frame");
                return true;
        }
        if (n == 0 || c->guest_out.len >= (f.type == WIRE_DATA ? GUEST_DATA_MAX : CONDUIT_GUEST_OUT_MAX))
                return false;
        pass_frame(c, slot, &f);
        nb_buf_consume(&s->in, (size_t)n); /* nothing is left to consume if the client was dismissed */
        release_if_empty(&s->in);
        return true;
}

void conduit_pump(struct conduit *c) {
        if (!c->ready || c->failed)
                return;
        for (bool progress = true; progress;) {
                progress = false;
                unsigned first = c->next < c->top ? c->next : 0;
                for (unsigned i = 0, top = c->top; i < top; i++) {
                        unsigned slot = (first + i) % top;
                        if (!pump_one(c, slot))
                                continue;
                        progress = true;
                        c->next = slot + 1; /* whoever had room last waits longest */
                }
        }
        release_if_empty(&c->guest_out);
}

struct nb_buf *conduit_client_out(struct conduit *c, unsigned slot) {
        struct session *s = c->slots[slot];
        if (s->done)
                return &s->to_client;
        if (s->tell_started)
                wire_put(&s->to_client, WIRE_STARTED, 0, s->client_id, NULL, 0);
        s->tell_started = false;
        if (s->stdin_grant > 0 && !s->stdin_eof)
                wire_put_u32(&s->to_client, WIRE_CREDIT, WIRE_STDIN, s->client_id, s->stdin_grant);
        s->stdin_grant = 0;
        bool more = true;
        while (more && s->to_client.len < TO_CLIENT_MAX) {
                more = put_output(s, s->turn);
                more = put_output(s, s->turn ^ 1) || more;
                s->turn ^= 1;
        }
        if (!more && s->state == SESSION_EXITED) {
                wire_put_exit(&s->to_client, s->client_id, s->exit_status, s->exit_signal);
                s->done = true;
        }
        release_if_empty(&s->to_client);
        return &s->to_client;
}

bool conduit_client_done(const struct conduit *c, unsigned slot) {
        return c->slots[slot] && c->slots[slot]->done;
}
