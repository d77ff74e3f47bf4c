/* Frames as a hostile guest may send them, written to the TAP of a network that netns_make() made, and what the kernel makes of
 * them: what nobody may answer gets no answer, what is refused is refused at once, the rest reaches the gateway's sockets and
 * nothing else. Skipped where namespaces or the TAP device cannot be had. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/netns.h"
#include "gateway/gateway.h"
#include "jail/userns.h"

#define FRAME_MAX 2048
#define QUIET_MS 60        /* an answer of the kernel comes while the frame is being written; this is for slow machines */
#define SURE_MS 30000      /* for one that must come */
#define PUBLIC 0x08080808u /* 8.8.8.8: nothing but this kernel ever sees it */

static const uint8_t guest_mac[6] = { 2, 0x6e, 0x62, 0, 0, 2 }, gateway_mac[6] = { 2, 0x6e, 0x62, 0, 0, 1 },
                     other_mac[6] = { 2, 1, 2, 3, 4, 5 };

/* What is sent; zero fields are the usual. */
struct shape {
        uint16_t own_port; /* of the guest: each frame has one of its own, so that answers can be told apart */
        const uint8_t *from_mac, *to_mac;
        uint32_t source, dest;
        uint8_t proto;
        uint16_t port;
        uint16_t frag;    /* frag_off field, host order */
        uint16_t tags[2]; /* VLAN ids + 1 */
        bool options;     /* a no-operation option in the IPv4 header */
        bool ipv6;        /* the type of IPv6 on the same bytes */
};

static uint16_t sum(const void *bytes, size_t len, uint32_t begin) {
        const uint8_t *p = bytes;
        for (size_t i = 0; i < len; i += 2)
                begin += (uint32_t)p[i] << 8 | (i + 1 < len ? p[i + 1] : 0);
        while (begin >> 16)
                begin = (begin & 0xffff) + (begin >> 16);
        return (uint16_t)~begin;
}

static void put16(uint8_t **at, uint16_t value) {
        *(*at)++ = (uint8_t)(value >> 8);
        *(*at)++ = (uint8_t)value;
}

static void put_sum(uint8_t *at, uint16_t value) {
        at[0] = (uint8_t)(value >> 8);
        at[1] = (uint8_t)value;
}

static size_t put_transport(const struct shape *s, uint8_t *to, uint32_t source, uint32_t dest) {
        size_t len = s->proto == IPPROTO_TCP ? 20 : s->proto == IPPROTO_UDP ? 12 : 8;
        memset(to, 0, len);
        uint8_t *at = to;
        if (s->proto == IPPROTO_ICMP) {
                to[0] = ICMP_ECHO;
                put_sum(to + 2, sum(to, len, 0));
                return len;
        }
        put16(&at, s->own_port);
        put16(&at, s->port);
        if (s->proto == IPPROTO_TCP) {
                to[12] = 5 << 4;
                to[13] = TH_SYN;
                to[14] = 0xff;
        } else {
                put16(&at, (uint16_t)len);
        }
        uint32_t pseudo = (source >> 16) + (source & 0xffff) + (dest >> 16) + (dest & 0xffff) + s->proto + (uint32_t)len;
        if (s->proto == IPPROTO_TCP || s->proto == IPPROTO_UDP)
                put_sum(to + (s->proto == IPPROTO_TCP ? 16 : 6), sum(to, len, pseudo));
        return len;
}

