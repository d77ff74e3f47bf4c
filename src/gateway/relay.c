/* Two connected sockets joined (see impl.h). Each direction is a `struct way`: bytes go from one socket to the other through a
 * buffer on the stack, and while the receiver is slow they wait in the kernel's buffer of the sender's socket, not here: large
 * reads only peek, and what was sent on is taken out afterwards. Memory is held only for what an inspector has not passed yet
 * and for the rest of one small read. */
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "gateway/impl.h"

#define SMALL 2048u          /* a read of less is taken out at once, which saves a system call */
#define CHUNK (128u * 1024u) /* at most so much in one direction before others have their turn; on the stack */
#define LAST_CHUNKS 16u      /* of the far end's last words are passed on when it takes no more */

struct way {
        int from, to;
        struct event readable, writable;
        bool reading, writing; /* which of them are waited for */
        bool bulk;             /* the last reads were large ones */
        bool eof;              /* all of `from` was read */
        bool shut;             /* and sent, and `to` knows it */
        uint8_t *held;         /* taken out of `from`, not sent */
        size_t held_len;
        size_t credit; /* so many of the next bytes (held, then in `from`) were passed by the inspector already */
};
struct relay {
        struct way up, down;
        struct relay_ops ops;
        bool over, clean;
};

static void pump(struct relay *r, struct way *w);

static void arm(struct event *event, bool *armed, bool want) {
        if (want != *armed)
                (void)(want ? event_add(event, NULL) : event_del(event));
        *armed = want;
}

