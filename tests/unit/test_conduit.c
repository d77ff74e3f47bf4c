/* Unit tests of the conduit's state machine: a well-behaved session, credit both ways, every way a client can vanish, and
 * guests and clients that break the rules. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/conduit_core.h"
#include "wire/wire.h"

#define CLIENT_ID 9u

struct world {
        struct conduit *c;
        struct nb_error err;
};

static void guest_frame(struct nb_buf *b, uint8_t type, uint8_t channel, uint32_t stream, const void *bytes, size_t len) {
        wire_put(b, type, channel, stream, bytes, len);
}

static int guest_bytes(struct world *w, struct nb_buf *b) {
        nb_error_clear(&w->err);
        int r = conduit_from_guest(w->c, nb_buf_bytes(b), b->len, &w->err);
        nb_buf_clear(b);
        return r;
}

static int guest(struct world *w, uint8_t type, uint8_t channel, uint32_t stream, const void *bytes, size_t len) {
        struct nb_buf b = { 0 };
        guest_frame(&b, type, channel, stream, bytes, len);
        return guest_bytes(w, &b);
}

static int guest_u32(struct world *w, uint8_t type, uint8_t channel, uint32_t stream, uint32_t value) {
        struct nb_buf b = { 0 };
        wire_put_u32(&b, type, channel, stream, value);
        return guest_bytes(w, &b);
}

static int guest_exit(struct world *w, uint32_t stream, uint32_t status, uint32_t signal) {
        struct nb_buf b = { 0 };
        wire_put_exit(&b, stream, status, signal);
        return guest_bytes(w, &b);
}

static int super(struct world *w, uint8_t type, uint32_t stream) {
        NB_AUTO_BUF b = { 0 };
        wire_put(&b, type, 0, stream, NULL, 0);
        return conduit_from_super(w->c, nb_buf_bytes(&b), b.len, &w->err);
}

static void client(struct world *w, int slot, uint8_t type, uint8_t channel, uint32_t id, const void *bytes, size_t len) {
        NB_AUTO_BUF b = { 0 };
        wire_put(&b, type, channel, id, bytes, len);
        while (b.len > 0) {
                size_t room = conduit_client_room(w->c, (unsigned)slot);
                assert_true(room > 0);
                size_t n = b.len < room ? b.len : room;
                conduit_from_client(w->c, (unsigned)slot, nb_buf_bytes(&b), n);
                nb_buf_consume(&b, n);
        }
        conduit_pump(w->c);
}

static void client_u32(struct world *w, int slot, uint8_t type, uint8_t channel, uint32_t value) {
        uint8_t bytes[4] = { (uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24) };
        client(w, slot, type, channel, CLIENT_ID, bytes, sizeof bytes);
}

/* Takes the next frame off an output buffer. Its payload stays valid until the next call on that buffer. */
static struct wire_frame take(struct nb_buf *out) {
        struct wire_frame f;
        int n = wire_parse(out, WIRE_HOST_MAX, &f);
        assert_true(n > 0);
        nb_buf_consume(out, (size_t)n);
        return f;
}

static struct wire_frame to_guest(struct world *w, uint8_t type) {
        struct wire_frame f = take(conduit_guest_out(w->c));
        assert_int_equal(f.type, type);
        return f;
}

static struct wire_frame to_client(struct world *w, int slot, uint8_t type) {
        struct wire_frame f = take(conduit_client_out(w->c, (unsigned)slot));
        assert_int_equal(f.type, type);
        return f;
}

static void to_super_exit(struct world *w, uint32_t session, uint32_t status, uint32_t signal) {
        struct wire_frame f = take(conduit_super_out(w->c));
        uint32_t got_status, got_signal;
        assert_int_equal(f.type, WIRE_EXIT);
        assert_int_equal(f.stream, session);
        assert_int_equal(wire_get_exit(&f, &got_status, &got_signal), 0);
        assert_int_equal(got_status, status);
        assert_int_equal(got_signal, signal);
}

static void assert_quiet(struct world *w) {
        assert_int_equal(conduit_guest_out(w->c)->len, 0);
        assert_int_equal(conduit_super_out(w->c)->len, 0);
}

static int setup_unready(void **state) {
        struct world *w = nb_calloc(1, sizeof *w);
        w->c = conduit_new();
        *state = w;
        return 0;
}

