/* The box's network as text: links and routes for ip(8), rules for nft(8). Pure: what is said here is printed by a dry run,
 * looked at by tests and loaded by netns.c. What the rules let through still meets the gateway, which decides with src/policy;
 * they are there so that what has nowhere to go is refused before it connects, and so that nothing goes past the gateway. */
#include <arpa/inet.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "box/netns_internal.h"
#include "gateway/gateway.h"

#define LOG_BYTES 128     /* of a refused packet: its headers */
#define LOG_PER_SECOND 50 /* refused packets that are told of; the others are refused without a word */
#define ECHO_PER_SECOND 50
#define FRAMES_PER_SECOND 10 /* frames that are told of */
#define LOCAL_TABLE 100      /* routing table in which every address is local: for UDP, which keeps its destination */

static char *take(struct nb_buf *out) {
        nb_buf_add(out, "", 1);
        char *text = nb_strdup((const char *)nb_buf_bytes(out));
        nb_buf_clear(out);
        return text;
}

struct net_names {
        char gateway[INET_ADDRSTRLEN], guest[INET_ADDRSTRLEN], synthetic[INET_ADDRSTRLEN];
};

static struct net_names net_names(void) {
        struct net_names n;
        const struct {
                uint32_t address;
                char *text;
        } all[] = { { NET_GATEWAY, n.gateway }, { NET_GUEST, n.guest }, { NET_SYNTHETIC, n.synthetic } };
        for (size_t i = 0; i < NB_ARRAY_LEN(all); i++)
                (void)inet_ntop(AF_INET, &(struct in_addr){ htonl(all[i].address) }, all[i].text, INET_ADDRSTRLEN);
        return n;
}

char *netns_ip(enum policy_mode mode) {
        struct nb_buf out = { 0 };
        struct net_names n = net_names();
        nb_buf_printf(&out, "link set dev " NETNS_DEVICE " address " NET_GATEWAY_MAC " mtu %u\n", NET_MTU);
        nb_buf_printf(&out, "address add %s/%u dev " NETNS_DEVICE "\n", n.gateway, NET_LINK_BITS);
        nb_buf_printf(&out, "link set dev " NETNS_DEVICE " up\n");
        /* what the guest says by ARP changes nothing */
        nb_buf_printf(&out, "neighbour replace %s lladdr " NET_GUEST_MAC " dev " NETNS_DEVICE " nud permanent\n", n.guest);
        if (mode == POLICY_OPEN) {
                nb_buf_printf(&out, "link set dev lo up\n");
                nb_buf_printf(&out, "rule add fwmark %u lookup %u\n", NET_MARK_UDP, LOCAL_TABLE);
                nb_buf_printf(&out, "route add local 0.0.0.0/0 dev lo table %u\n", LOCAL_TABLE);
        }
        return take(&out);
}

/* ---- what follows from the policy */

static void say_ports(struct nb_buf *out, const struct policy_rule *r, const char *match) {
        if (r->n_ports == 0)
                return;
        nb_buf_printf(out, " %s {", match);
        for (size_t i = 0; i < r->n_ports; i++)
                nb_buf_printf(out, "%s %u", i > 0 ? "," : "", r->ports[i]);
        nb_buf_printf(out, " }");
}

/* Of a range that is not of one kind only the public part is meant, as src/policy has it: 0.0.0.0/0 is not 127.0.0.1. */
static bool one_kind(const struct addr_range *range) {
        struct addr last = range->base;
        for (size_t i = range->bits; i < 32; i++)
                last.bytes[i / 8] |= (uint8_t)(0x80u >> (i % 8));
        return addr_kind(&range->base) != ADDR_PUBLIC && addr_kind(&range->base) == addr_kind(&last);
}

/* A rule that names no host. The guest has no IPv6, so ranges of it need no line. */
static void say_range(struct nb_buf *out, const struct policy_rule *r) {
        char base[INET_ADDRSTRLEN];
        (void)inet_ntop(AF_INET, r->range.base.bytes, base, sizeof base);
        nb_buf_printf(out, "                ip daddr %s/%u", base, r->range.bits);
        if (!r->deny && !one_kind(&r->range))
                nb_buf_printf(out, " ip daddr != @never");
        say_ports(out, r, r->deny ? "meta l4proto { tcp, udp } th dport" : "tcp dport");
        if (!r->deny && r->n_ports == 0)
                nb_buf_printf(out, " meta l4proto tcp");
        nb_buf_printf(out, r->deny ? " goto refused\n" : " accept\n");
}

char *netns_nft_policy(const struct policy *p) {
        struct nb_buf out = { 0 };
        nb_buf_printf(&out, "flush chain inet box by_rule\n"
                            "table inet box {\n"
                            "        chain by_rule {\n");
        for (int deny = 1; deny >= 0; deny--)
                for (size_t i = 0; i < p->n_rules; i++)
                        if (!p->rules[i].host && p->rules[i].range.base.family == AF_INET && p->rules[i].deny == deny)
                                say_range(&out, &p->rules[i]);
        if (p->mode == POLICY_OPEN)
                nb_buf_printf(&out,
                              "                ip daddr @never goto refused\n"
                              "                meta l4proto tcp accept\n"
                              "                meta l4proto udp meta mark set %u tproxy ip to :%u accept\n"
                              "                icmp type echo-request limit rate %u/second burst %u packets log group %u drop\n"
                              "                icmp type echo-request drop\n",
                              NET_MARK_UDP, NET_PORT_UDP, ECHO_PER_SECOND, 2 * ECHO_PER_SECOND, NET_LOG_ECHO);
        nb_buf_printf(&out, "        }\n"
                            "}\n");
        return take(&out);
}

