/* The supervisor's side of the guard (see guard.h): its start, a table of what it has refused, from which the event log and
 * `nixbox review` are told, and what the owner allows after all. Whatever the guest does again and again is one entry, and a
 * few events. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/guard.h"
#include "box/supervisor_impl.h"
#include "box/supervisor_requests.h"
#include "policy/protect.h"

#define ATTEMPTS_MAX 512 /* different refusals that are kept; the rest is counted */
#define EVENTS_MAX 32    /* events of one period */
#define PERIOD_SECONDS 10
#define ALLOW_MAX 64 /* paths in one request */
#define TEXTS_MAX 4

/* One thing that was refused, however often. */
struct attempt {
        char *path, *inside; /* on the host, in the box */
        char *what, *why;
        uint64_t count, told; /* in all; as far as the event log says */
        time_t first, last;
};

struct guarding {
        struct supervisor *super;
        struct protect *protect;
        int asking; /* virtiofsd's listener comes here */
        int fd;     /* to the guard */
        struct event *readable, *period;
        struct attempt *attempts;
        size_t n_attempts;
        uint64_t missed; /* refusals that found no place */
        unsigned events; /* of this period */
        char **allowed;
};

json_t *guarding_words(const struct supervisor *s) {
        json_t *list = json_array();
        for (char **p = s->m.protect; p && *p; p++)
                (void)json_array_append_new(list, json_string(*p));
        return list;
}

/* ---- what was refused */

static void report(struct supervisor *s, struct attempt *a) {
        json_t *fields = json_pack("{s:s, s:s, s:o, s:o, s:o}", "decision", "deny", "op", a->what, "path", events_text(a->path),
                                   "inside", events_text(a->inside), "reason", events_text(a->why));
        if (a->count - a->told > 1)
                (void)json_object_set_new(fields, "count", json_integer((json_int_t)(a->count - a->told)));
        a->told = a->count;
        s->guarding->events++;
        events_add(s->events, "protect", fields);
}

static void on_period(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct guarding *g = user;
        bool more = g->events > 0;
        g->events = 0;
        for (size_t i = 0; i < g->n_attempts && g->events < EVENTS_MAX; i++)
                if (g->attempts[i].count > g->attempts[i].told)
                        report(g->super, &g->attempts[i]);
        if (more || g->events > 0)
                (void)event_add(g->period, &(struct timeval){ .tv_sec = PERIOD_SECONDS });
}

static struct attempt *find_attempt(struct guarding *g, const char *path, const char *what) {
        for (size_t i = 0; i < g->n_attempts; i++)
                if (strcmp(g->attempts[i].path, path) == 0 && strcmp(g->attempts[i].what, what) == 0)
                        return &g->attempts[i];
        return NULL;
}

static void note(struct guarding *g, const struct start_mount *m, const char *what, const char *rel, const char *why) {
        NB_AUTO_FREE char *path = nb_asprintf("%s%s", strcmp(m->source, "/") == 0 && *rel ? "" : m->source, rel);
        struct attempt *a = find_attempt(g, path, what);
        bool fresh = !a;
        if (!a && g->n_attempts == ATTEMPTS_MAX) {
                g->missed++;
                return;
        }
        if (!a) {
                g->attempts = nb_realloc(g->attempts, g->n_attempts + 1, sizeof *g->attempts);
                a = &g->attempts[g->n_attempts++];
                *a = (struct attempt){ .path = nb_steal(&path),
                                       .inside = nb_asprintf("%s%s", strcmp(m->target, "/") == 0 && *rel ? "" : m->target, rel),
                                       .what = nb_strdup(what),
                                       .first = time(NULL) };
        }
        free(a->why);
        a->why = nb_strdup(why);
        a->last = time(NULL);
        a->count++;
        if (!fresh || g->events >= EVENTS_MAX)
                return;
        report(g->super, a);
        if (!event_pending(g->period, EV_TIMEOUT, NULL))
                (void)event_add(g->period, &(struct timeval){ .tv_sec = PERIOD_SECONDS });
}

/* One that is just being added is not on the list yet. */
static void take_denial(struct guarding *g, char *const *texts) {
        const struct start_message *m = &g->super->m;
        for (size_t i = 0; i < m->n_mounts; i++)
                if (strcmp(m->mounts[i].id, texts[1]) == 0) {
                        note(g, &m->mounts[i], texts[0], texts[2], texts[3]);
                        return;
                }
        g->missed++;
}