static int setup(void **state) {
        setup_unready(state);
        struct world *w = *state;
        assert_int_equal(guest(w, WIRE_READY, 0, 0, NULL, 0), 0);
        (void)take(conduit_super_out(w->c));
        return 0;
}

static int teardown(void **state) {
        struct world *w = *state;
        conduit_free(w->c);
        nb_error_clear(&w->err);
        free(w);
        return 0;
}

/* A client with an open, started session. */
static int open_session(struct world *w, uint32_t number, uint32_t *ret_stream) {
        int slot = conduit_client_add(w->c, number);
        assert_true(slot >= 0);
        client(w, slot, WIRE_OPEN, 0, CLIENT_ID, "xyz", 3);
        struct wire_frame f = to_guest(w, WIRE_OPEN);
        assert_int_equal(f.len, 3);
        assert_int_not_equal(f.stream, 0);
        *ret_stream = f.stream;
        assert_int_equal(guest(w, WIRE_STARTED, 0, f.stream, NULL, 0), 0);
        assert_int_equal(to_client(w, slot, WIRE_STARTED).stream, CLIENT_ID);
        return slot;
}

static void test_a_whole_session(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 71, &stream);
        client(w, slot, WIRE_DATA, WIRE_STDIN, CLIENT_ID, "in", 2);
        client(w, slot, WIRE_EOF, WIRE_STDIN, CLIENT_ID, NULL, 0);
        struct wire_frame f = to_guest(w, WIRE_DATA);
        assert_int_equal(f.stream, stream);
        assert_memory_equal(f.payload, "in", 2);
        assert_int_equal(to_guest(w, WIRE_EOF).channel, WIRE_STDIN);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDERR, stream, "oops", 4), 0);
        f = to_client(w, slot, WIRE_DATA);
        assert_int_equal(f.channel, WIRE_STDERR);
        assert_memory_equal(f.payload, "oops", 4);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, "out", 3), 0);
        assert_int_equal(guest(w, WIRE_EOF, WIRE_STDOUT, stream, NULL, 0), 0);
        assert_int_equal(guest_exit(w, stream, 3, 0), 0);
        to_super_exit(w, 71, 3, 0);
        assert_false(conduit_client_done(w->c, (unsigned)slot));
        assert_memory_equal(to_client(w, slot, WIRE_DATA).payload, "out", 3);
        (void)to_client(w, slot, WIRE_EOF);
        uint32_t status, signal;
        f = to_client(w, slot, WIRE_EXIT);
        assert_int_equal(wire_get_exit(&f, &status, &signal), 0);
        assert_int_equal(status, 3);
        assert_true(conduit_client_done(w->c, (unsigned)slot));
        conduit_client_gone(w->c, (unsigned)slot);
        assert_quiet(w);
}

static void test_nothing_is_opened_before_the_guest_is_ready(void **state) {
        struct world *w = *state;
        int slot = conduit_client_add(w->c, 1);
        client(w, slot, WIRE_OPEN, 0, CLIENT_ID, NULL, 0);
        assert_quiet(w);
        assert_int_equal(guest(w, WIRE_READY, 0, 0, NULL, 0), 0);
        conduit_pump(w->c);
        (void)to_guest(w, WIRE_OPEN);
}

static void test_a_failed_start_opens_nothing(void **state) {
        struct world *w = *state;
        NB_AUTO_BUF fields = { 0 };
        wire_tlv_u32(&fields, WIRE_T_ERRNO, ENOENT);
        wire_tlv_str(&fields, WIRE_T_TEXT, "no disk");
        int slot = conduit_client_add(w->c, 1);
        client(w, slot, WIRE_OPEN, 0, CLIENT_ID, NULL, 0);
        assert_int_equal(guest(w, WIRE_READY, 0, 0, nb_buf_bytes(&fields), fields.len), 0);
        conduit_pump(w->c);
        assert_int_equal(conduit_guest_out(w->c)->len, 0);
}

