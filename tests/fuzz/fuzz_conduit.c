/* Fuzz target: a hostile guest speaks to the conduit's state machine while some clients have sessions open. The input is a
 * list of steps: a byte that says who acts, and for the guest a length and raw bytes or a frame header to complete. However
 * it goes, what is held for a client stays within its window. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "box/conduit_core.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS 4u
#define CLIENT_ID 1u
#define HELD_MAX (2u * WIRE_WINDOW + 256u * 1024u)

struct input {
        const uint8_t *at;
        size_t left;
};

static uint8_t byte(struct input *in) {
        if (in->left == 0)
                return 0;
        in->left--;
        return *in->at++;
}

static void client_frame(struct conduit *c, unsigned slot, uint8_t type, uint8_t channel, const void *bytes, size_t len) {
        NB_AUTO_BUF b = { 0 };
        wire_put(&b, type, channel, CLIENT_ID, bytes, len);
        if (conduit_client_room(c, slot) >= b.len)
                conduit_from_client(c, slot, nb_buf_bytes(&b), b.len);
}

/* A client speaks: a frame of a kind that clients send, or of any; credit mostly. */
static void client_speaks(struct conduit *c, struct input *in, unsigned slot) {
        static const uint8_t kinds[] = { WIRE_CREDIT, WIRE_CREDIT, WIRE_DATA,  WIRE_EOF,
                                         WIRE_SIGNAL, WIRE_RESIZE, WIRE_CLOSE, WIRE_OPEN };
        uint8_t kind = byte(in), bytes[255] = { 0 };
        size_t len = byte(in);
        bool credit = kind % 16 < 2;
        if (credit || len > in->left)
                len = in->left < 2 ? in->left : credit ? 2 : in->left;
        memcpy(bytes, in->at, len);
        in->at += len;
        in->left -= len;
        if (kind % 16 < NB_ARRAY_LEN(kinds))
                client_frame(c, slot, kinds[kind % 16], credit ? WIRE_STDOUT : WIRE_STDIN, bytes, credit ? 4 : len);
        else
                client_frame(c, slot, kind, WIRE_STDERR, bytes, len);
}

/* The guest speaks: raw bytes, or a frame on a stream id that exists. */
static int guest_speaks(struct conduit *c, struct input *in, const uint32_t *streams) {
        uint8_t kind = byte(in);
        size_t len = byte(in);
        if (len > in->left)
                len = in->left;
        const uint8_t *bytes = in->at;
        in->at += len;
        in->left -= len;
        NB_AUTO_ERROR err = { 0 };
        if (kind == 0)
                return conduit_from_guest(c, bytes, len, &err);
        uint8_t channel = byte(in) % 3;
        uint32_t stream = streams[byte(in) % (CLIENTS + 1)];
        NB_AUTO_BUF b = { 0 };
        wire_put(&b, kind, channel, stream, bytes, len);
        return conduit_from_guest(c, nb_buf_bytes(&b), b.len, &err);
}

/* Reads what goes to the guest, learning the stream ids of the sessions. */
static void drain_guest(struct conduit *c, uint32_t *streams) {
        struct nb_buf *out = conduit_guest_out(c);
        struct wire_frame f;
        for (int n; (n = wire_parse(out, WIRE_HOST_MAX, &f)) > 0; nb_buf_consume(out, (size_t)n))
                if (f.type == WIRE_OPEN)
                        streams[f.stream % CLIENTS] = f.stream;
        if (out->len > 0)
                abort(); /* everything the guest is sent is whole frames */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct input in = { data, size };
        uint32_t streams[CLIENTS + 1] = { 0 };
        bool gone[CLIENTS] = { false };
        struct conduit *c = conduit_new();
        nb_log_set_level(NB_LOG_ERROR);
        for (unsigned i = 0; i < CLIENTS; i++) {
                (void)conduit_client_add(c, 100 + i);
                client_frame(c, i, WIRE_OPEN, 0, NULL, 0);
        }
        int r = 0;
        while (in.left > 0 && r == 0) {
                uint8_t step = byte(&in);
                unsigned who = step % CLIENTS;
                if (step < 0x80) {
                        r = guest_speaks(c, &in, streams);
                } else if (step < 0xa0 && !gone[who]) {
                        client_speaks(c, &in, who);
                } else if (step < 0xc0 && !gone[who]) {
                        struct nb_buf *out = conduit_client_out(c, who);
                        if (out->len > HELD_MAX)
                                abort();
                        nb_buf_consume(out, out->len);
                } else if (step < 0xe0 && !gone[who]) {
                        gone[who] = true;
                        conduit_client_gone(c, who);
                } else {
                        static const uint8_t types[] = { WIRE_STATS, WIRE_MOUNT, WIRE_TIME, WIRE_RECLAIM, WIRE_SHUTDOWN };
                        NB_AUTO_BUF b = { 0 };
                        wire_put(&b, types[step % NB_ARRAY_LEN(types)], 0, who, NULL, 0);
                        (void)conduit_from_super(c, nb_buf_bytes(&b), b.len, NULL);
                        nb_buf_consume(conduit_super_out(c), conduit_super_out(c)->len);
                }
                conduit_pump(c);
                drain_guest(c, streams);
        }
        conduit_end(c, "done");
        conduit_free(c);
        return 0;
}
