/* Happy eyeballs (see race.h). */
#include "gateway/race.h"

#include <errno.h>
#include <event2/event_struct.h>
#include <sys/socket.h>

#include "base/mem.h"

struct runner {
        struct race *race;
        struct event connected;
        int fd; /* -1: not started, or out */
};
struct race {
        struct event_base *base;
        race_fn done;
        void *user;
        uint16_t port;
        int code; /* of the failure that says most */
        struct event step;
        size_t n, next, running;
        struct resolver_addr addrs[RACE_ADDRS_MAX];
        struct runner runners[RACE_ADDRS_MAX];
};

size_t race_order(const struct resolver_addr *from, size_t n, struct resolver_addr ret[RACE_ADDRS_MAX]) {
        size_t at[2] = { 0, 0 }, count = 0; /* where each family's next one may be */
        uint8_t first = n > 0 ? from[0].addr.family : 0;
        for (unsigned turn = 0; count < RACE_ADDRS_MAX && (at[0] < n || at[1] < n); turn ^= 1) {
                size_t *i = &at[turn];
                while (*i < n && (from[*i].addr.family == first) != (turn == 0))
                        (*i)++;
                if (*i < n)
                        ret[count++] = from[(*i)++];
        }
        return count;
}

/* "there is no route to IPv6" says less than what an address that can be reached answered. */
static bool says_little(int code) {
        return code == 0 || code == ENETUNREACH || code == EAFNOSUPPORT || code == EADDRNOTAVAIL;
}

static void out(struct runner *r, int code) {
        (void)event_del(&r->connected);
        r->fd = nb_close(r->fd);
        r->race->running--;
        if (says_little(r->race->code))
                r->race->code = code;
}

static void win(struct runner *r) {
        struct race *race = r->race;
        race_fn done = race->done;
        void *user = race->user;
        size_t index = (size_t)(r - race->runners);
        (void)event_del(&r->connected);
        int fd = nb_steal_fd(&r->fd);
        race_free(race);
        done(user, fd, index, 0);
}

static void go_on(struct race *race);

static void on_connected(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct runner *r = user;
        int code = 0;
        socklen_t len = sizeof code;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
                code = errno;
        if (code == 0) {
                win(r);
                return;
        }
        out(r, code);
        go_on(r->race);
}

/* Returns 0 or a positive errno. */
static int run(struct race *race, size_t i) {
        struct runner *r = &race->runners[i];
        struct sockaddr_storage to;
        socklen_t len = addr_to_sockaddr(&race->addrs[i].addr, race->port, &to);
        NB_AUTO_CLOSE int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || (connect(fd, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS))
                return errno;
        if (event_assign(&r->connected, race->base, fd, EV_WRITE, on_connected, r) < 0 || event_add(&r->connected, NULL) < 0)
                return EIO;
        r->fd = nb_steal_fd(&fd);
        race->running++;
        return 0;
}

/* Starts the next address that can be started, or ends the race when none is left. */
static void go_on(struct race *race) {
        const struct timeval step = { .tv_usec = RACE_STEP_MS * 1000 };
        while (race->next < race->n) {
                int code = run(race, race->next++);
                if (code == 0) {
                        if (race->next < race->n)
                                (void)evtimer_add(&race->step, &step);
                        return;
                }
                if (says_little(race->code))
                        race->code = code;
        }
        if (race->running > 0)
                return;
        race_fn done = race->done;
        void *user = race->user;
        int code = race->code ? race->code : EHOSTUNREACH;
        race_free(race);
        done(user, -1, 0, code);
}

static void on_step(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        go_on(user);
}

struct race *race_new(struct event_base *base, const struct resolver_addr *addrs, size_t n, uint16_t port, race_fn done,
                      void *user) {
        struct race *race = nb_calloc(1, sizeof *race);
        *race = (struct race){ .base = base, .done = done, .user = user, .port = port, .n = n };
        if (race->n > RACE_ADDRS_MAX)
                race->n = RACE_ADDRS_MAX;
        for (size_t i = 0; i < race->n; i++) {
                race->addrs[i] = addrs[i];
                race->runners[i] = (struct runner){ .race = race, .fd = -1 };
        }
        (void)evtimer_assign(&race->step, base, on_step, race);
        event_active(&race->step, EV_TIMEOUT, 0); /* the first one starts from the loop too */
        return race;
}

void race_free(struct race *race) {
        if (!race)
                return;
        (void)event_del(&race->step);
        for (size_t i = 0; i < race->n; i++)
                if (race->runners[i].fd >= 0) {
                        (void)event_del(&race->runners[i].connected);
                        nb_close(race->runners[i].fd);
                }
        free(race);
}
