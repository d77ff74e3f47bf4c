/* The side of the state machine that faces the guest and the supervisor (see conduit_core.h); the side that faces the
 * clients is in conduit_client.c. Every frame of the guest is judged here. */
#include "box/conduit_core.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "box/conduit_state.h"
#include "wire/wire.h"

#define SUPER_OUT_MAX (1024u * 1024u) /* the supervisor does not read: give up */
#define FIELDS_MAX 256u               /* in one TLV frame of the guest */
#define REASON_MAX 200u               /* bytes of the guest's own words that are repeated to people */

struct conduit *conduit_new(void) {
        return nb_calloc(1, sizeof(struct conduit));
}

void conduit_free(struct conduit *c) {
        if (!c)
                return;
        for (unsigned slot = 0; slot < WIRE_STREAMS_MAX; slot++)
                conduit_slot_free(c, slot);
        nb_buf_clear(&c->from_guest);
        nb_buf_clear(&c->from_super);
        nb_buf_clear(&c->guest_out);
        nb_buf_clear(&c->super_out);
        free(c->reason);
        free(c);
}

struct nb_buf *conduit_guest_out(struct conduit *c) {
        return &c->guest_out;
}

struct nb_buf *conduit_super_out(struct conduit *c) {
        return &c->super_out;
}

void conduit_report_exit(struct conduit *c, uint32_t session, uint32_t status, uint32_t signal) {
        wire_put_exit(&c->super_out, session, status, signal);
}

/* A guest's stream id is its slot and a generation, so that a late frame never reaches the slot's next session. */
static struct session *find_stream(struct conduit *c, uint32_t stream) {
        struct session *s = c->slots[stream % WIRE_STREAMS_MAX];
        return s && s->stream == stream && (s->state == SESSION_OPENED || s->state == SESSION_STARTED) ? s : NULL;
}

/* The tags a frame of the guest may have, and whether each is well formed. The guest's reason for ending is kept. */
static int check_fields(struct conduit *c, const struct wire_frame *f, const uint16_t *allowed, size_t n_allowed) {
        struct wire_reader reader;
        struct wire_field field;
        unsigned count = 0;
        wire_reader_init(&reader, f->payload, f->len);
        int r;
        while ((r = wire_next(&reader, &field)) == 1) {
                bool known = false;
                for (size_t i = 0; i < n_allowed; i++)
                        known = known || allowed[i] == field.tag;
                if (!known || ++count > FIELDS_MAX)
                        return -EPROTO;
                uint32_t v32;
                uint64_t v64;
                NB_AUTO_FREE char *text = NULL;
                if (field.tag == WIRE_T_TEXT || field.tag == WIRE_T_PHASE)
                        r = wire_field_str(&field, &text);
                else if (field.tag == WIRE_T_VERSION || field.tag == WIRE_T_ERRNO)
                        r = wire_field_u32(&field, &v32);
                else
                        r = wire_field_u64(&field, &v64);
                if (r < 0)
                        return r;
                if (field.tag == WIRE_T_ERRNO && v32 != 0 && f->type == WIRE_READY)
                        c->failed = true;
                if (text && f->type == WIRE_BYE && !c->reason)
                        c->reason = nb_strndup(text, REASON_MAX);
        }
        return r;
}

