/* Bytes as a guest sends them: packets made by hand, and questions for names. */
#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "attack/guest/guest.h"
#include "base/mem.h"

#define ASK_MS 8000
#define LABEL_MAX 63u

uint16_t packet_sum(const void *bytes, size_t len, uint32_t more) {
        const uint8_t *b = bytes;
        for (size_t i = 0; i < len; i++)
                more += i % 2 ? b[i] : (uint32_t)b[i] << 8;
        while (more >> 16)
                more = (more & 0xffff) + (more >> 16);
        return htons((uint16_t)~more);
}

/* ---- names */

size_t packet_query(const char *name, unsigned type, uint8_t *ret, size_t room) {
        static const uint8_t head[] = { 0x4e, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
        memcpy(ret, head, sizeof head);
        size_t n = sizeof head;
        for (const char *label = name; *label;) {
                size_t len = strcspn(label, "."), got = 0;
                if (n + LABEL_MAX + 6 > room)
                        return 0;
                for (size_t i = 0; i < len && got < LABEL_MAX; got++) {
                        unsigned byte = (uint8_t)label[i];
                        i += label[i] == '%' && sscanf(label + i + 1, "%2x", &byte) == 1 ? 3 : 1;
                        ret[n + 1 + got] = (uint8_t)byte;
                }
                ret[n] = (uint8_t)got;
                n += 1 + got;
                label += len + (label[len] == '.');
        }
        const uint8_t tail[] = { 0, (uint8_t)(type >> 8), (uint8_t)type, 0, 1 };
        memcpy(ret + n, tail, sizeof tail);
        return n + sizeof tail;
}

static size_t skip_name(const uint8_t *m, size_t len, size_t at) {
        while (at < len && m[at] && (m[at] & 0xc0) != 0xc0)
                at += m[at] + 1u;
        return at + (at < len && (m[at] & 0xc0) == 0xc0 ? 2 : 1);
}

int packet_answers(const uint8_t *m, size_t len, uint32_t *ret_address, unsigned *ret_code) {
        if (len < 12 || m[0] != 0x4e || m[1] != 0x42 || !(m[2] & 0x80))
                return -1;
        unsigned questions = (unsigned)m[4] << 8 | m[5];
        int answers = m[6] << 8 | m[7];
        size_t at = 12;
        *ret_code = m[3] & 15;
        *ret_address = 0;
        for (unsigned i = 0; i < questions && at < len; i++)
                at = skip_name(m, len, at) + 4;
        for (int i = 0; i < answers && at < len; i++) {
                at = skip_name(m, len, at);
                if (at + 10 > len)
                        break;
                size_t size = (size_t)m[at + 8] << 8 | m[at + 9];
                if (m[at] == 0 && m[at + 1] == 1 && size == 4 && at + 14 <= len && *ret_address == 0)
                        memcpy(ret_address, m + at + 10, 4);
                at += 10 + size;
        }
        return answers;
}

uint32_t find_name(const char *name, const char *server) {
        uint8_t query[600], answer[2048];
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(53) };
        size_t len = packet_query(name, 1, query, sizeof query);
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct pollfd p = { .fd = fd, .events = POLLIN };
        uint32_t address = 0;
        unsigned code;
        if (!inet_aton(server, &to.sin_addr) || connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ||
            send(fd, query, len, 0) < 0 || poll(&p, 1, ASK_MS) <= 0)
                return 0;
        ssize_t n = recv(fd, answer, sizeof answer, 0);
        return n > 0 && packet_answers(answer, (size_t)n, &address, &code) > 0 ? address : 0;
}

/* ---- packets */

static void put_ip(struct packet *p, uint8_t protocol, uint32_t from, uint32_t to, const void *payload, size_t len) {
        struct iphdr h = { .version = 4, .ihl = 5, .ttl = 64, .protocol = protocol, .saddr = from, .daddr = to };
        h.tot_len = htons((uint16_t)(sizeof h + len));
        h.id = htons(1);
        h.check = packet_sum(&h, sizeof h, 0);
        memcpy(p->bytes, &h, sizeof h);
        memcpy(p->bytes + sizeof h, payload, len);
        p->len = sizeof h + len;
}

/* The part of a checksum that comes from the addresses. */
static uint32_t pseudo(uint8_t protocol, uint32_t from, uint32_t to, size_t len) {
        from = ntohl(from);
        to = ntohl(to);
        return (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff) + protocol + (uint32_t)len;
}

void packet_tcp(struct packet *p, uint32_t from, uint32_t to, uint16_t from_port, uint16_t to_port) {
        struct tcphdr h = { .th_sport = htons(from_port),
                            .th_dport = htons(to_port),
                            .th_seq = htonl(1000),
                            .th_off = 5,
                            .th_flags = TH_SYN,
                            .th_win = htons(60000) };
        h.th_sum = packet_sum(&h, sizeof h, pseudo(IPPROTO_TCP, from, to, sizeof h));
        put_ip(p, IPPROTO_TCP, from, to, &h, sizeof h);
}

void packet_udp(struct packet *p, uint32_t from, uint32_t to, uint16_t from_port, uint16_t to_port, const void *data,
                size_t len) {
        uint8_t bytes[1400];
        struct udphdr h = { .uh_sport = htons(from_port),
                            .uh_dport = htons(to_port),
                            .uh_ulen = htons((uint16_t)(sizeof h + len)) };
        memcpy(bytes, &h, sizeof h);
        memcpy(bytes + sizeof h, data, len);
        h.uh_sum = packet_sum(bytes, sizeof h + len, pseudo(IPPROTO_UDP, from, to, sizeof h + len));
        memcpy(bytes, &h, sizeof h);
        put_ip(p, IPPROTO_UDP, from, to, bytes, sizeof h + len);
}