static void send_shape(int tap, const struct shape *s) {
        uint8_t frame[FRAME_MAX] = { 0 }, *at = frame + sizeof(struct virtio_net_hdr);
        uint32_t source = s->source ? s->source : NET_GUEST, dest = s->dest ? s->dest : PUBLIC;
        memcpy(at, s->to_mac ? s->to_mac : gateway_mac, 6);
        memcpy(at + 6, s->from_mac ? s->from_mac : guest_mac, 6);
        at += 12;
        for (size_t i = 0; i < NB_ARRAY_LEN(s->tags); i++)
                if (s->tags[i]) {
                        put16(&at, i == 0 && s->tags[1] ? 0x88a8 : ETHERTYPE_VLAN);
                        put16(&at, (uint16_t)(s->tags[i] - 1));
                }
        put16(&at, s->ipv6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
        struct iphdr *ip = (struct iphdr *)(void *)at;
        size_t head = s->options ? 24 : 20;
        size_t len = put_transport(s, at + head, source, dest);
        struct iphdr made = { .version = 4,
                              .ihl = (unsigned)(head / 4) & 15,
                              .ttl = 64,
                              .protocol = s->proto,
                              .tot_len = htons((uint16_t)(head + len)),
                              .frag_off = htons(s->frag),
                              .saddr = htonl(source),
                              .daddr = htonl(dest) };
        memcpy(ip, &made, sizeof made);
        if (s->options)
                memset(at + 20, 1, 4);
        put_sum(at + offsetof(struct iphdr, check), sum(at, head, 0));
        size_t whole = (size_t)(at - frame) + head + len;
        assert_int_equal(write(tap, frame, whole), whole);
}

enum answer { NOTHING, RESET, SYN_ACK, UNREACHABLE, OTHER };

/* The first IPv4 packet that the kernel sends to this port of the guest, until none came for ms. */
static enum answer read_answer(int tap, uint16_t own_port, int ms) {
        uint8_t frame[FRAME_MAX];
        for (;;) {
                struct pollfd p = { .fd = tap, .events = POLLIN };
                if (poll(&p, 1, ms) <= 0)
                        return NOTHING;
                ssize_t n = read(tap, frame, sizeof frame);
                const uint8_t *eth = frame + sizeof(struct virtio_net_hdr), *ip = eth + 14;
                if (n < 52 || eth[12] != 8 || eth[13] != 0)
                        continue;
                assert_memory_equal(eth, guest_mac, 6);
                const uint8_t *next = ip + (ip[0] & 15) * 4;
                if (ip[9] == IPPROTO_TCP && (next[2] << 8 | next[3]) != own_port)
                        continue; /* an earlier answer again */
                if (ip[9] == IPPROTO_TCP)
                        return next[13] & TH_RST                                     ? RESET
                               : (next[13] & (TH_SYN | TH_ACK)) == (TH_SYN | TH_ACK) ? SYN_ACK
                                                                                     : OTHER;
                if (ip[9] == IPPROTO_ICMP)
                        return next[0] == ICMP_DEST_UNREACH && next[1] == ICMP_PKT_FILTERED ? UNREACHABLE : OTHER;
                return OTHER;
        }
}

static bool has_input(int fd, int ms) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        return poll(&p, 1, ms) == 1;
}