static int from_guest_box(struct conduit *c, const struct wire_frame *f, struct nb_error *err) {
        static const uint16_t ready[] = { WIRE_T_VERSION, WIRE_T_PHASE, WIRE_T_ERRNO, WIRE_T_TEXT };
        static const uint16_t reply[] = { WIRE_T_ERRNO, WIRE_T_TEXT };
        static const uint16_t stats[] = { WIRE_T_MEM_TOTAL, WIRE_T_MEM_FREE, WIRE_T_MEM_AVAILABLE, WIRE_T_MEM_CACHED };
        static const uint16_t bye[] = { WIRE_T_TEXT };
        const uint16_t *allowed = f->type == WIRE_READY         ? ready
                                  : f->type == WIRE_REPLY       ? reply
                                  : f->type == WIRE_STATS_REPLY ? stats
                                                                : bye;
        size_t n = f->type == WIRE_READY         ? NB_ARRAY_LEN(ready)
                   : f->type == WIRE_REPLY       ? NB_ARRAY_LEN(reply)
                   : f->type == WIRE_STATS_REPLY ? NB_ARRAY_LEN(stats)
                                                 : NB_ARRAY_LEN(bye);
        bool once = f->type == WIRE_READY || f->type == WIRE_BYE;
        bool *said = f->type == WIRE_READY ? &c->ready : &c->bye;
        if (once && (*said || f->stream != 0))
                return nb_fail(err, EPROTO, "the guest sent frame type %u twice or on stream %u", f->type, f->stream);
        if (check_fields(c, f, allowed, n) < 0)
                return nb_fail(err, EPROTO, "the guest sent a malformed frame of type %u", f->type);
        if (once) {
                *said = true;
        } else {
                struct request *q = NULL;
                for (size_t i = 0; i < c->n_requests && !q; i++)
                        if (c->requests[i].id == f->stream && (f->type == WIRE_REPLY || c->requests[i].type == WIRE_STATS))
                                q = &c->requests[i];
                if (!q)
                        return nb_fail(err, EPROTO, "the guest answered request %u, which nobody made", f->stream);
                *q = c->requests[--c->n_requests];
        }
        wire_put(&c->super_out, f->type, 0, f->stream, f->payload, f->len);
        return 0;
}

static int from_guest_exit(struct conduit *c, struct session *s, const struct wire_frame *f, struct nb_error *err) {
        if (wire_get_exit(f, &s->exit_status, &s->exit_signal) < 0)
                return nb_fail(err, EPROTO, "the guest sent a malformed exit status");
        s->state = SESSION_EXITED;
        conduit_report_exit(c, s->number, s->exit_status, s->exit_signal);
        nb_buf_clear(&s->in); /* nobody is left to read it */
        if (!s->attached)
                conduit_slot_free(c, s->stream % WIRE_STREAMS_MAX);
        return 0;
}

static int from_guest_credit(struct session *s, const struct wire_frame *f, struct nb_error *err) {
        uint32_t more;
        if (f->channel != WIRE_STDIN || wire_get_u32(f, &more) < 0)
                return nb_fail(err, EPROTO, "the guest sent malformed credit");
        if (more > WIRE_WINDOW - s->stdin_credit)
                return nb_fail(err, EPROTO, "the guest grants more credit than the window");
        s->stdin_credit += more;
        s->stdin_grant += more;
        return 0;
}

static int from_guest_output(struct session *s, const struct wire_frame *f, struct nb_error *err) {
        if (f->channel == WIRE_STDIN)
                return nb_fail(err, EPROTO, "the guest sent output on channel 0");
        struct output *o = &s->out[f->channel - WIRE_STDOUT];
        if (o->eof)
                return nb_fail(err, EPROTO, "the guest sent more on channel %u after its end", f->channel);
        if (f->type == WIRE_EOF) {
                if (f->len != 0)
                        return nb_fail(err, EPROTO, "the guest sent a malformed end of stream");
                o->eof = true;
                return 0;
        }
        if (f->len > o->credit)
                return nb_fail(err, EPROTO, "the guest sent %u bytes where it had credit for %u", f->len, o->credit);
        o->credit -= f->len;
        if (s->attached)
                nb_buf_add(&o->data, f->payload, f->len);
        return 0;
}

static int from_guest_session(struct conduit *c, const struct wire_frame *f, struct nb_error *err) {
        struct session *s = find_stream(c, f->stream);
        if (!s)
                return nb_fail(err, EPROTO, "the guest sent frame type %u for stream %u, which is not open", f->type,
                               f->stream);
        switch (f->type) {
        case WIRE_STARTED:
                if (s->state != SESSION_OPENED || f->len != 0)
                        return nb_fail(err, EPROTO, "the guest says twice that a command started");
                s->state = SESSION_STARTED;
                s->tell_started = true;
                return 0;
        case WIRE_DATA:
        case WIRE_EOF: return from_guest_output(s, f, err);
        case WIRE_CREDIT: return from_guest_credit(s, f, err);
        default: return from_guest_exit(c, s, f, err);
        }
}

