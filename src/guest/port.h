/* The virtio-serial port to the host: whole frames in, bytes out, never blocking. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "wire/wire.h"

#define PORT_CHUNK (32u * 1024u) /* the most the driver takes in one write */

struct port {
        int fd;
        struct nb_buf in;        /* room for the largest frame from the start: SETUP is never copied by growing */
        struct nb_buf out;       /* what the port did not take yet */
        bool readable, writable; /* until a call would block; set again by an edge of epoll */
        bool gone;               /* the host has closed its end */
};

void port_init(struct port *p, int fd);
/** Reads what is there, some at a time. */
void port_fill(struct port *p);
/** Next frame, not consumed; 0 if none is whole yet, -EPROTO if the bytes are no frames. */
int port_next(const struct port *p, struct wire_frame *ret);
/** Drops a handled frame. With `wipe`, its bytes are overwritten first. */
void port_done(struct port *p, size_t frame, bool wipe);
/** Writes what is queued as far as the port takes it. */
void port_flush(struct port *p);
/** Sends bytes made of whole frames, in order after what is queued. */
void port_send(struct port *p, const void *bytes, size_t len);
/** True while output should wait. */
static inline bool port_blocked(const struct port *p) {
        return !p->writable || p->out.len > 0;
}
/** Writes everything that is queued, waiting for the host at most this long. */
void port_drain(struct port *p, unsigned timeout_ms);
