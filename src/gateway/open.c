/* See open.h. Sending to the guest from addresses of the far ends is here, through the raw socket of the box side. */
#include "gateway/open.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/mem.h"

struct open_far open_far(uint32_t address, uint16_t port) {
        struct open_far far = { .addr.family = AF_INET, .port = port };
        uint32_t wire = htonl(address);
        memcpy(far.addr.bytes, &wire, sizeof(wire));
        return far;
}

uint32_t open_address(const struct open_far *far) {
        uint32_t wire;
        memcpy(&wire, far->addr.bytes, sizeof(wire));
        return ntohl(wire);
}

struct policy_decision open_may(struct gateway *g, const struct open_far *far) {
        struct policy_decision d = policy_address(g->policy, &far->addr, far->port, true);
        if (!d.allow)
                return d;
        d = policy_result(g->policy, &d, &far->addr, far->port, resolve_own(g->resolve, &far->addr));
        if (d.allow && d.reason == POLICY_BY_RULE) /* a range names the host's own address, for TCP */
                return (struct policy_decision){ .reason = POLICY_UDP, .rule = d.rule };
        return d;
}

const struct policy_rule *open_limit(struct gateway *g, const struct open_far *far) {
        struct policy_decision d = policy_address(g->policy, &far->addr, far->port, false);
        return d.allow && d.rule && d.rule->limit ? d.rule : NULL;
}

/* ---- to the guest */

static int raw_send(void *user, const uint8_t *packet, size_t len) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(NET_GUEST) };
        ssize_t n = sendto(*(int *)user, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to));
        return n < 0 ? -errno : 0;
}

int raw_send_udp(int raw_fd, const struct addr *from, uint16_t from_port, uint16_t to_port, const void *bytes, size_t len) {
        struct open_far far = { .addr = *from, .port = from_port };
        struct packet_ends ends = { .from = open_address(&far),
                                    .to = NET_GUEST,
                                    .from_port = from_port,
                                    .to_port = to_port,
                                    .id = (uint16_t)(nb_now_ns() >> 10) };
        return packet_make_udp(&ends, bytes, len, NET_MTU, raw_send, &raw_fd);
}

void open_unreachable(int raw_fd, const struct open_far *far, enum packet_unreachable code, const void *packet, size_t len) {
        struct packet_ends ends = { .from = open_address(far), .to = NET_GUEST };
        NB_AUTO_BUF out = { 0 };
        packet_put_unreachable(&out, &ends, code, packet, len);
        (void)raw_send(&raw_fd, nb_buf_bytes(&out), out.len);
}

void open_refuse(struct gateway *g, int raw_fd, const struct open_far *far, const struct policy_decision *d, const char *reason,
                 const void *packet, size_t len) {
        char text[ADDR_TEXT];
        addr_format(&far->addr, text);
        NB_AUTO_FREE char *why = reason ? nb_strdup(reason) : policy_explain(d, text, far->port);
        struct report_event event = { .type = "connect",
                                      .ip = &far->addr,
                                      .port = far->port,
                                      .proto = far->port ? "udp" : "icmp",
                                      .rule = d->rule,
                                      .reason = why };
        report_event(g->report, &event);
        open_unreachable(raw_fd, far, UNREACHABLE_PROHIBITED, packet, len);
}

int open_meaning(int code) {
        switch (code) {
        case ECONNREFUSED: return UNREACHABLE_PORT;
        case ENETUNREACH:
        case EHOSTUNREACH:
        case EHOSTDOWN: return UNREACHABLE_HOST;
        case EPERM:
        case EACCES: return UNREACHABLE_PROHIBITED;
        default: return -1;
        }
}
