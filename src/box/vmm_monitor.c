/* The monitor: QMP on the owner's event loop (see vmm.h). It asks for little, a handful of commands without answers worth
 * reading, and ends the connection at the first thing that QEMU would not say. The parser is vmm_qmp.c. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "box/vmm.h"
#include "box/vmm_qmp.h"

#define READ_CHUNK 4096u
#define READS_A_TURN 4     /* then the rest of the event loop has its turn */
#define OUTPUT_MAX 65536u  /* commands that QEMU has not read yet; beyond it has stopped listening */
#define ID_CAPABILITIES 1u /* the first command */

struct vmm_monitor {
        struct event *readable, *writable;
        int fd;
        struct vmm_monitor_ops ops;
        struct nb_buf in, out;
        struct qmp_meter meter;
        uint32_t next_id, stop_id; /* the last command to stop the machine */
        bool greeted, ready, dead;
        bool busy, orphan; /* inside the reader's callbacks; freed by the owner meanwhile */
};

/* Says the last word about this connection. */
static void end_connection(struct vmm_monitor *m, enum vmm_event event, const char *detail) {
        m->dead = true;
        (void)event_del(m->readable);
        (void)event_del(m->writable);
        m->ops.event(m->ops.user, event, detail);
}

static void flush(struct vmm_monitor *m) {
        while (!m->dead && m->out.len > 0) {
                ssize_t n = write(m->fd, nb_buf_bytes(&m->out), m->out.len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        (void)event_add(m->writable, NULL);
                        return;
                }
                if (n < 0) {
                        /* QEMU is gone; what it said last is still to be read, and the reader reports the end */
                        nb_buf_clear(&m->out);
                        return;
                }
                nb_buf_consume(&m->out, (size_t)n);
        }
}

/* `arguments`: JSON text of an object, or NULL. Before the greeting only capabilities are sent; the rest waits in `out`. */
static void send_command(struct vmm_monitor *m, const char *name, const char *arguments) {
        if (m->dead || m->out.len > OUTPUT_MAX)
                return;
        NB_AUTO_FREE char *line = nb_asprintf("{\"execute\":\"%s\",\"id\":%u%s%s}\n", name, m->next_id,
                                              arguments ? ",\"arguments\":" : "", arguments ? arguments : "");
        m->next_id = m->next_id == UINT32_MAX ? ID_CAPABILITIES + 1 : m->next_id + 1;
        nb_buf_add(&m->out, line, strlen(line));
        if (m->greeted)
                flush(m);
}

static void take_event(struct vmm_monitor *m, const struct qmp_message *msg) {
        switch (msg->event) {
        case QMP_EVENT_SHUTDOWN: m->ops.event(m->ops.user, VMM_EVENT_SHUTDOWN, msg->detail); break;
        case QMP_EVENT_RESET: m->ops.event(m->ops.user, VMM_EVENT_RESET, msg->detail); break;
        case QMP_EVENT_PANICKED: m->ops.event(m->ops.user, VMM_EVENT_PANIC, msg->detail); break;
        case QMP_EVENT_OTHER: break;
        }
}

static void take_message(struct vmm_monitor *m, const struct qmp_message *msg) {
        if (!m->greeted) {
                if (msg->kind != QMP_GREETING) {
                        end_connection(m, VMM_EVENT_PROTOCOL, "QEMU spoke before its greeting");
                        return;
                }
                m->greeted = true;
                flush(m);
                return;
        }
        switch (msg->kind) {
        case QMP_GREETING: end_connection(m, VMM_EVENT_PROTOCOL, "QEMU greeted twice"); return;
        case QMP_EVENT: take_event(m, msg); return;
        case QMP_ERROR:
                if (!m->ready)
                        end_connection(m, VMM_EVENT_PROTOCOL, "QEMU refused to negotiate");
                else if (m->stop_id != 0 && msg->id == m->stop_id)
                        end_connection(m, VMM_EVENT_PROTOCOL, "QEMU refused to stop the machine");
                return; /* a refused balloon size is no reason to end a box */
        case QMP_RETURN:
                if (m->ready || msg->id != ID_CAPABILITIES)
                        return;
                m->ready = true;
                m->ops.event(m->ops.user, VMM_EVENT_READY, "");
                return;
        }
}

static void read_some(struct vmm_monitor *m) {
        for (int turn = 0; turn < READS_A_TURN; turn++) {
                ssize_t n = read(m->fd, nb_buf_reserve(&m->in, READ_CHUNK), READ_CHUNK);
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        return;
                if (n <= 0) {
                        end_connection(m, VMM_EVENT_CLOSED, "QEMU closed its monitor");
                        return;
                }
                nb_buf_commit(&m->in, (size_t)n);
                struct qmp_message msg;
                int r;
                while ((r = qmp_next(&m->in, &msg)) > 0) {
                        if (!qmp_meter_take(&m->meter, nb_now_ms())) {
                                end_connection(m, VMM_EVENT_PROTOCOL, "QEMU floods its monitor");
                                return;
                        }
                        take_message(m, &msg);
                        if (m->dead)
                                return;
                }
                if (r < 0) {
                        end_connection(m, VMM_EVENT_PROTOCOL, "QEMU sent something on its monitor that is not QMP");
                        return;
                }
        }
}

static void destroy(struct vmm_monitor *m) {
        if (m->readable)
                event_free(m->readable);
        if (m->writable)
                event_free(m->writable);
        nb_close(m->fd);
        nb_buf_clear(&m->in);
        nb_buf_clear(&m->out);
        free(m);
}

static void on_readable(evutil_socket_t fd, short what, void *user) {
        struct vmm_monitor *m = user;
        (void)fd, (void)what;
        m->busy = true;
        read_some(m);
        m->busy = false;
        if (m->orphan)
                destroy(m);
}

static void on_writable(evutil_socket_t fd, short what, void *user) {
        (void)fd, (void)what;
        flush(user);
}

int vmm_monitor_new(struct event_base *base, int fd, const struct vmm_monitor_ops *ops, struct vmm_monitor **ret,
                    struct nb_error *err) {
        struct vmm_monitor *m = nb_calloc(1, sizeof *m);
        *m = (struct vmm_monitor){ .fd = fd, .ops = *ops, .next_id = ID_CAPABILITIES };
        m->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, m);
        m->writable = event_new(base, fd, EV_WRITE, on_writable, m);
        if (!m->readable || !m->writable || nb_set_nonblock(fd, true) < 0 || event_add(m->readable, NULL) < 0) {
                m->fd = -1; /* still the caller's */
                vmm_monitor_free(m);
                return nb_fail(err, EIO, "cannot watch QEMU's monitor");
        }
        send_command(m, "qmp_capabilities", NULL);
        *ret = m;
        return 0;
}

void vmm_monitor_free(struct vmm_monitor *m) {
        if (!m)
                return;
        m->dead = true;
        m->orphan = true;
        if (!m->busy)
                destroy(m);
}

void vmm_monitor_quit(struct vmm_monitor *m) {
        send_command(m, "quit", NULL);
}

void vmm_monitor_run(struct vmm_monitor *m, bool run) {
        m->stop_id = run ? 0 : m->next_id;
        send_command(m, run ? "cont" : "stop", NULL);
}

void vmm_monitor_balloon(struct vmm_monitor *m, uint64_t guest_bytes) {
        NB_AUTO_FREE char *arguments = nb_asprintf("{\"value\":%llu}", (unsigned long long)guest_bytes);
        send_command(m, "balloon", arguments);
}
