/* ICMP echo of mode open: requests that the kernel logs, a "ping socket" of the host for each far end and id, and replies that
 * seem to come from there. Where the host lets nobody have such sockets, that is said once and each request is refused. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/impl.h"
#include "gateway/open.h"

#define PINGS_MAX 64u
#define IDLE_MS 15000u
#define SWEEP_MS 1000u
#define RATE 100u /* requests a second */
#define REPLIES_AT_ONCE 32u
#define REPLY_MAX (NET_MTU - PACKET_IP_HEADER)

struct ping {
        struct icmp *i;
        int fd; /* -1: free place */
        struct open_far far;
        uint16_t id; /* the guest's; the socket's own is another */
        struct event readable;
        uint64_t began_ms, moved_ms, up, down;
};
struct icmp {
        struct gateway *g;
        int raw_fd;
        bool told; /* that the host allows no ping sockets */
        struct event sweep;
        bool sweeping;
        uint64_t tokens, filled_ms; /* in thousandths of a request */
        struct ping pings[PINGS_MAX];
};

static void end(struct ping *p, const struct policy_decision *d, const char *reason) {
        char host[ADDR_TEXT];
        struct report_event event = { .type = "connect",
                                      .allow = !reason,
                                      .ip = &p->far.addr,
                                      .proto = "icmp",
                                      .rule = d ? d->rule : NULL,
                                      .reason = reason,
                                      .ended = true,
                                      .bytes_up = p->up,
                                      .bytes_down = p->down,
                                      .ms = nb_now_ms() - p->began_ms };
        report_event(p->i->g->report, &event);
        addr_format(&p->far.addr, host);
        (void)report_bytes(p->i->g->report, host, NULL, p->up, p->down);
        event_del(&p->readable);
        p->fd = nb_close(p->fd);
}

static uint16_t get16(const uint8_t *at) {
        return (uint16_t)(at[0] << 8 | at[1]);
}

static void on_reply(evutil_socket_t fd, short what, void *user) {
        struct ping *p = user;
        (void)what;
        for (unsigned i = 0; i < REPLIES_AT_ONCE; i++) {
                uint8_t reply[REPLY_MAX];
                ssize_t n = recv(fd, reply, sizeof(reply), MSG_DONTWAIT | MSG_TRUNC);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n < (ssize_t)PACKET_ECHO_HEADER || n > (ssize_t)sizeof(reply) || reply[0] != ICMP_IS_ECHO_REPLY)
                        continue; /* also what other ICMP messages said: ping(8) goes by time */
                struct packet_ends ends = { .from = open_address(&p->far), .to = NET_GUEST };
                struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(NET_GUEST) };
                NB_AUTO_BUF out = { 0 };
                packet_put_echo(&out, &ends, p->id, get16(reply + 6), reply + PACKET_ECHO_HEADER,
                                (size_t)n - PACKET_ECHO_HEADER);
                (void)sendto(p->i->raw_fd, nb_buf_bytes(&out), out.len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to,
                             sizeof(to));
                p->down += (uint64_t)n - PACKET_ECHO_HEADER;
                p->moved_ms = nb_now_ms();
        }
}

static void need_sweep(struct icmp *i) {
        if (!i->sweeping && event_add(&i->sweep, &(struct timeval){ .tv_sec = SWEEP_MS / 1000 }) == 0)
                i->sweeping = true;
}

static void on_sweep(evutil_socket_t fd, short what, void *user) {
        struct icmp *i = user;
        bool any = false;
        (void)fd;
        (void)what;
        i->sweeping = false;
        for (size_t k = 0; k < PINGS_MAX; k++) {
                struct ping *p = &i->pings[k];
                if (p->fd >= 0 && nb_now_ms() - p->moved_ms >= IDLE_MS)
                        end(p, NULL, NULL);
                any |= p->fd >= 0;
        }
        if (any)
                need_sweep(i);
}

static bool take_token(struct icmp *i) {
        uint64_t now = nb_now_ms(), more = (now - i->filled_ms) * RATE;
        i->filled_ms = now;
        i->tokens = more > RATE * 1000 - i->tokens ? RATE * 1000 : i->tokens + more;
        if (i->tokens < 1000)
                return false;
        i->tokens -= 1000;
        return true;
}

