/* Bytes by destination and by rule (see totals.h). Nothing here is told to anybody: report.c does that. */
#include "gateway/totals.h"

#include <string.h>

#include "base/mem.h"

#define BUCKETS 1024u /* a power of two */

struct limit {
        char *rule; /* as text: rules are made anew with each change of policy */
        uint64_t used;
};
struct total {
        struct totals_line line;
        const struct policy_rule *rule; /* what `line.rule` was made from; only compared */
        bool stale;                     /* the rule is gone */
        size_t limit;                   /* place in limits + 1, 0: none */
        struct total *next;
};
struct totals {
        struct total *buckets[BUCKETS];
        size_t n, at; /* how many there are; no bucket below `at` holds any */
        struct total other;
        struct limit *limits;
        size_t n_limits;
};

struct totals *totals_new(void) {
        return nb_calloc(1, sizeof(struct totals));
}

void totals_free(struct totals *t) {
        if (!t)
                return;
        struct totals_line line;
        while (totals_take(t, &line)) {
                free(line.host);
                free(line.rule);
        }
        for (size_t i = 0; i < t->n_limits; i++)
                free(t->limits[i].rule);
        free(t->limits);
        free(t);
}

static size_t bucket_of(const char *host) {
        uint32_t h = 2166136261u; /* FNV-1a; whoever fills one bucket with names of his choice searches TOTALS_MAX of them */
        for (; *host; host++)
                h = (h ^ (uint8_t)*host) * 16777619u;
        return (h ^ h >> 15) & (BUCKETS - 1);
}

static struct limit *find_limit(const struct totals *t, const char *rule) {
        for (size_t i = 0; i < t->n_limits; i++)
                if (strcmp(t->limits[i].rule, rule) == 0)
                        return &t->limits[i];
        return NULL;
}

static struct limit *get_limit(struct totals *t, const char *rule) {
        struct limit *l = find_limit(t, rule);
        if (l || t->n_limits >= TOTALS_RULES_MAX)
                return l;
        t->limits = nb_realloc(t->limits, t->n_limits + 1, sizeof *t->limits);
        l = &t->limits[t->n_limits++];
        *l = (struct limit){ .rule = nb_strdup(rule) };
        return l;
}

/* The entry to count in, and the rule's limit (its place + 1, 0: there is no room for one). */
static struct total *get_total(struct totals *t, const char *host, const struct policy_rule *rule) {
        size_t bucket = bucket_of(host);
        for (struct total *e = t->buckets[bucket]; e; e = e->next)
                if (e->rule == rule && !e->stale && strcmp(e->line.host, host) == 0)
                        return e;
        NB_AUTO_FREE char *text = rule ? policy_rule_text(rule) : NULL;
        struct limit *l = rule && rule->limit > 0 ? get_limit(t, text) : NULL;
        size_t limit = l ? (size_t)(l - t->limits) + 1 : 0;
        if (t->n >= TOTALS_MAX) {
                t->other.limit = limit;
                return &t->other;
        }
        struct total *e = nb_calloc(1, sizeof *e);
        *e = (struct total){ .rule = rule, .limit = limit, .next = t->buckets[bucket] };
        e->line.host = nb_strdup(host);
        e->line.rule = nb_steal(&text);
        t->buckets[bucket] = e;
        t->n++;
        if (t->at > bucket)
                t->at = bucket;
        return e;
}

bool totals_add(struct totals *t, const char *host, const struct policy_rule *rule, uint64_t up, uint64_t down) {
        struct total *e = get_total(t, host, rule);
        e->line.up += up;
        e->line.down += down;
        if (!rule || rule->limit == 0)
                return true;
        if (e->limit == 0)
                return false;
        struct limit *l = &t->limits[e->limit - 1];
        l->used += up;
        return l->used < rule->limit;
}

bool totals_spent(const struct totals *t, const struct policy_rule *rule) {
        if (!rule || rule->limit == 0)
                return false;
        NB_AUTO_FREE char *text = policy_rule_text(rule);
        const struct limit *l = find_limit(t, text);
        return l ? l->used >= rule->limit : t->n_limits >= TOTALS_RULES_MAX;
}

void totals_used(struct totals *t, const char *rule, uint64_t bytes) {
        struct limit *l = get_limit(t, rule);
        if (l)
                l->used += bytes;
}

void totals_forget_rules(struct totals *t) {
        for (size_t i = 0; i < BUCKETS; i++)
                for (struct total *e = t->buckets[i]; e; e = e->next)
                        e->stale = true;
}

bool totals_take(struct totals *t, struct totals_line *ret) {
        while (t->at < BUCKETS && !t->buckets[t->at])
                t->at++;
        if (t->at < BUCKETS) {
                struct total *e = t->buckets[t->at];
                t->buckets[t->at] = e->next;
                t->n--;
                *ret = e->line;
                free(e);
                return true;
        }
        if (t->other.line.up == 0 && t->other.line.down == 0)
                return false;
        *ret = t->other.line;
        ret->host = nb_strdup(TOTALS_OTHER);
        t->other = (struct total){ 0 };
        return true;
}
