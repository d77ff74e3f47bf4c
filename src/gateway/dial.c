/* A TCP connection to the far end: the name's addresses are asked for now, each of them is held against the policy before a
 * packet leaves, the first that answers wins, and what was really connected to is held against the policy once more. The policy
 * decides; this only obeys. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "gateway/proxy_impl.h"
#include "gateway/race.h"

#define DIAL_DEADLINE_MS 30000u /* for everything: the resolver, all addresses, the proxy */

struct dial {
        struct gateway *g;
        char *name; /* NULL: by address */
        uint16_t port;
        struct policy_decision found;
        dial_fn done;
        void *user;
        struct event later; /* the deadline, or at once for a failure that was clear from the start */
        char *reason;       /* of that failure, or why an address was not allowed */
        int code;
        bool refused; /* by the policy */
        struct resolve_query *query;
        struct race *race;
        struct proxy_dial *tunnel;
        struct resolver_addr addrs[RACE_ADDRS_MAX]; /* as given to the race */
};

static void dial_free(struct dial *d) {
        if (d->query)
                resolve_cancel(d->query);
        race_free(d->race);
        proxy_dial_free(d->tunnel);
        (void)event_del(&d->later);
        free(d->reason);
        free(d->name);
        free(d);
}

void dial_cancel(struct dial *d) {
        dial_free(d);
}

static void finish(struct dial *d, const struct dial_result *result) {
        dial_fn done = d->done;
        void *user = d->user;
        char *reason = nb_steal(&d->reason); /* the result may point to it */
        dial_free(d);
        done(user, result);
        free(reason);
}

static void fail(struct dial *d, int code, char *reason) {
        free(d->reason);
        d->reason = reason;
        finish(d, &(struct dial_result){ .fd = -1, .code = code, .reason = reason, .refused_by_policy = d->refused });
}

static void on_later(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct dial *d = user;
        if (d->reason)
                fail(d, d->code, nb_steal(&d->reason));
        else if (d->query)
                fail(d, ETIMEDOUT, nb_asprintf("the host's resolver has no answer for %s", d->name));
        else if (d->tunnel)
                fail(d, ETIMEDOUT, nb_strdup("the proxy does not answer"));
        else
                fail(d, ETIMEDOUT, nb_strdup("it does not answer"));
}

/* ---- the policy */

/* Why an address that a name resolved to, or that the box named, may not be connected to. New string. */
static char *refusal(const struct dial *d, const struct addr *a, const struct policy_decision *why) {
        char address[ADDR_TEXT];
        addr_format(a, address);
        if (!d->name)
                return policy_explain(why, address, d->port);
        if (why->reason != POLICY_KIND) {
                NB_AUTO_FREE char *text = policy_explain(why, address, d->port);
                return nb_asprintf("%s resolves to %s: %s", d->name, address, text);
        }
        const char *kind = why->kind == ADDR_PUBLIC ? "an address of the host's own network" : addr_kind_name(why->kind);
        NB_AUTO_FREE char *line = policy_suggest(why, d->name, d->port);
        return nb_asprintf("%s resolves to %s, %s%s%s", d->name, address, kind, line[0] ? "; allow it with " : "",
                           line[0] ? line + strlen("- ") : "");
}

/* Asks the policy; a first refusal is kept for the report. */
static bool allowed(struct dial *d, const struct addr *a, bool own) {
        struct policy_decision why = policy_result(d->g->policy, &d->found, a, d->port, own);
        if (!why.allow && !d->reason) {
                d->reason = refusal(d, a, &why);
                d->code = EACCES;
        }
        return why.allow;
}

/* What a connected socket is connected to. A socket whose two ends have one address has not left this host, whatever the
 * interfaces say. */
static bool ends(int fd, struct addr *ret_far, bool *ret_own) {
        struct sockaddr_storage far, near;
        socklen_t far_len = sizeof far, near_len = sizeof near;
        struct addr here;
        uint16_t port;
        if (getpeername(fd, (struct sockaddr *)&far, &far_len) < 0 || getsockname(fd, (struct sockaddr *)&near, &near_len) < 0)
                return false;
        if (addr_from_sockaddr((struct sockaddr *)&far, ret_far, &port) < 0 ||
            addr_from_sockaddr((struct sockaddr *)&near, &here, &port) < 0)
                return false;
        *ret_own = addr_equal(ret_far, &here);
        return true;
}