/* ---- what is the same for every policy of a mode */

/* Frames: only what the guest's own card sends, plain ARP and unfragmented IPv4 without options. Tags of VLANs, IPv6 and
 * everything else end here, before the kernel has looked at them; some of them are told of. */
static void say_frames(struct nb_buf *out, const struct net_names *n) {
        nb_buf_printf(out,
                      "table netdev box {\n"
                      "        chain frames {\n"
                      "                type filter hook ingress device \"" NETNS_DEVICE "\" priority -500; policy drop;\n"
                      "                ether saddr " NET_GUEST_MAC
                      " ether type arp arp operation request arp saddr ip %s arp daddr ip %s accept\n"
                      "                ether saddr " NET_GUEST_MAC " ether daddr " NET_GATEWAY_MAC
                      " ether type ip ip saddr %s ip hdrlength 5 "
                      "ip frag-off & 0x3fff == 0 accept\n"
                      "                limit rate %u/second burst %u packets log group %u snaplen %u\n"
                      "        }\n"
                      "}\n",
                      n->guest, n->gateway, n->guest, FRAMES_PER_SECOND, 2 * FRAMES_PER_SECOND, NET_LOG_DENIED, LOG_BYTES);
}

/* Where nothing goes unless a rule names just that: this host, its networks, and what else is not the public internet. */
static void say_never(struct nb_buf *out) {
        static const char *const ranges[] = {
                "0.0.0.0/8",      "10.0.0.0/8",    "100.64.0.0/10",   "127.0.0.0/8",    "168.63.129.16/32",
                "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",    "192.0.2.0/24",   "192.88.99.0/24",
                "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        };
        nb_buf_printf(out, "        set never {\n"
                           "                type ipv4_addr; flags interval;\n"
                           "                elements = {");
        for (size_t i = 0; i < NB_ARRAY_LEN(ranges); i++)
                nb_buf_printf(out, "%s %s", i > 0 ? "," : "", ranges[i]);
        nb_buf_printf(out, " }\n"
                           "        }\n");
}

/* Before a connection exists. Datagrams but queries for names are not tracked: they need no translation, and a flood of them
 * must not fill the table of connections. */
static void say_guest(struct nb_buf *out, const struct net_names *n) {
        nb_buf_printf(out,
                      "        chain untracked_in {\n"
                      "                type filter hook prerouting priority raw; policy accept;\n"
                      "                udp dport != 53 notrack\n"
                      "        }\n"
                      "        chain untracked_out {\n"
                      "                type filter hook output priority raw; policy accept;\n"
                      "                udp sport != %u notrack\n"
                      "        }\n"
                      "        chain refused {\n"
                      "                limit rate %u/second burst %u packets log group %u snaplen %u\n"
                      "                meta l4proto tcp reject with tcp reset\n"
                      "                reject with icmpx admin-prohibited\n"
                      "        }\n"
                      "        chain by_rule {\n"
                      "        }\n"
                      "        chain guest {\n"
                      "                type filter hook prerouting priority mangle; policy drop;\n"
                      "                iifname != \"" NETNS_DEVICE "\" accept\n"
                      "                meta nfproto != ipv4 drop\n"
                      "                ct state established accept\n"
                      "                meta l4proto { tcp, udp } th dport 53 accept\n"
                      "                meta l4proto tcp ip daddr %s/%u accept\n"
                      "                jump by_rule\n"
                      "                icmp type != echo-request drop\n"
                      "                goto refused\n"
                      "        }\n",
                      NET_PORT_DNS, LOG_PER_SECOND, 2 * LOG_PER_SECOND, NET_LOG_DENIED, LOG_BYTES, n->synthetic,
                      NET_SYNTHETIC_BITS);
}

/* To the gateway's sockets and nowhere else. Answers of the guest on connections that began outside (published ports) may come
 * in as well; nothing is forwarded, and nothing leaves but to the guest. */
static void say_gateway(struct nb_buf *out, const struct net_names *n) {
        nb_buf_printf(out,
                      "        chain to_gateway {\n"
                      "                type nat hook prerouting priority dstnat; policy accept;\n"
                      "                meta l4proto { tcp, udp } th dport 53 redirect to :%u\n"
                      "                meta l4proto tcp redirect to :%u\n"
                      "        }\n"
                      "        chain in {\n"
                      "                type filter hook input priority filter; policy drop;\n"
                      "                ct status dnat accept\n"
                      "                meta l4proto tcp ct state established ct direction reply accept\n"
                      "                meta l4proto udp meta mark %u accept\n"
                      "        }\n"
                      "        chain through {\n"
                      "                type filter hook forward priority filter; policy drop;\n"
                      "        }\n"
                      "        chain out {\n"
                      "                type filter hook output priority filter; policy drop;\n"
                      "                oifname \"" NETNS_DEVICE "\" ip daddr %s accept\n"
                      "        }\n",
                      NET_PORT_DNS, NET_PORT_TCP, NET_MARK_UDP, n->guest);
}

char *netns_nft(const struct policy *p) {
        struct nb_buf out = { 0 };
        struct net_names n = net_names();
        nb_buf_printf(&out, "flush ruleset\n");
        say_frames(&out, &n);
        nb_buf_printf(&out, "table inet box {\n");
        say_never(&out);
        say_guest(&out, &n);
        say_gateway(&out, &n);
        nb_buf_printf(&out, "}\n");
        NB_AUTO_FREE char *by_rule = netns_nft_policy(p);
        nb_buf_printf(&out, "%s", by_rule);
        return take(&out);
}