int relay_close(int fd, bool reset) {
        struct linger now = { .l_onoff = 1, .l_linger = 0 };
        if (reset && fd >= 0)
                (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        return nb_close(fd);
}

static void stop_way(struct way *w) {
        arm(&w->readable, &w->reading, false);
        arm(&w->writable, &w->writing, false);
}

static void free_relay(struct relay *r, bool reset) {
        stop_way(&r->up);
        stop_way(&r->down);
        (void)relay_close(r->up.from, reset);
        (void)relay_close(r->up.to, reset);
        free(r->up.held);
        free(r->down.held);
        free(r);
}

void relay_end(struct relay *r, bool reset) {
        free_relay(r, reset);
}

int relay_take(struct relay *r) {
        if (r->down.held_len > 0 || r->down.credit > 0 || r->up.from < 0)
                return -1;
        stop_way(&r->up);
        stop_way(&r->down);
        int fd = r->up.from;
        r->up.from = r->down.to = -1;
        return fd;
}

/* Whoever called frees the relay when it is done with it: see on_up(), on_down(). */
static void finish(struct relay *r, int code) {
        if (r->over)
                return;
        r->over = true;
        stop_way(&r->up);
        stop_way(&r->down);
        r->clean = code == 0;
        r->ops.done(r->ops.user, code);
}

/* ---- one direction */

static bool inspected(const struct relay *r, const struct way *w) {
        return w == &r->up && r->ops.inspect_up;
}

/* Tells who counts and who looks. False: the relay is over. */
static bool tell_moved(struct relay *r, const struct way *w, const uint8_t *bytes, size_t len) {
        bool up = w == &r->up;
        if (!r->ops.moved(r->ops.user, up ? len : 0, up ? 0 : len) ||
            (!up && r->ops.inspect_down && !r->ops.inspect_down(r->ops.user, bytes, len)))
                finish(r, -ECANCELED);
        return !r->over;
}

/* Sends what the other socket takes. Returns how much that was, or -errno after which nothing can be sent. */
static ssize_t send_some(struct way *w, const uint8_t *bytes, size_t len) {
        ssize_t n;
        do
                n = send(w->to, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        return n;
}

static void hold(struct way *w, const uint8_t *bytes, size_t len) {
        uint8_t *kept = NULL;
        if (len > 0) {
                kept = nb_calloc(len, 1);
                memcpy(kept, bytes, len);
        }
        free(w->held);
        w->held = kept;
        w->held_len = len;
}

/* A server may answer, close, and refuse the rest of a request: its answer must arrive all the same. */
static void last_words(struct relay *r) {
        for (unsigned i = 0; i < LAST_CHUNKS && !r->over && r->down.reading; i++)
                pump(r, &r->down);
}

/* How many of the bytes from the client may go on now. What comes before something refused still may: *ret_refused. */
static size_t inspect(struct relay *r, struct way *w, const uint8_t *bytes, size_t len, int *ret_refused) {
        size_t allowed = w->credit < len ? w->credit : len;
        ssize_t more = 1;
        while (allowed < len && more > 0) {
                more = r->ops.inspect_up(r->ops.user, bytes + allowed, len - allowed);
                if (more > 0)
                        allowed += (size_t)more;
        }
        w->credit = allowed;
        *ret_refused = more < 0 ? (int)more : 0;
        return allowed;
}

/* `bytes` are next in this direction. Returns how many of them are done with (sent), which is fewer than `len` if the receiver
 * is slow or the inspector waits for more; -1 when the relay is over. */
static ssize_t pass(struct relay *r, struct way *w, const uint8_t *bytes, size_t len) {
        int refused = 0;
        size_t allowed = inspected(r, w) ? inspect(r, w, bytes, len, &refused) : len;
        ssize_t n = allowed > 0 ? send_some(w, bytes, allowed) : 0;
        if (n < 0) {
                if (w == &r->up)
                        last_words(r);
                finish(r, (int)n);
                return -1;
        }
        if (w->credit > 0)
                w->credit -= (size_t)n;
        arm(&w->writable, &w->writing, (size_t)n < allowed);
        if (n > 0 && !tell_moved(r, w, bytes, (size_t)n))
                return -1;
        if (refused < 0)
                finish(r, refused);
        return r->over ? -1 : n;
}

/* All of `from` was read: passes that on as soon as everything before it has gone. */
static void end_of_way(struct relay *r, struct way *w) {
        w->eof = true;
        arm(&w->readable, &w->reading, false);
        if (w->held_len > 0) {
                if (w->held_len <= w->credit || !inspected(r, w))
                        return;
                if (!r->ops.inspect_end || !r->ops.inspect_end(r->ops.user)) {
                        finish(r, -EPROTO); /* cut off in the middle of what is not passed in pieces */
                        return;
                }
                w->credit = w->held_len;
                arm(&w->writable, &w->writing, true); /* it goes when the loop runs */
                return;
        }
        w->shut = true;
        (void)shutdown(w->to, SHUT_WR); /* if it is gone, the other direction finds out */
        if (r->up.shut && r->down.shut)
                finish(r, 0);
        else if (r->ops.half)
                r->ops.half(r->ops.user);
}

/* Reads behind what is held, at most RELAY_HOLD in all, and passes both. Only with an inspector is anything read while
 * something is held. */
static void pump_held(struct relay *r, struct way *w) {
        uint8_t bytes[RELAY_HOLD];
        size_t len = w->held_len;
        bool slow = w->writing;
        memcpy(bytes, w->held, len);
        if (!slow && !w->eof && len < sizeof bytes && inspected(r, w)) {
                ssize_t n = recv(w->from, bytes + len, sizeof bytes - len, MSG_DONTWAIT);
                if (n < 0 && errno != EAGAIN && errno != EINTR) {
                        finish(r, -errno);
                        return;
                }
                w->eof = n == 0;
                len += n > 0 ? (size_t)n : 0;
        }
        ssize_t sent = pass(r, w, bytes, len);
        if (sent < 0)
                return;
        hold(w, bytes + sent, len - (size_t)sent);
        bool full = w->held_len >= RELAY_HOLD;
        arm(&w->readable, &w->reading, !w->eof && !w->writing && !full);
        if (w->eof)
                end_of_way(r, w);
}

/* A small read, taken out. Returns whether there may be much more. */
static bool pump_small(struct relay *r, struct way *w) {
        uint8_t bytes[SMALL];
        ssize_t n = recv(w->from, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n == 0)
                end_of_way(r, w);
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
                finish(r, -errno);
        if (n <= 0)
                return false;
        ssize_t sent = pass(r, w, bytes, (size_t)n);
        if (sent < 0)
                return false;
        hold(w, bytes + sent, (size_t)(n - sent));
        arm(&w->readable, &w->reading, !w->writing);
        return sent == SMALL;
}

/* A large read: looked at, sent on, and only what went is taken out. What an inspector does not pass is taken out by the next
 * small read, so that it is not looked at for ever. */
static void pump_bulk(struct relay *r, struct way *w) {
        uint8_t bytes[CHUNK];
        ssize_t n = recv(w->from, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK);
        if (n == 0)
                end_of_way(r, w);
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
                finish(r, -errno);
        w->bulk = n >= (ssize_t)SMALL;
        if (n <= 0)
                return;
        ssize_t sent = pass(r, w, bytes, (size_t)n);
        if (sent < 0)
                return;
        if (sent > 0 && recv(w->from, bytes, (size_t)sent, MSG_DONTWAIT | MSG_TRUNC) != sent) {
                finish(r, -EIO);
                return;
        }
        if (sent < n && !w->writing)
                w->bulk = false;
        arm(&w->readable, &w->reading, !w->writing);
}

/* Moves what can be moved now, once. */
static void pump(struct relay *r, struct way *w) {
        if (r->over || w->shut)
                return;
        if (w->held_len > 0)
                pump_held(r, w);
        else if (w->eof)
                end_of_way(r, w);
        else if (w->bulk || pump_small(r, w)) {
                w->bulk = true;
                pump_bulk(r, w);
        }
}

/* ---- events */

static void on_up(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct relay *r = user;
        pump(r, &r->up);
        if (r->over)
                free_relay(r, !r->clean);
}

static void on_down(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct relay *r = user;
        pump(r, &r->down);
        if (r->up.held_len > 0 && !r->up.writing) /* what was seen may let pass what is held */
                pump(r, &r->up);
        if (r->over)
                free_relay(r, !r->clean);
}

void relay_look(struct relay *r) {
        if (r->up.held_len > 0 && !r->up.writing)
                pump(r, &r->up);
        if (r->over)
                free_relay(r, !r->clean);
}

static void begin_way(struct way *w, struct event_base *base, int from, int to, event_callback_fn on, struct relay *r) {
        w->from = from;
        w->to = to;
        (void)event_assign(&w->readable, base, from, EV_READ | EV_PERSIST, on, r);
        (void)event_assign(&w->writable, base, to, EV_WRITE | EV_PERSIST, on, r);
        arm(&w->readable, &w->reading, true);
}

struct relay *relay_new(struct event_base *base, int a, int b, const void *first, size_t first_len,
                        const struct relay_ops *ops) {
        struct relay *r = nb_calloc(1, sizeof *r);
        int now = 1;
        assert(first_len <= RELAY_HOLD);
        r->ops = *ops;
        (void)setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &now, sizeof now);
        (void)setsockopt(b, IPPROTO_TCP, TCP_NODELAY, &now, sizeof now);
        begin_way(&r->up, base, a, b, on_up, r);
        begin_way(&r->down, base, b, a, on_down, r);
        if (first_len > 0) { /* goes as soon as the loop runs */
                hold(&r->up, first, first_len);
                arm(&r->up.writable, &r->up.writing, true);
        }
        return r;
}