static void test_guest_within_and_beyond_its_credit(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 1, &stream);
        static uint8_t chunk[WIRE_DATA_MAX];
        for (unsigned sent = 0; sent < WIRE_WINDOW; sent += WIRE_DATA_MAX)
                assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, chunk, sizeof chunk), 0);
        /* the other stream has credit of its own, and an empty frame needs none */
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDERR, stream, chunk, 1), 0);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, chunk, 0), 0);
        size_t got = 0;
        for (struct nb_buf *out; (out = conduit_client_out(w->c, (unsigned)slot))->len > 0;)
                got += take(out).len;
        assert_int_equal(got, WIRE_WINDOW + 1);
        client_u32(w, slot, WIRE_CREDIT, WIRE_STDOUT, 10);
        (void)to_guest(w, WIRE_CREDIT);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, chunk, 10), 0);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, chunk, 1), -EPROTO);
        assert_non_null(strstr(w->err.what, "credit"));
}

static void test_a_stalled_client_holds_up_nobody(void **state) {
        struct world *w = *state;
        uint32_t stalled, other;
        (void)open_session(w, 1, &stalled);
        int slot = open_session(w, 2, &other);
        static uint8_t chunk[WIRE_DATA_MAX];
        for (unsigned sent = 0; sent < WIRE_WINDOW; sent += WIRE_DATA_MAX)
                assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stalled, chunk, sizeof chunk), 0);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, other, "a", 1), 0);
        assert_memory_equal(to_client(w, slot, WIRE_DATA).payload, "a", 1);
}

static void test_uploads_are_paced_and_fair(void **state) {
        struct world *w = *state;
        uint32_t big, small;
        int a = open_session(w, 1, &big), b = open_session(w, 2, &small);
        static uint8_t chunk[WIRE_DATA_MAX];
        client(w, a, WIRE_DATA, WIRE_STDIN, CLIENT_ID, chunk, sizeof chunk);
        client(w, a, WIRE_DATA, WIRE_STDIN, CLIENT_ID, chunk, sizeof chunk);
        client(w, b, WIRE_DATA, WIRE_STDIN, CLIENT_ID, "k", 1);
        client_u32(w, b, WIRE_SIGNAL, 0, 2);
        /* what waits for the guest is bounded, however much the upload offers */
        assert_true(conduit_guest_out(w->c)->len <= 2 * (WIRE_DATA_MAX + WIRE_HEADER));
        assert_int_equal(to_guest(w, WIRE_DATA).stream, big);
        conduit_pump(w->c);
        /* the key was second in line, not behind the whole upload */
        assert_int_equal(to_guest(w, WIRE_DATA).stream, small);
        assert_int_equal(to_guest(w, WIRE_DATA).stream, big);
        assert_int_equal(to_guest(w, WIRE_SIGNAL).stream, small);
}

static void test_signals_pass_while_uploads_wait(void **state) {
        struct world *w = *state;
        uint32_t big, small;
        int a = open_session(w, 1, &big), b = open_session(w, 2, &small);
        static uint8_t chunk[WIRE_DATA_MAX];
        for (int i = 0; i < 2; i++)
                client(w, a, WIRE_DATA, WIRE_STDIN, CLIENT_ID, chunk, sizeof chunk);
        client_u32(w, b, WIRE_SIGNAL, 0, 15); /* the guest reads nothing, yet the signal is on its way */
        assert_int_equal(to_guest(w, WIRE_DATA).stream, big);
        assert_int_equal(to_guest(w, WIRE_SIGNAL).stream, small);
}

static void test_a_blocked_client_is_not_read_without_end(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 1, &stream);
        static uint8_t chunk[WIRE_DATA_MAX];
        NB_AUTO_BUF b = { 0 };
        for (int i = 0; i < 8; i++)
                wire_put(&b, WIRE_DATA, WIRE_STDIN, CLIENT_ID, chunk, sizeof chunk);
        size_t taken = 0, room;
        while ((room = conduit_client_room(w->c, (unsigned)slot)) > 0 && taken < b.len) {
                size_t n = b.len - taken < room ? b.len - taken : room;
                conduit_from_client(w->c, (unsigned)slot, nb_buf_bytes(&b) + taken, n);
                taken += n;
                conduit_pump(w->c);
        }
        assert_true(taken < 4 * (WIRE_DATA_MAX + WIRE_HEADER));
}

