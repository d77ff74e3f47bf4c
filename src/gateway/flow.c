/* Redirected TCP connections of the guest (see flow.h): accept, decide, dial and look at the same time, relay, count. Every
 * decision is policy's; how a refused connection ends is in flow_refuse.c. */
#include "gateway/flow.h"

#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/tls.h"

#define FLOWS_MAX 16384u     /* open connections, where the limit of descriptors allows so many */
#define PEAK_MIN 512u        /* after so many at once it is worth while to give memory back */
#define FDS_OTHER 256u       /* descriptors kept for everything else */
#define ACCEPT_MAX 64        /* connections taken at a time, before others have their turn */
#define ACCEPT_PAUSE_MS 100u /* when descriptors or memory run out */
#define TICK_MS 1000u        /* a connection that lasts longer is told about while it is open */
#define LOOK_MS 10000u       /* on ports 443 and 80 a client says within this what it wants */
#define UNSURE_MS 500u       /* elsewhere, what could be the start of a request waits so long for the rest */
#define HALF_MS 3600000u     /* a connection closed on one side and silent on the other ends: its program is gone */
#define LOOK_MAX 16384u      /* of its first bytes are looked at while dialling */

/* Dead peers: the guest can only be gone with its box, so it is asked rarely; the internet forgets connections. */
#define GUEST_IDLE_S 600
#define FAR_IDLE_S 60
#define FAR_PROBE_S 20
#define FAR_PROBES 6
#define FAR_UNANSWERED_MS 180000

static void dial(struct flow *f);

/* ---- the connection as an object */

void flow_wait(struct flow *f, unsigned ms) {
        struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };
        (void)event_add(&f->timer, &tv);
}

void flow_free(struct flow *f, bool reset) {
        struct flows *all = f->all;
        (void)event_del(&f->readable);
        (void)event_del(&f->timer);
        if (f->dial)
                dial_cancel(f->dial);
        if (f->relay)
                relay_end(f->relay, reset);
        if (f->fd >= 0)
                (void)relay_close(f->fd, reset);
        if (f->synthetic)
                names_hold(all->g->names, f->synthetic, -1, nb_now_ms());
        look_clear(&f->look);
        LIST_REMOVE(f, link);
        if (--all->n == 0 && all->peak >= PEAK_MIN) /* what a crowd needed goes back to the system with it */
                event_active(&all->quiet, EV_TIMEOUT, 1);
        free(f->name);
        free(f->label);
        free(f->why);
        free(f->command);
        free(f);
}

static bool is_synthetic(const struct addr *a, uint32_t *ret) {
        uint32_t wire;
        memcpy(&wire, a->bytes, sizeof wire);
        *ret = ntohl(wire);
        return a->family == AF_INET && (*ret ^ NET_SYNTHETIC) >> (32u - NET_SYNTHETIC_BITS) == 0;
}

/* Where the guest meant to go, before the kernel sent it here. */
static int original(int fd, struct addr *ret, uint16_t *ret_port) {
        struct sockaddr_in sin = { 0 };
        socklen_t len = sizeof sin;
        if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &sin, &len) < 0)
                return -errno;
        return addr_from_sockaddr((struct sockaddr *)&sin, ret, ret_port);
}

/* ---- decisions */

/* What would allow it, as a command or, where there is none, as a line of the config. NULL: nothing would. */
static char *way_out(const struct policy_decision *d, const char *host, uint16_t port) {
        NB_AUTO_FREE char *line = policy_suggest(d, host, port);
        if (!line[0])
                return NULL;
        if (d->reason == POLICY_KIND)
                return nb_asprintf("add to network.allow: %s", line);
        struct addr a;
        const char *bits = addr_parse(host, &a) == 0 ? "/32" : "";
        return port == 443 || port == 80 ? nb_asprintf("nixbox allow %s%s", host, bits)
                                         : nb_asprintf("nixbox allow %s%s:%u", host, bits, (unsigned)port);
}