static int from_guest_frame(struct conduit *c, const struct wire_frame *f, struct nb_error *err) {
        switch (f->type) {
        case WIRE_READY:
        case WIRE_REPLY:
        case WIRE_STATS_REPLY:
        case WIRE_BYE: return from_guest_box(c, f, err);
        case WIRE_STARTED:
        case WIRE_DATA:
        case WIRE_EOF:
        case WIRE_CREDIT:
        case WIRE_EXIT: return from_guest_session(c, f, err);
        default: return nb_fail(err, EPROTO, "the guest sent frame type %u, which only the host may send", f->type);
        }
}

int conduit_from_guest(struct conduit *c, const void *bytes, size_t len, struct nb_error *err) {
        struct wire_frame f;
        nb_buf_add(&c->from_guest, bytes, len);
        for (;;) {
                int n = wire_parse(&c->from_guest, WIRE_GUEST_MAX, &f);
                if (n < 0)
                        return nb_fail(err, EPROTO, "the guest sent a malformed frame header");
                if (n == 0)
                        return 0;
                int r = from_guest_frame(c, &f, err);
                if (r < 0)
                        return r;
                nb_buf_consume(&c->from_guest, (size_t)n);
                if (c->super_out.len > SUPER_OUT_MAX)
                        return nb_fail(err, EPROTO, "the supervisor does not read what it is told");
        }
}

/* Too many questions are open: the guest does not answer. Answer in its place rather than let them pile up. */
static void refuse_request(struct conduit *c, uint32_t id) {
        NB_AUTO_BUF fields = { 0 };
        wire_tlv_u32(&fields, WIRE_T_ERRNO, EAGAIN);
        wire_tlv_str(&fields, WIRE_T_TEXT, "the guest does not answer");
        wire_put(&c->super_out, WIRE_REPLY, 0, id, nb_buf_bytes(&fields), fields.len);
}

static int from_super_frame(struct conduit *c, const struct wire_frame *f, struct nb_error *err) {
        switch (f->type) {
        case WIRE_MOUNT:
        case WIRE_UNMOUNT:
        case WIRE_STATS:
        case WIRE_RECLAIM:
                if (c->n_requests == REQUESTS_MAX) {
                        refuse_request(c, f->stream);
                        return 0;
                }
                c->requests[c->n_requests++] = (struct request){ .id = f->stream, .type = f->type };
                break;
        case WIRE_SHUTDOWN:
                if (!c->reason)
                        c->reason = nb_strdup("nixbox down");
                break;
        case WIRE_TIME:
                if (c->guest_out.len > CONDUIT_GUEST_OUT_MAX)
                        return 0; /* the guest does not read, and the time will be stale when it does */
                break;
        default: return nb_fail(err, EPROTO, "the supervisor sent frame type %u", f->type);
        }
        wire_put(&c->guest_out, f->type, 0, f->stream, f->payload, f->len);
        return 0;
}

int conduit_from_super(struct conduit *c, const void *bytes, size_t len, struct nb_error *err) {
        struct wire_frame f;
        nb_buf_add(&c->from_super, bytes, len);
        for (;;) {
                int n = wire_parse(&c->from_super, WIRE_HOST_MAX, &f);
                if (n < 0)
                        return nb_fail(err, EPROTO, "the supervisor sent a malformed frame header");
                if (n == 0)
                        return 0;
                int r = from_super_frame(c, &f, err);
                if (r < 0)
                        return r;
                nb_buf_consume(&c->from_super, (size_t)n);
        }
}

void conduit_end(struct conduit *c, const char *why) {
        NB_AUTO_FREE char *reason = nb_text_clean(c->reason ? c->reason : why, 0);
        for (unsigned slot = 0; slot < WIRE_STREAMS_MAX; slot++)
                if (c->slots[slot] && c->slots[slot]->attached && c->slots[slot]->state != SESSION_EXITED)
                        conduit_dismiss(c->slots[slot], reason);
}