static void test_stdin_credit(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 1, &stream);
        static uint8_t chunk[WIRE_DATA_MAX];
        for (unsigned sent = 0; sent < WIRE_WINDOW; sent += WIRE_DATA_MAX) {
                client(w, slot, WIRE_DATA, WIRE_STDIN, CLIENT_ID, chunk, sizeof chunk);
                (void)to_guest(w, WIRE_DATA);
        }
        assert_int_equal(guest_u32(w, WIRE_CREDIT, WIRE_STDIN, stream, 5), 0);
        assert_int_equal(guest_u32(w, WIRE_CREDIT, WIRE_STDIN, stream, 2), 0);
        struct wire_frame f = to_client(w, slot, WIRE_CREDIT); /* one frame for both */
        uint32_t more;
        assert_int_equal(wire_get_u32(&f, &more), 0);
        assert_int_equal(more, 7);
        client(w, slot, WIRE_DATA, WIRE_STDIN, CLIENT_ID, chunk, 7);
        (void)to_guest(w, WIRE_DATA);
        client(w, slot, WIRE_DATA, WIRE_STDIN, CLIENT_ID, chunk, 1);
        (void)to_guest(w, WIRE_CLOSE); /* beyond it the client is cut off, the box goes on */
        (void)to_client(w, slot, WIRE_BYE);
        assert_true(conduit_client_done(w->c, (unsigned)slot));
        conduit_client_gone(w->c, (unsigned)slot);
        assert_quiet(w);
        assert_int_equal(guest_exit(w, stream, 0, 1), 0);
        to_super_exit(w, 1, 0, 1);
}

static void test_the_guest_cannot_widen_the_window(void **state) {
        struct world *w = *state;
        uint32_t stream;
        (void)open_session(w, 1, &stream);
        assert_int_equal(guest_u32(w, WIRE_CREDIT, WIRE_STDIN, stream, 1), -EPROTO);
}

static void test_a_client_cannot_widen_the_window(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 1, &stream);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, "abc", 3), 0);
        client_u32(w, slot, WIRE_CREDIT, WIRE_STDOUT, 3); /* before it was even handed over */
        (void)to_guest(w, WIRE_CLOSE);
        (void)to_client(w, slot, WIRE_BYE);
}

static void test_vanishing_before_open(void **state) {
        struct world *w = *state;
        int slot = conduit_client_add(w->c, 5);
        conduit_from_client(w->c, (unsigned)slot, "\x03\0\0", 3);
        conduit_client_gone(w->c, (unsigned)slot);
        to_super_exit(w, 5, 125, 0);
        assert_quiet(w);
        assert_int_equal(conduit_client_add(w->c, 6), slot);
}

static void test_vanishing_while_open(void **state) {
        struct world *w = *state;
        uint32_t stream, next;
        int slot = open_session(w, 5, &stream);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, "lost", 4), 0);
        conduit_client_gone(w->c, (unsigned)slot);
        assert_int_equal(to_guest(w, WIRE_CLOSE).stream, stream);
        assert_quiet(w); /* not over until the guest says so */
        assert_int_not_equal(open_session(w, 6, &next), slot);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, "lost", 4), 0);
        assert_int_equal(guest(w, WIRE_EOF, WIRE_STDOUT, stream, NULL, 0), 0);
        assert_int_equal(guest_exit(w, stream, 0, 1), 0);
        to_super_exit(w, 5, 0, 1);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDERR, stream, "late", 4), -EPROTO);
}

static void test_vanishing_guest_still_bound_by_credit(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 5, &stream);
        conduit_client_gone(w->c, (unsigned)slot);
        static uint8_t chunk[WIRE_DATA_MAX];
        for (unsigned sent = 0; sent < WIRE_WINDOW; sent += WIRE_DATA_MAX)
                assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, chunk, sizeof chunk), 0);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, chunk, 1), -EPROTO);
}

static void test_vanishing_after_exit(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 5, &stream);
        assert_int_equal(guest_exit(w, stream, 0, 0), 0);
        to_super_exit(w, 5, 0, 0);
        conduit_client_gone(w->c, (unsigned)slot);
        assert_quiet(w);
        assert_int_equal(conduit_client_add(w->c, 6), slot);
}

static void test_close_keeps_the_connection_until_exit(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 5, &stream);
        client(w, slot, WIRE_CLOSE, 0, CLIENT_ID, NULL, 0);
        client(w, slot, WIRE_DATA, WIRE_STDIN, CLIENT_ID, "ignored", 7);
        (void)to_guest(w, WIRE_CLOSE);
        assert_quiet(w);
        assert_int_equal(guest_exit(w, stream, 0, 1), 0);
        (void)to_client(w, slot, WIRE_EXIT);
        conduit_client_gone(w->c, (unsigned)slot);
        to_super_exit(w, 5, 0, 1);
        assert_quiet(w);
}

