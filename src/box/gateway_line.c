/* Reading what the gateway says (see gateway_line.h). What it means for the box is supervisor_gateway.c's business. */
#include "box/gateway_line.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "box/events.h"
#include "gateway/gateway.h"

#define IPPROTO_MAX_NUMBER 255u
#define FIGURE_MAX ((json_int_t)1 << 53) /* beyond this JSON's readers do not agree on numbers */

/* ---- kinds of values; each returns what goes into the event log, NULL if the value is not one */

static json_t *take_text(const json_t *value) {
        const char *text = json_string_value(value);
        if (!text || json_string_length(value) > GATEWAY_TEXT_MAX || strlen(text) != json_string_length(value))
                return NULL;
        return events_text(text);
}

static json_t *take_address(const json_t *value) {
        const char *text = json_string_value(value);
        uint8_t bytes[16];
        if (!text || (inet_pton(AF_INET, text, bytes) != 1 && inet_pton(AF_INET6, text, bytes) != 1))
                return NULL;
        return json_string(text);
}

static json_t *take_port(const json_t *value) {
        json_int_t port = json_integer_value(value);
        return json_is_integer(value) && port >= 0 && port <= UINT16_MAX ? json_integer(port) : NULL;
}

static json_t *take_figure(const json_t *value) {
        json_int_t figure = json_integer_value(value);
        return json_is_integer(value) && figure >= 0 && figure <= FIGURE_MAX ? json_integer(figure) : NULL;
}

static const char *one_of(const json_t *value, const char *const *words) {
        const char *text = json_string_value(value);
        for (; text && *words; words++)
                if (strcmp(text, *words) == 0)
                        return *words;
        return NULL;
}

static json_t *take_decision(const json_t *value) {
        static const char *const words[] = { "allow", "deny", NULL };
        const char *word = one_of(value, words);
        return word ? json_string(word) : NULL;
}

/* Protocols, kinds of frames that go nowhere, or the number of an IP protocol. */
static json_t *take_proto(const json_t *value) {
        static const char *const words[] = { "tcp",  "udp",  "tls",      "http",    "icmp",    "dns",   "arp",
                                             "ipv6", "vlan", "fragment", "spoofed", "options", "frame", NULL };
        const char *word = one_of(value, words), *text = json_string_value(value);
        uint64_t number;
        if (!word && text && strlen(text) <= 3 && nb_parse_uint(text, IPPROTO_MAX_NUMBER, &number) == 0)
                word = text;
        return word ? json_string(word) : NULL;
}

/* ---- the lines */

static int read_event(json_t *event, struct gateway_line *ret) {
        static const char *const types[] = { "dns", "connect", "http", "error", NULL };
        static const struct {
                const char *key;
                json_t *(*take)(const json_t *value);
        } keys[] = {
                { "decision", take_decision }, { "host", take_text }, { "ip", take_address },   { "port", take_port },
                { "proto", take_proto },       { "rule", take_text }, { "reason", take_text },  { "bytes_up", take_figure },
                { "bytes_down", take_figure }, { "ms", take_figure }, { "count", take_figure },
        };
        size_t used = 1;
        ret->type = one_of(json_object_get(event, "type"), types);
        if (!ret->type)
                return -EPROTO;
        json_t *fields = json_object();
        for (size_t i = 0; i < NB_ARRAY_LEN(keys); i++) {
                const json_t *value = json_object_get(event, keys[i].key);
                if (!value)
                        continue;
                json_t *taken = keys[i].take(value);
                if (!taken)
                        break;
                (void)json_object_set_new(fields, keys[i].key, taken);
                used++;
        }
        if (used != json_object_size(event)) { /* a key that is not known, or a value that is not one */
                json_decref(fields);
                return -EPROTO;
        }
        ret->fields = fields;
        return 0;
}

static int read_name(const json_t *pair, struct gateway_line *ret) {
        const json_t *name = json_array_get(pair, 0), *address = json_array_get(pair, 1);
        const char *text = json_string_value(name), *dotted = json_string_value(address);
        struct in_addr in;
        if (json_array_size(pair) != 2 || !text || name_canonical(text, json_string_length(name), ret->name) < 0 ||
            strcmp(text, ret->name) != 0)
                return -EPROTO;
        if (json_is_null(address))
                return 0;
        if (!dotted || inet_pton(AF_INET, dotted, &in) != 1)
                return -EPROTO;
        ret->address = ntohl(in.s_addr);
        return ret->address != NET_SYNTHETIC &&
                       ret->address >> (32 - NET_SYNTHETIC_BITS) == NET_SYNTHETIC >> (32 - NET_SYNTHETIC_BITS)
                   ? 0
                   : -EPROTO;
}

static int read_total(const json_t *total, struct gateway_line *ret) {
        const json_t *host = json_object_get(total, "host"), *rule = json_object_get(total, "rule");
        json_t *up = take_figure(json_object_get(total, "up")), *down = take_figure(json_object_get(total, "down"));
        const char *text = json_string_value(host);
        bool good =
            up && down && json_object_size(total) == (rule ? 4u : 3u) && text && json_string_length(host) <= NAME_MAX_LEN;
        json_t *clean_host = good ? take_text(host) : NULL, *clean_rule = rule ? take_text(rule) : json_string("");
        good = clean_host && clean_rule && json_string_length(clean_host) <= NAME_MAX_LEN &&
               json_string_length(clean_rule) <= GATEWAY_TEXT_MAX;
        if (good) {
                (void)snprintf(ret->name, sizeof ret->name, "%s", json_string_value(clean_host));
                (void)snprintf(ret->rule, sizeof ret->rule, "%s", json_string_value(clean_rule));
                ret->up = (uint64_t)json_integer_value(up);
                ret->down = (uint64_t)json_integer_value(down);
        }
        json_decref(up);
        json_decref(down);
        json_decref(clean_host);
        json_decref(clean_rule);
        return good ? 0 : -EPROTO;
}

int gateway_line_parse(const char *line, size_t len, struct gateway_line *ret) {
        *ret = (struct gateway_line){ 0 };
        if (len > GATEWAY_OUT_MAX)
                return -EPROTO;
        json_t *doc = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
        const char *key = json_object_iter_key(json_object_iter(doc));
        int r = -EPROTO;
        if (json_object_size(doc) != 1) {
                r = -EPROTO;
        } else if (strcmp(key, "ready") == 0 && json_is_true(json_object_get(doc, key))) {
                ret->kind = GATEWAY_LINE_READY;
                r = 0;
        } else if (strcmp(key, "applied") == 0 && json_is_true(json_object_get(doc, key))) {
                ret->kind = GATEWAY_LINE_APPLIED;
                r = 0;
        } else if (strcmp(key, "name") == 0) {
                ret->kind = GATEWAY_LINE_NAME;
                r = read_name(json_object_get(doc, key), ret);
        } else if (strcmp(key, "event") == 0) {
                ret->kind = GATEWAY_LINE_EVENT;
                r = read_event(json_object_get(doc, key), ret);
        } else if (strcmp(key, "total") == 0) {
                ret->kind = GATEWAY_LINE_TOTAL;
                r = read_total(json_object_get(doc, key), ret);
        }
        json_decref(doc);
        return r;
}
