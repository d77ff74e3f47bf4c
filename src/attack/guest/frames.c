/* Probes below IP: frames made by hand and put on the card as they are. Each has a destination of its own, so that an answer,
 * or a decision of the gateway, can be told from those to others. The control is a question for a name, made by hand as well.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "attack/guest/guest.h"
#include "base/io.h"
#include "base/mem.h"

#define LISTEN_MS 1200
#define CONTROL_MS 8000 /* what must come is waited for, however busy the host is */
#define PORT_BASE 41000u

struct card {
        int fd;
        struct sockaddr_ll at;
        uint8_t mac[6], router_mac[6];
        uint32_t address, router;
};
struct frame {
        uint8_t bytes[1700];
        size_t len;
};

static const uint8_t everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, somebody[6] = { 2, 0, 0, 0, 0, 0x99 };

/* The one network device beside the loopback. */
static bool open_card(struct card *c, const char *router) {
        struct if_nameindex *all = if_nameindex();
        struct ifreq r = { 0 };
        for (struct if_nameindex *i = all; i && i->if_index; i++)
                if (strcmp(i->if_name, "lo") != 0)
                        strncpy(r.ifr_name, i->if_name, sizeof r.ifr_name - 1);
        if_freenameindex(all);
        *c = (struct card){ .fd = -1 };
        (void)inet_pton(AF_INET, router, &c->router);
        if (!r.ifr_name[0] || (c->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL))) < 0)
                return false;
        c->at = (struct sockaddr_ll){ .sll_family = AF_PACKET,
                                      .sll_protocol = htons(ETH_P_ALL),
                                      .sll_halen = 6,
                                      .sll_ifindex = (int)if_nametoindex(r.ifr_name) };
        NB_AUTO_CLOSE int in = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (ioctl(in, SIOCGIFHWADDR, &r) == 0)
                memcpy(c->mac, r.ifr_hwaddr.sa_data, 6);
        if (ioctl(in, SIOCGIFADDR, &r) == 0)
                memcpy(&c->address, r.ifr_addr.sa_data + 2, 4);
        memcpy(c->router_mac, c->mac, 6);
        c->router_mac[5] = 1; /* as the box's link is made */
        return bind(c->fd, (struct sockaddr *)&c->at, sizeof c->at) == 0;
}

static void put(struct frame *f, const void *bytes, size_t len) {
        memcpy(f->bytes + f->len, bytes, len);
        f->len += len;
}

static void put16(struct frame *f, unsigned value) {
        const uint8_t bytes[] = { (uint8_t)(value >> 8), (uint8_t)value };
        put(f, bytes, 2);
}

static void begin(struct frame *f, const uint8_t *to, const uint8_t *from) {
        f->len = 0;
        put(f, to, 6);
        put(f, from, 6);
}

/* True if an answer to `port` came from the address: a connection that was accepted, or a datagram. */
static bool is_answer(const uint8_t *b, size_t n, uint32_t from, uint16_t port) {
        if (n < 14 + 20 + 8 || b[12] != 8 || b[13] != 0)
                return false;
        size_t head = (size_t)(b[14] & 15) * 4;
        const uint8_t *rest = b + 14 + head;
        if (14 + head + 14 > n || memcmp(b + 26, &from, 4) != 0 || rest[2] != port >> 8 || rest[3] != (port & 0xff))
                return false;
        return b[23] == IPPROTO_UDP || (b[23] == IPPROTO_TCP && (rest[13] & (TH_SYN | TH_ACK)) == (TH_SYN | TH_ACK));
}

/* Sends and listens. True when an answer came; an ARP reply from the address counts as one. */
static bool exchange(struct card *c, const struct frame *f, uint32_t from, uint16_t port, unsigned ms, int *ret_code) {
        uint8_t bytes[2048] = { 0 };
        *ret_code = sendto(c->fd, f->bytes, f->len, 0, (struct sockaddr *)&c->at, sizeof c->at) < 0 ? errno : 0;
        for (uint64_t now, end = nb_now_ms() + ms; *ret_code == 0 && (now = nb_now_ms()) < end;) {
                struct pollfd p = { .fd = c->fd, .events = POLLIN };
                struct sockaddr_ll who;
                socklen_t len = sizeof who;
                ssize_t n = poll(&p, 1, (int)(end - now)) > 0
                                ? recvfrom(c->fd, bytes, sizeof bytes, 0, (struct sockaddr *)&who, &len)
                                : 0;
                if (n <= 0 || who.sll_pkttype == PACKET_OUTGOING)
                        continue;
                bool arp = n >= 42 && bytes[12] == 8 && bytes[13] == 6 && bytes[21] == 2 && memcmp(bytes + 28, &from, 4) == 0;
                if (arp || is_answer(bytes, (size_t)n, from, port))
                        return true;
        }
        return false;
}

static void control_frame(struct card *c, struct outcome *o) {
        uint8_t query[128];
        struct packet p;
        struct frame f;
        int code;
        uint16_t port = (uint16_t)(PORT_BASE + 1000u + (unsigned)getpid() % 1000u);
        size_t len = packet_query("control.nixbox-attack.invalid", 1, query, sizeof query);
        packet_udp(&p, c->address, c->router, port, 53, query, len);
        begin(&f, c->router_mac, c->mac);
        put16(&f, ETHERTYPE_IP);
        put(&f, p.bytes, p.len);
        controlled(o, exchange(c, &f, c->router, port, CONTROL_MS, &code));
}

