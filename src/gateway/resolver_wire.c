/* The messages between gateway and resolver, and the networks of the host (see resolver_wire.h). Nothing here asks anybody. */
#include "gateway/resolver_wire.h"

#include <arpa/nameser.h>
#include <errno.h>
#include <string.h>

#define ADDR_BITS(a) ((a)->family == AF_INET ? 32u : 128u)
#define ADDR_BYTES(a) (ADDR_BITS(a) / 8)

struct reader {
        const uint8_t *at;
        size_t left;
        bool bad;
};

static const uint8_t *take(struct reader *r, size_t len) {
        if (r->bad || r->left < len) {
                r->bad = true;
                return NULL;
        }
        const uint8_t *p = r->at;
        r->at += len;
        r->left -= len;
        return p;
}

static uint32_t take_uint(struct reader *r, size_t len) {
        const uint8_t *p = take(r, len);
        uint32_t v = 0;
        for (size_t i = 0; p && i < len; i++)
                v |= (uint32_t)p[i] << (8 * i);
        return v;
}

static void put_uint(struct nb_buf *out, uint32_t value, size_t len) {
        uint8_t bytes[4];
        for (size_t i = 0; i < len; i++)
                bytes[i] = (uint8_t)(value >> (8 * i));
        nb_buf_add(out, bytes, len);
}

static void put_family(struct nb_buf *out, const struct addr *a) {
        put_uint(out, a->family == AF_INET ? 4 : 6, 1);
}

static void take_family(struct reader *r, struct addr *ret) {
        uint32_t version = take_uint(r, 1);
        *ret = (struct addr){ .family = version == 4 ? AF_INET : AF_INET6 };
        r->bad = r->bad || (version != 4 && version != 6);
}

static void take_addr_bytes(struct reader *r, struct addr *ret) {
        const uint8_t *p = take(r, ADDR_BYTES(ret));
        if (p)
                memcpy(ret->bytes, p, ADDR_BYTES(ret));
}

/* ---- networks of the host */

static bool range_equal(const struct addr_range *a, const struct addr_range *b) {
        return a->bits == b->bits && addr_equal(&a->base, &b->base);
}

void resolver_links_add(struct resolver_links *l, const struct addr *a, unsigned bits) {
        if (bits > ADDR_BITS(a))
                bits = ADDR_BITS(a);
        struct addr_range range = { .base = *a, .bits = (uint8_t)bits };
        for (unsigned i = bits; i < ADDR_BITS(a); i++)
                range.base.bytes[i / 8] &= (uint8_t) ~(0x80u >> (i % 8));
        for (size_t i = 0; i < l->n; i++)
                if (l->ranges[i].base.family == a->family && l->ranges[i].bits <= bits && addr_in(a, &l->ranges[i]))
                        return;
        if (l->n == RESOLVER_LINKS_MAX)
                l->all = true;
        else
                l->ranges[l->n++] = range;
}

bool resolver_links_hold(const struct resolver_links *l, const struct addr *a) {
        for (size_t i = 0; !l->all && i < l->n; i++)
                if (addr_in(a, &l->ranges[i]))
                        return true;
        return l->all;
}

