/* Running a session (see session.h): one loop between the connection to the box, the caller's descriptors and signals. The
 * caller's descriptors keep their flags: others may share them. */
#include "box/session.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/control.h"
#include "box/session_open.h"
#include "box/session_sink.h"
#include "box/session_term.h"
#include "wire/wire.h"

#define TO_BOX_MAX (64u * 1024u)   /* while more than this waits for the box, stdin is not read */
#define GRANT_AT (WIRE_WINDOW / 4) /* bytes handled before credit for them is given back */
#define READ_SIZE (64u * 1024u)    /* from the connection at a time */
#define LAST_WORDS_MS 1000         /* for CLOSE to leave when we give up */
#define INTERRUPTS_MAX 3u          /* the one that gives up on the command */
#define STATUS_SIGNAL 128          /* plus the signal's number */

enum { AT_BOX, AT_SIGNALS, AT_IN, AT_OUT, AT_ERR, AT_COUNT };

struct pump {
        const struct session_spec *spec;
        int box, signals;
        struct nb_buf to_box, from_box;
        struct sink sink[2]; /* stdout, stderr */
        uint32_t handled[2]; /* bytes of each not yet given back as credit */
        uint32_t credit;     /* for stdin */
        bool started, in_over, box_over;
        bool exited; /* EXIT came; what is left is to write the output */
        int status;
        unsigned interrupts;
        char *reason; /* why the box ended */
};

static void put_close(struct pump *p) {
        wire_put(&p->to_box, WIRE_CLOSE, 0, SESSION_STREAM, NULL, 0);
}

/* Counts output that was written or dropped, and gives credit back for it. */
static void handled(struct pump *p, unsigned which, size_t len) {
        p->handled[which] += (uint32_t)len;
        if (p->handled[which] < GRANT_AT || p->exited)
                return;
        wire_put_u32(&p->to_box, WIRE_CREDIT, (uint8_t)(WIRE_STDOUT + which), SESSION_STREAM, p->handled[which]);
        p->handled[which] = 0;
}

/* ---- from the box */

static int take_output(struct pump *p, const struct wire_frame *f) {
        unsigned which = f->channel - WIRE_STDOUT;
        struct sink *s = &p->sink[which];
        if (s->broken)
                handled(p, which, f->len);
        else if (s->data.len + f->len > WIRE_WINDOW)
                return -EPROTO;
        else
                nb_buf_add(&s->data, f->payload, f->len);
        return 0;
}

static int take_bye(struct pump *p, const struct wire_frame *f) {
        struct wire_reader reader;
        struct wire_field field;
        wire_reader_init(&reader, f->payload, f->len);
        while (wire_next(&reader, &field) == 1)
                if (field.tag == WIRE_T_TEXT && !p->reason)
                        (void)wire_field_str(&field, &p->reason);
        return 0;
}

static int take_exit(struct pump *p, const struct wire_frame *f) {
        uint32_t status, signal;
        if (wire_get_exit(f, &status, &signal) < 0)
                return -EPROTO;
        p->status = signal ? STATUS_SIGNAL + (int)signal : (int)status;
        p->exited = true;
        return 0;
}

static int take_frame(struct pump *p, const struct wire_frame *f) {
        uint32_t more;
        switch (f->type) {
        case WIRE_STARTED: p->started = true; return 0;
        case WIRE_DATA: return f->channel == WIRE_STDIN ? -EPROTO : take_output(p, f);
        case WIRE_EOF: return 0; /* its descriptor is the caller's and stays open */
        case WIRE_CREDIT:
                if (f->channel != WIRE_STDIN || wire_get_u32(f, &more) < 0 || more > WIRE_WINDOW - p->credit)
                        return -EPROTO;
                p->credit += more;
                return 0;
        case WIRE_EXIT: return take_exit(p, f);
        case WIRE_BYE: return take_bye(p, f);
        default: return -EPROTO;
        }
}

/* Reads what there is. 0 also at the end of the connection. */
static int read_box(struct pump *p) {
        ssize_t n = recv(p->box, nb_buf_reserve(&p->from_box, READ_SIZE), READ_SIZE, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n <= 0) {
                p->box_over = true;
                return 0;
        }
        nb_buf_commit(&p->from_box, (size_t)n);
        struct wire_frame f;
        int r;
        while ((r = wire_parse(&p->from_box, WIRE_GUEST_MAX, &f)) > 0) {
                int one = take_frame(p, &f);
                if (one < 0)
                        return one;
                nb_buf_consume(&p->from_box, (size_t)r);
        }
        return r;
}

