/* Fuzz target: what the kernel logs about packets, whole messages, and the packets in them, which the guest makes. The first
 * byte chooses: a message, or a packet for which the message is made here. */
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "gateway/nflog_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const uint8_t *bytes, size_t len) {
        struct nflog_entry e;
        char scratch[NFLOG_PROTO_TEXT];
        uint8_t sum = 0;
        for (size_t at = 0, before = 0; nflog_next(bytes, len, &at, &e) == 1; before = at) {
                if (at <= before || at > len || !*nflog_proto(&e, scratch))
                        abort();
                for (size_t i = 0; i < e.len; i++)
                        sum ^= e.bytes[i];
                for (size_t i = 0; i < e.packet.payload_len; i++)
                        sum ^= e.packet.payload[i];
                if (e.packet.header && e.packet.payload + e.packet.payload_len > e.bytes + e.len)
                        abort();
                NB_AUTO_BUF answer = { 0 };
                if (e.packet.header)
                        packet_put_unreachable(&answer, &(struct packet_ends){ 0 }, UNREACHABLE_PROHIBITED, e.bytes, e.len);
        }
        volatile uint8_t kept = sum;
        (void)kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size < 4)
                return 0;
        NB_AUTO_BUF b = { 0 };
        if (data[0] & 1) {
                struct nfgenmsg gen = { .nfgen_family = data[1], .res_id = htons(data[2]) };
                struct nfulnl_msg_packet_hdr hdr = { .hw_protocol = data[3] & 1 ? htons(0x0800) : data[3] };
                struct nlattr first = { .nla_len = NLA_HDRLEN + sizeof(hdr), .nla_type = NFULA_PACKET_HDR };
                struct nlattr second = { .nla_len = (uint16_t)(NLA_HDRLEN + size - 4), .nla_type = NFULA_PAYLOAD };
                struct nlmsghdr head = { .nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET };
                head.nlmsg_len = (uint32_t)(sizeof(head) + sizeof(gen) + first.nla_len + second.nla_len);
                nb_buf_add(&b, &head, sizeof(head));
                nb_buf_add(&b, &gen, sizeof(gen));
                nb_buf_add(&b, &first, sizeof(first));
                nb_buf_add(&b, &hdr, sizeof(hdr));
                nb_buf_add(&b, &second, sizeof(second));
        }
        nb_buf_add(&b, data + 4, size - 4);
        NB_AUTO_FREE uint8_t *exact = nb_calloc(1, b.len);
        if (b.len > 0)
                memcpy(exact, nb_buf_bytes(&b), b.len);
        check(exact, b.len);
        return 0;
}