/* ---- the frames */

static void put_arp(struct frame *f, unsigned operation, const uint8_t *mac, uint32_t sender, uint32_t target) {
        static const uint8_t head[] = { 0, 1, 8, 0, 6, 4 }, none[6] = { 0 };
        put16(f, ETHERTYPE_ARP);
        put(f, head, sizeof head);
        put16(f, operation);
        put(f, mac, 6);
        put(f, &sender, 4);
        put(f, none, 6);
        put(f, &target, 4);
}

/* IPv6 without a payload that means anything, or an advertisement of a router. */
static void put_ipv6(struct frame *f, bool advertisement) {
        static const uint8_t head[] = { 0x60, 0, 0, 0, 0, 16,   58,   255,  0xfe, 0x80, 0, 0,
                                        0,    0, 0, 0, 0, 0x6e, 0x62, 0xff, 0xfe, 0,    0, 2 };
        static const uint8_t all_nodes[] = { 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };
        static const uint8_t documentation[] = { 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };
        const uint8_t body[16] = { advertisement ? 134 : 128, 0, 0, 0, 64, 0, 7, 8 };
        put16(f, ETHERTYPE_IPV6);
        put(f, head, sizeof head);
        put(f, advertisement ? all_nodes : documentation, 16);
        put(f, body, sizeof body);
}

/* The source address and the fields of IP that differ from one kind to the next. */
static void make_ip(struct packet *p, const struct card *c, const char *kind, uint32_t to, uint16_t port) {
        uint32_t from = c->address;
        if (strcmp(kind, "other-source") == 0)
                from = htonl(0xc6336402); /* 198.51.100.2 */
        else if (strcmp(kind, "router-source") == 0)
                from = c->router;
        else if (strcmp(kind, "loopback-source") == 0)
                from = htonl(INADDR_LOOPBACK);
        packet_tcp(p, from, to, port, ATTACK_FRAME_PORT);
        struct iphdr h;
        memcpy(&h, p->bytes, sizeof h);
        if (strcmp(kind, "fragment") == 0)
                h.frag_off = htons(0x2000);
        if (strcmp(kind, "options") == 0) { /* loose source route by way of 198.51.100.2 */
                static const uint8_t route[] = { 131, 7, 4, 198, 51, 100, 2, 0 };
                memmove(p->bytes + sizeof h + sizeof route, p->bytes + sizeof h, p->len - sizeof h);
                memcpy(p->bytes + sizeof h, route, sizeof route);
                p->len += sizeof route;
                h.ihl = 7;
                h.tot_len = htons((uint16_t)p->len);
        }
        h.check = 0;
        memcpy(p->bytes, &h, sizeof h);
        h.check = packet_sum(p->bytes, (size_t)h.ihl * 4, 0);
        memcpy(p->bytes, &h, sizeof h);
}

static void make_frame(struct frame *f, const struct card *c, const char *kind, uint32_t to, uint16_t port) {
        bool all = strcmp(kind, "broadcast") == 0 || strncmp(kind, "arp-", 4) == 0;
        bool twice = strcmp(kind, "vlan-twice") == 0;
        struct packet p;
        begin(f, all ? everybody : c->router_mac, strcmp(kind, "other-mac") == 0 ? somebody : c->mac);
        if (twice || strcmp(kind, "vlan") == 0) {
                put16(f, ETHERTYPE_VLAN);
                put16(f, 7);
        }
        if (twice) {
                put16(f, ETHERTYPE_VLAN);
                put16(f, 8);
        }
        if (strcmp(kind, "arp-router") == 0) {
                put_arp(f, ARPOP_REPLY, c->mac, c->router, c->router);
        } else if (strcmp(kind, "arp-other") == 0) {
                put_arp(f, ARPOP_REQUEST, c->mac, c->address, to);
        } else if (strcmp(kind, "ipv6") == 0 || strcmp(kind, "advertisement") == 0) {
                put_ipv6(f, kind[0] == 'a');
        } else if (strcmp(kind, "other-type") == 0) {
                put16(f, 0x88b5); /* for experiments */
                memset(f->bytes + f->len, 'x', 46);
                f->len += 46;
        } else {
                make_ip(&p, c, kind, to, port);
                put16(f, ETHERTYPE_IP);
                put(f, p.bytes, p.len);
        }
}

void guest_frame(char *const *words, struct outcome *o) {
        struct card c;
        struct frame f;
        uint32_t to = 0;
        int code;
        if (!open_card(&c, words[2])) {
                tried(o, TRIED_REFUSED, "the box has no network card");
                return;
        }
        control_frame(&c, o);
        (void)inet_pton(AF_INET, words[1], &to);
        uint16_t port = (uint16_t)(PORT_BASE + (unsigned)getpid() % 1000u);
        make_frame(&f, &c, words[0], to, port);
        if (exchange(&c, &f, to, port, LISTEN_MS, &code))
                tried(o, TRIED_DONE, "answered");
        else
                tried(o, code ? TRIED_REFUSED : TRIED_NOTHING, "%s", code ? strerror(code) : "sent, no answer");
}
