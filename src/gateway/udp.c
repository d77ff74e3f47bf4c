/* UDP of mode open: datagrams that the kernel hands over with the address they were sent to, a connected socket of the host for
 * each flow, and answers that seem to come from the far end. A flow lasts as long as something moves. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/impl.h"
#include "gateway/open.h"

#define FLOWS_MAX 4096u
#define BUCKETS 4096u            /* a power of two */
#define IDLE_ASKED_MS 30000u     /* nothing came back yet */
#define IDLE_ANSWERED_MS 180000u /* RFC 4787: two minutes at least */
#define EVICT_MS 2000u           /* a full table: the flow idle longest goes, if it is idle for so long */
#define SWEEP_MS 1000u
#define DATAGRAMS_AT_ONCE 64u /* before others have their turn */
#define DATAGRAM_MAX 65536u
#define RECEIVE_BUFFER (512 * 1024)

struct flow {
        struct udp *u;
        struct open_far far;
        uint16_t guest_port;
        bool answered;
        int fd;
        struct event readable;
        const struct policy_rule *limit; /* into the policy in force */
        uint64_t began_ms, moved_ms;
        uint64_t up, down;           /* bytes, and */
        uint64_t told_up, told_down; /* how many of them are in the totals */
        TAILQ_ENTRY(flow) by_age;
        LIST_ENTRY(flow) in_bucket;
};
TAILQ_HEAD(flow_queue, flow);
LIST_HEAD(flow_bucket, flow);

struct udp {
        struct gateway *g;
        int fd, raw_fd;
        struct event readable, sweep;
        struct icmp *icmp;
        size_t n_flows;
        uint64_t seed;
        struct flow_queue queues[2]; /* by `answered`; the one that moved last at the end */
        struct flow_bucket buckets[BUCKETS];
        uint8_t datagram[DATAGRAM_MAX];
};

static struct flow_bucket *bucket(struct udp *u, const struct open_far *far, uint16_t guest_port) {
        uint64_t key = (uint64_t)open_address(far) << 32 | (uint64_t)far->port << 16 | guest_port;
        key = (key ^ u->seed) * 0x9e3779b97f4a7c15u;
        return &u->buckets[(key ^ key >> 29) * 0xbf58476d1ce4e5b9u >> 52 & (BUCKETS - 1)];
}

static struct flow *find(struct udp *u, const struct open_far *far, uint16_t guest_port) {
        struct flow *f = LIST_FIRST(bucket(u, far, guest_port));
        while (f && (f->guest_port != guest_port || f->far.port != far->port || !addr_equal(&f->far.addr, &far->addr)))
                f = LIST_NEXT(f, in_bucket);
        return f;
}

static void moved(struct flow *f, bool answered) {
        TAILQ_REMOVE(&f->u->queues[f->answered], f, by_age);
        f->answered |= answered;
        f->moved_ms = nb_now_ms();
        TAILQ_INSERT_TAIL(&f->u->queues[f->answered], f, by_age);
}

/* Puts what moved since the last time into the totals. False: the limit is used up. */
static bool count(struct flow *f) {
        char host[ADDR_TEXT];
        if (f->up == f->told_up && f->down == f->told_down)
                return true;
        addr_format(&f->far.addr, host);
        bool left = report_bytes(f->u->g->report, host, f->limit, f->up - f->told_up, f->down - f->told_down);
        f->told_up = f->up;
        f->told_down = f->down;
        return left;
}

/* Ends a flow. `d`: it was cut off, by this decision. */
static void end(struct flow *f, const struct policy_decision *d, const char *reason) {
        struct udp *u = f->u;
        (void)count(f);
        struct report_event event = { .type = "connect",
                                      .allow = !reason,
                                      .ip = &f->far.addr,
                                      .port = f->far.port,
                                      .proto = "udp",
                                      .rule = d ? d->rule : f->limit,
                                      .reason = reason,
                                      .ended = true,
                                      .bytes_up = f->up,
                                      .bytes_down = f->down,
                                      .ms = nb_now_ms() - f->began_ms };
        report_event(u->g->report, &event);
        event_del(&f->readable);
        nb_close(f->fd);
        TAILQ_REMOVE(&u->queues[f->answered], f, by_age);
        LIST_REMOVE(f, in_bucket);
        u->n_flows--;
        free(f);
}

static void tell_guest(struct flow *f, int code) {
        int meaning = open_meaning(code);
        uint8_t quote[PACKET_QUOTE];
        struct packet_ends ends = {
                .from = NET_GUEST, .to = open_address(&f->far), .from_port = f->guest_port, .to_port = f->far.port
        };
        packet_quote_udp(quote, &ends, 0);
        if (meaning >= 0)
                open_unreachable(f->u->raw_fd, &f->far, (enum packet_unreachable)meaning, quote, sizeof(quote));
}