#define CHECK(condition)                                             \
        do {                                                         \
                if (!(condition)) {                                  \
                        fprintf(stderr, "not so: %s\n", #condition); \
                        return 1;                                    \
                }                                                    \
        } while (0)

static int expect(const struct netns *n, const char *what, struct shape shape, enum answer wanted) {
        static uint16_t next_port = 40000;
        shape.own_port = next_port++;
        send_shape(n->tap, &shape);
        enum answer got = read_answer(n->tap, shape.own_port, wanted == NOTHING ? QUIET_MS : SURE_MS);
        if (got != wanted)
                fprintf(stderr, "%s: answer %d instead of %d\n", what, (int)got, (int)wanted);
        return got != wanted;
}

/* In both modes. */
static int common(const struct netns *n) {
        const struct shape syn = { .proto = IPPROTO_TCP, .port = 443, .dest = NET_SYNTHETIC + 5 };
        struct shape s;
        int bad = 0;
        bad += expect(n, "synthetic address", syn, SYN_ACK);
        s = syn, s.from_mac = other_mac;
        bad += expect(n, "another card's address", s, NOTHING);
        s = syn, s.to_mac = (const uint8_t *)"\xff\xff\xff\xff\xff\xff";
        bad += expect(n, "broadcast frame", s, NOTHING);
        s = syn, s.source = NET_GUEST + 1;
        bad += expect(n, "another source", s, NOTHING);
        s = syn, s.source = NET_GATEWAY;
        bad += expect(n, "the gateway's source", s, NOTHING);
        s = syn, s.source = INADDR_LOOPBACK;
        bad += expect(n, "loopback source", s, NOTHING);
        s = syn, s.frag = IP_MF;
        bad += expect(n, "first fragment", s, NOTHING);
        s = syn, s.frag = 1;
        bad += expect(n, "later fragment", s, NOTHING);
        s = syn, s.options = true;
        bad += expect(n, "options", s, NOTHING);
        s = syn, s.ipv6 = true;
        bad += expect(n, "type of IPv6", s, NOTHING);
        s = syn, s.tags[0] = 1;
        bad += expect(n, "priority tag", s, NOTHING);
        s = syn, s.tags[0] = 6;
        bad += expect(n, "VLAN 5", s, NOTHING);
        s = syn, s.tags[0] = 6, s.tags[1] = 1;
        bad += expect(n, "two tags", s, NOTHING);
        s = syn, s.dest = NET_GATEWAY, s.port = NET_PORT_TCP;
        bad += expect(n, "the gateway's port itself", s, RESET);
        s = syn, s.dest = NET_GATEWAY, s.port = 22;
        bad += expect(n, "the gateway's address", s, RESET);
        s = syn, s.dest = 0x0a010203;
        bad += expect(n, "a private address", s, RESET);
        s = syn, s.dest = 0xa9fea9fe;
        bad += expect(n, "metadata", s, RESET);
        s = (struct shape){ .proto = IPPROTO_UDP, .dest = 0xa9fea9fe, .port = 80 };
        bad += expect(n, "datagram to metadata", s, UNREACHABLE);
        s = (struct shape){ .proto = IPPROTO_UDP, .dest = NET_SYNTHETIC + 5, .port = 443 };
        bad += expect(n, "QUIC to a synthetic address", s, UNREACHABLE);
        s = (struct shape){ .proto = IPPROTO_GRE };
        bad += expect(n, "another protocol", s, UNREACHABLE);
        s = (struct shape){ .proto = IPPROTO_ICMP, .dest = 0x0a010203 };
        bad += expect(n, "echo to a private address", s, UNREACHABLE);
        CHECK(!has_input(n->dns_udp, QUIET_MS));
        CHECK(has_input(n->nflog, SURE_MS));
        s = (struct shape){ .proto = IPPROTO_UDP, .port = 53 };
        bad += expect(n, "query to any server", s, NOTHING);
        CHECK(has_input(n->dns_udp, SURE_MS));
        s = (struct shape){ .proto = IPPROTO_TCP, .port = 53 };
        bad += expect(n, "query over TCP", s, SYN_ACK);
        return bad;
}

static int filtered(const struct netns *n) {
        struct shape s = { .proto = IPPROTO_TCP, .port = 443 };
        int bad = expect(n, "a public address", s, RESET);
        s = (struct shape){ .proto = IPPROTO_UDP, .port = 443 };
        bad += expect(n, "a public address, UDP", s, UNREACHABLE);
        s = (struct shape){ .proto = IPPROTO_ICMP };
        return bad + expect(n, "echo", s, UNREACHABLE);
}

static int open_mode(const struct netns *n) {
        struct shape s = { .proto = IPPROTO_TCP, .port = 443 };
        int bad = expect(n, "a public address", s, SYN_ACK);
        CHECK(!has_input(n->udp, QUIET_MS));
        s = (struct shape){ .proto = IPPROTO_UDP, .port = 443 };
        bad += expect(n, "a public address, UDP", s, NOTHING);
        CHECK(has_input(n->udp, SURE_MS));
        s = (struct shape){ .proto = IPPROTO_ICMP };
        bad += expect(n, "echo", s, NOTHING);
        /* an answer that seems to come from the far end goes to the guest */
        uint8_t packet[28] = { 0x45, 0, 0, 28,  0,  0,   0,   0, 64,  IPPROTO_UDP, 0,    0, 8,
                               8,    8, 8, 198, 19, 255, 254, 1, 187, 0x9c,        0x40, 0, 8 };
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(NET_GUEST) };
        CHECK(sendto(n->raw, packet, sizeof packet, 0, (struct sockaddr *)&to, sizeof to) == sizeof packet);
        return bad + (read_answer(n->tap, 0, SURE_MS) != OTHER);
}

static int try_mode(enum policy_mode mode) {
        NB_AUTO_ERROR err = { 0 };
        struct policy p = { .mode = mode };
        struct netns n = NETNS_NONE;
        if (userns_enter(CLONE_NEWNS, &err) < 0 || access("/dev/net/tun", R_OK | W_OK) < 0)
                return 77;
        if (netns_make(&p, &n, &err) < 0) {
                nb_error_print(&err, stderr);
                return 1;
        }
        (void)read_answer(n.tap, 0, QUIET_MS); /* what the kernel says of itself when a device comes up */
        return (common(&n) + (mode == POLICY_OPEN ? open_mode(&n) : filtered(&n))) != 0;
}

static void run_mode(enum policy_mode mode) {
        pid_t pid = fork();
        if (pid == 0)
                _exit(try_mode(mode));
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(status, 0);
}

static void frames_in_filtered(void **state) {
        (void)state;
        run_mode(POLICY_FILTERED);
}

static void frames_in_open(void **state) {
        (void)state;
        run_mode(POLICY_OPEN);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(frames_in_filtered), cmocka_unit_test(frames_in_open) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
