/* What the policy says about the rows of the network before they are tried, and what the gateway decided afterwards (see
 * scene.h). The destinations are the rows' own: nobody else in the box has a reason to go there. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attack/scene.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/events.h"
#include "policy/addr.h"

#define LOG_MAX (64u << 20)

enum target_kind { TARGET_OTHER, TARGET_TCP, TARGET_NAME, TARGET_ADDRESS, TARGET_INSIDE };
struct target {
        enum target_kind kind;
        char *host; /* as events have it */
        unsigned port;
        bool by_rule; /* a rule can allow it */
};

static void target_clear(struct target *t) {
        free(t->host);
}

/* A name as events have it: lower case, as far as it is a name at all. New string. */
static char *plain_name(const char *word) {
        char *name = nb_strdup(word);
        for (char *c = name; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        return name;
}

/* An address in its usual spelling. New string. */
static char *plain_address(const char *word) {
        struct in_addr a;
        char text[INET_ADDRSTRLEN];
        return nb_strdup(inet_aton(word, &a) ? inet_ntop(AF_INET, &a, text, sizeof text) : word);
}

/* The destination of a row, read from its words as the function inside reads them. */
static struct target target_of(const struct attack_row *row) {
        static const struct {
                const char *function;
                enum target_kind kind;
                unsigned host, port; /* which word it is, from 0; of a port 9: none */
                bool by_rule;
        } kinds[] = { { "tcp", TARGET_TCP, 0, 1, true },        { "tcp6", TARGET_TCP, 0, 1, true },
                      { "tcp_ended", TARGET_TCP, 0, 1, false }, { "udp", TARGET_TCP, 0, 1, false },
                      { "icmp", TARGET_ADDRESS, 0, 9, false },  { "raw", TARGET_ADDRESS, 1, 9, false },
                      { "frame", TARGET_ADDRESS, 1, 9, false }, { "dns", TARGET_NAME, 0, 9, true },
                      { "inside", TARGET_INSIDE, 1, 2, false } };
        char words[3][512] = { "", "", "" };
        if (row->args)
                (void)sscanf(row->args, "%511s %511s %511s", words[0], words[1], words[2]);
        for (size_t i = 0; row->args && i < NB_ARRAY_LEN(kinds); i++) {
                if (strcmp(kinds[i].function, row->probe->function) != 0 || row->probe->judge == JUDGE_GUEST)
                        continue;
                const char *host = words[kinds[i].host];
                struct target t = { .kind = kinds[i].kind, .by_rule = kinds[i].by_rule };
                t.host = t.kind == TARGET_NAME ? plain_name(host) : plain_address(host);
                t.port = kinds[i].port < 3 ? (unsigned)atoi(words[kinds[i].port]) : 0;
                if (strcmp(words[0], "plain") == 0) { /* made by hand, but as the kernel would have made it */
                        t.port = ATTACK_FRAME_PORT;
                        t.by_rule = true;
                }
                return t;
        }
        return (struct target){ 0 };
}

/* ---- before */

/* Inside, an address of the loopback is the box's own, whatever the rules say; and an address is no name. */
static bool is_for_policy(const struct target *t) {
        struct addr a;
        bool address = t->host && addr_parse(t->host, &a) == 0;
        return t->by_rule &&
               (t->kind == TARGET_NAME ? !address
                                       : address && addr_kind(&a) != ADDR_LOOPBACK && strcmp(t->host, "0.0.0.0") != 0);
}

void attack_ask_policy(struct attack_rows *rows, json_t *(*ask)(void *user, const char *host, unsigned port), void *user) {
        for (size_t i = 0; i < rows->n; i++) {
                struct attack_row *row = &rows->rows[i];
                __attribute__((cleanup(target_clear))) struct target t = target_of(row);
                if (!is_for_policy(&t))
                        continue;
                json_t *answer = ask(user, t.host, t.port);
                const char *reason = json_string_value(json_object_get(answer, "reason"));
                if (json_is_true(json_object_get(answer, "allow")))
                        row->allowed = nb_strdup(reason ? reason : "the config");
                json_decref(answer);
        }
}

/* ---- afterwards */

static const char *text_of(const json_t *event, const char *key) {
        const char *text = json_string_value(json_object_get(event, key));
        return text ? text : "";
}

static bool is_about(const json_t *event, const struct target *t) {
        const char *type = text_of(event, "type");
        json_int_t port = json_integer_value(json_object_get(event, "port"));
        if (t->kind == TARGET_NAME)
                return strcmp(type, "dns") == 0 && strcmp(text_of(event, "host"), t->host) == 0;
        if (strcmp(type, "connect") != 0 && strcmp(type, "http") != 0)
                return false;
        if (t->kind == TARGET_INSIDE)
                return strcmp(text_of(event, "host"), t->host) == 0 && port == (json_int_t)t->port;
        return strcmp(text_of(event, "ip"), t->host) == 0 && (t->port == 0 || port == (json_int_t)t->port);
}

/* On a connection that is allowed, several rows say something that is not: which of them was it about? */
static bool is_reason(const struct attack_row *row, const char *reason) {
        static const char *const reasons[][2] = { { "tls-none", "no server name" },
                                                  { "tls-other", "another host than the connection's" },
                                                  { "not-tls", "neither TLS nor HTTP" },
                                                  { "http-other", "the Host header names another" },
                                                  { "http-connect", "CONNECT" } };
        for (size_t i = 0; i < NB_ARRAY_LEN(reasons); i++)
                if (nb_starts_with(row->args, reasons[i][0]))
                        return strstr(reason, reasons[i][1]) != NULL;
        return false;
}

static void take_event(const json_t *event, struct attack_row *row) {
        __attribute__((cleanup(target_clear))) struct target t = target_of(row);
        if (t.kind == TARGET_OTHER || !is_about(event, &t))
                return;
        NB_AUTO_FREE char *reason = nb_text_clean(text_of(event, "reason"), 0);
        bool allow = strcmp(text_of(event, "decision"), "allow") == 0;
        if (t.kind == TARGET_INSIDE && (allow || !is_reason(row, reason)))
                return;
        if (allow)
                attack_row_see(row, FAR_OPEN, "let through by the gateway");
        else
                attack_row_see(row, FAR_HELD, "refused by the gateway: %s", reason);
}

/* What was logged since the run began; a log that was rotated meanwhile is read from its beginning. */
static int read_events(const struct attack_scene *s, char **ret, size_t *ret_len) {
        NB_AUTO_FREE char *path = nb_path_join(s->paths->state, EVENTS_FILE);
        size_t from = (size_t)s->events_from;
        int r = nb_read_regular(path, LOG_MAX, ret, ret_len);
        if (r == 0 && from <= *ret_len) {
                memmove(*ret, *ret + from, *ret_len - from + 1);
                *ret_len -= from;
        }
        return r;
}

/* What must have been told and was not (yet). */
static bool is_missing(const struct attack_row *row) {
        return row->args && !row->allowed && row->probe->judge == JUDGE_INSIDE && row->far == FAR_NONE;
}

bool attack_trace(const struct attack_scene *s, struct attack_rows *rows) {
        NB_AUTO_FREE char *text = NULL;
        size_t len = 0;
        bool whole = read_events(s, &text, &len) == 0;
        for (char *line = text, *end; whole && (end = memchr(line, '\n', len - (size_t)(line - text))); line = end + 1) {
                json_t *event = events_parse(line, (size_t)(end - line));
                for (size_t i = 0; event && i < rows->n; i++)
                        if (!rows->rows[i].allowed)
                                take_event(event, &rows->rows[i]);
                json_decref(event);
        }
        for (size_t i = 0; i < rows->n; i++)
                whole = whole && !is_missing(&rows->rows[i]);
        return whole;
}

void attack_trace_end(struct attack_rows *rows, bool whole) {
        for (size_t i = 0; i < rows->n; i++) {
                struct attack_row *row = &rows->rows[i];
                __attribute__((cleanup(target_clear))) struct target t = target_of(row);
                if (t.kind == TARGET_OTHER || row->allowed)
                        continue;
                if (is_missing(row))
                        attack_row_see(row, FAR_UNCLEAR, "the gateway did not tell of it");
                else if (!whole && row->far == FAR_NONE)
                        attack_row_see(row, FAR_UNCLEAR, "the event log could not be read");
                else
                        attack_row_see(row, FAR_HELD, "nothing at the gateway");
        }
}
