/* The processes of the box's way out: gateway, resolver, and the portal where ports are published. They stand and fall
 * together: when one dies the others are killed, the guest is refused everything, and all are started again with the same
 * rules, names, limits and listening sockets, three times at most; then the box ends. */
#include "box/supervisor_gateway.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "box/helper.h"
#include "gateway/gateway.h"

#define READY_SECONDS 30
#define APPLIED_SECONDS 10 /* for a change of rules to be in force; else the network is cut */
#define RESTART_MS 100     /* doubled each time */
#define BACKLOG 4096

static const enum child_role roles[] = { CHILD_GATEWAY, CHILD_RESOLVER, CHILD_PORTAL };

struct helper_limits egress_limits(enum child_role role) {
        switch (role) {
        case CHILD_GATEWAY: return (struct helper_limits){ .memory = 2ull << 30, .files = 65536 };
        case CHILD_RESOLVER: return (struct helper_limits){ .memory = 4ull << 30, .files = 4096 }; /* a thread a question */
        default: return (struct helper_limits){ .memory = 256ull << 20, .files = 256 };
        }
}

/* ---- starting */

/* One process: its log becomes descriptor `log_as`, besides those in `fds`. */
static int spawn(struct egress *e, enum child_role role, const char *verb, struct jail_fd *fds, size_t n_fds, int log_as,
                 int fd_end, struct nb_error *err) {
        struct supervisor *s = e->super;
        struct child *c = &s->child[role];
        NB_AUTO_FREE char *id = nb_asprintf("%u", super_unused_id(role));
        NB_AUTO_FREE char *verb_arg = nb_strdup(verb);
        char *argv[] = { GATEWAY_PROGRAM, verb_arg, id, NULL };
        NB_AUTO_CLOSE int log = -1;
        c->name = role == CHILD_GATEWAY ? "the gateway" : role == CHILD_RESOLVER ? "the resolver" : "the portal";
        capture_free(&s->capture[role]);
        int r = capture_begin(s, role, verb, NULL, &log, err);
        if (r < 0)
                return r;
        fds[n_fds++] = (struct jail_fd){ log, log_as };
        struct helper_spec spec = { .name = c->name,
                                    .program = e->program,
                                    .argv = argv,
                                    .fds = fds,
                                    .n_fds = n_fds,
                                    .fd_end = fd_end,
                                    .limits = egress_limits(role),
                                    .network = role == CHILD_PORTAL ? e->net.ns : -1 };
        r = helper_spawn(&spec, &c->proc, err);
        return r < 0 ? r : watch_child(s, role, err);
}

static int spawn_gateway(struct egress *e, int line, int resolver, int ports, int portal, struct nb_error *err) {
        const struct netns *n = &e->net;
        const struct jail_fd all[] = {
                { line, GATEWAY_FD_SUPER },         { resolver, GATEWAY_FD_RESOLVER },  { n->tcp, GATEWAY_FD_TCP },
                { n->dns_udp, GATEWAY_FD_DNS_UDP }, { n->dns_tcp, GATEWAY_FD_DNS_TCP }, { n->nflog, GATEWAY_FD_NFLOG },
                { n->udp, GATEWAY_FD_UDP },         { n->raw, GATEWAY_FD_RAW },         { ports, GATEWAY_FD_PORTS },
                { portal, GATEWAY_FD_PORTAL },
        };
        struct jail_fd fds[NB_ARRAY_LEN(all) + 1];
        size_t count = 0;
        for (size_t i = 0; i < NB_ARRAY_LEN(all); i++)
                if (all[i].fd >= 0)
                        fds[count++] = all[i];
        return spawn(e, CHILD_GATEWAY, "gateway", fds, count, GATEWAY_FD_LOG, GATEWAY_FD_END, err);
}

static int spawn_resolver(struct egress *e, int fd, struct nb_error *err) {
        struct jail_fd fds[2] = { { fd, RESOLVER_FD } };
        return spawn(e, CHILD_RESOLVER, "resolver", fds, 1, RESOLVER_FD_LOG, RESOLVER_FD_LOG + 1, err);
}

int egress_start_portal(struct egress *e, struct nb_error *err) {
        if (e->portal_fd < 0)
                return 0;
        NB_AUTO_CLOSE int fd = nb_steal_fd(&e->portal_fd);
        struct jail_fd fds[2] = { { fd, PORTAL_FD } };
        return spawn(e, CHILD_PORTAL, "portal", fds, 1, PORTAL_FD_LOG, PORTAL_FD_LOG + 1, err);
}

static json_t *start_document(const struct egress *e) {
        const struct start_message *m = &e->super->m;
        return json_pack("{s:{s:o, s:o, s:o, s:O*}}", "start", "policy", policy_json(m->policy), "names",
                         egress_table_names(e->table), "used", egress_table_used(e->table), "proxy", m->proxy);
}

/* Connections may come in again. */
static int let_in(const struct netns *n, struct nb_error *err) {
        if (listen(n->tcp, BACKLOG) < 0 || listen(n->dns_tcp, BACKLOG) < 0)
                return nb_fail_errno(err, errno, "cannot listen for the guest's connections");
        return 0;
}