static void on_guard(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct guarding *g = user;
        char message[GUARD_MESSAGE_MAX + 1];
        char *texts[TEXTS_MAX];
        size_t n = 0;
        uint64_t skipped = 0;
        ssize_t len = recv(fd, message, GUARD_MESSAGE_MAX, MSG_DONTWAIT);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (len <= 0) { /* its death says why */
                (void)event_del(g->readable);
                return;
        }
        message[len] = 0;
        for (size_t at = 1; at < (size_t)len && n < TEXTS_MAX; at += strlen(message + at) + 1)
                texts[n++] = message + at;
        if (message[0] == GUARD_SAYS_DENIED && n == TEXTS_MAX)
                take_denial(g, texts);
        else if (message[0] == GUARD_SAYS_SKIPPED && n == 1 && nb_parse_uint(texts[0], INT32_MAX, &skipped) == 0)
                g->missed += skipped;
        else
                nb_warn("the guard said something that was not understood");
}

/* ---- its start */

static int say(struct guarding *g, char kind, const char *first, const char *second) {
        char message[GUARD_MESSAGE_MAX];
        size_t a = first ? strlen(first) + 1 : 0, b = second ? strlen(second) + 1 : 0;
        if (1 + a + b > sizeof message)
                return -ENAMETOOLONG;
        message[0] = kind;
        if (first)
                memcpy(message + 1, first, a);
        if (second)
                memcpy(message + 1 + a, second, b);
        return send(g->fd, message, 1 + a + b, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int guarding_mount(struct supervisor *s, const char *id, const struct start_mount *m, struct nb_error *err) {
        if (!s->guarding)
                return 0;
        int r = say(s->guarding, GUARD_SAYS_MOUNT, id, m->volume ? NULL : m->source);
        return r < 0 ? nb_fail_errno(err, -r, "cannot tell the guard about a mount") : 0;
}

static int tell_all(struct supervisor *s, struct nb_error *err) {
        struct guarding *g = s->guarding;
        int r = 0;
        for (char **p = s->m.protect; r == 0 && *p; p++)
                r = say(g, GUARD_SAYS_PATTERN, *p, NULL);
        for (size_t i = 0; r == 0 && i < s->m.n_mounts; i++)
                r = guarding_mount(s, s->m.mounts[i].id, &s->m.mounts[i], err);
        if (r == 0)
                r = say(g, GUARD_SAYS_GO, NULL, NULL);
        return r < 0 ? nb_fail_errno(err, -r, "cannot tell the guard what to protect") : 0;
}

int guarding_begin(struct supervisor *s, int *ret_sock, struct nb_error *err) {
        int sock[2];
        if (!s->m.protect)
                return 0;
        struct guarding *g = s->guarding = nb_calloc(1, sizeof *g);
        g->super = s;
        g->asking = g->fd = -1;
        int r = protect_new(s->m.protect, &g->protect, err);
        if (r < 0)
                return r;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
                return nb_fail_errno(err, errno, "cannot make the guard's sockets");
        g->asking = sock[0];
        *ret_sock = sock[1];
        return 0;
}

/* The one end of the listener is the guard's alone: with it gone, the calls fail. */
static int spawn(struct supervisor *s, int listener, int sock, struct nb_error *err) {
        NB_AUTO_CLOSE int log = -1;
        struct child *c = &s->child[CHILD_GUARD];
        c->name = "the guard";
        int r = capture_begin(s, CHILD_GUARD, "guard", NULL, &log, err);
        if (r < 0)
                return r;
        const struct guard_spec spec = {
                .virtiofsd = &s->child[CHILD_VIRTIOFSD].proc, .listener_fd = listener, .super_fd = sock, .log_fd = log
        };
        r = guard_spawn(&spec, &c->proc, err);
        return r < 0 ? r : watch_child(s, CHILD_GUARD, err);
}

int guarding_start(struct supervisor *s, struct nb_error *err) {
        struct guarding *g = s->guarding;
        int sock[2];
        char letter = 0;
        NB_AUTO_CLOSE int listener = -1;
        size_t n = 1;
        if (!g)
                return 0;
        if (nb_recv_fds(g->asking, &letter, 1, &listener, &n) != 1 || n != 1)
                return nb_fail(err, ECHILD, "virtiofsd's system calls cannot be watched");
        g->asking = nb_close(g->asking);
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
                return nb_fail_errno(err, errno, "cannot make the guard's sockets");
        g->fd = sock[0];
        int r = spawn(s, listener, sock[1], err);
        nb_close(sock[1]);
        if (r == 0)
                r = tell_all(s, err);
        if (r < 0)
                return r;
        (void)nb_set_nonblock(g->fd, true);
        g->period = evtimer_new(s->base, on_period, g);
        g->readable = event_new(s->base, g->fd, EV_READ | EV_PERSIST, on_guard, g);
        if (!g->period || !g->readable || event_add(g->readable, NULL) < 0)
                return nb_fail(err, ENOMEM, "cannot watch the guard");
        return 0;
}

void guarding_free(struct supervisor *s) {
        struct guarding *g = s->guarding;
        if (!g)
                return;
        for (size_t i = 0; i < g->n_attempts; i++) {
                if (s->events && g->attempts[i].count > g->attempts[i].told)
                        report(s, &g->attempts[i]);
                free(g->attempts[i].path);
                free(g->attempts[i].inside);
                free(g->attempts[i].what);
                free(g->attempts[i].why);
        }
        free(g->attempts);
        if (g->readable)
                event_free(g->readable);
        if (g->period)
                event_free(g->period);
        nb_close(g->asking);
        nb_close(g->fd);
        protect_free(g->protect);
        nb_strv_free(g->allowed);
        free(g);
        s->guarding = NULL;
}

/* ---- review */

static json_t *attempts_json(const struct guarding *g) {
        json_t *list = json_array();
        for (size_t i = 0; i < g->n_attempts; i++) {
                const struct attempt *a = &g->attempts[i];
                (void)json_array_append_new(list, json_pack("{s:o, s:o, s:s, s:o, s:I, s:I, s:I}", "path", events_text(a->path),
                                                            "inside", events_text(a->inside), "op", a->what, "reason",
                                                            events_text(a->why), "count", (json_int_t)a->count, "first",
                                                            (json_int_t)a->first, "last", (json_int_t)a->last));
        }
        return list;
}

static json_t *texts_json(char *const *list) {
        json_t *out = json_array();
        for (; list && *list; list++)
                (void)json_array_append_new(out, events_text(*list));
        return out;
}

static bool in_writable_mount(const struct supervisor *s, const char *path) {
        for (size_t i = 0; i < s->m.n_mounts; i++)
                if (s->m.mounts[i].write && !s->m.mounts[i].volume && nb_path_below(path, s->m.mounts[i].source))
                        return true;
        return false;
}

static int check_allow(const struct supervisor *s, const char *path, struct nb_error *err) {
        if (!path || path[0] != '/' || strstr(path, "/../"))
                return nb_fail(err, EPROTO, "a path in the request is not absolute");
        if (!in_writable_mount(s, path)) {
                nb_fail(err, ENOENT, "%s lies in no writable mount of the box '%s'", path, s->m.name);
                return nb_hint(err, "nixbox status lists the mounts");
        }
        if (protect_match(s->guarding->protect, path, NULL) == 0) {
                nb_fail(err, EINVAL, "%s is not protected", path);
                return nb_hint(err, "the box can write it already; nixbox review lists what was refused");
        }
        return 0;
}

/* All of them or none. */
static int allow(struct supervisor *s, const json_t *paths, struct nb_error *err) {
        size_t i;
        json_t *path;
        if (json_array_size(paths) > ALLOW_MAX)
                return nb_fail(err, E2BIG, "more than %d paths at once", ALLOW_MAX);
        json_array_foreach(paths, i, path) {
                int r = check_allow(s, json_string_value(path), err);
                if (r < 0)
                        return r;
        }
        json_array_foreach(paths, i, path) {
                int r = say(s->guarding, GUARD_SAYS_ALLOW, json_string_value(path), NULL);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot tell the guard what is allowed");
                nb_strv_add(&s->guarding->allowed, json_string_value(path));
                events_add(s->events, "protect",
                           json_pack("{s:s, s:s, s:o, s:s}", "decision", "allow", "op", "allow", "path",
                                     events_text(json_string_value(path)), "reason", "nixbox review --allow"));
        }
        return 0;
}

void on_review(struct super_client *c, const json_t *request) {
        struct supervisor *s = c->super;
        const struct guarding *g = s->guarding;
        const json_t *paths = json_object_get(request, "allow");
        NB_AUTO_ERROR err = { 0 };
        if (!g && paths)
                client_refuse(c, ENOENT, "its config says protect: []", "nothing is protected in the box '%s'", s->m.name);
        else if (paths && allow(s, paths, &err) < 0)
                client_refuse(c, err.code, err.hint, "%s", err.what);
        else
                client_answer(c, json_pack("{s:o, s:o, s:o, s:I}", "protect", guarding_words(s), "attempts",
                                           g ? attempts_json(g) : json_array(), "allowed", texts_json(g ? g->allowed : NULL),
                                           "missed", (json_int_t)(g ? g->missed : 0)));
}