bool resolver_links_equal(const struct resolver_links *a, const struct resolver_links *b) {
        if (a->all != b->all || a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (!range_equal(&a->ranges[i], &b->ranges[i]))
                        return false;
        return true;
}

void resolver_put_links(struct nb_buf *out, const struct resolver_links *l) {
        put_uint(out, RESOLVER_SAYS_LINKS, 1);
        put_uint(out, l->all, 1);
        put_uint(out, (uint32_t)l->n, 2);
        for (size_t i = 0; i < l->n; i++) {
                put_family(out, &l->ranges[i].base);
                put_uint(out, l->ranges[i].bits, 1);
                nb_buf_add(out, l->ranges[i].base.bytes, ADDR_BYTES(&l->ranges[i].base));
        }
}

int resolver_read_links(const uint8_t *bytes, size_t len, struct resolver_links *ret) {
        struct reader r = { .at = bytes, .left = len };
        *ret = (struct resolver_links){ 0 };
        r.bad = take_uint(&r, 1) != RESOLVER_SAYS_LINKS;
        uint32_t all = take_uint(&r, 1), n = take_uint(&r, 2);
        r.bad = r.bad || all > 1 || n > RESOLVER_LINKS_MAX;
        for (size_t i = 0; !r.bad && i < n; i++) {
                struct addr_range *range = &ret->ranges[i];
                take_family(&r, &range->base);
                range->bits = (uint8_t)take_uint(&r, 1);
                take_addr_bytes(&r, &range->base);
                r.bad = r.bad || range->bits > ADDR_BITS(&range->base);
        }
        ret->all = all != 0;
        ret->n = n;
        return r.bad || r.left > 0 ? -EPROTO : 0;
}

/* ---- questions */

bool resolver_type_valid(uint16_t type) {
        return type != ns_t_invalid && type != ns_t_opt && !(type >= 249 && type <= 255); /* TKEY ... ANY */
}

void resolver_put_request(struct nb_buf *out, const struct resolver_request *q) {
        put_uint(out, q->id, 4);
        put_uint(out, q->type, 2);
        nb_buf_add(out, q->name, strlen(q->name));
}

int resolver_read_request(const uint8_t *bytes, size_t len, struct resolver_request *ret) {
        struct reader r = { .at = bytes, .left = len };
        *ret = (struct resolver_request){ 0 };
        ret->id = take_uint(&r, 4);
        ret->type = (uint16_t)take_uint(&r, 2);
        if (r.bad || (ret->type != 0 && !resolver_type_valid(ret->type)))
                return -EPROTO;
        /* the canonical form must be what came, byte for byte */
        int n = name_canonical(r.at, r.left, ret->name);
        return n >= 0 && (size_t)n == r.left && memcmp(ret->name, r.at, r.left) == 0 ? 0 : -EPROTO;
}

/* ---- answers */

void resolver_put_answer(struct nb_buf *out, uint32_t id, const struct resolver_answer *a) {
        size_t before = out->len, n_records = 0;
        put_uint(out, RESOLVER_SAYS_ANSWER, 1);
        put_uint(out, id, 4);
        put_uint(out, a->status, 1);
        put_uint(out, (uint32_t)a->n_addrs, 1);
        for (size_t i = 0; i < a->n_addrs; i++) {
                put_family(out, &a->addrs[i].addr);
                put_uint(out, a->addrs[i].own, 1);
                nb_buf_add(out, a->addrs[i].addr.bytes, ADDR_BYTES(&a->addrs[i].addr));
        }
        for (size_t room = RESOLVER_MESSAGE_MAX - (out->len - before) - 1; n_records < a->n_records; n_records++) {
                size_t need = 8u + a->records[n_records].len;
                if (need > room)
                        break;
                room -= need;
        }
        put_uint(out, (uint32_t)n_records, 1);
        for (size_t i = 0; i < n_records; i++) {
                put_uint(out, a->records[i].type, 2);
                put_uint(out, a->records[i].ttl, 4);
                put_uint(out, a->records[i].len, 2);
                nb_buf_add(out, a->records[i].rdata, a->records[i].len);
        }
}

static void read_record(struct reader *r, struct resolver_record *ret) {
        ret->type = (uint16_t)take_uint(r, 2);
        ret->ttl = take_uint(r, 4);
        ret->len = (uint16_t)take_uint(r, 2);
        r->bad = r->bad || ret->len > RESOLVER_RDATA_MAX;
        ret->rdata = take(r, ret->len);
}

int resolver_read_answer(const uint8_t *bytes, size_t len, uint32_t *ret_id, struct resolver_answer *ret) {
        struct reader r = { .at = bytes, .left = len };
        *ret = (struct resolver_answer){ 0 };
        r.bad = take_uint(&r, 1) != RESOLVER_SAYS_ANSWER;
        *ret_id = take_uint(&r, 4);
        uint32_t status = take_uint(&r, 1), n = take_uint(&r, 1);
        r.bad = r.bad || status > RESOLVER_BUSY || n > RESOLVER_ADDRS_MAX;
        for (; !r.bad && ret->n_addrs < n; ret->n_addrs++) {
                struct resolver_addr *a = &ret->addrs[ret->n_addrs];
                take_family(&r, &a->addr);
                uint32_t own = take_uint(&r, 1);
                take_addr_bytes(&r, &a->addr);
                a->own = own != 0;
                r.bad = r.bad || own > 1;
        }
        n = take_uint(&r, 1);
        r.bad = r.bad || n > RESOLVER_RECORDS_MAX;
        for (; !r.bad && ret->n_records < n; ret->n_records++)
                read_record(&r, &ret->records[ret->n_records]);
        ret->status = (enum resolver_status)status;
        return r.bad || r.left > 0 ? -EPROTO : 0;
}

/* ---- DNS messages */

/* Appends `n` names that begin at `at` without compression. Returns where they end, NULL if they are malformed. */
static const uint8_t *put_names(const ns_msg *msg, const uint8_t *at, const uint8_t *end, unsigned n, struct nb_buf *out) {
        for (; n > 0; n--) {
                uint8_t name[NS_MAXCDNAME];
                int used = ns_name_unpack(ns_msg_base(*msg), ns_msg_end(*msg), at, name, sizeof name);
                size_t len = 0;
                if (used < 0 || used > end - at)
                        return NULL;
                while (name[len] != 0)
                        len += 1u + name[len];
                nb_buf_add(out, name, len + 1);
                at += used;
        }
        return at;
}

/* Where names stand in the data of the types that may compress them (RFC 1035, 1183, 2163, 2782): after `before` bytes. */
static const struct shape {
        uint16_t type;
        uint8_t before, names;
} shapes[] = {
        { ns_t_ns, 0, 1 },  { ns_t_cname, 0, 1 }, { ns_t_ptr, 0, 1 },   { ns_t_dname, 0, 1 }, { ns_t_mx, 2, 1 },
        { ns_t_rt, 2, 1 },  { ns_t_afsdb, 2, 1 }, { ns_t_kx, 2, 1 },    { ns_t_px, 2, 2 },    { ns_t_rp, 0, 2 },
        { ns_t_soa, 0, 2 }, { ns_t_srv, 6, 1 },   { ns_t_minfo, 0, 2 },
};

static bool put_rdata(const ns_msg *msg, const ns_rr *rr, struct nb_buf *out) {
        const uint8_t *at = ns_rr_rdata(*rr), *end = at + ns_rr_rdlen(*rr);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
                if (shapes[i].type != ns_rr_type(*rr))
                        continue;
                if (end - at < shapes[i].before)
                        return false;
                nb_buf_add(out, at, shapes[i].before);
                at = put_names(msg, at + shapes[i].before, end, shapes[i].names, out);
                if (!at)
                        return false;
        }
        nb_buf_add(out, at, (size_t)(end - at));
        return true;
}