static int start(struct egress *e, struct nb_error *err) {
        enum { LINE, RESOLVER, PORTS, PORTAL, PAIRS };
        static const int types[PAIRS] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_SEQPACKET, SOCK_SEQPACKET };
        int pair[PAIRS][2];
        int r = let_in(&e->net, err);
        for (size_t i = 0; i < PAIRS; i++)
                pair[i][0] = pair[i][1] = -1;
        for (size_t i = 0; r == 0 && i < PAIRS; i++)
                if (socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, pair[i]) < 0)
                        r = nb_fail_errno(err, errno, "cannot make the gateway's sockets");
        e->state = EGRESS_STARTING;
        if (r == 0)
                r = spawn_resolver(e, pair[RESOLVER][0], err);
        if (r == 0)
                r = spawn_gateway(e, pair[LINE][1], pair[RESOLVER][1], pair[PORTS][1], pair[PORTAL][1], err);
        if (r == 0)
                r = egress_line_begin(e, nb_steal_fd(&pair[LINE][0]), err);
        if (r == 0) {
                e->ports_fd = nb_steal_fd(&pair[PORTS][0]);
                e->portal_fd = nb_steal_fd(&pair[PORTAL][0]);
                (void)nb_set_nonblock(e->ports_fd, true);
                egress_say(e, start_document(e));
                r = ports_send(e, err);
        }
        for (size_t i = 0; i < PAIRS; i++) {
                nb_close(pair[i][0]);
                nb_close(pair[i][1]);
        }
        if (r == 0)
                (void)event_add(e->ready_timer, &(struct timeval){ .tv_sec = READY_SECONDS });
        return r;
}

/* ---- falling and rising */

static bool any_alive(const struct supervisor *s) {
        for (size_t i = 0; i < NB_ARRAY_LEN(roles); i++)
                if (s->child[roles[i]].proc.pid > 0)
                        return true;
        return false;
}

/* The dead leave nothing that the next ones would stumble over. */
static void forget_children(struct supervisor *s) {
        for (size_t i = 0; i < NB_ARRAY_LEN(roles); i++) {
                struct child *c = &s->child[roles[i]];
                if (c->event)
                        event_free(c->event);
                if (c->proc.pidfd > 0)
                        nb_close(c->proc.pidfd);
                *c = (struct child){ .super = s, .name = c->name };
        }
}

/* The guest is refused what it asks for, at once, since nobody could answer; a socket that listens no more keeps its place. */
static void shut_out(const struct netns *n) {
        (void)shutdown(n->tcp, SHUT_RD);
        (void)shutdown(n->dns_tcp, SHUT_RD);
}

static void go_down(struct egress *e, const char *why) {
        struct supervisor *s = e->super;
        e->state = EGRESS_DOWN;
        free(e->why);
        e->why = nb_strdup(why);
        (void)event_del(e->ready_timer);
        (void)event_del(e->applied_timer);
        shut_out(&e->net);
        egress_line_end(e);
        e->applied = e->changes; /* nothing leaves, and the next gateway starts with all of them */
        control_policy(s, e->applied);
        e->ports_fd = nb_close(e->ports_fd);
        e->portal_fd = nb_close(e->portal_fd);
        for (size_t i = 0; i < NB_ARRAY_LEN(roles); i++)
                if (s->child[roles[i]].proc.pid > 0)
                        (void)syscall(SYS_pidfd_send_signal, s->child[roles[i]].proc.pidfd, SIGKILL, NULL, 0);
        if (s->phase >= SUPER_ENDING)
                return;
        nb_warn("%s: the box's network is cut", why);
        NB_AUTO_FREE char *reason = nb_asprintf("%s: the network is cut until it runs again", why);
        events_add(s->events, "error", json_pack("{s:s, s:i}", "reason", reason, "restarts", (int)e->restarts));
}

static void on_restart(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct egress *e = user;
        struct supervisor *s = e->super;
        NB_AUTO_ERROR err = { 0 };
        if (s->phase >= SUPER_ENDING)
                return;
        forget_children(s);
        e->restarts++;
        if (start(e, &err) < 0) {
                go_down(e, err.what);
                super_end(s, err.code, "%s", err.what);
        }
}

/* All of them are gone. */
static void settle(struct egress *e) {
        struct supervisor *s = e->super;
        if (s->phase >= SUPER_ENDING)
                return;
        if (!e->was_up) {
                super_end(s, EIO, "%s before the network was ready", e->why);
        } else if (e->restarts >= EGRESS_RESTARTS_MAX) {
                super_end(s, EIO, "%s, after it had been started again %u times", e->why, e->restarts);
        } else {
                unsigned ms = RESTART_MS << e->restarts;
                (void)event_add(e->restart_timer, &(struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 });
        }
}

