/* The QMP parser (see vmm_qmp.h). Text in, values out; the socket is in vmm_monitor.c. */
#include "box/vmm_qmp.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

/* Checked before the JSON parser recurses. Brackets in strings do not count. */
static bool depth_ok(const char *line, size_t len) {
        unsigned depth = 0;
        bool in_string = false;
        for (size_t i = 0; i < len; i++) {
                char c = line[i];
                if (in_string && c == '\\')
                        i++;
                else if (c == '"')
                        in_string = !in_string;
                else if (!in_string && (c == '{' || c == '['))
                        depth++;
                else if (!in_string && (c == '}' || c == ']') && depth > 0)
                        depth--;
                if (depth > QMP_DEPTH_MAX)
                        return false;
        }
        return true;
}

static void put_detail(struct qmp_message *m, const char *text) {
        NB_AUTO_FREE char *clean = nb_text_clean(text ? text : "", 0);
        (void)snprintf(m->detail, sizeof m->detail, "%s", clean);
}

static int take_event(const json_t *root, const char *name, struct qmp_message *m) {
        static const struct {
                const char *name;
                enum qmp_event event;
                const char *detail; /* the word of "data" worth keeping */
        } known[] = {
                { "SHUTDOWN", QMP_EVENT_SHUTDOWN, "reason" },
                { "RESET", QMP_EVENT_RESET, "reason" },
                { "GUEST_PANICKED", QMP_EVENT_PANICKED, "action" },
        };
        m->kind = QMP_EVENT;
        m->event = QMP_EVENT_OTHER;
        for (size_t i = 0; i < NB_ARRAY_LEN(known); i++) {
                if (strcmp(known[i].name, name) != 0)
                        continue;
                m->event = known[i].event;
                put_detail(m, json_string_value(json_object_get(json_object_get(root, "data"), known[i].detail)));
        }
        return 1;
}

static int take_id(const json_t *root, struct qmp_message *m) {
        const json_t *id = json_object_get(root, "id");
        if (id && (!json_is_integer(id) || json_integer_value(id) < 0))
                return -EPROTO;
        m->id = id ? (uint64_t)json_integer_value(id) : 0;
        return 0;
}

static int take_object(const json_t *root, struct qmp_message *m) {
        const json_t *event = json_object_get(root, "event"), *answer = json_object_get(root, "return");
        const json_t *error = json_object_get(root, "error"), *greeting = json_object_get(root, "QMP");
        if (!!event + !!answer + !!error + !!greeting != 1)
                return -EPROTO;
        if (event)
                return json_is_string(event) ? take_event(root, json_string_value(event), m) : -EPROTO;
        if (greeting) {
                m->kind = QMP_GREETING;
                return json_is_object(greeting) ? 1 : -EPROTO;
        }
        if (take_id(root, m) < 0)
                return -EPROTO;
        if (error) {
                m->kind = QMP_ERROR;
                if (!json_is_object(error))
                        return -EPROTO;
                put_detail(m, json_string_value(json_object_get(error, "desc")));
                return 1;
        }
        m->kind = QMP_RETURN;
        const json_t *actual = json_object_get(answer, "actual"); /* NULL if `answer` is no object */
        if (actual) {
                if (!json_is_integer(actual) || json_integer_value(actual) < 0)
                        return -EPROTO;
                m->has_actual = true;
                m->actual = (uint64_t)json_integer_value(actual);
        }
        return 1;
}

static int take_line(const char *line, size_t len, struct qmp_message *m) {
        *m = (struct qmp_message){ 0 };
        if (!depth_ok(line, len))
                return -EPROTO;
        json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
        int r = json_is_object(root) ? take_object(root, m) : -EPROTO;
        json_decref(root);
        return r;
}

int qmp_next(struct nb_buf *in, struct qmp_message *ret) {
        size_t window = in->len < QMP_LINE_MAX ? in->len : QMP_LINE_MAX;
        const char *bytes = window ? (const char *)nb_buf_bytes(in) : NULL;
        const char *end = window ? memchr(bytes, '\n', window) : NULL;
        if (!end)
                return in->len >= QMP_LINE_MAX ? -EPROTO : 0;
        int r = take_line(bytes, (size_t)(end - bytes), ret);
        nb_buf_consume(in, (size_t)(end - bytes) + 1);
        return r;
}

bool qmp_meter_take(struct qmp_meter *m, uint64_t now_ms) {
        uint64_t drained = now_ms > m->last_ms ? (now_ms - m->last_ms) * QMP_RATE : 0;
        m->last_ms = now_ms;
        m->used = drained < m->used ? m->used - drained : 0;
        m->used += 1000;
        return m->used <= QMP_BURST * 1000u;
}
