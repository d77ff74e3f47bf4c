/* Everything that the gateway says to the supervisor (see impl.h): decisions, names given out, totals. The supervisor may be
 * slow, the guest may be loud, and neither may cost more than the memory that is named here: equal decisions are told once
 * and then with a count, floods are thinned out kind by kind (so that a flood of one kind hides no other), and what must not
 * be lost waits: totals where they are counted, names in the queue. Words of the guest's own do not come here: callers pass
 * canonical names and numbers. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/impl.h"
#include "gateway/totals.h"

#define QUEUE_EVENTS_MAX (256u * 1024u) /* no event is added, and no total, while more than this waits */
#define QUEUE_MAX (24u * 1024u * 1024u) /* room for a line about each address there is; beyond it the gateway ends */
#define RECENT_MAX 256u                 /* decisions that are remembered to be counted together */
#define RECENT_MS 2000u                 /* for so long */
#define RATE 50u                        /* events a second and kind, ... */
#define BURST 500u                      /* after so many at once */
#define TICK_MS 1000u                   /* totals and counts are told as often */
#define LINE_ROOM 64u                   /* of GATEWAY_OUT_MAX, for what goes around an event's fields */

/* A decision told lately. `head` is the line about it but for the figures, and so is what makes two of them equal. */
struct recent {
        char *head; /* NULL: free place */
        uint64_t hash, since;
        size_t kind;
        unsigned count; /* not told yet */
        bool ended;
        uint64_t bytes_up, bytes_down, ms;
};
struct bucket {
        uint64_t tokens, filled_ms; /* tokens in thousandths of an event */
        bool started;
};
static const char *const types[] = { "dns", "connect", "http", "error" };
#define KINDS (NB_ARRAY_LEN(types) * 2)

struct report {
        struct gateway *g;
        int fd;
        struct nb_buf out;
        struct event writable, tick;
        bool waiting, ticking;
        struct recent recent[RECENT_MAX];
        struct bucket buckets[KINDS];
        uint64_t left_out;
        struct totals *totals;
};

/* ---- the queue */

static void flush(struct report *r) {
        while (r->out.len > 0) {
                ssize_t n = send(r->fd, nb_buf_bytes(&r->out), r->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno != EAGAIN) /* nobody is there: whoever reads from the supervisor will see that, too */
                        n = (ssize_t)r->out.len;
                if (n < 0)
                        break;
                nb_buf_consume(&r->out, (size_t)n);
        }
        bool wait = r->out.len > 0;
        if (!wait)
                nb_buf_clear(&r->out);
        if (wait != r->waiting)
                (void)(wait ? event_add(&r->writable, NULL) : event_del(&r->writable));
        r->waiting = wait;
}

static void on_writable(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        flush(user);
}

static void put_line(struct report *r, const char *line) {
        if (r->out.len > QUEUE_MAX) {
                gateway_fail(r->g, "the supervisor does not read what it is told");
                return;
        }
        nb_buf_add(&r->out, line, strlen(line));
        nb_buf_add(&r->out, "\n", 1);
        if (!r->waiting)
                flush(r);
}

static void put_json(struct report *r, json_t *doc) {
        NB_AUTO_FREE char *line = json_dumps(doc, JSON_COMPACT);
        if (line)
                put_line(r, line);
        json_decref(doc);
}

static void need_tick(struct report *r) {
        static const struct timeval delay = { .tv_sec = TICK_MS / 1000 };
        if (!r->ticking && event_add(&r->tick, &delay) == 0)
                r->ticking = true;
}

/* ---- events */

static bool take_token(struct report *r, size_t kind, uint64_t now) {
        struct bucket *b = &r->buckets[kind];
        uint64_t more = b->started ? (now - b->filled_ms) * RATE : BURST * 1000u;
        b->started = true;
        b->filled_ms = now;
        b->tokens = more > BURST * 1000u - b->tokens ? BURST * 1000u : b->tokens + more;
        if (b->tokens < 1000)
                return false;
        b->tokens -= 1000;
        return true;
}