int resolver_read_dns(const uint8_t *bytes, size_t len, uint16_t type, struct nb_buf *space, struct resolver_answer *ret) {
        ns_msg msg;
        size_t offsets[RESOLVER_RECORDS_MAX] = { 0 }, first = space->len;
        *ret = (struct resolver_answer){ .status = RESOLVER_OK };
        if (len > NS_MAXMSG || ns_initparse(bytes, (int)len, &msg) < 0)
                return -EPROTO;
        for (int i = 0; i < ns_msg_count(msg, ns_s_an) && ret->n_records < RESOLVER_RECORDS_MAX; i++) {
                ns_rr rr;
                size_t at = space->len;
                if (ns_parserr(&msg, ns_s_an, i, &rr) < 0)
                        return -EPROTO;
                if (ns_rr_class(rr) != ns_c_in || ns_rr_type(rr) != type)
                        continue;
                if (!put_rdata(&msg, &rr, space))
                        return -EPROTO;
                if (space->len == at) /* none of the types asked for may be empty */
                        continue;
                if (space->len - at > RESOLVER_RDATA_MAX || space->len - first > RESOLVER_MESSAGE_MAX) {
                        space->len = at; /* too long to be passed on */
                        continue;
                }
                offsets[ret->n_records] = at;
                ret->records[ret->n_records++] =
                    (struct resolver_record){ .type = type, .ttl = ns_rr_ttl(rr), .len = (uint16_t)(space->len - at) };
        }
        for (size_t i = 0; i < ret->n_records; i++) /* the memory stays where it is from here on */
                ret->records[i].rdata = nb_buf_bytes(space) + offsets[i];
        if (ret->n_records == 0)
                ret->status = RESOLVER_NODATA;
        return 0;
}
