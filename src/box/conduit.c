/* The conduit process: moves bytes between descriptors and the state machine in conduit_core.c, and never waits for anyone.
 * It judges nothing itself. The system calls it may make are listed here, beside the code that makes them. */
#include "box/conduit.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "box/conduit_core.h"
#include "wire/wire.h"

#define FD_SCAN_MAX 64           /* the event loop's own descriptors are below this */
#define GUEST_SNDBUF (64 * 1024) /* a key waits behind at most about this much of other sessions' input */
#define CLIENT_SNDBUF (256 * 1024)

struct peer {
        struct io *io;
        int fd;
        unsigned slot;
        struct event *readable, *writable;
        bool write_armed, read_armed;
};

struct io {
        struct event_base *base;
        struct conduit *c;
        struct peer guest, super, listener;
        struct peer *clients[WIRE_STREAMS_MAX];
        unsigned top; /* no client at or above this */
        int status;
        bool over;
};

/* What is needed after set-up: sockets that exist, the event loop, memory, the clock, and a way to abort. */
static const char *const allowed_calls[] = {
        "read",
        "write",
        "readv",
        "writev",
        "recvfrom",
        "sendto",
        "recvmsg",
        "sendmsg",
        "close",
        "fcntl",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
        "epoll_ctl",
        "setsockopt",
        "brk",
        "mmap",
        "munmap",
        "mremap",
        "madvise",
        "futex",
        "getrandom",
        "exit",
        "gettid",
        "exit_group",
        "rt_sigreturn",
        "restart_syscall",
        "clock_gettime",
        "getpid",
        "tgkill",
        "poll",
        "gettimeofday",
        "rt_sigprocmask",
        NULL,
};

static void settle(struct io *io);

static void stop(struct io *io, int status, const char *why) {
        if (io->over)
                return;
        io->over = true;
        io->status = status;
        conduit_end(io->c, why);
        (void)event_base_loopbreak(io->base);
}

static void arm(struct event *event, bool *armed, bool want) {
        if (want == *armed)
                return;
        (void)(want ? event_add(event, NULL) : event_del(event));
        *armed = want;
}

/* Writes what it can of `out`. -errno when the other end is gone. */
static int flush(int fd, struct nb_buf *out) {
        while (out->len > 0) {
                ssize_t n = send(fd, nb_buf_bytes(out), out->len, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                nb_buf_consume(out, (size_t)n);
        }
        return 0;
}

/* ---- clients */

static void forget_client(struct io *io, struct peer *p) {
        conduit_client_gone(io->c, p->slot);
        io->clients[p->slot] = NULL;
        while (io->top > 0 && !io->clients[io->top - 1])
                io->top--;
        event_free(p->readable);
        event_free(p->writable);
        nb_close(p->fd);
        free(p);
}

/* Gives a client what there is for it. Returns false if it was the last of it. */
static bool serve_client(struct io *io, struct peer *p) {
        for (;;) {
                struct nb_buf *out = conduit_client_out(io->c, p->slot);
                if (out->len == 0)
                        break;
                if (flush(p->fd, out) < 0) {
                        forget_client(io, p);
                        return false;
                }
                if (out->len > 0)
                        break;
        }
        bool waiting = conduit_client_out(io->c, p->slot)->len > 0;
        if (!waiting && conduit_client_done(io->c, p->slot)) {
                forget_client(io, p);
                return false;
        }
        arm(p->writable, &p->write_armed, waiting);
        arm(p->readable, &p->read_armed, conduit_client_room(io->c, p->slot) > 0);
        return true;
}

static void on_client_writable(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct peer *p = user;
        settle(p->io);
}

static void on_client_readable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct peer *p = user;
        struct io *io = p->io;
        uint8_t chunk[CONDUIT_READ_MAX];
        size_t room = conduit_client_room(io->c, p->slot);
        if (room == 0)
                return;
        ssize_t n = recv(fd, chunk, room < sizeof chunk ? room : sizeof chunk, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0)
                forget_client(io, p);
        else
                conduit_from_client(io->c, p->slot, chunk, (size_t)n);
        settle(io);
}

