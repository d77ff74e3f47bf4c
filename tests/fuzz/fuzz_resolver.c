/* Fuzz target: everything between gateway and resolver, and the DNS messages that the resolver gets from the network. The first
 * byte says what the rest is. What was read must, written again, be read as the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/resolver_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request(const uint8_t *data, size_t size) {
        struct resolver_request q;
        NB_AUTO_BUF out = { 0 };
        if (resolver_read_request(data, size, &q) < 0)
                return;
        resolver_put_request(&out, &q);
        if (out.len != size || memcmp(nb_buf_bytes(&out), data, size) != 0)
                abort();
}

static void again(uint32_t id, const struct resolver_answer *a) {
        struct resolver_answer back;
        uint32_t back_id;
        NB_AUTO_BUF out = { 0 };
        resolver_put_answer(&out, id, a);
        if (out.len > RESOLVER_MESSAGE_MAX || resolver_read_answer(nb_buf_bytes(&out), out.len, &back_id, &back) < 0)
                abort();
        if (back_id != id || back.status != a->status || back.n_addrs != a->n_addrs || back.n_records > a->n_records)
                abort();
        for (size_t i = 0; i < back.n_records; i++)
                if (back.records[i].len != a->records[i].len ||
                    memcmp(back.records[i].rdata, a->records[i].rdata, back.records[i].len) != 0)
                        abort();
}

static void links(const uint8_t *data, size_t size) {
        struct resolver_links l;
        NB_AUTO_BUF out = { 0 };
        if (resolver_read_links(data, size, &l) < 0)
                return;
        resolver_put_links(&out, &l);
        if (out.len != size)
                abort();
        for (size_t i = 0; i < l.n; i++)
                (void)resolver_links_hold(&l, &l.ranges[i].base);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct resolver_answer a;
        NB_AUTO_BUF space = { 0 };
        uint32_t id;
        if (size < 2)
                return 0;
        switch (data[0]) {
        case 'q': request(data + 1, size - 1); break;
        case 'a':
                if (resolver_read_answer(data + 1, size - 1, &id, &a) == 0)
                        again(id, &a);
                break;
        case 'l': links(data + 1, size - 1); break;
        default: /* the record type, then a message */
                if (resolver_read_dns(data + 2, size - 2, data[1], &space, &a) == 0)
                        again(0, &a);
        }
        return 0;
}
