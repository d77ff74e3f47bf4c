/* Packets that the kernel refused, told as decisions; echo requests go on to icmp.c. The kernel has decided already: what is
 * said here is why. Reading the messages is nflog_read.c's. */
#include <errno.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/impl.h"
#include "gateway/nflog_read.h"

#define MESSAGE_MAX (64u * 1024u)
#define MESSAGES_AT_ONCE 64u /* before others have their turn */

struct nflog {
        struct gateway *g;
        int fd;
        struct event readable;
        uint8_t message[MESSAGE_MAX];
};

/* Of a packet whose destination was refused. New string. */
static char *why_refused(const struct gateway *g, const struct packet *p, const struct addr *to, struct policy_decision *ret) {
        bool open = g->policy->mode == POLICY_OPEN, udp = p->protocol == IPPROTO_UDP, icmp = p->protocol == IPPROTO_ICMP;
        char text[ADDR_TEXT];
        *ret = (struct policy_decision){ 0 };
        if (!open && p->protocol != IPPROTO_TCP)
                return nb_strdup("only TCP and DNS leave a box in mode filtered");
        if (p->protocol != IPPROTO_TCP && !udp && !icmp)
                return nb_strdup("only TCP, UDP and ICMP echo leave a box");
        *ret = policy_address(g->policy, to, p->to_port, udp || icmp);
        if (ret->allow)
                return nb_strdup("it belongs to no connection");
        if (ret->reason == POLICY_NO_RULE)
                return nb_strdup("the address was not got from a name, and no rule allows it");
        addr_format(to, text);
        return policy_explain(ret, text, p->to_port);
}

static void tell(struct nflog *n, const struct nflog_entry *e) {
        static const char *const reasons[] = {
                [NFLOG_ARP] = "the guest may only ask for the gateway's address",
                [NFLOG_IPV6] = "there is no IPv6 in a box",
                [NFLOG_VLAN] = "frames with a VLAN tag go nowhere",
                [NFLOG_FRAGMENT] = "fragments go nowhere",
                [NFLOG_SPOOFED] = "the source is not the guest's address",
                [NFLOG_OPTIONS] = "packets with IP options go nowhere",
                [NFLOG_OTHER] = "only IPv4 and ARP leave a box",
        };
        const struct packet *p = &e->packet;
        struct addr to = { .family = AF_INET, .bytes = { p->to >> 24, p->to >> 16 & 0xff, p->to >> 8 & 0xff, p->to & 0xff } };
        struct policy_decision d = { 0 };
        char scratch[NFLOG_PROTO_TEXT];
        NB_AUTO_FREE char *why = e->kind == NFLOG_IPV4 ? why_refused(n->g, p, &to, &d) : NULL;
        struct report_event event = {
                .type = "connect",
                .host = e->kind == NFLOG_IPV4 ? names_find(n->g->names, p->to, nb_now_ms()) : NULL,
                .ip = p->header ? &to : NULL,
                .port = p->to_port,
                .proto = nflog_proto(e, scratch),
                .rule = d.allow ? NULL : d.rule,
                .reason = why ? why : reasons[e->kind],
        };
        report_event(n->g->report, &event);
}

static void on_readable(evutil_socket_t fd, short what, void *user) {
        struct nflog *n = user;
        (void)what;
        for (unsigned i = 0; i < MESSAGES_AT_ONCE; i++) {
                ssize_t len = recv(fd, n->message, sizeof(n->message), MSG_DONTWAIT);
                if (len < 0 && errno == ENOBUFS) {
                        report_event(n->g->report, &(struct report_event){
                                                       .type = "error", .reason = "some refused packets were not reported" });
                        continue;
                }
                if (len < 0 && errno != EAGAIN && errno != EINTR) {
                        gateway_fail(n->g, "cannot read what the kernel refused: error %d", errno);
                        return;
                }
                if (len <= 0)
                        return;
                struct nflog_entry e;
                for (size_t at = 0; nflog_next(n->message, (size_t)len, &at, &e) == 1;) {
                        if (e.group == NET_LOG_DENIED)
                                tell(n, &e);
                        else if (e.group == NET_LOG_ECHO && e.kind == NFLOG_IPV4 && n->g->udp)
                                icmp_echo(n->g, e.bytes, e.len);
                }
        }
}

int nflog_new(struct gateway *g, int fd, struct nflog **ret, struct nb_error *err) {
        struct nflog *n = nb_calloc(1, sizeof(*n));
        n->g = g;
        n->fd = fd;
        if (event_assign(&n->readable, g->base, fd, EV_READ | EV_PERSIST, on_readable, n) < 0 ||
            event_add(&n->readable, NULL) < 0) {
                free(n);
                return nb_fail(err, EIO, "cannot wait for what the kernel refuses");
        }
        *ret = n;
        return 0;
}

void nflog_free(struct nflog *n) {
        if (!n)
                return;
        event_del(&n->readable);
        free(n);
}