/* Of where the connection goes to, by the policy of this moment. */
static struct policy_decision decide(const struct flow *f) {
        const struct gateway *g = f->all->g;
        if (f->name)
                return policy_connect(g->policy, f->name, f->port);
        struct policy_decision d = policy_address(g->policy, &f->to, f->port, false);
        return d.allow ? policy_result(g->policy, &d, &f->to, f->port, resolve_own(g->resolve, &f->to)) : d;
}

static char *spent_text(const struct flow *f) {
        return nb_asprintf("the limit of %llu bytes is used up", (unsigned long long)f->found.rule->limit);
}

/* NULL if the connection may be (again: after a change); else why not. Sets what it was found allowed by. */
static char *refusal(struct flow *f) {
        struct gateway *g = f->all->g;
        uint32_t address;
        f->found = decide(f);
        free(f->command);
        f->command = NULL;
        if (!f->name && is_synthetic(&f->to, &address))
                return nb_strdup("no name has this address");
        if (!f->found.allow) {
                f->command = way_out(&f->found, f->label, f->port);
                return policy_explain(&f->found, f->label, f->port);
        }
        if (f->spent || report_spent(g->report, f->found.rule))
                return spent_text(f);
        return NULL;
}

/* Of a connection that is bound to no name: may this be asked for? Only a rule that denies it says no. */
static bool asked_allowed(void *user, const char *host) {
        const struct flow *f = user;
        return !host[0] || policy_connect(f->all->g->policy, host, f->port).reason != POLICY_DENIED;
}

static bool has_denied_names(const struct policy *p) {
        for (size_t i = 0; i < p->n_rules; i++)
                if (p->rules[i].deny && p->rules[i].host)
                        return true;
        return false;
}

/* Which name the address stands for, if it is one of ours. */
static void find_name(struct flow *f) {
        uint32_t address;
        char text[ADDR_TEXT];
        const char *name = is_synthetic(&f->to, &address) ? names_find(f->all->g->names, address, nb_now_ms()) : NULL;
        addr_format(&f->to, text);
        f->label = nb_strdup(name ? name : text);
        if (!name)
                return;
        f->name = nb_strdup(name);
        f->synthetic = address;
        names_hold(f->all->g->names, address, 1, nb_now_ms());
}

/* ---- looking at the client */

static struct look fresh_look(struct flow *f) {
        return (struct look){
                .host = f->name, .port = f->port, .strict = !f->name && f->all->strict, .allowed = asked_allowed, .user = f
        };
}

/* It was looked at well enough to say no. The reason names what was asked for where that has a canonical form. */
static char *look_refusal(struct flow *f, const struct look *l) {
        const char *asked = l->asked[0] && strcmp(l->asked, f->label) != 0 ? l->asked : NULL;
        f->alert = l->problem && l->kind == LOOK_TLS && f->name ? TLS_UNRECOGNIZED_NAME : TLS_ACCESS_DENIED;
        if (asked) {
                struct policy_decision d = policy_connect(f->all->g->policy, asked, f->port);
                free(f->command);
                f->command = way_out(&d, asked, f->port);
        }
        return asked ? nb_asprintf("%s: %s", l->problem, asked) : nb_strdup(l->problem);
}

static void watch_client(struct flow *f, bool on) {
        (void)(on ? event_add(&f->readable, NULL) : event_del(&f->readable));
}

static void set_low_water(int fd, int bytes) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

/* While the far end is being connected to: the client's bytes stay where they are, and are judged again when they pass. This
 * look only saves a client that will be refused the wait. */
static void look_early(struct flow *f) {
        uint8_t bytes[LOOK_MAX];
        ssize_t n = recv(f->fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < 0) { /* it is gone */
                flow_free(f, true);
                return;
        }
        struct look probe = fresh_look(f);
        ssize_t passes = n > 0 ? look_up(&probe, bytes, (size_t)n) : 0;
        look_clear(&probe);
        if (passes < 0) {
                dial_cancel(nb_steal(&f->dial));
                f->look = probe;
                flow_refuse(f, look_refusal(f, &probe));
        } else if (passes > 0 || (size_t)n <= f->looked || n == LOOK_MAX) { /* settled, or there is no more of it */
                watch_client(f, false);
        } else {
                f->looked = (size_t)n;
                set_low_water(f->fd, (int)n + 1);
        }
}