static void test_input_after_exit_is_ignored(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 5, &stream);
        assert_int_equal(guest_exit(w, stream, 0, 0), 0);
        client_u32(w, slot, WIRE_CREDIT, WIRE_STDOUT, 1);
        client(w, slot, WIRE_DATA, WIRE_STDIN, CLIENT_ID, "late", 4);
        assert_int_equal(conduit_guest_out(w->c)->len, 0);
        (void)to_client(w, slot, WIRE_EXIT);
}

static void test_stream_ids_are_not_reused_for_late_frames(void **state) {
        struct world *w = *state;
        uint32_t first, second;
        int slot = open_session(w, 5, &first);
        assert_int_equal(guest_exit(w, first, 0, 0), 0);
        (void)take(conduit_super_out(w->c));
        conduit_client_gone(w->c, (unsigned)slot);
        assert_int_equal(open_session(w, 6, &second), slot);
        assert_int_not_equal(first, second);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, first, "x", 1), -EPROTO);
}

static void test_guest_violations(void **state) {
        (void)state;
        static const struct {
                uint8_t type, channel;
                bool on_session;
                const char *payload;
                size_t len;
        } cases[] = {
                { WIRE_READY, 0, false, "", 0 },         /* a second time */
                { WIRE_STARTED, 0, true, "", 0 },        /* a second time */
                { WIRE_DATA, WIRE_STDIN, true, "x", 1 }, /* wrong way */
                { WIRE_EOF, WIRE_STDOUT, true, "x", 1 },
                { WIRE_EXIT, 0, true, "\0\0\0\0", 4 },
                { WIRE_EXIT, 0, true, "\0\1\0\0\0\0\0\0", 8 }, /* status 256 */
                { WIRE_EXIT, 0, false, "\0\0\0\0\0\0\0\0", 8 },
                { WIRE_DATA, WIRE_STDOUT, false, "x", 1 },
                { WIRE_CREDIT, WIRE_STDOUT, true, "\1\0\0\0", 4 },
                { WIRE_CREDIT, WIRE_STDIN, true, "\1\0", 2 },
                { WIRE_OPEN, 0, true, "", 0 }, /* only the host's to send */
                { WIRE_SHUTDOWN, 0, false, "", 0 },
                { WIRE_REPLY, 0, false, "", 0 }, /* to a question nobody asked */
                { WIRE_STATS_REPLY, 0, false, "", 0 },
                { WIRE_BYE, 0, true, "", 0 },
                { WIRE_BYE, 0, false, "\x11\0\1\0\0\0", 6 }, /* field longer than the frame */
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                void *fresh;
                (void)setup(&fresh);
                struct world *w = fresh;
                uint32_t stream;
                (void)open_session(w, 1, &stream);
                assert_int_equal(
                    guest(w, cases[i].type, cases[i].channel, cases[i].on_session ? stream : 0, cases[i].payload, cases[i].len),
                    -EPROTO);
                assert_non_null(w->err.what);
                (void)teardown(&fresh);
        }
}

static void test_more_after_the_end_of_a_stream(void **state) {
        struct world *w = *state;
        uint32_t stream;
        (void)open_session(w, 1, &stream);
        assert_int_equal(guest(w, WIRE_EOF, WIRE_STDOUT, stream, NULL, 0), 0);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDERR, stream, "x", 1), 0);
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, "x", 1), -EPROTO);
}

static void test_client_violations(void **state) {
        (void)state;
        static const struct {
                uint8_t type, channel;
                uint32_t id;
                const char *payload;
                size_t len;
        } cases[] = {
                { WIRE_OPEN, 0, CLIENT_ID, "", 0 },           { WIRE_DATA, WIRE_STDOUT, CLIENT_ID, "x", 1 },
                { WIRE_DATA, WIRE_STDIN, 1, "x", 1 },         { WIRE_EOF, WIRE_STDERR, CLIENT_ID, "", 0 },
                { WIRE_SIGNAL, 0, CLIENT_ID, "\0\0\0\0", 4 }, { WIRE_SIGNAL, 0, CLIENT_ID, "\x41\0\0\0", 4 },
                { WIRE_SIGNAL, 0, CLIENT_ID, "", 0 },         { WIRE_RESIZE, 0, CLIENT_ID, "\1", 1 },
                { WIRE_SHUTDOWN, 0, CLIENT_ID, "", 0 },       { WIRE_SETUP, 0, CLIENT_ID, "", 0 },
                { WIRE_EXIT, 0, CLIENT_ID, "", 0 },           { WIRE_READY, 0, 0, "", 0 },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                void *fresh;
                (void)setup(&fresh);
                struct world *w = fresh;
                uint32_t stream;
                int slot = open_session(w, 1, &stream);
                client(w, slot, cases[i].type, cases[i].channel, cases[i].id, cases[i].payload, cases[i].len);
                assert_int_equal(to_guest(w, WIRE_CLOSE).stream, stream);
                assert_int_equal(conduit_guest_out(w->c)->len, 0);
                (void)to_client(w, slot, WIRE_BYE);
                assert_true(conduit_client_done(w->c, (unsigned)slot));
                (void)teardown(&fresh);
        }
}

