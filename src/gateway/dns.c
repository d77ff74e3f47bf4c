/* DNS messages (see dns.h). Reading is strict: one question, its name in plain labels, nothing behind the records. Names in
 * answers are a pointer to the question's, or written out; so an answer may begin anywhere in a buffer. */
#include "gateway/dns.h"

#include <arpa/nameser.h>
#include <errno.h>
#include <string.h>

#define HEADER_LEN 12u
#define OPT_LEN 11u
#define PLAIN_UDP_MAX 512u /* without EDNS */
#define NAME_AT_QUESTION 0xc00cu
#define FLAG_QR 0x8000u
#define FLAG_TC 0x0200u
#define FLAG_RD 0x0100u
#define FLAG_RA 0x0080u

/* Wire form of a name to canonical form. A dot inside a label would read as a boundary, so there is no such name. */
static bool read_name(const uint8_t *wire, char ret[NAME_MAX_LEN + 1]) {
        char text[NS_MAXCDNAME];
        size_t len = 0;
        for (const uint8_t *p = wire; *p; p += 1 + *p) {
                if (memchr(p + 1, '.', *p))
                        return false;
                if (len > 0)
                        text[len++] = '.';
                memcpy(text + len, p + 1, *p);
                len += *p;
        }
        /* the root's dot is what name_canonical() takes off; there is none here */
        return name_canonical(text, len, ret) > 0;
}

/* The one question. Returns 0 or -EBADMSG. */
static int read_question(const uint8_t *bytes, size_t len, struct dns_query *q) {
        uint8_t wire[NS_MAXCDNAME];
        int used = ns_name_unpack(bytes, bytes + len, bytes + HEADER_LEN, wire, sizeof wire);
        if (used < 1 || len < HEADER_LEN + (size_t)used + 4)
                return -EBADMSG;
        size_t plain = 1;
        for (const uint8_t *p = wire; *p; p += 1 + *p)
                plain += 1u + *p;
        if (plain != (size_t)used || plain + 4 > sizeof q->question) /* compressed, where there is nothing to point to */
                return -EBADMSG;
        const uint8_t *end = bytes + HEADER_LEN + used;
        q->type = (uint16_t)ns_get16(end);
        q->class = (uint16_t)ns_get16(end + 2);
        q->question_len = plain + 4;
        memcpy(q->question, bytes + HEADER_LEN, q->question_len);
        q->root = plain == 1;
        q->valid_name = read_name(wire, q->name);
        return 0;
}

/* Of additional records a query has EDNS's, once, and no other. */
static int read_edns(ns_msg *m, struct dns_query *q) {
        ns_rr rr;
        if (ns_msg_count(*m, ns_s_ar) == 0)
                return 0;
        if (ns_msg_count(*m, ns_s_ar) > 1 || ns_parserr(m, ns_s_ar, 0, &rr) < 0 || ns_rr_type(rr) != ns_t_opt)
                return -EBADMSG;
        uint16_t size = (uint16_t)ns_rr_class(rr);
        q->edns = true;
        q->edns_version = (uint8_t)(ns_rr_ttl(rr) >> 16);
        q->room = size < PLAIN_UDP_MAX ? PLAIN_UDP_MAX : size > DNS_UDP_MAX ? DNS_UDP_MAX : size;
        return 0;
}

int dns_parse(const uint8_t *bytes, size_t len, struct dns_query *ret) {
        *ret = (struct dns_query){ .room = PLAIN_UDP_MAX };
        if (len < 2 || (len > 2 && bytes[2] & 0x80)) /* an answer is not answered: two such programs would talk for ever */
                return -EPROTO;
        ret->id = (uint16_t)ns_get16(bytes);
        if (len < HEADER_LEN)
                return -EBADMSG;
        ret->opcode = (bytes[2] >> 3) & 0xf;
        ret->recursion = bytes[2] & 1;
        if (ret->opcode != ns_o_query)
                return 0;
        if (len > DNS_QUERY_MAX || bytes[2] & 2 /* truncated */)
                return -EBADMSG;
        ns_msg m;
        if (ns_initparse(bytes, (int)len, &m) < 0 || ns_msg_count(m, ns_s_qd) != 1 || ns_msg_count(m, ns_s_an) != 0 ||
            ns_msg_count(m, ns_s_ns) != 0)
                return -EBADMSG;
        int r = read_question(bytes, len, ret);
        if (r == 0)
                r = read_edns(&m, ret);
        if (r < 0) /* nothing of it is echoed */
                *ret = (struct dns_query){ .room = PLAIN_UDP_MAX, .id = ret->id, .recursion = ret->recursion };
        return r;
}

static void put16(struct nb_buf *out, unsigned v) {
        ns_put16(v, nb_buf_reserve(out, 2));
        nb_buf_commit(out, 2);
}

static void put32(struct nb_buf *out, uint32_t v) {
        ns_put32(v, nb_buf_reserve(out, 4));
        nb_buf_commit(out, 4);
}

