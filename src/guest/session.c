/* The session server (see session.h): opening, signals, the end of a command. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "guest/accounts.h"
#include "guest/environment.h"
#include "guest/spawn.h"
#include "guest/stream.h"

#define ETC_FILE_MAX (1024u * 1024u)
#define SERVED_PER_TURN 16u
#define DEFAULT_SHELL "/bin/sh"

struct sessions *sessions_new(const struct session_host *host) {
        struct sessions *all = nb_calloc(1, sizeof *all);
        all->host = *host;
        all->chunk = nb_calloc(PORT_CHUNK, 1);
        return all;
}

void sessions_set(struct sessions *all, const struct session_host *host) {
        all->host = *host;
}

unsigned sessions_count(const struct sessions *all) {
        return all->n;
}

static struct session **slot_of(struct sessions *all, uint32_t id) {
        struct session **slot = &all->bucket[id % BUCKETS];
        while (*slot && (*slot)->id != id)
                slot = &(*slot)->next;
        return slot;
}

/* EXIT goes out after everything else, and then the host may use the number again. */
void session_check(struct sessions *all, struct session *s) {
        if (s->over || !s->exited || s->out.fd >= 0 || s->err.fd >= 0)
                return;
        s->over = true;
        wire_put_exit(&all->host.port->out, s->id, s->status, s->signal);
        stream_close(all, &s->in);
        struct session **slot = slot_of(all, s->id);
        *slot = s->next;
        s->next = all->dead;
        all->dead = s;
        all->n--;
}

void sessions_sweep(struct sessions *all) {
        while (all->dead) {
                struct session *s = all->dead;
                all->dead = s->next;
                free(s);
        }
}

/* A session that ends before it has begun: the reason as its output, then the status. */
static void refuse(struct sessions *all, uint32_t id, bool pty, const char *why, const char *detail) {
        struct nb_buf *out = &all->host.port->out;
        NB_AUTO_FREE char *line = nb_asprintf("nixbox: %s: %s%s\n", why, detail, pty ? "\r" : "");
        size_t len = strlen(line);
        wire_put(out, WIRE_DATA, pty ? WIRE_STDOUT : WIRE_STDERR, id, line, len < WIRE_DATA_MAX ? len : WIRE_DATA_MAX);
        wire_put(out, WIRE_EOF, WIRE_STDOUT, id, NULL, 0);
        if (!pty)
                wire_put(out, WIRE_EOF, WIRE_STDERR, id, NULL, 0);
        wire_put_exit(out, id, SPAWN_NOT_STARTED, 0);
}

/* Accounts of services have a shell that refuses; whoever asks to run something as them means it. */
static bool can_log_in(const char *shell) {
        const char *slash = strrchr(shell, '/');
        const char *name = slash ? slash + 1 : shell;
        return *name && strcmp(name, "nologin") != 0 && strcmp(name, "false") != 0;
}

/* Read anew each time: packages add users and groups while the box runs. The caller is known even if the files are gone. */
static bool find_account(const struct setup *setup, const char *user, struct account *ret) {
        NB_AUTO_FREE char *passwd = NULL, *group = NULL;
        (void)nb_read_file("/etc/passwd", ETC_FILE_MAX, &passwd, NULL);
        (void)nb_read_file("/etc/group", ETC_FILE_MAX, &group, NULL);
        const char *name = user ? user : setup->user;
        if (!account_find(passwd, name, ret)) {
                bool caller = strcmp(name, setup->user) == 0;
                char *end = NULL;
                unsigned long number = strtoul(name, &end, 10);
                if (!caller && strcmp(name, "root") != 0 && (*end || end == name || number >= UINT32_MAX))
                        return false;
                uint32_t id = (uint32_t)number;
                *ret = (struct account){ .name = nb_strdup(name), .shell = nb_strdup(DEFAULT_SHELL) };
                ret->uid = caller ? setup->uid : id;
                ret->gid = caller ? setup->gid : id;
                ret->home = nb_strdup(caller ? setup->home : "/");
        }
        if (!can_log_in(ret->shell)) {
                free(ret->shell);
                ret->shell = nb_strdup(DEFAULT_SHELL);
        }
        account_find_groups(group, ret);
        return true;
}

/* The ends of a session's streams: ours, and the command's. */
struct ends {
        int ours[3], theirs[3];
};

static void close_ends(const struct ends *e) {
        for (int i = 0; i < 3; i++) {
                nb_close(e->ours[i]);
                if (i == 0 || e->theirs[i] != e->theirs[0])
                        nb_close(e->theirs[i]);
        }
}

