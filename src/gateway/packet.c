/* Headers of IPv4, UDP and ICMP (see packet.h). Nothing here sends, receives or decides. */
#include "gateway/packet.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/mem.h"

#define FRAGMENT_MORE 0x2000u
#define FRAGMENT_OFFSET 0x1fffu
#define TTL 64u
#define QUOTED 8u /* bytes after the header that an error quotes */

static uint16_t get16(const uint8_t *at) {
        return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at) {
        return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void set16(uint8_t *at, unsigned value) {
        at[0] = (uint8_t)(value >> 8);
        at[1] = (uint8_t)value;
}

static void set32(uint8_t *at, uint32_t value) {
        set16(at, value >> 16);
        set16(at + 2, value & 0xffff);
}

static bool has_ports(uint8_t protocol) {
        return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE || protocol == IPPROTO_SCTP ||
               protocol == IPPROTO_DCCP;
}

int packet_read(const uint8_t *bytes, size_t len, struct packet *ret) {
        *ret = (struct packet){ 0 };
        if (len < PACKET_IP_HEADER || bytes[0] >> 4 != 4)
                return -EPROTO;
        size_t header = (size_t)(bytes[0] & 15u) * 4, total = get16(bytes + 2);
        if (header < PACKET_IP_HEADER || header > len || total < header)
                return -EPROTO;
        size_t captured = total < len ? total : len;
        *ret = (struct packet){
                .from = get32(bytes + 12),
                .to = get32(bytes + 16),
                .protocol = bytes[9],
                .fragment = get16(bytes + 6) & (FRAGMENT_MORE | FRAGMENT_OFFSET),
                .options = header > PACKET_IP_HEADER,
                .header = bytes,
                .payload = bytes + header,
                .payload_len = captured - header,
        };
        if (has_ports(ret->protocol) && !ret->fragment && ret->payload_len >= 4) {
                ret->from_port = get16(ret->payload);
                ret->to_port = get16(ret->payload + 2);
        }
        return 0;
}

static uint32_t add_up(const uint8_t *bytes, size_t len, uint32_t sum) {
        for (size_t i = 0; i + 1 < len; i += 2)
                sum += get16(bytes + i);
        if (len & 1)
                sum += (uint32_t)bytes[len - 1] << 8;
        return (sum & 0xffff) + (sum >> 16); /* 64 KiB of words fit, with what went before */
}

uint16_t packet_sum(const void *bytes, size_t len, uint32_t start) {
        uint32_t sum = add_up(bytes, len, start);
        return (uint16_t) ~((sum & 0xffff) + (sum >> 16));
}

static void make_ip(uint8_t *at, const struct packet_ends *ends, uint8_t protocol, unsigned fragment, size_t payload) {
        memset(at, 0, PACKET_IP_HEADER);
        at[0] = 4 << 4 | PACKET_IP_HEADER / 4;
        set16(at + 2, (unsigned)(PACKET_IP_HEADER + payload));
        set16(at + 4, ends->id);
        set16(at + 6, fragment);
        at[8] = TTL;
        at[9] = protocol;
        set32(at + 12, ends->from);
        set32(at + 16, ends->to);
        set16(at + 10, packet_sum(at, PACKET_IP_HEADER, 0));
}

static void make_udp(uint8_t *at, const struct packet_ends *ends, const void *bytes, size_t len) {
        uint8_t pseudo[12] = { 0 };
        set32(pseudo, ends->from);
        set32(pseudo + 4, ends->to);
        pseudo[9] = IPPROTO_UDP;
        set16(pseudo + 10, (unsigned)(PACKET_UDP_HEADER + len));
        set16(at, ends->from_port);
        set16(at + 2, ends->to_port);
        set16(at + 4, (unsigned)(PACKET_UDP_HEADER + len));
        set16(at + 6, 0);
        uint32_t sum = add_up(at, PACKET_UDP_HEADER, add_up(pseudo, sizeof(pseudo), 0));
        uint16_t check = packet_sum(bytes, len, sum);
        set16(at + 6, check ? check : 0xffff); /* 0 means that there is none */
}

int packet_make_udp(const struct packet_ends *ends, const void *bytes, size_t len, size_t mtu, packet_fn out, void *user) {
        if (len > PACKET_UDP_MAX || mtu < PACKET_IP_HEADER + PACKET_UDP_HEADER)
                return -EMSGSIZE;
        NB_AUTO_FREE uint8_t *packet = nb_calloc(1, mtu);
        uint8_t udp[PACKET_UDP_HEADER];
        make_udp(udp, ends, bytes, len);
        size_t all = PACKET_UDP_HEADER + len, room = (mtu - PACKET_IP_HEADER) / 8 * 8;
        if (all <= mtu - PACKET_IP_HEADER)
                room = all;
        int r = 0;
        for (size_t at = 0; at < all && r >= 0; at += room) {
                size_t here = all - at < room ? all - at : room, own = at == 0 ? PACKET_UDP_HEADER : 0;
                make_ip(packet, ends, IPPROTO_UDP, (unsigned)(at / 8) | (at + here < all ? FRAGMENT_MORE : 0), here);
                memcpy(packet + PACKET_IP_HEADER, udp, own);
                if (here > own)
                        memcpy(packet + PACKET_IP_HEADER + own, (const uint8_t *)bytes + at + own - PACKET_UDP_HEADER,
                               here - own);
                r = out(user, packet, PACKET_IP_HEADER + here);
        }
        return r < 0 ? r : 0;
}

static void put_icmp(struct nb_buf *out, const struct packet_ends *ends, uint8_t type, uint8_t code, uint32_t rest,
                     const void *bytes, size_t len) {
        uint8_t *at = nb_buf_reserve(out, PACKET_IP_HEADER + PACKET_ECHO_HEADER + len);
        make_ip(at, ends, IPPROTO_ICMP, 0, PACKET_ECHO_HEADER + len);
        uint8_t *icmp = at + PACKET_IP_HEADER;
        icmp[0] = type;
        icmp[1] = code;
        set16(icmp + 2, 0);
        set32(icmp + 4, rest);
        if (len > 0)
                memcpy(icmp + PACKET_ECHO_HEADER, bytes, len);
        set16(icmp + 2, packet_sum(icmp, PACKET_ECHO_HEADER + len, 0));
        nb_buf_commit(out, PACKET_IP_HEADER + PACKET_ECHO_HEADER + len);
}

void packet_put_echo(struct nb_buf *out, const struct packet_ends *ends, uint16_t echo_id, uint16_t sequence, const void *bytes,
                     size_t len) {
        put_icmp(out, ends, ICMP_IS_ECHO_REPLY, 0, (uint32_t)echo_id << 16 | sequence, bytes, len);
}

void packet_put_unreachable(struct nb_buf *out, const struct packet_ends *ends, enum packet_unreachable code, const void *about,
                            size_t len) {
        const uint8_t *bytes = about;
        size_t header = len > 0 ? (size_t)(bytes[0] & 15u) * 4 : 0;
        put_icmp(out, ends, ICMP_IS_UNREACHABLE, (uint8_t)code, 0, about, len < header + QUOTED ? len : header + QUOTED);
}

void packet_quote_udp(uint8_t ret[PACKET_QUOTE], const struct packet_ends *ends, size_t len) {
        make_ip(ret, ends, IPPROTO_UDP, 0, PACKET_UDP_HEADER + len);
        set16(ret + PACKET_IP_HEADER, ends->from_port);
        set16(ret + PACKET_IP_HEADER + 2, ends->to_port);
        set16(ret + PACKET_IP_HEADER + 4, (unsigned)(PACKET_UDP_HEADER + len));
        set16(ret + PACKET_IP_HEADER + 6, 0);
}