/* Resolver and portal end in order when the gateway's ends of their sockets close; that may be seen before its own death. */
void egress_died(struct supervisor *s, const struct child *c, const char *death) {
        struct egress *e = s->egress;
        bool followed = c != &s->child[CHILD_GATEWAY] && !c->by_signal && c->status == 0;
        if (e->state != EGRESS_DOWN)
                go_down(e, followed ? "the gateway is gone" : death);
        if (!any_alive(s))
                settle(e);
        if (s->phase >= SUPER_KILLING)
                super_kill(s);
}

void egress_broke(struct egress *e, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *why = nb_vasprintf(fmt, ap);
        va_end(ap);
        if (e->state != EGRESS_DOWN)
                go_down(e, why);
}

static void on_late(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        egress_broke(user, "the gateway did not get ready in time");
}

void egress_ready(struct egress *e) {
        if (e->state != EGRESS_STARTING) {
                egress_broke(e, "the gateway said twice that it is ready");
                return;
        }
        e->state = EGRESS_UP;
        (void)event_del(e->ready_timer);
        if (e->was_up)
                events_add(e->super->events, "policy",
                           json_pack("{s:s, s:i, s:s}", "action", "restart", "restarts", (int)e->restarts, "reason",
                                     "the gateway runs again, with the rules in force"));
        e->was_up = true;
}

static void on_unapplied(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        egress_broke(user, "the gateway does not put changed rules in force");
}

void egress_applied(struct egress *e) {
        if (e->applied == e->changes) {
                egress_broke(e, "the gateway put a policy in force that nobody sent");
                return;
        }
        if (++e->applied == e->changes)
                (void)event_del(e->applied_timer);
        control_policy(e->super, e->applied);
}

unsigned egress_policy(struct supervisor *s) {
        struct egress *e = s->egress;
        if (e->state == EGRESS_DOWN)
                return 0;
        if (e->applied == e->changes)
                (void)event_add(e->applied_timer, &(struct timeval){ .tv_sec = APPLIED_SECONDS });
        unsigned change = ++e->changes;
        egress_say(e, json_pack("{s:o}", "policy", policy_json(s->m.policy)));
        return change;
}

/* ---- for the supervisor */

static int open_program(struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_installed_program(GATEWAY_PROGRAM);
        int fd = helper_open(path, err);
        return fd < 0 ? nb_hint(err, "install nixbox whole: make install; or set network.mode: off") : fd;
}

int egress_begin(struct supervisor *s, struct nb_error *err) {
        static const struct netns none = NETNS_NONE;
        if (s->m.policy->mode == POLICY_OFF)
                return 0;
        struct egress *e = s->egress = nb_calloc(1, sizeof *e);
        e->super = s;
        e->net = none;
        e->program = e->line_fd = e->ports_fd = e->portal_fd = -1;
        e->table = egress_table_new();
        egress_table_limits(e->table, s->m.policy);
        e->ready_timer = evtimer_new(s->base, on_late, e);
        e->restart_timer = evtimer_new(s->base, on_restart, e);
        e->applied_timer = evtimer_new(s->base, on_unapplied, e);
        if (!e->ready_timer || !e->restart_timer || !e->applied_timer)
                return nb_fail(err, ENOMEM, "cannot make the gateway's timers");
        e->program = open_program(err);
        if (e->program < 0)
                return e->program;
        int r = netns_make(s->m.policy, &e->net, err);
        return r < 0 ? r : start(e, err);
}

int egress_wait(struct supervisor *s, struct nb_error *err) {
        struct egress *e = s->egress;
        while (e && e->state != EGRESS_UP && !s->reason)
                if (event_base_loop(s->base, EVLOOP_ONCE) != 0)
                        return nb_fail(err, EIO, "cannot wait for the gateway");
        return s->reason ? nb_fail(err, s->end_code ? s->end_code : EIO, "%s", s->reason) : 0;
}

int egress_take_tap(struct supervisor *s) {
        return s->egress ? nb_steal_fd(&s->egress->net.tap) : -1;
}

json_t *egress_status(const struct supervisor *s) {
        const struct egress *e = s->egress;
        if (!e)
                return json_pack("{s:i, s:[], s:[]}", "rules", 0, "ports", "destinations");
        return json_pack("{s:i, s:o, s:o, s:{s:b, s:i}}", "rules", (int)s->m.policy->n_rules, "ports", ports_status(s),
                         "destinations", egress_table_totals(e->table), "gateway", "up", e->state == EGRESS_UP, "restarts",
                         (int)e->restarts);
}

void egress_over(struct supervisor *s) {
        struct egress *e = s->egress;
        if (e && e->line_fd >= 0)
                (void)shutdown(e->line_fd, SHUT_WR);
}

void egress_free(struct supervisor *s) {
        struct egress *e = s->egress;
        if (!e)
                return;
        egress_line_end(e);
        if (e->ready_timer)
                event_free(e->ready_timer);
        if (e->restart_timer)
                event_free(e->restart_timer);
        if (e->applied_timer)
                event_free(e->applied_timer);
        nb_close(e->program);
        nb_close(e->ports_fd);
        nb_close(e->portal_fd);
        netns_close(&e->net);
        egress_table_free(e->table);
        free(e->why);
        free(e);
        s->egress = NULL;
}