static void add_client(struct io *io, uint32_t session, int fd) {
        int slot = conduit_client_add(io->c, session);
        if (slot < 0) {
                nb_warn("session %u: there are %u sessions already", session, WIRE_STREAMS_MAX);
                nb_close(fd);
                return;
        }
        int size = CLIENT_SNDBUF;
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        struct peer *p = nb_calloc(1, sizeof *p);
        *p = (struct peer){ .io = io, .fd = fd, .slot = (unsigned)slot };
        p->readable = event_new(io->base, fd, EV_READ | EV_PERSIST, on_client_readable, p);
        p->writable = event_new(io->base, fd, EV_WRITE | EV_PERSIST, on_client_writable, p);
        io->clients[slot] = p;
        if (p->slot >= io->top)
                io->top = p->slot + 1;
        arm(p->readable, &p->read_armed, true);
}

/* ---- the supervisor and the guest */

static void on_listener(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct io *io = user;
        uint8_t id[4];
        int client[1];
        size_t n_fds = 1;
        ssize_t n = nb_recv_fds(fd, id, sizeof id, client, &n_fds);
        if (n == -EAGAIN || n == -EINTR)
                return;
        if (n == sizeof id && n_fds == 1)
                add_client(io, (uint32_t)id[0] | (uint32_t)id[1] << 8 | (uint32_t)id[2] << 16 | (uint32_t)id[3] << 24,
                           client[0]);
        else if (n_fds == 1)
                nb_close(client[0]);
        if (n == 0)
                stop(io, CONDUIT_EXIT_OVER, "the box's supervisor is gone");
        settle(io);
}

static void on_super_readable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct io *io = user;
        uint8_t chunk[CONDUIT_READ_MAX];
        ssize_t n = recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0) {
                stop(io, CONDUIT_EXIT_OVER, "the box's supervisor is gone");
                return;
        }
        NB_AUTO_ERROR err = { 0 };
        if (conduit_from_super(io->c, chunk, (size_t)n, &err) < 0) {
                nb_log(NB_LOG_ERROR, "%s", err.what);
                stop(io, CONDUIT_EXIT_FAILED, "the box's supervisor failed");
        }
        settle(io);
}

static void on_guest_readable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct io *io = user;
        uint8_t chunk[CONDUIT_READ_MAX];
        ssize_t n = recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0) {
                stop(io, CONDUIT_EXIT_OVER, "its machine stopped");
                return;
        }
        NB_AUTO_ERROR err = { 0 };
        if (conduit_from_guest(io->c, chunk, (size_t)n, &err) < 0) {
                nb_log(NB_LOG_ERROR, "protocol violation: %s", err.what);
                stop(io, CONDUIT_EXIT_PROTOCOL, "the guest broke the protocol and was stopped");
        }
        settle(io);
}

static void on_writable(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        settle(user);
}

/* Moves what clients sent to the guest as far as it takes it. */
static int feed_guest(struct io *io) {
        struct nb_buf *out = conduit_guest_out(io->c);
        for (;;) {
                int r = flush(io->guest.fd, out);
                if (r < 0)
                        return r;
                bool full = out->len > 0;
                conduit_pump(io->c);
                if (full || out->len == 0)
                        return 0;
        }
}

/* After anything happened: moves everything that can move, and waits for exactly the rest. A client that leaves on the way
 * has something to say to the guest (CLOSE) and to the supervisor (EXIT), so these come after the clients. */
