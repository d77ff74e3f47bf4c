/* What is kept of the gateway's work, so that the next one can go on with it and so that the owner can be told: names and
 * their addresses, bytes to each destination, bytes sent under rules with a limit. Every table has a size that it does not
 * exceed. */
#include <arpa/inet.h>
#include <search.h>
#include <string.h>

#include "base/mem.h"
#include "box/supervisor_gateway.h"
#include "gateway/gateway.h"

#define NAMES_BYTES_MAX (6u * 1024u * 1024u) /* of the start message; about 150,000 names of the usual length */
#define NAME_OVERHEAD 24u                    /* brackets, quotes and the address */
#define ADDRESSES (1u << (32u - NET_SYNTHETIC_BITS))
#define TOTALS_MAX 1024u
#define TOTALS_SHOWN 256u
#define TOTALS_REST "(others)" /* what is beyond the table; not a name */

struct name {
        uint32_t address;
        char text[]; /* canonical */
};

struct egress_table {
        void *names;             /* tree of struct name */
        struct name **addresses; /* the name of each, NULL if it has none */
        size_t names_bytes;
        struct egress_total *totals;
        size_t n_totals;
        struct egress_used *used;
        size_t n_used;
};

static int compare_names(const void *a, const void *b) {
        return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

struct egress_table *egress_table_new(void) {
        struct egress_table *t = nb_calloc(1, sizeof *t);
        t->addresses = nb_calloc(ADDRESSES, sizeof(void *));
        return t;
}

void egress_table_free(struct egress_table *t) {
        if (!t)
                return;
        tdestroy(t->names, free);
        for (size_t i = 0; i < t->n_totals; i++) {
                free(t->totals[i].host);
                free(t->totals[i].rule);
        }
        for (size_t i = 0; i < t->n_used; i++)
                free(t->used[i].rule);
        free(t->totals);
        free(t->used);
        free(t->addresses);
        free(t);
}

/* ---- names */

static void forget(struct egress_table *t, struct name *n) {
        (void)tdelete(n, &t->names, compare_names);
        t->addresses[n->address % ADDRESSES] = NULL;
        t->names_bytes -= strlen(n->text) + NAME_OVERHEAD;
        free(n);
}

/* One name has one address and one address one name, whatever the gateway says. */
void egress_table_name(struct egress_table *t, const char *name, uint32_t address) {
        size_t len = strlen(name);
        struct name *key = nb_calloc(1, sizeof *key + len + 1);
        memcpy(key->text, name, len + 1);
        struct name **node = tfind(key, &t->names, compare_names);
        if (node)
                forget(t, *node);
        if (address != 0 && t->addresses[address % ADDRESSES])
                forget(t, t->addresses[address % ADDRESSES]);
        key->address = address;
        if (address != 0 && t->names_bytes + len + NAME_OVERHEAD <= NAMES_BYTES_MAX && tsearch(key, &t->names, compare_names)) {
                t->addresses[address % ADDRESSES] = key;
                t->names_bytes += len + NAME_OVERHEAD;
        } else {
                free(key);
        }
}

static void add_name(const void *node, VISIT visit, void *user) {
        if (visit != postorder && visit != leaf)
                return;
        const struct name *n = *(const struct name *const *)node;
        char text[INET_ADDRSTRLEN];
        (void)inet_ntop(AF_INET, &(struct in_addr){ htonl(n->address) }, text, sizeof text);
        (void)json_array_append_new(user, json_pack("[s, s]", n->text, text));
}

json_t *egress_table_names(const struct egress_table *t) {
        json_t *list = json_array();
        twalk_r(t->names, add_name, list);
        return list;
}

/* ---- bytes */

static struct egress_total *find_total(struct egress_table *t, const char *host) {
        for (size_t i = 0; i < t->n_totals; i++)
                if (strcmp(t->totals[i].host, host) == 0)
                        return &t->totals[i];
        if (t->n_totals + 1 >= TOTALS_MAX && strcmp(host, TOTALS_REST) != 0)
                return find_total(t, TOTALS_REST);
        t->totals = nb_realloc(t->totals, t->n_totals + 1, sizeof *t->totals);
        t->totals[t->n_totals] = (struct egress_total){ .host = nb_strdup(host), .rule = nb_strdup("") };
        return &t->totals[t->n_totals++];
}

static void grow(uint64_t *sum, uint64_t more) {
        *sum = *sum + more < *sum ? UINT64_MAX : *sum + more;
}

void egress_table_total(struct egress_table *t, const char *host, const char *rule, uint64_t up, uint64_t down) {
        struct egress_total *total = find_total(t, host);
        grow(&total->up, up);
        grow(&total->down, down);
        if (strcmp(total->rule, rule) != 0) {
                free(total->rule);
                total->rule = nb_strdup(rule);
        }
        for (size_t i = 0; i < t->n_used; i++)
                if (strcmp(t->used[i].rule, rule) == 0)
                        grow(&t->used[i].bytes, up);
}

void egress_table_limits(struct egress_table *t, const struct policy *p) {
        for (size_t i = 0; i < p->n_rules; i++) {
                if (p->rules[i].deny || p->rules[i].limit == 0)
                        continue;
                NB_AUTO_FREE char *text = policy_rule_text(&p->rules[i]);
                size_t at = 0;
                while (at < t->n_used && strcmp(t->used[at].rule, text) != 0)
                        at++;
                if (at < t->n_used || at >= POLICY_RULES_MAX)
                        continue;
                t->used = nb_realloc(t->used, t->n_used + 1, sizeof *t->used);
                t->used[t->n_used++] = (struct egress_used){ .rule = nb_steal(&text) };
        }
}

json_t *egress_table_used(const struct egress_table *t) {
        json_t *list = json_array();
        for (size_t i = 0; i < t->n_used; i++)
                (void)json_array_append_new(list, json_pack("[s, I]", t->used[i].rule, (json_int_t)t->used[i].bytes));
        return list;
}

static int compare_totals(const void *a, const void *b) {
        const struct egress_total *x = a, *y = b;
        uint64_t bytes_x = x->up + x->down, bytes_y = y->up + y->down;
        return bytes_x < bytes_y ? 1 : bytes_x > bytes_y ? -1 : strcmp(x->host, y->host);
}

json_t *egress_table_totals(const struct egress_table *t) {
        json_t *list = json_array();
        NB_AUTO_FREE struct egress_total *sorted = nb_calloc(t->n_totals + 1, sizeof *sorted);
        for (size_t i = 0; i < t->n_totals; i++)
                sorted[i] = t->totals[i];
        qsort(sorted, t->n_totals, sizeof *sorted, compare_totals);
        for (size_t i = 0; i < t->n_totals && i < TOTALS_SHOWN; i++)
                (void)json_array_append_new(list,
                                            json_pack("{s:s, s:s, s:I, s:I}", "host", sorted[i].host, "rule", sorted[i].rule,
                                                      "up", (json_int_t)sorted[i].up, "down", (json_int_t)sorted[i].down));
        return list;
}
