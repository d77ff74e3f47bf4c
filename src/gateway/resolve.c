/* The gateway's side of the resolver: who waits for which answer. Questions under way are few and each has a deadline; a full
 * table refuses at once. */
#include <errno.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "gateway/impl.h"
#include "gateway/resolver_wire.h"

#define SLOT_BITS 8u
_Static_assert(RESOLVER_PENDING_MAX == 1u << SLOT_BITS, "an id holds the place in the table and how often it was used");

struct waiters {
        TAILQ_HEAD(queries, resolve_query) queries;
        bool telling; /* who gives up now is only marked */
};
struct resolve_query {
        TAILQ_ENTRY(resolve_query) entry;
        struct waiters *list; /* what it is in */
        resolve_fn done;      /* NULL: given up */
        void *user;
};

/* A question under way. */
struct asked {
        uint32_t id;
        uint16_t type;
        struct resolve *r;
        struct event deadline;
        struct waiters waiters; /* may be empty: all have given up */
        char name[];
};

struct resolve {
        struct gateway *g;
        int fd;
        struct event readable;
        struct event later;     /* answers those who were refused */
        struct waiters refused; /* their answer is BUSY */
        struct asked *table[RESOLVER_PENDING_MAX];
        uint32_t used[RESOLVER_PENDING_MAX]; /* how often each place was */
        bool links_known;
        struct resolver_links links;
};

/* ---- answers */

/* Those who are told may ask again, and give up what others of them asked. */
static void tell(struct waiters *w, const struct resolver_answer *a) {
        w->telling = true;
        for (struct resolve_query *q = TAILQ_FIRST(&w->queries), *next; q; q = next) {
                if (q->done)
                        q->done(q->user, a);
                next = TAILQ_NEXT(q, entry);
                free(q);
        }
        TAILQ_INIT(&w->queries);
        w->telling = false;
}

static void answer(struct asked *asked, const struct resolver_answer *a) {
        struct resolve *r = asked->r;
        r->table[asked->id & (RESOLVER_PENDING_MAX - 1)] = NULL; /* a waiter may ask again at once */
        (void)event_del(&asked->deadline);
        tell(&asked->waiters, a);
        free(asked);
}

static void on_deadline(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        static const struct resolver_answer failed = { .status = RESOLVER_FAILED };
        answer(user, &failed);
}

static void on_later(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        static const struct resolver_answer busy = { .status = RESOLVER_BUSY };
        tell(&((struct resolve *)user)->refused, &busy);
}

static int take_answer(struct resolve *r, const uint8_t *bytes, size_t len) {
        struct resolver_answer a;
        uint32_t id;
        if (resolver_read_answer(bytes, len, &id, &a) < 0)
                return -EPROTO;
        struct asked *asked = r->table[id & (RESOLVER_PENDING_MAX - 1)];
        if (asked && asked->id == id) /* else its deadline has passed */
                answer(asked, &a);
        return 0;
}

static void on_readable(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct resolve *r = user;
        uint8_t bytes[RESOLVER_MESSAGE_MAX + 1];
        ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0) {
                (void)event_del(&r->readable);
                gateway_fail(r->g, "the resolver is gone");
                return;
        }
        int code;
        if (bytes[0] == RESOLVER_SAYS_LINKS) {
                code = resolver_read_links(bytes, (size_t)n, &r->links);
                r->links_known = code == 0;
        } else {
                code = take_answer(r, bytes, (size_t)n);
        }
        if (code < 0)
                gateway_fail(r->g, "the resolver said something that makes no sense");
}

/* ---- questions */

static struct asked *find(struct resolve *r, const char *name, uint16_t type) {
        for (size_t i = 0; i < RESOLVER_PENDING_MAX; i++)
                if (r->table[i] && r->table[i]->type == type && strcmp(r->table[i]->name, name) == 0)
                        return r->table[i];
        return NULL;
}

static bool send_request(struct resolve *r, uint32_t id, const char *name, uint16_t type) {
        struct resolver_request request = { .id = id, .type = type };
        (void)snprintf(request.name, sizeof request.name, "%s", name);
        NB_AUTO_BUF message = { 0 };
        resolver_put_request(&message, &request);
        return send(r->fd, nb_buf_bytes(&message), message.len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* NULL if there are too many already. */
static struct asked *begin(struct resolve *r, const char *name, uint16_t type) {
        uint32_t slot = 0;
        while (slot < RESOLVER_PENDING_MAX && r->table[slot])
                slot++;
        if (slot == RESOLVER_PENDING_MAX)
                return NULL;
        uint32_t id = r->used[slot]++ << SLOT_BITS | slot;
        if (!send_request(r, id, name, type))
                return NULL;
        size_t len = strlen(name);
        struct asked *asked = nb_calloc(1, sizeof *asked + len + 1);
        *asked = (struct asked){ .id = id, .type = type, .r = r };
        memcpy(asked->name, name, len + 1);
        TAILQ_INIT(&asked->waiters.queries);
        struct timeval limit = { .tv_sec = RESOLVER_TIMEOUT_MS / 1000 };
        (void)evtimer_assign(&asked->deadline, r->g->base, on_deadline, asked);
        (void)evtimer_add(&asked->deadline, &limit);
        r->table[slot] = asked;
        return asked;
}

struct resolve_query *resolve_ask(struct resolve *r, const char *name, uint16_t type, resolve_fn done, void *user) {
        struct asked *asked = find(r, name, type);
        if (!asked)
                asked = begin(r, name, type);
        struct resolve_query *q = nb_calloc(1, sizeof *q);
        *q = (struct resolve_query){ .done = done, .user = user, .list = asked ? &asked->waiters : &r->refused };
        TAILQ_INSERT_TAIL(&q->list->queries, q, entry);
        if (!asked)
                event_active(&r->later, EV_TIMEOUT, 0);
        return q;
}

void resolve_cancel(struct resolve_query *q) {
        if (q->list->telling) {
                q->done = NULL;
                return;
        }
        TAILQ_REMOVE(&q->list->queries, q, entry);
        free(q);
}

bool resolve_own(struct resolve *r, const struct addr *a) {
        return !r->links_known || resolver_links_hold(&r->links, a);
}

/* ---- */

int resolve_new(struct gateway *g, int fd, struct resolve **ret, struct nb_error *err) {
        struct resolve *r = nb_calloc(1, sizeof *r);
        *r = (struct resolve){ .g = g, .fd = fd };
        TAILQ_INIT(&r->refused.queries);
        (void)evtimer_assign(&r->later, g->base, on_later, r);
        if (event_assign(&r->readable, g->base, fd, EV_READ | EV_PERSIST, on_readable, r) < 0 ||
            event_add(&r->readable, NULL) < 0) {
                free(r);
                return nb_fail(err, EIO, "cannot watch the resolver");
        }
        *ret = r;
        return 0;
}

static void drop(struct waiters *w) {
        for (struct resolve_query *q = TAILQ_FIRST(&w->queries), *next; q; q = next) {
                next = TAILQ_NEXT(q, entry);
                free(q);
        }
}

void resolve_free(struct resolve *r) {
        if (!r)
                return;
        for (size_t i = 0; i < RESOLVER_PENDING_MAX; i++)
                if (r->table[i]) {
                        (void)event_del(&r->table[i]->deadline);
                        drop(&r->table[i]->waiters);
                        free(r->table[i]);
                }
        drop(&r->refused);
        (void)event_del(&r->later);
        (void)event_del(&r->readable);
        nb_close(r->fd);
        free(r);
}
