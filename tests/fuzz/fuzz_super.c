/* Fuzz target: what the conduit sends to the supervisor, as a conduit that the guest has taken over may send it: frames about
 * the box, or bytes that are none. Requests wait for answers and sessions for their end, so that numbers can be right. What the
 * supervisor then does with its children is left out: here it only learns that the box is ready or ends. The input is a list of
 * steps: a type, a stream, a length and a payload; type 0 is raw bytes. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/supervisor_impl.h"
#include "steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUESTS 4u
#define SENT_MAX 131072u

static unsigned answered;

void super_end(struct supervisor *s, int code, const char *fmt, ...) {
        if (s->reason)
                return;
        va_list ap;
        va_start(ap, fmt);
        s->reason = nb_vasprintf(fmt, ap);
        va_end(ap);
        s->end_code = code;
        s->phase = SUPER_ENDING;
}

void super_kill(struct supervisor *s) {
        s->phase = SUPER_KILLING;
}

void super_ready(struct supervisor *s) {
        s->phase = SUPER_UP;
}

void watch_reclaim(struct supervisor *s, uint64_t flags) {
        uint8_t bytes[8] = { 0 };
        memcpy(bytes, &flags, sizeof flags);
        guest_send(s, WIRE_RECLAIM, 0, bytes, sizeof bytes);
}

static void on_answer(struct supervisor *s, void *user, int code, const char *text) {
        (void)s;
        if (user != &answered || code < 0 || (text && strlen(text) > WIRE_GUEST_MAX))
                abort();
        answered++;
}

static void add_session(struct supervisor *s, uint32_t id) {
        struct super_session *x = nb_calloc(1, sizeof *x);
        x->id = id;
        TAILQ_INSERT_TAIL(&s->sessions, x, link);
        s->n_sessions++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        int pair[2];
        char dir[] = "/tmp/nixbox-fuzz-super-XXXXXX";
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_BUF out = { 0 };
        struct supervisor s = { .clients_fd = -1, .base = event_base_new() };
        nb_log_set_level(NB_LOG_ERROR);
        answered = 0;
        TAILQ_INIT(&s.requests);
        TAILQ_INIT(&s.sessions);
        s.child[CHILD_QEMU].proc.pid = getpid();
        if (!s.base || !mkdtemp(dir) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
            events_open(dir, "fuzz", &s.events, &err) < 0)
                abort();
        s.super_fd = pair[0];
        if (guest_begin(&s, &err) < 0)
                abort();
        for (uint32_t i = 0; i < REQUESTS; i++)
                if (guest_request(&s, WIRE_STATS, NULL, 0, on_answer, &answered) < 0)
                        abort();
        add_session(&s, 1);
        add_session(&s, 7);
        for (size_t left = size; left > 0 && out.len < SENT_MAX;) {
                struct fuzz_step step = fuzz_next_step(&data, &left);
                fuzz_send_step(&out, &step, 0, step.number);
        }
        if (nb_write_all(pair[1], nb_buf_bytes(&out), out.len) < 0)
                abort();
        (void)shutdown(pair[1], SHUT_WR);
        for (int i = 0; i < 100 && s.phase < SUPER_KILLING && event_pending(s.guest_read, EV_READ, NULL); i++)
                (void)event_base_loop(s.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        guest_free(&s);
        if (answered != REQUESTS) /* each is answered once, at the latest by the end */
                abort();
        nb_close(pair[1]);
        events_close(s.events);
        (void)nb_remove_tree(AT_FDCWD, dir);
        event_base_free(s.base);
        free(s.reason);
        free(s.bye);
        return 0;
}