static void on_readable(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct flow *f = user;
        if (f->state == FLOW_DIALING)
                look_early(f);
        else
                flow_refusing(f);
}

/* ---- relaying */

static bool on_moved(void *user, uint64_t up, uint64_t down) {
        struct flow *f = user;
        f->up += up;
        f->down += down;
        if (report_bytes(f->all->g->report, f->label, f->found.rule, up, down))
                return true;
        f->spent = true;
        event_active(&f->all->spent, EV_TIMEOUT, 1); /* the others of this rule, next */
        return false;
}

/* On ports 443 and 80 a client must say what it wants. */
static bool must_speak(const struct flow *f) {
        return f->name && (f->port == 443 || f->port == 80);
}

static bool is_silent(const struct flow *f) {
        return must_speak(f) && !look_done(&f->look);
}

/* Sets the timer for whatever is due first. */
static void wait_for_next(struct flow *f) {
        uint64_t now = nb_now_ms(), next = UINT64_MAX;
        if (!f->told || is_silent(f))
                next = now + TICK_MS;
        if (f->unsure_ms && f->unsure_ms + UNSURE_MS < next)
                next = f->unsure_ms + UNSURE_MS;
        if (f->half_ms && f->half_ms + HALF_MS < next)
                next = f->half_ms + HALF_MS;
        if (next != UINT64_MAX)
                flow_wait(f, next > now ? (unsigned)(next - now) : 0);
}

static ssize_t on_up(void *user, const uint8_t *bytes, size_t len) {
        struct flow *f = user;
        bool known = f->look.settled;
        ssize_t n = look_up(&f->look, bytes, len);
        if (!known && f->look.settled) { /* what it asked for is the best name for an address */
                look_clear(&f->look);
                if (!f->name && f->look.asked[0]) {
                        free(f->label);
                        f->label = nb_strdup(f->look.asked);
                }
        }
        bool unsure = n == 0 && f->look.kind == LOOK_UNKNOWN && !f->look.overdue && !must_speak(f);
        f->unsure_ms = unsure ? nb_now_ms() : 0;
        if (unsure)
                wait_for_next(f);
        return n;
}

static void on_half(void *user) {
        struct flow *f = user;
        f->half_ms = nb_now_ms();
        f->half_moved = f->up + f->down;
        wait_for_next(f);
}

static bool on_end(void *user) {
        struct flow *f = user;
        return look_end(&f->look);
}

static bool on_down(void *user, const uint8_t *bytes, size_t len) {
        struct flow *f = user;
        look_down(&f->look, bytes, len);
        return true;
}

static void on_done(void *user, int code) {
        struct flow *f = user;
        struct relay *relay = nb_steal(&f->relay);
        if (f->look.problem) {
                flow_refuse_late(f, look_refusal(f, &f->look), relay_take(relay));
                return;
        }
        if (f->spent)
                flow_refuse_late(f, spent_text(f), -1);
        else {
                flow_tell(f, true, code == -EPROTO ? "it ended in the middle of a request" : NULL);
                flow_free(f, false);
        }
}

static void watch_far(int fd) {
        const struct {
                int level, option, value;
        } options[] = {
                { SOL_SOCKET, SO_KEEPALIVE, 1 },
                { IPPROTO_TCP, TCP_KEEPIDLE, FAR_IDLE_S },
                { IPPROTO_TCP, TCP_KEEPINTVL, FAR_PROBE_S },
                { IPPROTO_TCP, TCP_KEEPCNT, FAR_PROBES },
                { IPPROTO_TCP, TCP_USER_TIMEOUT, FAR_UNANSWERED_MS },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(options); i++)
                (void)setsockopt(fd, options[i].level, options[i].option, &options[i].value, sizeof options[i].value);
}