static void write_box(struct pump *p) {
        while (p->to_box.len > 0) {
                ssize_t n = send(p->box, nb_buf_bytes(&p->to_box), p->to_box.len, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0) { /* the box is gone; what it said last is still to be read */
                        nb_buf_clear(&p->to_box);
                        return;
                }
                nb_buf_consume(&p->to_box, (size_t)n);
        }
}

/* ---- from the caller */

static bool wants_input(const struct pump *p) {
        return p->started && !p->in_over && !p->exited && p->credit > 0 && p->to_box.len < TO_BOX_MAX;
}

static void read_input(struct pump *p) {
        uint8_t chunk[WIRE_DATA_MAX];
        ssize_t n = read(p->spec->in, chunk, p->credit < sizeof chunk ? p->credit : sizeof chunk);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n > 0) {
                wire_put(&p->to_box, WIRE_DATA, WIRE_STDIN, SESSION_STREAM, chunk, (size_t)n);
                p->credit -= (uint32_t)n;
                return;
        }
        p->in_over = true;
        wire_put(&p->to_box, WIRE_EOF, WIRE_STDIN, SESSION_STREAM, NULL, 0);
}

static void put_size(struct pump *p) {
        unsigned rows, cols;
        if (session_term_size(p->spec->in, &rows, &cols) || session_term_size(p->spec->out, &rows, &cols))
                wire_put_resize(&p->to_box, SESSION_STREAM, (uint16_t)rows, (uint16_t)cols);
}

/* Returns the exit status if the session is to be given up, else 0. */
static int take_signal(struct pump *p) {
        struct signalfd_siginfo info;
        if (read(p->signals, &info, sizeof info) != sizeof info)
                return 0;
        int number = (int)info.ssi_signo;
        if (number == SIGWINCH) {
                put_size(p);
        } else if (number == SIGTSTP) {
                session_stop_self(p->spec->in);
                put_size(p);
        } else {
                bool enough = (number == SIGINT || number == SIGTERM) && ++p->interrupts >= INTERRUPTS_MAX;
                if (enough || p->exited)
                        return STATUS_SIGNAL + number;
                wire_put_u32(&p->to_box, WIRE_SIGNAL, 0, SESSION_STREAM, (uint32_t)number);
        }
        return 0;
}

/* Writes output and gives credit back for what was written. Returns the exit status if nobody reads stdout any more, or
 * -errno if it cannot be written for another reason; else 0. */
static int write_output(struct pump *p, unsigned which, struct nb_error *err) {
        struct sink *s = &p->sink[which];
        size_t before = s->data.len;
        int r = sink_write(s);
        handled(p, which, before - s->data.len);
        if (r == 0 || which != 0) /* without stderr the command goes on, as it would at home */
                return 0;
        return r == -EPIPE ? STATUS_SIGNAL + SIGPIPE : nb_fail_errno(err, -r, "cannot write to stdout");
}

/* ---- the loop */

static bool is_over(const struct pump *p) {
        return (p->exited || p->box_over) && p->sink[0].data.len == 0 && p->sink[1].data.len == 0;
}

static int step(struct pump *p, struct nb_error *err) {
        struct pollfd fds[AT_COUNT] = {
                [AT_BOX] = { p->box_over || p->exited ? -1 : p->box, (short)(POLLIN | (p->to_box.len > 0 ? POLLOUT : 0)), 0 },
                [AT_SIGNALS] = { p->signals, POLLIN, 0 },
                [AT_IN] = { wants_input(p) ? p->spec->in : -1, POLLIN, 0 },
                [AT_OUT] = { p->sink[0].data.len > 0 ? p->sink[0].fd : -1, POLLOUT, 0 },
                [AT_ERR] = { p->sink[1].data.len > 0 ? p->sink[1].fd : -1, POLLOUT, 0 },
        };
        if (poll(fds, AT_COUNT, -1) < 0)
                return errno == EINTR ? 0 : nb_fail_errno(err, errno, "cannot wait for the session");
        int r = fds[AT_SIGNALS].revents ? take_signal(p) : 0;
        if (r == 0 && fds[AT_BOX].revents & ~POLLOUT) {
                r = read_box(p);
                if (r < 0)
                        return nb_fail(err, EPROTO, "the box's answer was not understood");
        }
        if (r == 0 && fds[AT_IN].revents)
                read_input(p);
        /* output that just came is tried at once: mostly there is room */
        for (unsigned i = 0; i < 2 && r == 0; i++)
                if (p->sink[i].data.len > 0 && (p->sink[i].never_blocks || fds[AT_OUT + i].revents))
                        r = write_output(p, i, err);
        write_box(p);
        return r;
}