static void test_a_client_must_begin_with_open(void **state) {
        struct world *w = *state;
        int slot = conduit_client_add(w->c, 3);
        client(w, slot, WIRE_DATA, WIRE_STDIN, CLIENT_ID, "x", 1);
        assert_int_equal(conduit_guest_out(w->c)->len, 0);
        assert_true(conduit_client_done(w->c, (unsigned)slot));
        conduit_client_gone(w->c, (unsigned)slot);
        to_super_exit(w, 3, 125, 0);
}

static void test_requests_are_matched_and_bounded(void **state) {
        struct world *w = *state;
        assert_int_equal(super(w, WIRE_MOUNT, 40), 0);
        (void)to_guest(w, WIRE_MOUNT);
        assert_int_equal(guest(w, WIRE_STATS_REPLY, 0, 40, NULL, 0), -EPROTO);
        assert_int_equal(guest(w, WIRE_REPLY, 0, 40, NULL, 0), -EPROTO); /* the first failure was final */
}

static void test_requests_answered_once(void **state) {
        struct world *w = *state;
        assert_int_equal(super(w, WIRE_STATS, 7), 0);
        (void)to_guest(w, WIRE_STATS);
        assert_int_equal(guest(w, WIRE_STATS_REPLY, 0, 7, NULL, 0), 0);
        assert_int_equal(take(conduit_super_out(w->c)).type, WIRE_STATS_REPLY);
        assert_int_equal(guest(w, WIRE_STATS_REPLY, 0, 7, NULL, 0), -EPROTO);
}

static void test_a_guest_that_never_answers(void **state) {
        struct world *w = *state;
        for (uint32_t i = 0; i < 1000; i++) {
                assert_int_equal(super(w, WIRE_STATS, i), 0);
                assert_int_equal(super(w, WIRE_TIME, 0), 0);
        }
        struct wire_frame f = take(conduit_super_out(w->c));
        assert_int_equal(f.type, WIRE_REPLY);
        for (int i = 0; i < 100000; i++)
                assert_int_equal(super(w, WIRE_TIME, 0), 0);
        assert_true(conduit_guest_out(w->c)->len < 256u * 1024u);
}

static void test_a_supervisor_frame_out_of_place(void **state) {
        struct world *w = *state;
        assert_int_equal(super(w, WIRE_OPEN, 1), -EPROTO);
}

static void test_the_end_tells_every_client_why(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 1, &stream), fresh = conduit_client_add(w->c, 2);
        NB_AUTO_BUF fields = { 0 };
        wire_tlv_str(&fields, WIRE_T_TEXT, "power\x1b[2Joff");
        assert_int_equal(guest(w, WIRE_DATA, WIRE_STDOUT, stream, "last words", 10), 0);
        assert_int_equal(guest(w, WIRE_BYE, 0, 0, nb_buf_bytes(&fields), fields.len), 0);
        conduit_end(w->c, "not this");
        assert_memory_equal(to_client(w, slot, WIRE_DATA).payload, "last words", 10);
        struct wire_frame f = to_client(w, slot, WIRE_BYE);
        assert_int_equal(f.len, 6 + strlen("power\\x1b[2Joff"));
        assert_memory_equal(f.payload + 6, "power\\x1b[2Joff", f.len - 6);
        (void)to_client(w, fresh, WIRE_BYE);
        assert_true(conduit_client_done(w->c, (unsigned)slot));
}