/* ---- from the far end */

static void on_answer(evutil_socket_t fd, short what, void *user) {
        struct flow *f = user;
        struct udp *u = f->u;
        (void)what;
        for (unsigned i = 0; i < DATAGRAMS_AT_ONCE; i++) {
                ssize_t n = recv(fd, u->datagram, sizeof(u->datagram), MSG_DONTWAIT);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n < 0) { /* what ICMP said about an earlier datagram */
                        tell_guest(f, errno);
                        continue;
                }
                (void)raw_send_udp(u->raw_fd, &f->far.addr, f->far.port, f->guest_port, u->datagram, (size_t)n);
                f->down += (uint64_t)n;
                moved(f, true);
        }
}

/* ---- from the guest */

/* A connected socket of the host. -errno. */
static int make_socket(const struct open_far *far) {
        struct sockaddr_storage to;
        socklen_t len = addr_to_sockaddr(&far->addr, far->port, &to);
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, len) < 0)
                return -errno;
        /* the guest is told of no path's MTU, so its datagrams may be cut on the way */
        (void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &(int){ IP_PMTUDISC_DONT }, sizeof(int));
        return nb_steal_fd(&fd);
}

/* Makes room for one more. False: everything is in use. */
static bool make_room(struct udp *u) {
        uint64_t now = nb_now_ms();
        for (unsigned i = 0; i < 2 && u->n_flows >= FLOWS_MAX; i++) {
                struct flow *oldest = TAILQ_FIRST(&u->queues[i]);
                if (oldest && now - oldest->moved_ms >= EVICT_MS)
                        end(oldest, NULL, NULL);
        }
        return u->n_flows < FLOWS_MAX;
}

static struct flow *add(struct udp *u, const struct open_far *far, uint16_t guest_port, int fd) {
        struct flow *f = nb_calloc(1, sizeof(*f));
        *f = (struct flow){ .u = u, .far = *far, .guest_port = guest_port, .fd = fd, .limit = open_limit(u->g, far) };
        f->began_ms = f->moved_ms = nb_now_ms();
        (void)event_assign(&f->readable, u->g->base, fd, EV_READ | EV_PERSIST, on_answer, f);
        TAILQ_INSERT_TAIL(&u->queues[0], f, by_age);
        LIST_INSERT_HEAD(bucket(u, far, guest_port), f, in_bucket);
        if (u->n_flows++ == 0)
                (void)event_add(&u->sweep, &(struct timeval){ .tv_sec = SWEEP_MS / 1000 });
        (void)event_add(&f->readable, NULL);
        return f;
}

/* The flow of a datagram, made if it may be; NULL: the guest was told why not. */
static struct flow *begin(struct udp *u, const struct open_far *far, uint16_t guest_port, size_t len) {
        uint8_t quote[PACKET_QUOTE];
        struct packet_ends ends = { .from = NET_GUEST, .to = open_address(far), .from_port = guest_port, .to_port = far->port };
        packet_quote_udp(quote, &ends, len);
        struct policy_decision d = open_may(u->g, far), by_limit = { .rule = open_limit(u->g, far) };
        const char *reason = NULL;
        int fd = -1;
        if (d.allow && by_limit.rule && report_spent(u->g->report, by_limit.rule)) {
                d = by_limit;
                reason = "the rule's limit is used up";
        } else if (d.allow && !make_room(u)) {
                d.allow = false;
                reason = "too many UDP flows";
        } else if (d.allow) {
                fd = make_socket(far);
                d.allow = fd >= 0;
                reason = fd < 0 ? strerror(-fd) : NULL;
        }
        if (!d.allow) {
                open_refuse(u->g, u->raw_fd, far, &d, reason, quote, sizeof(quote));
                return NULL;
        }
        struct flow *f = add(u, far, guest_port, fd);
        report_event(
            u->g->report,
            &(struct report_event){
                .type = "connect", .allow = true, .ip = &far->addr, .port = far->port, .proto = "udp", .rule = f->limit });
        return f;
}

static void pass(struct udp *u, const struct open_far *far, uint16_t guest_port, size_t len) {
        struct flow *f = find(u, far, guest_port);
        if (!f)
                f = begin(u, far, guest_port, len);
        if (!f)
                return;
        ssize_t n = send(f->fd, u->datagram, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) { /* perhaps only what ICMP said about an earlier one */
                tell_guest(f, errno);
                n = send(f->fd, u->datagram, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        moved(f, false);
        if (n < 0)
                return;
        f->up += len;
        if (f->limit && !count(f))
                end(f, NULL, "the rule's limit is used up");
}

/* Where a redirected datagram was going. */
static bool destination(struct msghdr *m, struct open_far *ret) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
                struct sockaddr_in to;
                if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_ORIGDSTADDR || c->cmsg_len < CMSG_LEN(sizeof(to)))
                        continue;
                memcpy(&to, CMSG_DATA(c), sizeof(to));
                *ret = open_far(ntohl(to.sin_addr.s_addr), ntohs(to.sin_port));
                return to.sin_family == AF_INET && to.sin_port != 0;
        }
        return false;
}