static int give_up(struct pump *p, int status) {
        if (!p->exited && !p->box_over) {
                put_close(p);
                uint64_t until = nb_now_ms() + LAST_WORDS_MS;
                for (uint64_t now; write_box(p), p->to_box.len > 0 && (now = nb_now_ms()) < until;) {
                        struct pollfd fd = { p->box, POLLOUT, 0 };
                        (void)poll(&fd, 1, (int)(until - now));
                }
        }
        return status;
}

static int loop(struct pump *p, struct nb_error *err) {
        write_box(p);
        while (!is_over(p)) {
                int r = step(p, err);
                if (r != 0)
                        return give_up(p, r);
        }
        if (p->exited)
                return p->status;
        nb_fail(err, ECONNRESET, p->reason ? "the box ended under the command: %s" : "the connection to the box broke%s",
                p->reason ? p->reason : "");
        return nb_hint(err, "nixbox events and nixbox logs say more; nixbox up starts it again");
}

/* Where the command starts: asked for, or where the caller is if a mount shows that, also through symbolic links, or where
 * the image wants it; NULL leaves it to the guest. */
static char *guest_cwd(const struct session_spec *spec, json_t *answer) {
        if (spec->cwd || !spec->host_cwd)
                return nb_strdup(spec->cwd);
        json_t *mounts = json_object_get(answer, "mounts");
        char *cwd = session_map_cwd(mounts, spec->host_cwd);
        if (cwd)
                return cwd;
        size_t i;
        json_t *mount;
        json_array_foreach(mounts, i, mount) {
                const char *source = json_string_value(json_object_get(mount, "source"));
                NB_AUTO_FREE char *real = source ? realpath(source, NULL) : NULL;
                if (real)
                        (void)json_object_set_new(mount, "source", json_string(real));
        }
        cwd = session_map_cwd(mounts, spec->host_cwd);
        return cwd ? cwd : nb_strdup(json_string_value(json_object_get(answer, "workdir")));
}

static int announce(int control_fd, const struct session_spec *spec, json_t **ret, struct nb_error *err) {
        json_t *request = session_request(spec);
        int r = control_call(control_fd, request, NULL, 0, ret, err);
        json_decref(request);
        return r;
}

static int run(struct pump *p, json_t *answer, struct nb_error *err) {
        const struct session_spec *spec = p->spec;
        unsigned rows = 0, cols = 0;
        NB_AUTO_FREE char *cwd = guest_cwd(spec, answer);
        if (spec->pty && !session_term_size(spec->in, &rows, &cols))
                (void)session_term_size(spec->out, &rows, &cols);
        int r = session_put_open(&p->to_box, spec, cwd, spec->pty ? getenv("TERM") : NULL, rows, cols, err);
        if (r < 0)
                return r;
        if (spec->in < 0) {
                p->in_over = true;
                wire_put(&p->to_box, WIRE_EOF, WIRE_STDIN, SESSION_STREAM, NULL, 0);
        }
        sigset_t old;
        p->signals = session_signals_begin(spec->pty, &old);
        if (p->signals < 0)
                return nb_fail_errno(err, -p->signals, "cannot watch signals");
        if (spec->pty && isatty(spec->in))
                r = session_term_raw(spec->in);
        r = r < 0 ? nb_fail_errno(err, -r, "cannot put the terminal in raw mode") : loop(p, err);
        session_term_restore();
        session_signals_end(p->signals, &old);
        return r;
}

int session_run(int control_fd, const struct session_spec *spec, struct nb_error *err) {
        json_t *answer = NULL;
        int r = announce(control_fd, spec, &answer, err);
        if (r == 0) {
                struct pump p = { .spec = spec, .box = control_fd, .signals = -1, .credit = WIRE_WINDOW };
                sink_init(&p.sink[0], spec->out);
                sink_init(&p.sink[1], spec->err);
                r = run(&p, answer, err);
                sink_clear(&p.sink[0]);
                sink_clear(&p.sink[1]);
                nb_buf_clear(&p.to_box);
                nb_buf_clear(&p.from_box);
                free(p.reason);
        }
        json_decref(answer);
        nb_close(control_fd);
        return r;
}