static void on_dialed(void *user, const struct dial_result *r) {
        struct flow *f = user;
        f->dial = NULL;
        if (r->fd < 0 && r->refused_by_policy) {
                f->alert = TLS_ACCESS_DENIED;
                flow_refuse(f, nb_strdup(r->reason ? r->reason : "it leads to an address that is not allowed"));
                return;
        }
        if (r->fd < 0) {
                flow_tell(f, true, r->reason ? r->reason : strerror(r->code));
                flow_free(f, true);
                return;
        }
        struct relay_ops ops = { .moved = on_moved,
                                 .done = on_done,
                                 .inspect_up = on_up,
                                 .inspect_end = on_end,
                                 .half = on_half,
                                 .inspect_down = on_down,
                                 .user = f };
        watch_client(f, false);
        if (f->looked > 0)
                set_low_water(f->fd, 1);
        watch_far(r->fd);
        f->far = r->addr;
        f->state = FLOW_RELAYING;
        f->relay = relay_new(f->all->g->base, nb_steal_fd(&f->fd), r->fd, NULL, 0, &ops);
}

static void dial(struct flow *f) {
        struct gateway *g = f->all->g;
        f->state = FLOW_DIALING;
        f->dial =
            f->name ? dial_name(g, f->name, f->port, &f->found, on_dialed, f) : dial_address(g, &f->to, f->port, on_dialed, f);
}

/* Until the connection is told about and known, and whenever it is time to look at it again. */
static void on_timer(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct flow *f = user;
        if (f->state == FLOW_REFUSING || f->state == FLOW_LEAVING) {
                flow_refusing_over(f);
                return;
        }
        if (f->state == FLOW_RELAYING && !f->told) {
                flow_tell(f, false, NULL);
                f->told = true;
        }
        uint64_t now = nb_now_ms();
        if (f->state == FLOW_RELAYING && is_silent(f) && now - f->begun_ms >= LOOK_MS) {
                relay_end(nb_steal(&f->relay), true);
                flow_refuse_late(f, nb_strdup("the client did not say which host it wants"), -1);
                return;
        }
        if (f->half_ms && now - f->half_ms >= HALF_MS && f->half_moved == f->up + f->down) {
                flow_tell(f, true, "closed on one side, and nothing came from the other");
                flow_free(f, true);
                return;
        }
        if (f->half_ms && now - f->half_ms >= HALF_MS)
                on_half(f);
        bool overdue = f->state == FLOW_RELAYING && f->unsure_ms && now - f->unsure_ms >= UNSURE_MS;
        f->look.overdue = f->look.overdue || overdue;
        f->unsure_ms = overdue ? 0 : f->unsure_ms;
        wait_for_next(f);
        if (overdue)
                relay_look(f->relay); /* may be its end */
}

/* ---- accepting */

static void begin_flow(struct flows *all, int fd) {
        struct addr to;
        uint16_t port;
        if (all->n >= all->max) {
                struct report_event e = { .type = "error", .reason = "too many connections at once: refused", .proto = "tcp" };
                report_event(all->g->report, &e);
                (void)relay_close(fd, true);
                return;
        }
        if (original(fd, &to, &port) < 0) {
                (void)relay_close(fd, true);
                return;
        }
        struct flow *f = nb_calloc(1, sizeof *f);
        *f = (struct flow){ .all = all, .fd = fd, .to = to, .port = port, .begun_ms = nb_now_ms(), .alert = TLS_ACCESS_DENIED };
        LIST_INSERT_HEAD(&all->list, f, link);
        all->n++;
        all->peak = all->n > all->peak ? all->n : all->peak;
        (void)event_assign(&f->readable, all->g->base, fd, EV_READ | EV_PERSIST, on_readable, f);
        (void)event_assign(&f->timer, all->g->base, -1, 0, on_timer, f);
        find_name(f);
        f->look = fresh_look(f);
        char *why = refusal(f);
        if (why) {
                flow_refuse(f, why);
                return;
        }
        watch_client(f, true);
        wait_for_next(f);
        dial(f);
}

static void on_acceptable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct flows *all = user;
        for (int i = 0; i < ACCEPT_MAX; i++) {
                int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (client >= 0) {
                        begin_flow(all, client);
                        continue;
                }
                if (errno == EAGAIN)
                        return;
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                        const struct timeval pause = { .tv_usec = ACCEPT_PAUSE_MS * 1000 };
                        nb_warn("cannot take a connection: %s", strerror(errno));
                        (void)event_del(&all->acceptable);
                        (void)event_add(&all->again, &pause);
                        return;
                }
        }
}

