/* A peer's bytes made from a fuzzer's input, for targets that play the other side of a connection: a list of steps, each a
 * head of three bytes (type of frame, a number, length) and content. Type 0 is sent as it is, all others as a frame. */
#pragma once

#include <string.h>

#include "base/buf.h"
#include "wire/wire.h"

struct fuzz_step {
        uint8_t type;
        uint8_t number; /* what it is for is the target's choice */
        const uint8_t *content;
        size_t len;
};

/* Takes the next step off the input, which may be shorter than the step says. */
static inline struct fuzz_step fuzz_next_step(const uint8_t **at, size_t *left) {
        uint8_t head[3] = { 0 };
        size_t n = *left < sizeof head ? *left : sizeof head;
        memcpy(head, *at, n);
        *at += n;
        *left -= n;
        struct fuzz_step step = { head[0], head[1], *at, head[2] < *left ? head[2] : *left };
        *at += step.len;
        *left -= step.len;
        return step;
}

static inline void fuzz_send_step(struct nb_buf *out, const struct fuzz_step *step, uint8_t channel, uint32_t stream) {
        if (step->type == 0)
                nb_buf_add(out, step->content, step->len);
        else
                wire_put(out, step->type, channel, stream, step->content, step->len);
}