static void settle(struct io *io) {
        if (io->over)
                return;
        struct nb_buf *to_guest = conduit_guest_out(io->c), *to_super = conduit_super_out(io->c);
        int r = feed_guest(io);
        for (unsigned slot = 0; slot < io->top; slot++)
                if (io->clients[slot])
                        (void)serve_client(io, io->clients[slot]);
        if (r < 0 || flush(io->guest.fd, to_guest) < 0) {
                stop(io, CONDUIT_EXIT_OVER, "its machine stopped");
                return;
        }
        if (flush(io->super.fd, to_super) < 0) {
                stop(io, CONDUIT_EXIT_OVER, "the box's supervisor is gone");
                return;
        }
        arm(io->guest.writable, &io->guest.write_armed, to_guest->len > 0);
        arm(io->super.writable, &io->super.write_armed, to_super->len > 0);
}

/* ---- start and end */

static int watch(struct io *io, struct peer *p, int fd, event_callback_fn on_readable) {
        p->io = io;
        p->fd = fd;
        p->readable = event_new(io->base, fd, EV_READ | EV_PERSIST, on_readable, io);
        p->writable = event_new(io->base, fd, EV_WRITE | EV_PERSIST, on_writable, io);
        if (!p->readable || !p->writable || nb_set_nonblock(fd, true) < 0)
                return -EIO;
        arm(p->readable, &p->read_armed, true);
        return 0;
}

static int begin(struct io *io, struct nb_error *err) {
        struct rlimit files;
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* a descriptor for each client */
                files.rlim_cur = files.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &files);
        }
        int size = GUEST_SNDBUF;
        (void)setsockopt(CONDUIT_FD_GUEST, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        io->base = event_base_new();
        io->c = conduit_new();
        if (!io->base || watch(io, &io->guest, CONDUIT_FD_GUEST, on_guest_readable) < 0 ||
            watch(io, &io->super, CONDUIT_FD_SUPER, on_super_readable) < 0 ||
            watch(io, &io->listener, CONDUIT_FD_CLIENTS, on_listener) < 0)
                return nb_fail(err, EIO, "the conduit cannot watch its descriptors");
        return 0;
}

static int lock_down(unsigned unused_id, struct nb_error *err) {
        int keep[FD_SCAN_MAX];
        size_t n = 0;
        for (int fd = CONDUIT_FD_GUEST; fd < FD_SCAN_MAX; fd++)
                if (fcntl(fd, F_GETFD) >= 0)
                        keep[n++] = fd;
        struct jail_self self = { .unused_id = unused_id, .keep_fds = keep, .n_keep = n, .allow_syscalls = allowed_calls };
        return jail_enter_self(&self, err);
}

int conduit_main(int argc, char **argv) {
        struct io *io = nb_calloc(1, sizeof *io);
        NB_AUTO_ERROR err = { 0 };
        uint64_t unused_id = 0;
        (void)prctl(PR_SET_NAME, "nixbox-conduit", 0, 0, 0); /* started from a descriptor, it would be named after that */
        nb_log_to(CONDUIT_FD_LOG, "conduit");
        tzset(); /* the C library opens the zone's file with the first time it formats: not after the lock-down */
        if (argc != 2 || nb_parse_uint(argv[1], UINT32_MAX, &unused_id) < 0) {
                nb_log(NB_LOG_ERROR, "started with wrong arguments");
                return CONDUIT_EXIT_FAILED;
        }
        if (begin(io, &err) < 0 || lock_down((unsigned)unused_id, &err) < 0) {
                nb_log(NB_LOG_ERROR, "%s", err.what);
                return CONDUIT_EXIT_FAILED;
        }
        (void)event_base_dispatch(io->base);
        /* the last words: to the clients why, to the supervisor which sessions ended */
        for (unsigned slot = 0; slot < io->top; slot++)
                if (io->clients[slot])
                        (void)flush(io->clients[slot]->fd, conduit_client_out(io->c, slot));
        (void)flush(io->super.fd, conduit_super_out(io->c));
        return io->over ? io->status : CONDUIT_EXIT_FAILED; /* the kernel takes back the rest */
}
