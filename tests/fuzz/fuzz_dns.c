/* Fuzz target: DNS queries. The first byte says how to answer, the rest is the message. Whatever is answered must be valid for
 * the C library's reader, echo the question byte for byte, keep within its room, and say truncated rather than cut anything. */
#include <arpa/nameser.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition)                   \
        do {                              \
                if (!(condition))         \
                        __builtin_trap(); \
        } while (0)

static void check(struct nb_buf *out, size_t before, const struct dns_query *q, enum dns_rcode rcode, size_t records) {
        const uint8_t *bytes = nb_buf_bytes(out) + before;
        size_t len = out->len - before;
        ns_msg m;
        ns_rr rr;
        must(ns_initparse(bytes, (int)len, &m) == 0);
        must(ns_msg_id(m) == q->id && ns_msg_getflag(m, ns_f_qr) == 1);
        must((unsigned)ns_msg_getflag(m, ns_f_opcode) == q->opcode &&
             (unsigned)ns_msg_getflag(m, ns_f_rcode) == (rcode & 0xfu));
        must(ns_msg_count(m, ns_s_qd) == (q->question_len > 0));
        must(q->question_len == 0 || memcmp(bytes + 12, q->question, q->question_len) == 0);
        must(q->question_len == 0 || len <= q->room);
        must(ns_msg_count(m, ns_s_ar) == q->edns && ns_msg_count(m, ns_s_ns) == 0);
        must(ns_msg_getflag(m, ns_f_tc) ? ns_msg_count(m, ns_s_an) == 0 : ns_msg_count(m, ns_s_an) == records);
        for (int i = 0; i < ns_msg_count(m, ns_s_an); i++)
                must(ns_parserr(&m, ns_s_an, i, &rr) == 0 && ns_rr_class(rr) == ns_c_in);
        if (q->edns)
                must(ns_parserr(&m, ns_s_ar, 0, &rr) == 0 && ns_rr_type(rr) == ns_t_opt);
}

static void put_records(struct nb_buf *out, const struct dns_query *q, const uint8_t *data, size_t size) {
        struct resolver_answer *a = nb_calloc(1, sizeof *a);
        size_t fit = 0;
        while (a->n_records < RESOLVER_RECORDS_MAX && size > 2) {
                struct resolver_record *r = &a->records[a->n_records++];
                *r = (struct resolver_record){ .ttl = data[0] * 0x1010101u, .type = data[0] & 1 ? q->type : 9 };
                r->len = (uint16_t)(data[1] * 4u < size - 2 ? data[1] * 4u : size - 2);
                r->rdata = data + 2;
                fit += r->type == q->type;
                data += 2 + r->len;
                size -= 2u + r->len;
        }
        dns_put_records(out, q, a);
        check(out, 0, q, DNS_NOERROR, fit);
        free(a);
}

/* Names that are read must be what the C library reads, if it reads it in their plain form at all. */
static void check_name(const struct dns_query *q) {
        char text[NS_MAXDNAME];
        if (q->question_len == 0)
                return;
        must(ns_name_ntop(q->question, text, sizeof text) > 0);
        must(q->root == (strcmp(text, ".") == 0 || text[0] == 0));
        char canonical[NAME_MAX_LEN + 1];
        if (q->valid_name)
                must(name_canonical(text, strlen(text), canonical) > 0 && strcmp(canonical, q->name) == 0);
        else if (!q->root && !strchr(text, '\\'))
                must(name_canonical(text, strlen(text), canonical) < 0);
        unsigned b[4];
        int used = 0;
        uint32_t address;
        char again[64];
        bool pointer = q->valid_name && sscanf(q->name, "%3u.%3u.%3u.%3u.in-addr.arpa%n", b, b + 1, b + 2, b + 3, &used) == 4 &&
                       used > 0 && q->name[used] == 0;
        snprintf(again, sizeof again, "%u.%u.%u.%u.in-addr.arpa", pointer ? b[0] : 0, pointer ? b[1] : 0, pointer ? b[2] : 0,
                 pointer ? b[3] : 0);
        pointer = pointer && strcmp(again, q->name) == 0 && b[0] < 256 && b[1] < 256 && b[2] < 256 && b[3] < 256;
        must(dns_pointer_address(q->name, &address) == pointer);
        must(!pointer || address == (b[3] << 24 | b[2] << 16 | b[1] << 8 | b[0]));
}

/* ---- the parts around the service, played */
struct resolve_query {
        resolve_fn done;
        void *user;
};