/* Header, question; `answers` records are to follow. */
static void begin(struct nb_buf *out, const struct dns_query *q, enum dns_rcode rcode, bool truncated, size_t answers) {
        put16(out, q->id);
        put16(out, FLAG_QR | (unsigned)q->opcode << 11 | (truncated ? FLAG_TC : 0) | (q->recursion ? FLAG_RD : 0) | FLAG_RA |
                       ((unsigned)rcode & 0xf));
        put16(out, q->question_len ? 1 : 0);
        put16(out, (unsigned)answers);
        put16(out, 0);
        put16(out, q->edns ? 1 : 0);
        nb_buf_add(out, q->question, q->question_len);
}

static void put_record(struct nb_buf *out, unsigned type, uint32_t ttl, const void *rdata, size_t len) {
        put16(out, NAME_AT_QUESTION);
        put16(out, type);
        put16(out, ns_c_in);
        put32(out, ttl > INT32_MAX ? INT32_MAX : ttl);
        put16(out, (unsigned)len);
        nb_buf_add(out, rdata, len);
}

static void end(struct nb_buf *out, const struct dns_query *q, enum dns_rcode rcode) {
        if (!q->edns)
                return;
        nb_buf_add(out, "", 1);
        put16(out, ns_t_opt);
        put16(out, DNS_UDP_MAX);
        put32(out, ((uint32_t)rcode >> 4) << 24); /* version 0, no flags */
        put16(out, 0);
}

/* What is left for records. */
static size_t room_left(const struct dns_query *q) {
        size_t fixed = HEADER_LEN + q->question_len + (q->edns ? OPT_LEN : 0);
        return q->room > fixed && q->question_len > 0 ? q->room - fixed : 0;
}

static size_t record_len(size_t rdata) {
        return 12 + rdata;
}

void dns_put_empty(struct nb_buf *out, const struct dns_query *q, enum dns_rcode rcode) {
        begin(out, q, rcode, false, 0);
        end(out, q, rcode);
}

static void put_truncated(struct nb_buf *out, const struct dns_query *q) {
        begin(out, q, DNS_NOERROR, true, 0);
        end(out, q, DNS_NOERROR);
}

void dns_put_address(struct nb_buf *out, const struct dns_query *q, const uint32_t *addresses, size_t n, uint32_t ttl) {
        size_t fit = room_left(q) / record_len(4);
        n = n < fit ? n : fit;
        begin(out, q, DNS_NOERROR, false, n);
        for (size_t i = 0; i < n; i++) {
                uint8_t rdata[4];
                ns_put32(addresses[i], rdata);
                put_record(out, ns_t_a, ttl, rdata, sizeof rdata);
        }
        end(out, q, DNS_NOERROR);
}

void dns_put_pointer(struct nb_buf *out, const struct dns_query *q, const char *name, uint32_t ttl) {
        uint8_t wire[NS_MAXCDNAME];
        if (ns_name_pton(name, wire, sizeof wire) < 0) {
                dns_put_empty(out, q, DNS_SERVFAIL);
                return;
        }
        size_t len = 1;
        for (const uint8_t *p = wire; *p; p += 1 + *p)
                len += 1u + *p;
        if (record_len(len) > room_left(q)) {
                put_truncated(out, q);
                return;
        }
        begin(out, q, DNS_NOERROR, false, 1);
        put_record(out, ns_t_ptr, ttl, wire, len);
        end(out, q, DNS_NOERROR);
}

void dns_put_records(struct nb_buf *out, const struct dns_query *q, const struct resolver_answer *a) {
        size_t n = 0, len = 0;
        for (size_t i = 0; i < a->n_records; i++)
                if (a->records[i].type == q->type) {
                        n++;
                        len += record_len(a->records[i].len);
                }
        if (len > room_left(q)) {
                put_truncated(out, q);
                return;
        }
        begin(out, q, DNS_NOERROR, false, n);
        for (size_t i = 0; i < a->n_records; i++)
                if (a->records[i].type == q->type)
                        put_record(out, a->records[i].type, a->records[i].ttl, a->records[i].rdata, a->records[i].len);
        end(out, q, DNS_NOERROR);
}

bool dns_pointer_address(const char *name, uint32_t *ret) {
        *ret = 0;
        uint32_t address = 0;
        const char *p = name;
        for (unsigned shift = 0; shift < 32; shift += 8) {
                size_t digits = strspn(p, "0123456789");
                if (digits == 0 || digits > 3 || p[digits] != '.' || (digits > 1 && *p == '0'))
                        return false;
                unsigned v = 0;
                for (; *p != '.'; p++)
                        v = v * 10 + (unsigned)(*p - '0');
                if (v > 255)
                        return false;
                address |= (uint32_t)v << shift;
                p++;
        }
        if (strcmp(p, "in-addr.arpa") != 0)
                return false;
        *ret = address;
        return true;
}