static int make_pipes(struct ends *e) {
        for (int i = 0; i < 3; i++) {
                int fd[2];
                if (pipe2(fd, O_CLOEXEC) < 0)
                        return -errno;
                e->ours[i] = fd[i == 0];
                e->theirs[i] = fd[i != 0];
                int r = nb_set_nonblock(e->ours[i], true);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int make_pty(const struct open_request *o, struct ends *e) {
        int unlock = 0;
        e->ours[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (e->ours[0] < 0 || ioctl(e->ours[0], TIOCSPTLCK, &unlock) < 0)
                return -errno;
        e->theirs[0] = e->theirs[1] = e->theirs[2] = ioctl(e->ours[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        /* a second descriptor for the other direction: epoll keeps one entry for each */
        e->ours[1] = fcntl(e->ours[0], F_DUPFD_CLOEXEC, 3);
        if (e->theirs[0] < 0 || e->ours[1] < 0)
                return -errno;
        struct winsize size = { .ws_row = o->rows, .ws_col = o->cols };
        if (o->rows && o->cols)
                (void)ioctl(e->ours[0], TIOCSWINSZ, &size);
        return 0;
}

/* What to execute, and under which name: the command itself, the shell with a command line, or a login shell. */
static char **command_line(const struct open_request *o, const struct account *who, const char **ret_file) {
        if (!o->shell) {
                *ret_file = o->argv[0];
                return nb_strv_copy(o->argv);
        }
        const char *slash = strrchr(who->shell, '/');
        const char *name = slash ? slash + 1 : who->shell;
        char **argv = NULL;
        *ret_file = who->shell;
        if (o->argv) {
                nb_strv_add(&argv, name);
                nb_strv_add(&argv, "-c");
                nb_strv_add(&argv, o->argv[0]);
        } else {
                nb_strv_addf(&argv, "-%s", name);
        }
        return argv;
}

static int start(struct sessions *all, const struct open_request *o, const struct account *who, struct ends *e) {
        int r = o->pty ? make_pty(o, e) : make_pipes(e);
        if (r < 0)
                return r;
        struct spawn_spec spec = { .who = who, .cwd = o->cwd, .pty = o->pty, .cgroup = all->host.cgroup };
        NB_AUTO_STRV char **argv = command_line(o, who, &spec.file);
        struct environment env = { 0 };
        environment_for(&env, all->host.setup, who, o);
        spec.argv = argv;
        spec.env = env.var;
        memcpy(spec.fd, e->theirs, sizeof spec.fd);
        int pid = spawn(&spec);
        environment_clear(&env);
        return pid;
}

static void add_session(struct sessions *all, uint32_t id, pid_t pid, bool pty, const struct ends *e) {
        struct session *s = nb_calloc(1, sizeof *s);
        *s = (struct session){ .id = id, .pid = pid, .pty = pty };
        s->in = (struct stream){ .session = s, .fd = -1, .channel = WIRE_STDIN };
        s->out = (struct stream){ .session = s, .fd = -1, .channel = WIRE_STDOUT, .credit = WIRE_WINDOW };
        s->err = (struct stream){ .session = s, .fd = -1, .channel = WIRE_STDERR, .credit = WIRE_WINDOW };
        *slot_of(all, id) = s;
        all->n++;
        stream_watch(all, &s->in, e->ours[0], EPOLLOUT);
        stream_watch(all, &s->out, e->ours[1], EPOLLIN);
        if (!pty)
                stream_watch(all, &s->err, e->ours[2], EPOLLIN);
        wire_put(&all->host.port->out, WIRE_STARTED, 0, id, NULL, 0);
}

static void open_session(struct sessions *all, uint32_t id, const struct open_request *o) {
        if (!all->host.setup) {
                refuse(all, id, o->pty, "cannot start", "the box is not set up");
                return;
        }
        if (all->n >= WIRE_STREAMS_MAX) {
                refuse(all, id, o->pty, "cannot start", "too many sessions");
                return;
        }
        struct account who = { 0 };
        if (!find_account(all->host.setup, o->user, &who)) {
                refuse(all, id, o->pty, "no such user in the box", o->user);
                return;
        }
        struct ends ends = { .ours = { -1, -1, -1 }, .theirs = { -1, -1, -1 } };
        int pid = start(all, o, &who, &ends);
        if (pid < 0) {
                refuse(all, id, o->pty, "cannot start", strerror(-pid));
        } else {
                add_session(all, id, pid, o->pty, &ends);
                ends.ours[0] = ends.ours[1] = ends.ours[2] = -1;
        }
        close_ends(&ends);
        account_clear(&who);
}

/* To whoever has the terminal; without one, to the command and what it started. */
static void send_signal(const struct session *s, int sig) {
        if (s->exited)
                return;
        pid_t group = -1;
        if (s->pty && s->in.fd >= 0 && ioctl(s->in.fd, TIOCGPGRP, &group) < 0)
                group = -1;
        if (group <= 1 || kill(-group, sig) < 0)
                (void)kill(-s->pid, sig);
}

static void close_session(struct sessions *all, struct session *s) {
        if (s->closed)
                return;
        send_signal(s, SIGHUP);
        s->closed = true;
        stream_close(all, &s->in);
        stream_close(all, &s->out); /* for a terminal, the kernel hangs up on the rest */
        stream_close(all, &s->err);
        session_check(all, s);
}

void sessions_close_all(struct sessions *all) {
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct session *s = all->bucket[i], *next; s; s = next) {
                        next = s->next;
                        close_session(all, s);
                }
}

static int take_credit(struct sessions *all, struct session *s, const struct wire_frame *f) {
        uint32_t more;
        struct stream *out = f->channel == WIRE_STDOUT ? &s->out : &s->err;
        if (f->channel == WIRE_STDIN || wire_get_u32(f, &more) < 0 || more > UINT32_MAX - out->credit)
                return -EPROTO;
        out->credit += more;
        stream_queue(all, out);
        return 0;
}

static int resize(const struct session *s, const struct wire_frame *f) {
        struct winsize size = { 0 };
        if (wire_get_resize(f, &size.ws_row, &size.ws_col) < 0)
                return -EPROTO;
        if (s->pty && s->in.fd >= 0)
                (void)ioctl(s->in.fd, TIOCSWINSZ, &size);
        return 0;
}

static int take_open(struct sessions *all, const struct wire_frame *f) {
        if (f->stream == 0 || *slot_of(all, f->stream))
                return -EPROTO;
        struct open_request o = { 0 };
        NB_AUTO_ERROR err = { 0 };
        if (open_request_parse(f->payload, f->len, &o, &err) < 0)
                refuse(all, f->stream, o.pty, "cannot start", err.what);
        else
                open_session(all, f->stream, &o);
        open_request_clear(&o);
        return 0;
}

int sessions_frame(struct sessions *all, const struct wire_frame *f) {
        if (f->type == WIRE_OPEN)
                return take_open(all, f);
        struct session *s = *slot_of(all, f->stream);
        if (!s) /* it has ended, and the host does not know yet */
                return 0;
        uint32_t sig;
        switch (f->type) {
        case WIRE_SIGNAL:
                if (wire_get_u32(f, &sig) < 0 || sig == 0 || sig > WIRE_SIGNAL_MAX)
                        return -EPROTO;
                send_signal(s, (int)sig);
                return 0;
        case WIRE_RESIZE: return resize(s, f);
        case WIRE_CLOSE: close_session(all, s); return 0;
        case WIRE_CREDIT: return take_credit(all, s, f);
        case WIRE_DATA: return f->channel == WIRE_STDIN ? stream_take(all, &s->in, f->payload, f->len) : -EPROTO;
        case WIRE_EOF:
                if (f->channel != WIRE_STDIN)
                        return -EPROTO;
                stream_end(all, &s->in);
                return 0;
        default: return -EPROTO;
        }
}

void sessions_event(struct sessions *all, void *source, uint32_t events) {
        struct stream *s = source;
        if (s->channel != WIRE_STDIN) {
                s->ready = true;
                stream_queue(all, s);
                return;
        }
        stream_flush(all, s);
        if (s->fd >= 0 && (events & EPOLLERR)) /* the command has closed its stdin */
                stream_close(all, s);
}

bool sessions_reaped(struct sessions *all, pid_t pid, int wait_status) {
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct session *s = all->bucket[i]; s; s = s->next) {
                        if (s->pid != pid || s->exited)
                                continue;
                        s->exited = true;
                        s->signal = WIFSIGNALED(wait_status) ? (uint32_t)WTERMSIG(wait_status) : 0;
                        s->status = s->signal ? 128u + s->signal : (uint32_t)WEXITSTATUS(wait_status);
                        stream_close(all, &s->in);
                        stream_drain(all, &s->out);
                        stream_drain(all, &s->err);
                        session_check(all, s);
                        return true;
                }
        return false;
}

bool sessions_pump(struct sessions *all) {
        for (unsigned i = 0; i < SERVED_PER_TURN && all->first && !port_blocked(all->host.port); i++) {
                struct stream *s = all->first;
                stream_unqueue(all, s);
                if (stream_pass_on(all, s))
                        stream_queue(all, s);
        }
        return all->first && !port_blocked(all->host.port);
}
