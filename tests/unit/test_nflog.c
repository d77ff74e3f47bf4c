/* Packets: read from what the kernel logs, and made for the guest. */
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/nflog_read.h"

#define FAR 0x08080808u

static const uint8_t guest_mac[6] = { 2, 0x6e, 0x62, 0, 0, 2 };

static void put_attribute(struct nb_buf *b, uint16_t type, const void *bytes, size_t len) {
        struct nlattr a = { .nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = type };
        nb_buf_add(b, &a, sizeof(a));
        nb_buf_add(b, bytes, len);
        nb_buf_add(b, "\0\0\0", NLA_ALIGN(len) - len);
}

/* A message as the kernel sends it. */
static void put_message(struct nb_buf *b, uint16_t group, uint16_t ethertype, const uint8_t *mac, bool tagged,
                        const void *bytes, size_t len) {
        NB_AUTO_BUF body = { 0 };
        struct nfgenmsg gen = { .nfgen_family = AF_INET, .res_id = htons(group) };
        nb_buf_add(&body, &gen, sizeof(gen));
        struct nfulnl_msg_packet_hdr hdr = { .hw_protocol = htons(ethertype) };
        put_attribute(&body, NFULA_PACKET_HDR, &hdr, sizeof(hdr));
        put_attribute(&body, NFULA_PREFIX, "", 1);
        struct nfulnl_msg_packet_hw hw = { .hw_addrlen = htons(6) };
        if (mac) {
                memcpy(hw.hw_addr, mac, 6);
                put_attribute(&body, NFULA_HWADDR, &hw, sizeof(hw));
        }
        if (tagged)
                put_attribute(&body, NFULA_VLAN | NLA_F_NESTED, "", 0);
        put_attribute(&body, NFULA_PAYLOAD, bytes, len);
        struct nlmsghdr head = { .nlmsg_len = (uint32_t)(NLMSG_HDRLEN + body.len),
                                 .nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET };
        nb_buf_add(b, &head, sizeof(head));
        nb_buf_add(b, nb_buf_bytes(&body), body.len);
        nb_buf_add(b, "\0\0\0", NLMSG_ALIGN(body.len) - body.len);
}

static int add_packet(void *user, const uint8_t *packet, size_t len) {
        nb_buf_add(user, packet, len);
        return 0;
}

static void make(struct nb_buf *b, uint32_t from, uint32_t to, uint8_t protocol) {
        const struct packet_ends ends = { .from = from, .to = to, .from_port = 40000, .to_port = 443 };
        assert_int_equal(packet_make_udp(&ends, "hello", 5, NET_MTU, add_packet, b), 0);
        b->data[9] = protocol;
}

static struct nflog_entry read_one(const struct nb_buf *message) {
        struct nflog_entry e, none;
        size_t at = 0;
        assert_int_equal(nflog_next(nb_buf_bytes(message), message->len, &at, &e), 1);
        assert_int_equal(at, message->len);
        assert_int_equal(nflog_next(nb_buf_bytes(message), message->len, &at, &none), 0);
        return e;
}

static void test_refused(void **state) {
        (void)state;
        static const struct {
                uint8_t protocol;
                const char *name;
                uint16_t port;
        } cases[] = { { IPPROTO_TCP, "tcp", 443 }, { IPPROTO_UDP, "udp", 443 },  { IPPROTO_ICMP, "icmp", 0 },
                      { IPPROTO_GRE, "47", 0 },    { IPPROTO_SCTP, "132", 443 }, { 255, "255", 0 } };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_BUF packet = { 0 }, message = { 0 };
                char scratch[NFLOG_PROTO_TEXT];
                make(&packet, NET_GUEST, FAR, cases[i].protocol);
                put_message(&message, NET_LOG_DENIED, 0x0800, guest_mac, false, nb_buf_bytes(&packet), packet.len);
                struct nflog_entry e = read_one(&message);
                assert_int_equal(e.group, NET_LOG_DENIED);
                assert_int_equal(e.kind, NFLOG_IPV4);
                assert_int_equal(e.packet.to, FAR);
                assert_int_equal(e.packet.to_port, cases[i].port);
                assert_int_equal(e.len, packet.len);
                assert_string_equal(nflog_proto(&e, scratch), cases[i].name);
        }
}