/* The place of this far end and id, or the one to use for it: a free one, or the one idle longest. */
static struct ping *place(struct icmp *i, const struct open_far *far, uint16_t id) {
        struct ping *use = &i->pings[0];
        for (size_t k = 0; k < PINGS_MAX; k++) {
                struct ping *p = &i->pings[k];
                if (p->fd >= 0 && p->id == id && addr_equal(&p->far.addr, &far->addr))
                        return p;
                if (use->fd >= 0 && (p->fd < 0 || p->moved_ms < use->moved_ms))
                        use = p;
        }
        if (use->fd >= 0)
                end(use, NULL, NULL);
        return use;
}

static int begin(struct icmp *i, struct ping *p, const struct open_far *far, uint16_t id) {
        struct sockaddr_storage to;
        socklen_t len = addr_to_sockaddr(&far->addr, 0, &to);
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
        if (fd < 0 && (errno == EACCES || errno == EPERM) && !i->told) {
                i->told = true;
                report_event(i->g->report,
                             &(struct report_event){ .type = "error",
                                                     .proto = "icmp",
                                                     .reason = "the host lets the gateway send no echo requests; as root: "
                                                               "sysctl net.ipv4.ping_group_range=\"0 2147483647\"" });
        }
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, len) < 0)
                return -errno;
        *p = (struct ping){ .i = i, .fd = nb_steal_fd(&fd), .far = *far, .id = id, .began_ms = nb_now_ms() };
        (void)event_assign(&p->readable, i->g->base, p->fd, EV_READ | EV_PERSIST, on_reply, p);
        (void)event_add(&p->readable, NULL);
        need_sweep(i);
        return 0;
}

void icmp_echo(struct gateway *g, const uint8_t *packet, size_t len) {
        struct icmp *i = udp_icmp(g->udp);
        struct packet p;
        if (!i || packet_read(packet, len, &p) < 0 || p.from != NET_GUEST || p.fragment || p.protocol != IPPROTO_ICMP ||
            p.payload_len < PACKET_ECHO_HEADER || p.payload_len > REPLY_MAX || p.payload[0] != ICMP_IS_ECHO ||
            p.payload[1] != 0 || packet_sum(p.payload, p.payload_len, 0) != 0)
                return;
        struct open_far far = open_far(p.to, 0);
        struct policy_decision d = open_may(g, &far);
        if (!d.allow) {
                open_refuse(g, i->raw_fd, &far, &d, NULL, packet, len);
                return;
        }
        if (!take_token(i))
                return;
        struct ping *ping = place(i, &far, get16(p.payload + 4));
        int r = ping->fd >= 0 ? 0 : begin(i, ping, &far, get16(p.payload + 4));
        if (r < 0) {
                open_refuse(g, i->raw_fd, &far, &(struct policy_decision){ 0 }, strerror(-r), packet,
                            len); /* no rule refused it */
                return;
        }
        /* the kernel puts in its own id and sum */
        if (send(ping->fd, p.payload, p.payload_len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
                ping->up += p.payload_len - PACKET_ECHO_HEADER;
        ping->moved_ms = nb_now_ms();
}

void icmp_recheck(struct icmp *i) {
        for (size_t k = 0; k < PINGS_MAX; k++) {
                struct ping *p = &i->pings[k];
                if (p->fd < 0)
                        continue;
                char host[ADDR_TEXT];
                struct policy_decision d = open_may(i->g, &p->far);
                addr_format(&p->far.addr, host);
                NB_AUTO_FREE char *why = d.allow ? NULL : policy_explain(&d, host, 0);
                if (why)
                        end(p, &d, why);
        }
}

struct icmp *icmp_new(struct gateway *g, int raw_fd) {
        struct icmp *i = nb_calloc(1, sizeof(*i));
        i->g = g;
        i->raw_fd = raw_fd;
        for (size_t k = 0; k < PINGS_MAX; k++)
                i->pings[k].fd = -1;
        (void)evtimer_assign(&i->sweep, g->base, on_sweep, i);
        return i;
}

void icmp_free(struct icmp *i) {
        if (!i)
                return;
        for (size_t k = 0; k < PINGS_MAX; k++)
                if (i->pings[k].fd >= 0)
                        end(&i->pings[k], NULL, NULL);
        event_del(&i->sweep);
        free(i);
}