/* One line, if there is room for it. `head` lacks the figures and the closing braces. */
static bool tell(struct report *r, size_t kind, const struct recent *e, unsigned count) {
        if (r->out.len > QUEUE_EVENTS_MAX || !take_token(r, kind, nb_now_ms())) {
                r->left_out += count;
                need_tick(r);
                return false;
        }
        NB_AUTO_FREE char *figures =
            e->ended ? nb_asprintf(",\"bytes_up\":%llu,\"bytes_down\":%llu,\"ms\":%llu", (unsigned long long)e->bytes_up,
                                   (unsigned long long)e->bytes_down, (unsigned long long)e->ms)
                     : nb_strdup("");
        NB_AUTO_FREE char *times = count > 1 ? nb_asprintf(",\"count\":%u", count) : nb_strdup("");
        NB_AUTO_FREE char *line = nb_asprintf("{\"event\":%s%s%s}}", e->head, figures, times);
        put_line(r, line);
        return true;
}

static void set_text(json_t *doc, const char *key, const char *text) {
        if (text)
                json_object_set_new(doc, key, json_string(text));
}

/* A reason may hold a name of the guest's making twice, and a rule with all its ports: so much of it as the supervisor takes.
 * New string. */
static char *cut(const char *text) {
        size_t len = text ? strnlen(text, GATEWAY_TEXT_MAX + 1) : 0;
        if (len <= GATEWAY_TEXT_MAX)
                return nb_strdup(text);
        while (--len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80) /* not in the middle of a character */
                continue;
        return nb_strndup(text, len);
}

/* The event without figures, as JSON without the closing brace. New string. */
static char *head_of(const struct report_event *e, bool with_reason) {
        char ip[ADDR_TEXT];
        NB_AUTO_FREE char *rule = e->rule ? policy_rule_text(e->rule) : NULL;
        NB_AUTO_FREE char *reason = with_reason ? cut(e->reason) : NULL;
        json_t *doc = json_object();
        set_text(doc, "type", e->type);
        set_text(doc, "decision", e->allow ? "allow" : "deny");
        set_text(doc, "host", e->host);
        if (e->ip) {
                addr_format(e->ip, ip);
                set_text(doc, "ip", ip);
        }
        if (e->port > 0)
                json_object_set_new(doc, "port", json_integer(e->port));
        set_text(doc, "proto", e->proto);
        set_text(doc, "rule", rule);
        set_text(doc, "reason", reason);
        char *text = json_dumps(doc, JSON_COMPACT);
        json_decref(doc);
        size_t len = text ? strlen(text) : 0;
        if (len + LINE_ROOM + 96 > GATEWAY_OUT_MAX || len == 0) { /* 96: figures */
                free(text);
                return with_reason ? head_of(e, false) : NULL;
        }
        text[len - 1] = 0;
        return text;
}

static size_t kind_of(const struct report_event *e) {
        size_t kind = 0;
        while (kind + 1 < NB_ARRAY_LEN(types) && strcmp(types[kind], e->type) != 0)
                kind++;
        return kind * 2 + e->allow;
}

static uint64_t hash_of(const char *text) {
        uint64_t h = 14695981039346656037u; /* FNV-1a */
        for (; *text; text++)
                h = (h ^ (uint8_t)*text) * 1099511628211u;
        return h;
}

static void forget(struct report *r, struct recent *e) {
        if (e->count > 0)
                (void)tell(r, e->kind, e, e->count);
        free(e->head);
        *e = (struct recent){ 0 };
}

/* The entry that equals, or else the one to use for it: a free one, or the oldest. */
static struct recent *find_recent(struct report *r, const char *head, uint64_t hash, bool ended) {
        struct recent *use = &r->recent[0];
        for (size_t i = 0; i < RECENT_MAX; i++) {
                struct recent *e = &r->recent[i];
                if (e->head && e->hash == hash && e->ended == ended && strcmp(e->head, head) == 0)
                        return e;
                if (use->head && (!e->head || e->since < use->since))
                        use = e;
        }
        return use;
}

void report_event(struct report *r, const struct report_event *e) {
        NB_AUTO_FREE char *head = head_of(e, true);
        if (!head)
                return;
        uint64_t hash = hash_of(head);
        struct recent *known = find_recent(r, head, hash, e->ended);
        bool again = known->head && known->hash == hash && known->ended == e->ended && strcmp(known->head, head) == 0;
        need_tick(r);
        if (again) {
                known->count++;
                known->bytes_up += e->bytes_up;
                known->bytes_down += e->bytes_down;
                known->ms = e->ms > known->ms ? e->ms : known->ms;
                return;
        }
        struct recent made = { .hash = hash,
                               .since = nb_now_ms(),
                               .kind = kind_of(e),
                               .ended = e->ended,
                               .bytes_up = e->bytes_up,
                               .bytes_down = e->bytes_down,
                               .ms = e->ms,
                               .head = head };
        if (!tell(r, made.kind, &made, 1))
                return;
        forget(r, known);
        *known = made;
        known->head = nb_steal(&head);
        known->bytes_up = known->bytes_down = known->ms = 0;
}