static void on_again(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct flows *all = user;
        (void)event_add(&all->acceptable, NULL);
}

/* ---- changes of policy */

/* Whether what a connection was allowed for still holds: its name or address, where that led to, and what it asked for. */
static char *refusal_now(struct flow *f) {
        struct gateway *g = f->all->g;
        char *why = refusal(f);
        if (why)
                return why;
        bool direct = f->name && f->far.family && strcmp(f->name, POLICY_HOST) != 0;
        struct policy_decision d =
            direct ? policy_result(g->policy, &f->found, &f->far, f->port, resolve_own(g->resolve, &f->far)) : f->found;
        if (!d.allow)
                return policy_explain(&d, f->label, f->port);
        if (!f->name && !asked_allowed(f, f->look.asked))
                return nb_asprintf("%s is denied", f->look.asked);
        return NULL;
}

static void recheck(struct flow *f) {
        if (f->state == FLOW_REFUSING || f->state == FLOW_LEAVING) {
                f->found = (struct policy_decision){ 0 };
                return;
        }
        NB_AUTO_FREE char *why = refusal_now(f);
        if (!why) {
                f->look.strict = f->look.strict || (!f->name && f->all->strict);
                if (f->dial) { /* it holds the decision that is not there any more */
                        dial_cancel(nb_steal(&f->dial));
                        dial(f);
                }
                return;
        }
        if (f->relay)
                relay_end(nb_steal(&f->relay), true);
        if (f->dial)
                dial_cancel(nb_steal(&f->dial));
        flow_refuse_late(f, nb_asprintf("not allowed any more: %s", why), f->fd);
}

void flows_recheck(struct flows *all) {
        struct flow *next;
        all->strict = has_denied_names(all->g->policy);
        for (struct flow *f = LIST_FIRST(&all->list); f; f = next) {
                next = LIST_NEXT(f, link);
                recheck(f);
        }
}

static void on_quiet(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct flows *all = user;
        all->peak = 0;
        (void)malloc_trim(0);
}

static void on_spent(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        flows_recheck(user);
}

/* ---- start and end */

int flows_new(struct gateway *g, int listen_fd, struct flows **ret, struct nb_error *err) {
        struct rlimit files;
        struct flows *all = nb_calloc(1, sizeof *all);
        all->g = g;
        all->fd = listen_fd;
        all->strict = has_denied_names(g->policy);
        LIST_INIT(&all->list);
        rlim_t fds = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 0;
        fds = fds > FDS_OTHER ? (fds - FDS_OTHER) / 2 : 1;
        all->max = fds < FLOWS_MAX ? (unsigned)fds : FLOWS_MAX;
        int on = 1, idle = GUEST_IDLE_S; /* accepted sockets have them, too */
        (void)setsockopt(listen_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        (void)setsockopt(listen_fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        if (nb_set_nonblock(listen_fd, true) < 0 ||
            event_assign(&all->acceptable, g->base, listen_fd, EV_READ | EV_PERSIST, on_acceptable, all) < 0 ||
            event_assign(&all->again, g->base, -1, 0, on_again, all) < 0 ||
            event_assign(&all->spent, g->base, -1, 0, on_spent, all) < 0 ||
            event_priority_set(&all->spent, 0) < 0 || /* before anything else is sent under that rule */
            event_assign(&all->quiet, g->base, -1, 0, on_quiet, all) < 0 || event_add(&all->acceptable, NULL) < 0) {
                free(all);
                return nb_fail(err, EIO, "cannot wait for connections");
        }
        *ret = all;
        return 0;
}

void flows_free(struct flows *all) {
        if (!all)
                return;
        struct flow *next;
        for (struct flow *f = LIST_FIRST(&all->list); f; f = next) {
                next = LIST_NEXT(f, link);
                flow_free(f, true);
        }
        (void)event_del(&all->acceptable);
        (void)event_del(&all->again);
        (void)event_del(&all->spent);
        (void)event_del(&all->quiet);
        free(all);
}
