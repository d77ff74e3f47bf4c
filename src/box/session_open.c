/* Building what begins a session (see session_open.h). */
#include "box/session_open.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/paths.h"
#include "box/events.h"
#include "wire/wire.h"

#define ANNOUNCED_MAX 4096u /* bytes of a command that are worth an event */

json_t *session_request(const struct session_spec *spec) {
        json_t *argv = json_array();
        size_t len = 0;
        for (char *const *a = spec->argv; a && *a && len < ANNOUNCED_MAX; a++) {
                NB_AUTO_FREE char *start = nb_strndup(*a, ANNOUNCED_MAX - len);
                len += strlen(start) + 1;
                (void)json_array_append_new(argv, events_text(start));
        }
        return json_pack("{s:s, s:o}", "op", "session", "argv", argv);
}

char *session_map_cwd(const json_t *mounts, const char *cwd) {
        const char *best_source = NULL, *best_target = NULL;
        size_t i;
        const json_t *mount;
        json_array_foreach(mounts, i, mount) {
                const char *source = json_string_value(json_object_get(mount, "source"));
                const char *target = json_string_value(json_object_get(mount, "target"));
                if (!source || !target || json_is_true(json_object_get(mount, "file")) || !nb_path_below(cwd, source))
                        continue;
                if (!best_source || strlen(source) > strlen(best_source)) {
                        best_source = source;
                        best_target = target;
                }
        }
        if (!best_source)
                return NULL;
        const char *rest = cwd + (strcmp(best_source, "/") == 0 ? 0 : strlen(best_source));
        NB_AUTO_FREE char *joined = nb_asprintf("%s/%s", best_target, rest);
        return nb_path_normalize(joined);
}

int session_put_open(struct nb_buf *out, const struct session_spec *spec, const char *cwd, const char *term, unsigned rows,
                     unsigned cols, struct nb_error *err) {
        NB_AUTO_BUF fields = { 0 };
        wire_tlv_u32(&fields, WIRE_T_FLAGS, (spec->pty ? WIRE_OPEN_PTY : 0) | (spec->shell ? WIRE_OPEN_SHELL : 0));
        for (char *const *a = spec->argv; a && *a; a++)
                wire_tlv_str(&fields, WIRE_T_ARG, *a);
        for (char *const *e = spec->env; e && *e; e++)
                wire_tlv_str(&fields, WIRE_T_ENV, *e);
        if (spec->user)
                wire_tlv_str(&fields, WIRE_T_USER, spec->user);
        if (cwd)
                wire_tlv_str(&fields, WIRE_T_CWD, cwd);
        if (spec->pty) {
                if (term && *term)
                        wire_tlv_str(&fields, WIRE_T_TERM, term);
                if (rows > 0 && cols > 0) {
                        wire_tlv_u32(&fields, WIRE_T_ROWS, rows);
                        wire_tlv_u32(&fields, WIRE_T_COLS, cols);
                }
        }
        if (fields.len > WIRE_HOST_MAX) {
                nb_fail(err, E2BIG, "the command and its environment take %zu bytes (at most %u)", fields.len, WIRE_HOST_MAX);
                return nb_hint(err, "pass long input on stdin or in a file");
        }
        wire_put(out, WIRE_OPEN, 0, SESSION_STREAM, nb_buf_bytes(&fields), fields.len);
        return 0;
}
