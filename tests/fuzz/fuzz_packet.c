/* Fuzz target: a packet of the guest's as the gateway reads it, and packets made for the guest of the same bytes: what is made
 * is read back as what was asked for, however it is split. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define UDP 17
#define ICMP 1

struct seen {
        const struct packet_ends *ends;
        size_t bytes, packets, mtu;
};

static void check_sum(const uint8_t *packet) {
        if (packet_sum(packet, PACKET_IP_HEADER, 0) != 0)
                abort();
}

static int on_packet(void *user, const uint8_t *bytes, size_t len) {
        struct seen *s = user;
        struct packet p;
        if (packet_read(bytes, len, &p) < 0 || p.from != s->ends->from || p.to != s->ends->to || p.protocol != UDP ||
            len > s->mtu)
                abort();
        if (!p.fragment && (p.from_port != s->ends->from_port || p.to_port != s->ends->to_port))
                abort();
        check_sum(bytes);
        s->bytes += p.payload_len;
        return ++s->packets == 3000 ? -1 : 0;
}

static void make(const uint8_t *data, size_t size, const struct packet_ends *ends) {
        struct seen s = { .ends = ends, .mtu = size > 0 ? (size_t)data[0] * 8 : 0 };
        int r = packet_make_udp(ends, data, size, s.mtu, on_packet, &s);
        if (r == 0 && s.bytes != size + PACKET_UDP_HEADER)
                abort();
        NB_AUTO_BUF out = { 0 };
        packet_put_echo(&out, ends, ends->from_port, ends->id, data, size);
        packet_put_unreachable(&out, ends, UNREACHABLE_PORT, data, size);
        struct packet p;
        if (packet_read(nb_buf_bytes(&out), out.len, &p) < 0 || p.protocol != ICMP)
                abort();
        check_sum(nb_buf_bytes(&out));
        uint8_t quote[PACKET_QUOTE];
        packet_quote_udp(quote, ends, size);
        if (packet_read(quote, sizeof quote, &p) < 0 || p.protocol != UDP || p.to_port != ends->to_port)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct packet p;
        if (packet_read(data, size, &p) == 0) {
                if (p.header != data || p.payload < data || p.payload + p.payload_len > data + size)
                        abort();
                if (p.fragment && (p.from_port || p.to_port))
                        abort();
                struct packet_ends ends = { p.to, p.from, p.to_port, p.from_port, 7 };
                make(p.payload, p.payload_len, &ends);
        }
        struct packet_ends ends = { 1, 2, 3, 4, 5 };
        make(data, size < PACKET_UDP_MAX ? size : PACKET_UDP_MAX, &ends);
        return 0;
}