struct resolve_query *resolve_ask(struct resolve *r, const char *name, uint16_t type, resolve_fn done, void *user) {
        must(strcmp(name, "a.b") == 0);
        must(type == ns_t_txt || type == ns_t_mx || type == ns_t_srv || type == ns_t_cname);
        (void)r;
        struct resolve_query *q = nb_calloc(1, sizeof *q);
        *q = (struct resolve_query){ done, user };
        return q;
}

void resolve_cancel(struct resolve_query *q) {
        free(q);
}

bool resolve_own(struct resolve *r, const struct addr *a) {
        (void)r;
        (void)a;
        return false;
}

bool proxy_applies(const struct proxy *p, const char *name, uint16_t port, const struct policy_rule *rule) {
        (void)p;
        (void)name;
        (void)port;
        (void)rule;
        return false;
}

void report_event(struct report *r, const struct report_event *e) {
        (void)r;
        must(!e->host || name_problem(e->host, strlen(e->host)) == NULL);
        must(e->allow || e->reason);
}

void report_name(struct report *r, const char *name, uint32_t address, bool gone) {
        (void)r;
        must(!gone && name_below(name, "b") && address > NET_SYNTHETIC);
}

static void no_answer(void *user, struct nb_buf *message) {
        (void)user;
        (void)message;
        abort();
}

/* "a.b" and "*.b" are allowed, "c.b" is denied. */
static void serve(const struct dns_query *q) {
        static const char *const rules[] = { "a.b", "*.b", "c.b" };
        struct gateway g = { .policy = policy_new(POLICY_FILTERED), .names = names_new(NET_SYNTHETIC, 16) };
        for (size_t i = 0; i < NB_ARRAY_LEN(rules); i++) {
                bool star = rules[i][0] == '*';
                struct policy_rule r = { .deny = i == 2, .below = star, .host = nb_strdup(rules[i] + (star ? 2 : 0)) };
                r.ports[0] = 443;
                r.n_ports = i != 2;
                must(policy_add(g.policy, &r, NULL) == 0);
        }
        NB_AUTO_BUF out = { 0 };
        struct answer *later = answer_query(&g, q, true, no_answer, NULL, &out);
        if (later) {
                must(out.len == 0 && q->valid_name);
                answer_cancel(later);
        } else {
                ns_msg m;
                must(ns_initparse(nb_buf_bytes(&out), (int)out.len, &m) == 0);
                bool plain = q->opcode == 0 && q->class == ns_c_in && q->edns_version == 0;
                bool exists = q->valid_name && name_below(q->name, "b") && strcmp(q->name, "c.b") != 0;
                must(ns_msg_count(m, ns_s_an) == (plain && exists && (q->type == ns_t_a || q->type == ns_t_any)));
                must(!plain || q->root || exists || ns_msg_getflag(m, ns_f_rcode) != ns_r_noerror); /* BADVERS has 0 there */
        }
        policy_free(g.policy);
        names_free(g.names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        uint8_t how = data[0];
        struct dns_query q;
        int r = dns_parse(data + 1, size - 1, &q);
        NB_AUTO_BUF out = { 0 };
        if (r == -EPROTO)
                return 0;
        must(q.id == (data[1] << 8 | data[2]));
        if (r < 0) {
                must(q.question_len == 0 && !q.edns);
                dns_put_empty(&out, &q, DNS_FORMERR);
                check(&out, 0, &q, DNS_FORMERR, 0);
                return 0;
        }
        must(q.room >= 512 && q.room <= DNS_UDP_MAX);
        check_name(&q);
        serve(&q);
        if (how & 0x80)
                q.room = DNS_TCP_MAX;
        uint32_t addresses[256] = { 0 };
        size_t n = how & 0x3fu, room = (q.room - 12u - q.question_len - (q.edns ? 11 : 0)) / 16;
        dns_put_address(&out, &q, addresses, n, 60);
        check(&out, 0, &q, DNS_NOERROR, q.question_len == 0 ? 0 : n < room ? n : room);
        size_t before = out.len; /* a second message behind the first, as over TCP */
        dns_put_empty(&out, &q, how & 0x40 && q.edns ? DNS_BADVERS : DNS_NXDOMAIN);
        check(&out, before, &q, how & 0x40 && q.edns ? DNS_BADVERS : DNS_NXDOMAIN, 0);
        nb_buf_clear(&out);
        if (q.question_len > 0) {
                put_records(&out, &q, data + 1, size - 1);
                nb_buf_clear(&out);
        }
        if (q.valid_name) {
                dns_put_pointer(&out, &q, q.name, 60);
                check(&out, 0, &q, DNS_NOERROR, 1);
        }
        return 0;
}