static void test_frames(void **state) {
        (void)state;
        static const uint8_t other_mac[6] = { 2, 0x6e, 0x62, 0, 0, 3 };
        NB_AUTO_BUF good = { 0 }, spoofed = { 0 };
        make(&good, NET_GUEST, FAR, IPPROTO_UDP);
        make(&spoofed, NET_GUEST + 1, FAR, IPPROTO_UDP);
        struct {
                uint16_t ethertype;
                const uint8_t *mac;
                bool tagged;
                const struct nb_buf *bytes;
                const char *name;
        } cases[] = {
                { 0x0800, guest_mac, false, &good, "udp" },     { 0x0800, NULL, false, &good, "udp" },
                { 0x0800, other_mac, false, &good, "spoofed" }, { 0x0800, guest_mac, false, &spoofed, "spoofed" },
                { 0x0800, guest_mac, true, &good, "vlan" },     { 0x8100, guest_mac, false, &good, "vlan" },
                { 0x88a8, guest_mac, false, &good, "vlan" },    { 0x0806, guest_mac, false, &good, "arp" },
                { 0x0806, other_mac, false, &good, "spoofed" }, { 0x86dd, guest_mac, false, &good, "ipv6" },
                { 0x88cc, guest_mac, false, &good, "frame" },   { 0, guest_mac, false, &good, "frame" },
        };
        char scratch[NFLOG_PROTO_TEXT];
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_BUF message = { 0 };
                put_message(&message, NET_LOG_DENIED, cases[i].ethertype, cases[i].mac, cases[i].tagged,
                            nb_buf_bytes(cases[i].bytes), cases[i].bytes->len);
                struct nflog_entry e = read_one(&message);
                assert_string_equal(nflog_proto(&e, scratch), cases[i].name);
        }
        for (unsigned i = 0; i < 2; i++) { /* more to come; not the first */
                NB_AUTO_BUF message = { 0 };
                good.data[6] = i ? 0 : 0x20;
                good.data[7] = i ? 1 : 0;
                put_message(&message, NET_LOG_DENIED, 0x0800, guest_mac, false, nb_buf_bytes(&good), good.len);
                struct nflog_entry e = read_one(&message);
                assert_string_equal(nflog_proto(&e, scratch), "fragment");
                assert_int_equal(e.packet.to_port, 0);
        }
        good.data[6] = 0x40; /* must not be fragmented: nothing wrong with that */
        good.data[7] = 0;
        NB_AUTO_BUF message = { 0 };
        put_message(&message, NET_LOG_DENIED, 0x0800, guest_mac, false, nb_buf_bytes(&good), good.len);
        struct nflog_entry e = read_one(&message);
        assert_string_equal(nflog_proto(&e, scratch), "udp");
        good.data[0] = 0x46;
        NB_AUTO_BUF options = { 0 };
        put_message(&options, NET_LOG_DENIED, 0x0800, guest_mac, false, nb_buf_bytes(&good), good.len);
        e = read_one(&options);
        assert_string_equal(nflog_proto(&e, scratch), "options");
}

static void test_cut_short(void **state) {
        (void)state;
        NB_AUTO_BUF packet = { 0 };
        make(&packet, NET_GUEST, FAR, IPPROTO_UDP);
        for (size_t n = 0; n <= packet.len; n++) {
                NB_AUTO_BUF message = { 0 };
                put_message(&message, NET_LOG_DENIED, 0x0800, guest_mac, false, nb_buf_bytes(&packet), n);
                struct nflog_entry e = read_one(&message);
                assert_int_equal(e.kind, n < 20 ? NFLOG_OTHER : NFLOG_IPV4);
                assert_int_equal(e.packet.to_port, n < 24 ? 0 : 443);
                assert_int_equal(e.packet.payload_len, n < 20 ? 0 : n - 20);
        }
        static const uint8_t bad[][2] = { { 0, 0x65 }, { 0, 0x44 }, { 0, 0x4f }, { 2, 0xff }, { 3, 19 } };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                uint8_t bytes[40] = { 0 };
                struct packet p;
                memcpy(bytes, packet.data, packet.len);
                bytes[2] = 0;
                bytes[bad[i][0]] = bad[i][1];
                assert_int_equal(packet_read(bytes, packet.len, &p), bad[i][0] == 2 ? 0 : -EPROTO);
        }
}

/* Wrong lengths of the netlink parts: nothing beyond them is read, and reading ends. */
static void test_bad_messages(void **state) {
        (void)state;
        NB_AUTO_BUF packet = { 0 }, message = { 0 };
        make(&packet, NET_GUEST, FAR, IPPROTO_UDP);
        put_message(&message, NET_LOG_DENIED, 0x0800, guest_mac, true, nb_buf_bytes(&packet), packet.len);
        put_message(&message, NET_LOG_ECHO, 0x0800, guest_mac, false, nb_buf_bytes(&packet), packet.len);
        size_t at = 0;
        struct nflog_entry e;
        assert_int_equal(nflog_next(nb_buf_bytes(&message), message.len, &at, &e), 1);
        assert_int_equal(nflog_next(nb_buf_bytes(&message), message.len, &at, &e), 1);
        assert_int_equal(e.group, NET_LOG_ECHO);
        for (size_t n = 0; n < message.len; n++)
                for (unsigned flip = 0; flip < 8; flip++) {
                        NB_AUTO_FREE uint8_t *copy = nb_calloc(1, message.len - n);
                        memcpy(copy, nb_buf_bytes(&message), message.len - n);
                        copy[(n * 7 + flip) % (message.len - n)] ^= (uint8_t)(1u << flip);
                        unsigned count = 0;
                        for (at = 0; nflog_next(copy, message.len - n, &at, &e) == 1; count++)
                                assert_true(at <= message.len - n);
                        assert_true(count <= 2 && at == message.len - n);
                }
}

