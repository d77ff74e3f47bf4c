/* The port to the host (see port.h). */
#include "port.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

#define READ_PER_TURN (64u * 1024u) /* then others get their turn */
#define READ_STEP 4096u             /* the driver hands out a page at a time */

void port_init(struct port *p, int fd) {
        *p = (struct port){ .fd = fd, .readable = true, .writable = true };
        (void)nb_buf_reserve(&p->in, WIRE_HEADER + WIRE_HOST_MAX + READ_STEP);
}

void port_fill(struct port *p) {
        for (size_t got = 0; p->readable && got < READ_PER_TURN && p->in.len < WIRE_HEADER + WIRE_HOST_MAX;) {
                ssize_t n = read(p->fd, nb_buf_reserve(&p->in, READ_STEP), READ_STEP);
                if (n > 0) {
                        nb_buf_commit(&p->in, (size_t)n);
                        got += (size_t)n;
                } else if (n == 0) { /* so the driver says that nobody is connected */
                        p->readable = false;
                        p->gone = true;
                } else if (errno != EINTR) {
                        p->readable = false;
                }
        }
}

int port_next(const struct port *p, struct wire_frame *ret) {
        return wire_parse(&p->in, WIRE_HOST_MAX, ret);
}

void port_done(struct port *p, size_t frame, bool wipe) {
        if (wipe)
                explicit_bzero(p->in.data + p->in.start, frame);
        nb_buf_consume(&p->in, frame);
}

/* As many bytes as the port takes now. */
static size_t write_some(struct port *p, const uint8_t *bytes, size_t len) {
        size_t done = 0;
        while (p->writable && done < len) {
                size_t part = len - done < PORT_CHUNK ? len - done : PORT_CHUNK;
                ssize_t n = write(p->fd, bytes + done, part);
                if (n > 0)
                        done += (size_t)n;
                else if (n == 0 || errno != EINTR)
                        p->writable = false;
        }
        return done;
}

void port_flush(struct port *p) {
        if (p->out.len > 0)
                nb_buf_consume(&p->out, write_some(p, nb_buf_bytes(&p->out), p->out.len));
}

void port_send(struct port *p, const void *bytes, size_t len) {
        port_flush(p);
        size_t done = p->out.len == 0 ? write_some(p, bytes, len) : 0;
        nb_buf_add(&p->out, (const uint8_t *)bytes + done, len - done);
}

void port_drain(struct port *p, unsigned timeout_ms) {
        uint64_t end = nb_now_ms() + timeout_ms;
        while (p->out.len > 0 && !p->gone) {
                p->writable = true;
                port_flush(p);
                uint64_t now = nb_now_ms();
                if (p->out.len == 0 || now >= end)
                        break;
                struct pollfd wait = { .fd = p->fd, .events = POLLOUT };
                (void)poll(&wait, 1, (int)(end - now));
                if (wait.revents & POLLHUP)
                        p->gone = true;
        }
}