static void on_race(void *user, int fd, size_t index, int code) {
        struct dial *d = user;
        NB_AUTO_CLOSE int connected = fd;
        struct addr far = { 0 };
        bool own = false;
        d->race = NULL;
        if (connected < 0) {
                fail(d, code, nb_strdup(strerror(code)));
                return;
        }
        if (!ends(connected, &far, &own)) { /* gone already */
                fail(d, ECONNRESET, nb_strdup(strerror(ECONNRESET)));
                return;
        }
        own = own || d->addrs[index].own || resolve_own(d->g->resolve, &far);
        if (!allowed(d, &far, own)) {
                d->refused = true;
                fail(d, EACCES, nb_steal(&d->reason));
                return;
        }
        finish(d, &(struct dial_result){ .fd = nb_steal_fd(&connected), .addr = far });
}

/* ---- names */

static void start_race(struct dial *d, const struct resolver_addr *addrs, size_t n) {
        n = race_order(addrs, n, d->addrs);
        d->race = race_new(d->g->base, d->addrs, n, d->port, on_race, d);
}

static char *no_address(const struct dial *d, enum resolver_status status) {
        switch (status) {
        case RESOLVER_NONE: return nb_asprintf("%s does not exist", d->name);
        case RESOLVER_NODATA: return nb_asprintf("%s has no address", d->name);
        case RESOLVER_BUSY: return nb_strdup("too many names are being looked up at once");
        case RESOLVER_OK:
        case RESOLVER_FAILED: break;
        }
        return nb_asprintf("the host cannot look up %s", d->name);
}

static void on_addresses(void *user, const struct resolver_answer *a) {
        struct dial *d = user;
        struct resolver_addr good[RESOLVER_ADDRS_MAX];
        size_t n = 0;
        d->query = NULL;
        if (a->status != RESOLVER_OK) {
                fail(d, a->status == RESOLVER_BUSY ? EAGAIN : EHOSTUNREACH, no_address(d, a->status));
                return;
        }
        for (size_t i = 0; i < a->n_addrs; i++)
                if (allowed(d, &a->addrs[i].addr, a->addrs[i].own))
                        good[n++] = a->addrs[i];
        if (n == 0) {
                d->refused = d->reason;
                fail(d, EACCES, d->reason ? nb_steal(&d->reason) : no_address(d, RESOLVER_NODATA));
                return;
        }
        free(nb_steal(&d->reason)); /* others are allowed */
        start_race(d, good, n);
}

/* ---- */

static struct dial *dial_new(struct gateway *g, uint16_t port, dial_fn done, void *user) {
        const struct timeval limit = { .tv_sec = DIAL_DEADLINE_MS / 1000 };
        struct dial *d = nb_calloc(1, sizeof *d);
        *d = (struct dial){ .g = g, .port = port, .done = done, .user = user };
        (void)evtimer_assign(&d->later, g->base, on_later, d);
        (void)evtimer_add(&d->later, &limit);
        return d;
}

/* The reason is there; the caller hears it from the loop. */
static void refuse_later(struct dial *d) {
        d->refused = true;
        event_active(&d->later, EV_TIMEOUT, 0);
}

static void dial_host(struct dial *d) {
        struct resolver_addr loopback[2] = { { .own = true }, { .own = true } };
        size_t n = 0;
        (void)addr_parse("127.0.0.1", &loopback[0].addr);
        (void)addr_parse("::1", &loopback[1].addr);
        for (size_t i = 0; i < NB_ARRAY_LEN(loopback); i++)
                if (allowed(d, &loopback[i].addr, true))
                        loopback[n++] = loopback[i];
        if (n == 0) {
                refuse_later(d);
                return;
        }
        free(nb_steal(&d->reason));
        start_race(d, loopback, n);
}

static void on_tunnel(void *user, int fd, int code, const char *reason) {
        struct dial *d = user;
        d->tunnel = NULL;
        if (fd < 0)
                fail(d, code, nb_strdup(reason));
        else
                finish(d, &(struct dial_result){ .fd = fd });
}

struct dial *dial_name(struct gateway *g, const char *name, uint16_t port, const struct policy_decision *found, dial_fn done,
                       void *user) {
        struct dial *d = dial_new(g, port, done, user);
        d->name = nb_strdup(name);
        d->found = *found;
        if (strcmp(name, POLICY_HOST) == 0)
                dial_host(d);
        else if (proxy_applies(g->proxy, name, port, found->rule))
                d->tunnel = proxy_dial(g->proxy, name, port, on_tunnel, d);
        else
                d->query = resolve_ask(g->resolve, name, 0, on_addresses, d);
        return d;
}

struct dial *dial_address(struct gateway *g, const struct addr *a, uint16_t port, dial_fn done, void *user) {
        struct dial *d = dial_new(g, port, done, user);
        struct resolver_addr only = { .addr = *a, .own = resolve_own(g->resolve, a) };
        d->found = policy_address(g->policy, a, port, false);
        if (allowed(d, a, only.own))
                start_race(d, &only, 1);
        else
                refuse_later(d);
        return d;
}
