/* NFLOG messages (see nflog_read.h). Nothing here has a descriptor or knows a rule. */
#include "gateway/nflog_read.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/gateway.h"

/* The parts of a message that matter. */
struct parts {
        uint16_t protocol; /* of the frame, as in its header */
        bool tagged;
        const uint8_t *source; /* link address, 6 bytes; NULL: not told */
        const uint8_t *payload;
        size_t payload_len;
};

/* Steps to the next element of a list in which each begins with its own length. False at the end, or where the length is
 * wrong. */
static bool next_attribute(const uint8_t *bytes, size_t len, size_t *at, struct nlattr *ret, const uint8_t **ret_value) {
        if (len - *at < NLA_HDRLEN)
                return false;
        memcpy(ret, bytes + *at, sizeof(*ret));
        if (ret->nla_len < NLA_HDRLEN || ret->nla_len > len - *at)
                return false;
        *ret_value = bytes + *at + NLA_HDRLEN;
        size_t step = NLA_ALIGN((size_t)ret->nla_len);
        *at = step < len - *at ? *at + step : len;
        return true;
}

static struct parts read_parts(const uint8_t *bytes, size_t len) {
        struct parts p = { 0 };
        struct nlattr attribute;
        const uint8_t *value;
        for (size_t at = 0; next_attribute(bytes, len, &at, &attribute, &value);) {
                size_t n = attribute.nla_len - NLA_HDRLEN;
                switch (attribute.nla_type & NLA_TYPE_MASK) {
                case NFULA_PACKET_HDR:
                        if (n >= sizeof(struct nfulnl_msg_packet_hdr))
                                p.protocol = (uint16_t)(value[0] << 8 | value[1]);
                        break;
                case NFULA_HWADDR:
                        if (n >= offsetof(struct nfulnl_msg_packet_hw, hw_addr) + ETH_ALEN && value[0] == 0 &&
                            value[1] == ETH_ALEN)
                                p.source = value + offsetof(struct nfulnl_msg_packet_hw, hw_addr);
                        break;
                case NFULA_VLAN: p.tagged = true; break;
                case NFULA_PAYLOAD:
                        p.payload = value;
                        p.payload_len = n;
                        break;
                default: break;
                }
        }
        return p;
}

static bool is_guest(const uint8_t *mac) {
        char text[18];
        (void)snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
        return strcmp(text, NET_GUEST_MAC) == 0;
}

static enum nflog_kind kind_of(const struct parts *p, struct packet *packet) {
        if (p->tagged || p->protocol == ETH_P_8021Q || p->protocol == ETH_P_8021AD)
                return NFLOG_VLAN;
        if (p->source && !is_guest(p->source))
                return NFLOG_SPOOFED;
        if (p->protocol == ETH_P_ARP)
                return NFLOG_ARP;
        if (p->protocol == ETH_P_IPV6)
                return NFLOG_IPV6;
        if (p->protocol != ETH_P_IP || packet_read(p->payload, p->payload_len, packet) < 0)
                return NFLOG_OTHER;
        if (packet->from != NET_GUEST)
                return NFLOG_SPOOFED;
        if (packet->fragment)
                return NFLOG_FRAGMENT;
        return packet->options ? NFLOG_OPTIONS : NFLOG_IPV4;
}

int nflog_next(const uint8_t *bytes, size_t len, size_t *at, struct nflog_entry *ret) {
        *ret = (struct nflog_entry){ 0 };
        while (*at < len && len - *at >= NLMSG_HDRLEN) {
                struct nlmsghdr head;
                struct nfgenmsg gen;
                memcpy(&head, bytes + *at, sizeof(head));
                if (head.nlmsg_len < NLMSG_HDRLEN || head.nlmsg_len > len - *at)
                        break;
                const uint8_t *body = bytes + *at + NLMSG_HDRLEN;
                size_t body_len = head.nlmsg_len - NLMSG_HDRLEN, step = NLMSG_ALIGN((size_t)head.nlmsg_len);
                *at = step < len - *at ? *at + step : len;
                if (head.nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET) || body_len < sizeof(gen))
                        continue;
                memcpy(&gen, body, sizeof(gen));
                size_t skip = NLMSG_ALIGN(sizeof(gen));
                struct parts p = read_parts(body + skip, body_len - skip);
                ret->group = ntohs(gen.res_id);
                ret->kind = kind_of(&p, &ret->packet);
                ret->bytes = p.payload;
                ret->len = p.payload_len;
                return 1;
        }
        *at = len;
        return 0;
}

const char *nflog_proto(const struct nflog_entry *e, char scratch[NFLOG_PROTO_TEXT]) {
        static const char *const kinds[] = {
                [NFLOG_ARP] = "arp",           [NFLOG_IPV6] = "ipv6",       [NFLOG_VLAN] = "vlan",
                [NFLOG_FRAGMENT] = "fragment", [NFLOG_SPOOFED] = "spoofed", [NFLOG_OPTIONS] = "options",
                [NFLOG_OTHER] = "frame",
        };
        if (e->kind != NFLOG_IPV4)
                return kinds[e->kind];
        switch (e->packet.protocol) {
        case IPPROTO_TCP: return "tcp";
        case IPPROTO_UDP: return "udp";
        case IPPROTO_ICMP: return "icmp";
        default: (void)snprintf(scratch, NFLOG_PROTO_TEXT, "%u", (unsigned)e->packet.protocol); return scratch;
        }
}