/* What is remembered for long enough: with a count it is told and remembered on, else it is over. */
static void tell_counts(struct report *r, uint64_t now) {
        for (size_t i = 0; i < RECENT_MAX; i++) {
                struct recent *e = &r->recent[i];
                if (!e->head || now - e->since < RECENT_MS)
                        continue;
                if (e->count == 0) {
                        forget(r, e);
                        continue;
                }
                (void)tell(r, e->kind, e, e->count);
                e->since = now;
                e->count = 0;
                e->bytes_up = e->bytes_down = e->ms = 0;
        }
}

static void tell_left_out(struct report *r) {
        if (r->left_out == 0 || r->out.len > QUEUE_EVENTS_MAX)
                return;
        NB_AUTO_FREE char *reason = nb_asprintf("left out %llu events: too many at once", (unsigned long long)r->left_out);
        put_json(
            r, json_pack("{s:{s:s, s:s, s:I}}", "event", "type", "error", "reason", reason, "count", (json_int_t)r->left_out));
        r->left_out = 0;
}

/* ---- totals and names */

static void tell_totals(struct report *r) {
        struct totals_line line;
        while (r->out.len <= QUEUE_EVENTS_MAX && totals_take(r->totals, &line)) {
                json_t *doc =
                    json_pack("{s:s, s:I, s:I}", "host", line.host, "up", (json_int_t)line.up, "down", (json_int_t)line.down);
                set_text(doc, "rule", line.rule);
                put_json(r, json_pack("{s:o}", "total", doc));
                free(line.host);
                free(line.rule);
        }
}

static bool anything_left(const struct report *r) {
        if (r->left_out > 0 || r->out.len > 0)
                return true;
        for (size_t i = 0; i < RECENT_MAX; i++)
                if (r->recent[i].head)
                        return true;
        return false;
}

static void on_tick(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct report *r = user;
        r->ticking = false;
        tell_totals(r);
        tell_counts(r, nb_now_ms());
        tell_left_out(r);
        if (anything_left(r))
                need_tick(r);
}

bool report_bytes(struct report *r, const char *host, const struct policy_rule *rule, uint64_t up, uint64_t down) {
        need_tick(r);
        return totals_add(r->totals, host, rule, up, down);
}

bool report_spent(struct report *r, const struct policy_rule *rule) {
        return totals_spent(r->totals, rule);
}

void report_used(struct report *r, const char *rule, uint64_t bytes) {
        totals_used(r->totals, rule, bytes);
}

void report_policy_goes(struct report *r) {
        totals_forget_rules(r->totals);
}

void report_name(struct report *r, const char *name, uint32_t address, bool gone) {
        struct addr a = { .family = AF_INET };
        uint32_t wire = htonl(address);
        char ip[ADDR_TEXT];
        memcpy(a.bytes, &wire, sizeof wire);
        addr_format(&a, ip);
        put_json(r, json_pack("{s:[s,s?]}", "name", name, gone ? NULL : ip));
}

void report_ready(struct report *r) {
        put_line(r, "{\"ready\":true}");
}

void report_applied(struct report *r) {
        put_line(r, "{\"applied\":true}");
}

/* ---- start and end */

int report_new(struct gateway *g, int fd, struct report **ret, struct nb_error *err) {
        struct report *r = nb_calloc(1, sizeof *r);
        r->g = g;
        r->fd = fd;
        r->totals = totals_new();
        if (event_assign(&r->writable, g->base, fd, EV_WRITE | EV_PERSIST, on_writable, r) < 0 ||
            event_assign(&r->tick, g->base, -1, 0, on_tick, r) < 0) {
                totals_free(r->totals);
                free(r);
                return nb_fail(err, EIO, "cannot watch the supervisor's socket");
        }
        *ret = r;
        return 0;
}

void report_free(struct report *r) {
        if (!r)
                return;
        tell_totals(r);
        for (size_t i = 0; i < RECENT_MAX; i++)
                if (r->recent[i].head)
                        forget(r, &r->recent[i]);
        tell_left_out(r);
        (void)event_del(&r->writable);
        (void)event_del(&r->tick);
        nb_buf_clear(&r->out);
        totals_free(r->totals);
        free(r);
}
