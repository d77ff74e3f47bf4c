/* Asking the host (see resolver_host.h). A name is asked for as it is: the host's search domains, which would make another name
 * of it, are switched off for each question, since reading the configuration again, which happens here too, switches them on.
 */
#include "gateway/resolver_host.h"

#include <arpa/nameser.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <resolv.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"

static enum resolver_status status_of(int code) {
        switch (code) {
        case 0: return RESOLVER_OK;
        case EAI_NONAME: return RESOLVER_NONE;
        case EAI_NODATA:
        case EAI_ADDRFAMILY: return RESOLVER_NODATA;
        default: return RESOLVER_FAILED;
        }
}

static void ask_addresses(const char *name, struct resolver_answer *ret) {
        const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
        struct addrinfo *list = NULL;
        if (res_init() < 0) {
                ret->status = RESOLVER_FAILED;
                return;
        }
        /* This thread's. The library would read its configuration once more if these were the only change, and switch the
         * search on again; it was read just now. */
        _res.options = (_res.options & ~(unsigned long)(RES_DEFNAMES | RES_DNSRCH)) | RES_NORELOAD;
        ret->status = status_of(getaddrinfo(name, NULL, &hints, &list));
        for (struct addrinfo *i = list; ret->status == RESOLVER_OK && i && ret->n_addrs < RESOLVER_ADDRS_MAX; i = i->ai_next) {
                uint16_t port;
                if (addr_from_sockaddr(i->ai_addr, &ret->addrs[ret->n_addrs].addr, &port) == 0)
                        ret->n_addrs++;
        }
        if (list)
                freeaddrinfo(list);
        if (ret->status == RESOLVER_OK && ret->n_addrs == 0)
                ret->status = RESOLVER_NODATA;
}

static enum resolver_status status_of_h(int code) {
        switch (code) {
        case HOST_NOT_FOUND: return RESOLVER_NONE;
        case NO_DATA: return RESOLVER_NODATA;
        default: return RESOLVER_FAILED;
        }
}

static void ask_records(const char *name, uint16_t type, struct nb_buf *space, struct resolver_answer *ret) {
        NB_AUTO_FREE uint8_t *message = nb_calloc(NS_MAXMSG, 1);
        NB_AUTO_FREE struct __res_state *state = nb_calloc(1, sizeof *state);
        if (res_ninit(state) < 0) {
                ret->status = RESOLVER_FAILED;
                return;
        }
        int n = res_nquery(state, name, ns_c_in, type, message, NS_MAXMSG);
        if (n < 0)
                ret->status = status_of_h(state->res_h_errno);
        else if (n > NS_MAXMSG || resolver_read_dns(message, (size_t)n, type, space, ret) < 0)
                *ret = (struct resolver_answer){ .status = RESOLVER_FAILED };
        res_nclose(state);
}

void resolver_host_ask(const char *name, uint16_t type, struct nb_buf *space, struct resolver_answer *ret) {
        *ret = (struct resolver_answer){ 0 };
        if (type == 0)
                ask_addresses(name, ret);
        else
                ask_records(name, type, space, ret);
}

/* ---- interfaces */

static unsigned mask_bits(const struct sockaddr *mask) {
        struct addr a;
        uint16_t port;
        unsigned bits = 0;
        if (!mask || addr_from_sockaddr(mask, &a, &port) < 0)
                return 128;
        while (bits < (a.family == AF_INET ? 32u : 128u) && (a.bytes[bits / 8] & (0x80u >> (bits % 8))))
                bits++;
        return bits;
}

static void add_link(struct resolver_links *l, const struct sockaddr *sa, unsigned bits) {
        static const uint8_t zero[16];
        struct addr a;
        uint16_t port;
        if (sa && addr_from_sockaddr(sa, &a, &port) == 0 && memcmp(a.bytes, zero, sizeof zero) != 0)
                resolver_links_add(l, &a, bits);
}

void resolver_host_links(struct resolver_links *ret) {
        struct ifaddrs *list = NULL;
        *ret = (struct resolver_links){ 0 };
        if (getifaddrs(&list) < 0) {
                ret->all = true;
                return;
        }
        for (struct ifaddrs *i = list; i; i = i->ifa_next) {
                unsigned bits = mask_bits(i->ifa_netmask);
                add_link(ret, i->ifa_addr, bits);
                if (i->ifa_flags & IFF_POINTOPOINT) { /* the mask is that of the far end */
                        add_link(ret, i->ifa_addr, 128);
                        add_link(ret, i->ifa_dstaddr, bits);
                }
        }
        freeifaddrs(list);
}