struct datagram {
        uint8_t bytes[65536];
        size_t len, packets, largest;
        bool last;
};

static int gather(void *user, const uint8_t *packet, size_t len) {
        struct datagram *d = user;
        struct packet p;
        assert_int_equal(packet_read(packet, len, &p), 0);
        assert_int_equal(packet_sum(packet, 20, 0), 0);
        size_t offset = (size_t)((packet[6] & 0x1f) << 8 | packet[7]) * 8;
        assert_int_equal(offset, d->len);
        memcpy(d->bytes + offset, p.payload, p.payload_len);
        d->len += p.payload_len;
        d->packets++;
        d->largest = len > d->largest ? len : d->largest;
        d->last = !(packet[6] & 0x20);
        return 0;
}

static void test_made_udp(void **state) {
        (void)state;
        static const size_t sizes[] = { 0, 1, 2, 511, 1471, 1472, 1473, 2952, 2953, 65507 };
        const struct packet_ends ends = { .from = FAR, .to = NET_GUEST, .from_port = 443, .to_port = 40000, .id = 7 };
        NB_AUTO_FREE uint8_t *bytes = nb_calloc(1, 65507);
        NB_AUTO_FREE struct datagram *d = nb_calloc(1, sizeof(*d));
        for (size_t i = 0; i < 65507; i++)
                bytes[i] = (uint8_t)(i * 31 >> 3);
        for (size_t i = 0; i < NB_ARRAY_LEN(sizes); i++) {
                memset(d, 0, sizeof(*d));
                assert_int_equal(packet_make_udp(&ends, bytes, sizes[i], 1500, gather, d), 0);
                assert_true(d->last);
                assert_int_equal(d->len, sizes[i] + 8);
                assert_int_equal(d->packets, (sizes[i] + 8 + 1479) / 1480);
                assert_true(d->largest <= 1500);
                assert_memory_equal(d->bytes + 8, bytes, sizes[i]);
                assert_memory_equal(d->bytes, "\x01\xbb\x9c\x40", 4);
                uint8_t pseudo[12] = { 8, 8, 8, 8, 198, 19, 255, 254, 0, 17, d->bytes[4], d->bytes[5] };
                uint16_t partial = (uint16_t)~packet_sum(pseudo, 12, 0);
                assert_int_equal(packet_sum(d->bytes, d->len, partial), 0);
        }
        assert_int_equal(packet_make_udp(&ends, bytes, 65508, 1500, gather, d), -EMSGSIZE);
}

static void test_made_icmp(void **state) {
        (void)state;
        const struct packet_ends ends = { .from = FAR, .to = NET_GUEST };
        struct packet p;
        NB_AUTO_BUF echo = { 0 }, error = { 0 }, udp = { 0 };
        packet_put_echo(&echo, &ends, 0x1234, 5, "abc", 3);
        assert_int_equal(packet_read(nb_buf_bytes(&echo), echo.len, &p), 0);
        assert_int_equal(p.protocol, IPPROTO_ICMP);
        assert_int_equal(p.payload_len, 11);
        assert_int_equal(packet_sum(p.payload, 11, 0), 0);
        assert_memory_equal(p.payload + 4, "\x12\x34\0\5abc", 7);
        make(&udp, NET_GUEST, FAR, IPPROTO_UDP);
        packet_put_unreachable(&error, &ends, UNREACHABLE_PORT, nb_buf_bytes(&udp), udp.len);
        assert_int_equal(packet_read(nb_buf_bytes(&error), error.len, &p), 0);
        assert_int_equal(p.payload_len, 8 + 28);
        assert_int_equal(p.payload[0], 3);
        assert_int_equal(p.payload[1], 3);
        assert_memory_equal(p.payload + 8, nb_buf_bytes(&udp), 28);
        /* what is made to be quoted looks the same */
        uint8_t quote[PACKET_QUOTE];
        packet_quote_udp(quote, &(struct packet_ends){ .from = NET_GUEST, .to = FAR, .from_port = 40000, .to_port = 443 }, 5);
        assert_memory_equal(quote, nb_buf_bytes(&udp), 26);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refused),      cmocka_unit_test(test_frames),   cmocka_unit_test(test_cut_short),
                cmocka_unit_test(test_bad_messages), cmocka_unit_test(test_made_udp), cmocka_unit_test(test_made_icmp),
        };
        return cmocka_run_group_tests_name("nflog", tests, NULL, NULL);
}
