/* An event as a line for people (see events.h). Events are data from outside: nothing is trusted to be there, or to be of the
 * right type. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"
#include "box/events.h"

static void add_text(struct nb_buf *out, const char *text) {
        nb_buf_add(out, text, strlen(text));
}

static const char *text_of(const json_t *event, const char *key) {
        const char *text = json_string_value(json_object_get(event, key));
        return text ? text : "";
}

static bool among(const char *key, const char *const *list) {
        for (; *list; list++)
                if (strcmp(key, *list) == 0)
                        return true;
        return false;
}

/* "2026-01-02T03:04:05.678Z" -> "2026-01-02 03:04:05Z"; anything else as it is. */
static void add_time(struct nb_buf *out, const char *time) {
        if (strlen(time) >= 20 && time[10] == 'T' && time[19] == '.')
                nb_buf_printf(out, "%.10s %.8sZ", time, time + 11);
        else
                add_text(out, time);
}

/* What no sentence was made for. */
static void add_fields(struct nb_buf *out, const json_t *event, const char *const *told) {
        const char *key;
        const json_t *value;
        json_object_foreach((json_t *)event, key, value) {
                if (among(key, told))
                        continue;
                NB_AUTO_FREE char *text = json_is_string(value) ? nb_strdup(json_string_value(value))
                                                                : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
                nb_buf_printf(out, " %s=%s", key, text ? text : "?");
        }
}

static char *size_text(const json_t *event, const char *key) {
        json_int_t bytes = json_integer_value(json_object_get(event, key));
        return nb_format_size(bytes > 0 ? (uint64_t)bytes : 0);
}

static void add_duration(struct nb_buf *out, json_int_t ms) {
        if (ms < 1000)
                nb_buf_printf(out, ", %lld ms", (long long)ms);
        else if (ms < 60000)
                nb_buf_printf(out, ", %lld.%lld s", (long long)ms / 1000, (long long)ms / 100 % 10);
        else
                nb_buf_printf(out, ", %lldm%02llds", (long long)ms / 60000, (long long)ms / 1000 % 60);
}

/* " api.example.com:443 at 192.0.2.1, tls, by *.example.com, sent 2.0K, received 1.0M, 1.5 s" */
static void add_network(struct nb_buf *out, const json_t *event) {
        static const char *const told[] = { "time", "box",      "type",       "decision", "reason", "host",  "ip", "port",
                                            "rule", "bytes_up", "bytes_down", "ms",       "proto",  "count", NULL };
        const char *host = text_of(event, "host"), *ip = text_of(event, "ip");
        const char *proto = text_of(event, "proto"), *rule = text_of(event, "rule"), *reason = text_of(event, "reason");
        json_int_t port = json_integer_value(json_object_get(event, "port"));
        json_int_t count = json_integer_value(json_object_get(event, "count"));
        nb_buf_printf(out, " %s", *host ? host : *ip ? ip : "?");
        if (port > 0)
                nb_buf_printf(out, ":%lld", (long long)port);
        if (*host && *ip)
                nb_buf_printf(out, " at %s", ip);
        if (*proto && strcmp(proto, text_of(event, "type")) != 0 && strcmp(proto, "tcp") != 0)
                nb_buf_printf(out, ", %s", proto);
        if (*rule && !strstr(reason, rule))
                nb_buf_printf(out, ", by %s", rule);
        if (json_is_integer(json_object_get(event, "bytes_up")) || json_is_integer(json_object_get(event, "bytes_down"))) {
                NB_AUTO_FREE char *up = size_text(event, "bytes_up"), *down = size_text(event, "bytes_down");
                nb_buf_printf(out, ", sent %s, received %s", up, down);
        }
        if (json_is_integer(json_object_get(event, "ms")))
                add_duration(out, json_integer_value(json_object_get(event, "ms")));
        if (count > 1)
                nb_buf_printf(out, ", %lld times", (long long)count);
        add_fields(out, event, told);
}

/* " write /home/me/app/.envrc (inside /app/.envrc), 3 times" */
static void add_protect(struct nb_buf *out, const json_t *event) {
        static const char *const told[] = {
                "time", "box", "type", "decision", "reason", "op", "path", "inside", "count", NULL
        };
        const char *path = text_of(event, "path"), *inside = text_of(event, "inside");
        json_int_t count = json_integer_value(json_object_get(event, "count"));
        nb_buf_printf(out, " %s %s", text_of(event, "op"), *path ? path : "?");
        if (*inside && strcmp(inside, path) != 0)
                nb_buf_printf(out, " (inside %s)", inside);
        if (count > 1)
                nb_buf_printf(out, ", %lld times", (long long)count);
        add_fields(out, event, told);
}

char *events_describe(const json_t *event) {
        static const char *const network[] = { "dns", "connect", "http", NULL };
        static const char *const told[] = { "time", "box", "type", "decision", "reason", NULL };
        NB_AUTO_BUF out = { 0 };
        add_time(&out, text_of(event, "time"));
        nb_buf_printf(&out, "  %-9s", text_of(event, "type"));
        if (text_of(event, "decision")[0])
                nb_buf_printf(&out, " %-5s", text_of(event, "decision"));
        if (among(text_of(event, "type"), network))
                add_network(&out, event);
        else if (strcmp(text_of(event, "type"), "protect") == 0)
                add_protect(&out, event);
        else
                add_fields(&out, event, told);
        if (text_of(event, "reason")[0])
                nb_buf_printf(&out, ": %s", text_of(event, "reason"));
        return nb_text_clean_bytes(nb_buf_bytes(&out), out.len, 0);
}