static void on_guest(evutil_socket_t fd, short what, void *user) {
        struct udp *u = user;
        (void)what;
        for (unsigned i = 0; i < DATAGRAMS_AT_ONCE; i++) {
                struct sockaddr_in from = { 0 };
                struct iovec iov = { .iov_base = u->datagram, .iov_len = sizeof(u->datagram) };
                _Alignas(struct cmsghdr) char control[256];
                struct msghdr m = { .msg_name = &from,
                                    .msg_namelen = sizeof(from),
                                    .msg_iov = &iov,
                                    .msg_iovlen = 1,
                                    .msg_control = control,
                                    .msg_controllen = sizeof(control) };
                ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        gateway_fail(u->g, "cannot read the guest's datagrams: %s", strerror(errno));
                if (n < 0)
                        return;
                struct open_far far;
                if (from.sin_family == AF_INET && from.sin_addr.s_addr == htonl(NET_GUEST) && destination(&m, &far))
                        pass(u, &far, ntohs(from.sin_port), (size_t)n);
        }
}

/* ---- time, and changes of policy */

static void on_sweep(evutil_socket_t fd, short what, void *user) {
        static const uint64_t idle[2] = { IDLE_ASKED_MS, IDLE_ANSWERED_MS };
        struct udp *u = user;
        struct flow *f;
        (void)fd;
        (void)what;
        uint64_t now = nb_now_ms();
        for (unsigned i = 0; i < 2; i++) {
                while ((f = TAILQ_FIRST(&u->queues[i])) && now - f->moved_ms >= idle[i])
                        end(f, NULL, NULL);
                TAILQ_FOREACH_REVERSE(f, &u->queues[i], flow_queue, by_age) {
                        if (now - f->moved_ms > 2 * SWEEP_MS)
                                break;
                        (void)count(f);
                }
        }
        if (u->n_flows > 0)
                (void)event_add(&u->sweep, &(struct timeval){ .tv_sec = SWEEP_MS / 1000 });
}

void udp_recheck(struct udp *u) {
        if (!u)
                return;
        for (unsigned i = 0; i < 2; i++) {
                for (struct flow *f = TAILQ_FIRST(&u->queues[i]), *next; f; f = next) {
                        next = TAILQ_NEXT(f, by_age);
                        struct policy_decision d = open_may(u->g, &f->far);
                        char host[ADDR_TEXT];
                        f->limit = open_limit(u->g, &f->far);
                        if (d.allow)
                                continue;
                        addr_format(&f->far.addr, host);
                        NB_AUTO_FREE char *why = policy_explain(&d, host, f->far.port);
                        end(f, &d, why);
                }
        }
        icmp_recheck(u->icmp);
}

struct icmp *udp_icmp(struct udp *u) {
        return u ? u->icmp : NULL;
}

int udp_new(struct gateway *g, int fd, int raw_fd, struct udp **ret, struct nb_error *err) {
        struct udp *u = nb_calloc(1, sizeof(*u));
        u->g = g;
        u->fd = fd;
        u->raw_fd = raw_fd;
        u->seed = nb_now_ns() ^ (uintptr_t)u;
        TAILQ_INIT(&u->queues[0]);
        TAILQ_INIT(&u->queues[1]);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ RECEIVE_BUFFER }, sizeof(int));
        (void)evtimer_assign(&u->sweep, g->base, on_sweep, u);
        if (event_assign(&u->readable, g->base, fd, EV_READ | EV_PERSIST, on_guest, u) < 0 ||
            event_add(&u->readable, NULL) < 0) {
                free(u);
                return nb_fail(err, EIO, "cannot wait for the guest's datagrams");
        }
        u->icmp = icmp_new(g, raw_fd);
        *ret = u;
        return 0;
}

void udp_free(struct udp *u) {
        if (!u)
                return;
        for (unsigned i = 0; i < 2; i++)
                for (struct flow *f = TAILQ_FIRST(&u->queues[i]), *next; f; f = next) {
                        next = TAILQ_NEXT(f, by_age);
                        end(f, NULL, NULL);
                }
        event_del(&u->readable);
        event_del(&u->sweep);
        icmp_free(u->icmp);
        free(u);
}
