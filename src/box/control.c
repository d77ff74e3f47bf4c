/* One line of JSON each way on the control socket (see control.h). Reads and writes on a blocking socket only; what a
 * request means is the supervisor's business. */
#include "box/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"

#define PEEK_SIZE 4096

int control_send(int fd, const json_t *request, const int *fds, size_t n_fds, struct nb_error *err) {
        NB_AUTO_FREE char *text = json_dumps(request, JSON_COMPACT);
        if (!text)
                return nb_fail(err, EINVAL, "cannot write a control message as JSON");
        NB_AUTO_FREE char *line = nb_asprintf("%s\n", text);
        size_t len = strlen(line), sent = 0;
        if (len > CONTROL_LINE_MAX)
                return nb_fail(err, E2BIG, "a control message of %zu bytes is too long (at most %u)", len, CONTROL_LINE_MAX);
        while (sent < len) {
                ssize_t n = nb_send_fds(fd, line + sent, len - sent, fds, sent == 0 ? n_fds : 0);
                if (n < 0)
                        return nb_fail_errno(err, (int)-n, "cannot write to the box's control socket");
                sent += (size_t)n;
        }
        return 0;
}

/* Moves what is there up to and with the newline from the socket to `line`. 1: the newline was met, 0: not yet. */
static int take_line_part(int fd, struct nb_buf *line) {
        char peek[PEEK_SIZE];
        ssize_t n;
        do
                n = recv(fd, peek, sizeof peek, MSG_PEEK);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
                return n == 0 ? -ECONNRESET : -errno;
        const char *end = memchr(peek, '\n', (size_t)n);
        size_t want = end ? (size_t)(end - peek) + 1 : (size_t)n;
        n = nb_read_full(fd, nb_buf_reserve(line, want), want);
        if (n < 0)
                return (int)n;
        nb_buf_commit(line, (size_t)n);
        return end != NULL;
}

int control_read(int fd, json_t **ret, struct nb_error *err) {
        NB_AUTO_BUF line = { 0 };
        for (int r = 0; r == 0;) {
                if (line.len >= CONTROL_LINE_MAX)
                        return nb_fail(err, EMSGSIZE, "a line on the control socket is too long");
                r = take_line_part(fd, &line);
                if (r == -ECONNRESET)
                        return nb_fail(err, ECONNRESET, "the box ended while it was being asked");
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot read from the box's control socket");
        }
        json_error_t why;
        json_t *value = json_loadb((const char *)nb_buf_bytes(&line), line.len, JSON_REJECT_DUPLICATES, &why);
        if (!value)
                return nb_fail(err, EPROTO, "a line on the control socket is not JSON: %s", why.text);
        if (!json_is_object(value)) {
                json_decref(value);
                return nb_fail(err, EPROTO, "a line on the control socket is not a JSON object");
        }
        *ret = value;
        return 0;
}

int control_call(int fd, const json_t *request, const int *fds, size_t n_fds, json_t **ret, struct nb_error *err) {
        int r = control_send(fd, request, fds, n_fds, err);
        if (r < 0)
                return r;
        json_t *answer = NULL;
        r = control_read(fd, &answer, err);
        if (r < 0)
                return r;
        if (!json_is_true(json_object_get(answer, "ok"))) {
                json_int_t code = json_integer_value(json_object_get(answer, "code"));
                const char *text = json_string_value(json_object_get(answer, "error"));
                const char *hint = json_string_value(json_object_get(answer, "hint"));
                r = nb_fail(err, code > 0 && code < 4096 ? (int)code : EIO, "%s", text ? text : "the box refused the request");
                if (hint)
                        (void)nb_hint(err, "%s", hint);
                json_decref(answer);
                return r;
        }
        if (ret)
                *ret = answer;
        else
                json_decref(answer);
        return 0;
}