static void test_a_full_table_refuses(void **state) {
        struct world *w = *state;
        for (uint32_t i = 0; i < WIRE_STREAMS_MAX; i++)
                assert_int_equal(conduit_client_add(w->c, i), (int)i);
        assert_int_equal(conduit_client_add(w->c, 70000), -EMFILE);
        to_super_exit(w, 70000, 125, 0);
        conduit_client_gone(w->c, 17);
        assert_int_equal(conduit_client_add(w->c, 70001), 17);
}

static void test_a_flood_of_tiny_frames_takes_no_memory(void **state) {
        struct world *w = *state;
        uint32_t stream;
        int slot = open_session(w, 1, &stream);
        struct nb_buf b = { 0 };
        for (unsigned i = 0; i < WIRE_WINDOW; i++)
                guest_frame(&b, WIRE_DATA, WIRE_STDOUT, stream, "x", 1);
        assert_int_equal(guest_bytes(w, &b), 0);
        size_t frames = 0;
        for (struct nb_buf *out; (out = conduit_client_out(w->c, (unsigned)slot))->len > 0; frames++)
                (void)take(out);
        assert_int_equal(frames, WIRE_WINDOW / WIRE_DATA_MAX); /* joined, not kept one by one */
}

static void test_frames_in_pieces(void **state) {
        struct world *w = *state;
        int slot = conduit_client_add(w->c, 1);
        NB_AUTO_BUF b = { 0 };
        wire_put(&b, WIRE_OPEN, 0, CLIENT_ID, "abc", 3);
        for (size_t i = 0; i < b.len; i++) {
                assert_int_equal(conduit_guest_out(w->c)->len, 0);
                conduit_from_client(w->c, (unsigned)slot, nb_buf_bytes(&b) + i, 1);
                conduit_pump(w->c);
        }
        uint32_t stream = to_guest(w, WIRE_OPEN).stream;
        NB_AUTO_BUF g = { 0 };
        wire_put(&g, WIRE_DATA, WIRE_STDOUT, stream, "abc", 3);
        for (size_t i = 0; i < g.len; i++)
                assert_int_equal(conduit_from_guest(w->c, nb_buf_bytes(&g) + i, 1, NULL), 0);
        assert_memory_equal(to_client(w, slot, WIRE_DATA).payload, "abc", 3);
}

static void test_a_large_open_passes(void **state) {
        struct world *w = *state;
        int slot = conduit_client_add(w->c, 1);
        NB_AUTO_FREE uint8_t *large = nb_calloc(WIRE_HOST_MAX, 1);
        client(w, slot, WIRE_OPEN, 0, CLIENT_ID, large, WIRE_HOST_MAX);
        assert_int_equal(to_guest(w, WIRE_OPEN).len, WIRE_HOST_MAX);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define T_UNREADY(f) cmocka_unit_test_setup_teardown(f, setup_unready, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                T(test_a_whole_session),
                T_UNREADY(test_nothing_is_opened_before_the_guest_is_ready),
                T_UNREADY(test_a_failed_start_opens_nothing),
                T(test_guest_within_and_beyond_its_credit),
                T(test_a_stalled_client_holds_up_nobody),
                T(test_uploads_are_paced_and_fair),
                T(test_signals_pass_while_uploads_wait),
                T(test_a_blocked_client_is_not_read_without_end),
                T(test_stdin_credit),
                T(test_the_guest_cannot_widen_the_window),
                T(test_a_client_cannot_widen_the_window),
                T(test_vanishing_before_open),
                T(test_vanishing_while_open),
                T(test_vanishing_guest_still_bound_by_credit),
                T(test_vanishing_after_exit),
                T(test_close_keeps_the_connection_until_exit),
                T(test_input_after_exit_is_ignored),
                T(test_stream_ids_are_not_reused_for_late_frames),
                cmocka_unit_test(test_guest_violations),
                T(test_more_after_the_end_of_a_stream),
                cmocka_unit_test(test_client_violations),
                T(test_a_client_must_begin_with_open),
                T(test_requests_are_matched_and_bounded),
                T(test_requests_answered_once),
                T(test_a_guest_that_never_answers),
                T(test_a_supervisor_frame_out_of_place),
                T(test_the_end_tells_every_client_why),
                T(test_a_full_table_refuses),
                T(test_a_flood_of_tiny_frames_takes_no_memory),
                T(test_frames_in_pieces),
                T(test_a_large_open_passes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
