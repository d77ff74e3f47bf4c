/* Byte streams of sessions (see stream.h): credit, buffers, the end of each. */
#include "stream.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"

#define CREDIT_STEP (WIRE_WINDOW / 4) /* credit is given back in steps, not for each key */
#define END_OF_FILE 4                 /* ^D, where the terminal has no other */

void stream_watch(struct sessions *all, struct stream *s, int fd, uint32_t events) {
        struct epoll_event e = { .events = events | EPOLLET, .data.ptr = s };
        s->fd = fd;
        (void)epoll_ctl(all->host.epoll, EPOLL_CTL_ADD, fd, &e);
}

void stream_unqueue(struct sessions *all, struct stream *s) {
        if (!s->queued)
                return;
        struct stream *before = NULL;
        for (struct stream *i = all->first; i != s; i = i->next)
                before = i;
        if (before)
                before->next = s->next;
        else
                all->first = s->next;
        if (all->last == s)
                all->last = before;
        s->next = NULL;
        s->queued = false;
}

void stream_queue(struct sessions *all, struct stream *s) {
        if (s->queued || s->fd < 0 || !s->ready || s->credit == 0)
                return;
        s->queued = true;
        s->next = NULL;
        if (all->last)
                all->last->next = s;
        else
                all->first = s;
        all->last = s;
}

/* The descriptor is taken out of epoll first: a copy of it in a child that has not executed yet would keep it there. */
void stream_close(struct sessions *all, struct stream *s) {
        stream_unqueue(all, s);
        if (s->fd >= 0) {
                (void)epoll_ctl(all->host.epoll, EPOLL_CTL_DEL, s->fd, NULL);
                s->fd = nb_close(s->fd);
        }
        s->ready = false;
        nb_buf_clear(&s->pending);
}

static void finish_output(struct sessions *all, struct stream *s) {
        stream_close(all, s);
        if (!s->session->closed)
                wire_put(&all->host.port->out, WIRE_EOF, s->channel, s->session->id, NULL, 0);
        session_check(all, s->session);
}

bool stream_pass_on(struct sessions *all, struct stream *s) {
        size_t room = PORT_CHUNK - WIRE_HEADER; /* a frame fills one write to the port */
        if (room > s->credit)
                room = s->credit;
        if (s->session->exited && room > s->left)
                room = s->left;
        ssize_t n = room > 0 ? read(s->fd, all->chunk + WIRE_HEADER, room) : 0;
        if (n < 0 && errno == EINTR)
                return true;
        if (n <= 0) {
                s->ready = false;
                /* EIO: nobody has the terminal open any more. After the command's end, whoever still holds the stream
                 * is not waited for. */
                if (n == 0 || errno != EAGAIN || s->session->exited)
                        finish_output(all, s);
                return false;
        }
        struct nb_buf frame = { .data = all->chunk, .cap = PORT_CHUNK };
        wire_put(&frame, WIRE_DATA, s->channel, s->session->id, NULL, 0);
        all->chunk[0] = (uint8_t)n;
        all->chunk[1] = (uint8_t)((size_t)n >> 8);
        port_send(all->host.port, all->chunk, WIRE_HEADER + (size_t)n);
        s->credit -= (uint32_t)n;
        if (s->session->exited && s->left != UINT32_MAX && (s->left -= (uint32_t)n) == 0) {
                finish_output(all, s); /* now, and not when credit for one more byte comes */
                return false;
        }
        /* a pipe that gave less than asked for is empty, and says when it is not; a terminal may hold more */
        if ((size_t)n < room && !s->session->pty && !s->session->exited)
                s->ready = false;
        return s->ready && s->credit > 0;
}

/* Bytes that others add to a pipe later are not waited for. A terminal is hung up by the kernel when the leader of its
 * session ends, and then has an end of its own. */
void stream_drain(struct sessions *all, struct stream *s) {
        int n = 0;
        if (s->fd < 0)
                return;
        if (s->session->pty)
                s->left = UINT32_MAX;
        else
                s->left = ioctl(s->fd, FIONREAD, &n) == 0 && n > 0 ? (uint32_t)n : 0;
        s->ready = true;
        if (s->left == 0)
                finish_output(all, s);
        else
                stream_queue(all, s);
}

void stream_flush(struct sessions *all, struct stream *s) {
        while (s->fd >= 0 && s->pending.len > 0) {
                ssize_t n = write(s->fd, nb_buf_bytes(&s->pending), s->pending.len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0) { /* nobody reads it any more: the host keeps what it has, and no more credit comes */
                        stream_close(all, s);
                        return;
                }
                nb_buf_consume(&s->pending, (size_t)n);
                s->credit += (uint32_t)n;
        }
        if (s->fd >= 0 && s->ended && !s->session->pty)
                stream_close(all, s);
        else if (s->fd >= 0 && !s->ended && s->credit >= CREDIT_STEP) {
                wire_put_u32(&all->host.port->out, WIRE_CREDIT, s->channel, s->session->id, s->credit);
                s->credit = 0;
        }
}

int stream_take(struct sessions *all, struct stream *s, const uint8_t *bytes, size_t len) {
        if (s->ended || s->pending.len + len > WIRE_WINDOW)
                return -EPROTO;
        if (s->fd < 0 || len == 0)
                return 0;
        s->last = bytes[len - 1];
        nb_buf_add(&s->pending, bytes, len);
        stream_flush(all, s);
        return 0;
}

/* A terminal has no end but the character for it, and that one only ends a line that is not empty: then it takes two. */
static void end_terminal(struct sessions *all, struct stream *s) {
        struct termios t;
        uint8_t end[2] = { END_OF_FILE, END_OF_FILE };
        if (tcgetattr(s->fd, &t) == 0 && t.c_cc[VEOF] != 0)
                end[0] = end[1] = t.c_cc[VEOF];
        nb_buf_add(&s->pending, end, s->last == 0 || s->last == '\n' || s->last == '\r' ? 1 : 2);
        stream_flush(all, s);
}

void stream_end(struct sessions *all, struct stream *s) {
        if (s->ended || s->fd < 0)
                return;
        s->ended = true;
        if (s->session->pty)
                end_terminal(all, s);
        else
                stream_flush(all, s);
}
