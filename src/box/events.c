/* Writing, rotating, reading and describing the event log (see events.h). What is worth an event is decided by the callers. */
#include "box/events.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"

#define LOG_MAX (8u * 1024u * 1024u)  /* rotated beyond this: at most twice this is kept */
#define LINE_MAX_BYTES (256u * 1024u) /* an event that is longer loses its fields */

struct events {
        char *box, *path, *old_path;
        int fd;
        bool torn; /* the last line was not written whole: begin the next one with a newline */
};

static bool ends_torn(int fd) {
        struct stat st;
        char last;
        return fstat(fd, &st) == 0 && st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
}

static int open_log(struct events *e) {
        nb_close(e->fd);
        e->fd = open(e->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        if (e->fd < 0)
                return -errno;
        e->torn = ends_torn(e->fd);
        return 0;
}

int events_open(const char *state_dir, const char *box, struct events **ret, struct nb_error *err) {
        struct events *e = nb_calloc(1, sizeof *e);
        e->fd = -1;
        e->box = nb_strdup(box);
        e->path = nb_path_join(state_dir, EVENTS_FILE);
        e->old_path = nb_path_join(state_dir, EVENTS_FILE_OLD);
        int r = open_log(e);
        if (r < 0) {
                nb_fail_errno(err, -r, "cannot open the event log %s", e->path);
                events_close(e);
                return r;
        }
        *ret = e;
        return 0;
}

void events_close(struct events *e) {
        if (!e)
                return;
        nb_close(e->fd);
        free(e->box);
        free(e->path);
        free(e->old_path);
        free(e);
}

static void rotate_if_large(struct events *e) {
        struct stat st;
        if (fstat(e->fd, &st) < 0 || st.st_size < (off_t)LOG_MAX)
                return;
        if (rename(e->path, e->old_path) < 0) {
                nb_warn("cannot rotate %s: %s", e->path, strerror(errno));
                return;
        }
        int r = open_log(e);
        if (r < 0)
                nb_warn("cannot open %s after rotating it: %s", e->path, strerror(-r));
}

static json_t *event_head(const char *box, const char *type) {
        struct timespec now;
        struct tm tm;
        char day[32], stamp[48];
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &tm);
        strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(stamp, sizeof stamp, "%s.%03ldZ", day, now.tv_nsec / 1000000);
        return json_pack("{s:s, s:s, s:s}", "time", stamp, "box", box, "type", type);
}

void events_add(struct events *e, const char *type, json_t *fields) {
        json_t *event = event_head(e->box, type);
        if (fields)
                (void)json_object_update_missing(event, fields);
        json_decref(fields);
        NB_AUTO_FREE char *text = json_dumps(event, JSON_COMPACT);
        if (!text || strlen(text) > LINE_MAX_BYTES) {
                json_decref(event);
                event = event_head(e->box, type);
                json_object_set_new(event, "reason", json_string("the event's fields were too long to keep"));
                free(text);
                text = json_dumps(event, JSON_COMPACT);
        }
        json_decref(event);
        if (e->fd < 0 || !text)
                return;
        NB_AUTO_FREE char *line = nb_asprintf("%s%s\n", e->torn ? "\n" : "", text);
        ssize_t len = (ssize_t)strlen(line), n;
        do
                n = write(e->fd, line, (size_t)len);
        while (n < 0 && errno == EINTR);
        if (n != len) { /* a full disk: the next line must not run into the rest of this one */
                nb_warn("cannot write an event: %s", n < 0 ? strerror(errno) : "the disk is full");
                e->torn = e->torn || n > 0;
        } else {
                e->torn = false;
        }
        rotate_if_large(e);
}

json_t *events_text(const char *text) {
        NB_AUTO_FREE char *clean = nb_text_clean(text, NB_TEXT_KEEP_NEWLINE);
        return json_string(clean);
}

json_t *events_parse(const char *line, size_t len) {
        if (len > LINE_MAX_BYTES)
                return NULL;
        json_t *event = json_loadb(line, len, 0, NULL);
        if (json_is_object(event) && json_is_string(json_object_get(event, "type")))
                return event;
        json_decref(event);
        return NULL;
}

static bool in_head(const char *key) {
        static const char *const head[] = { "time", "box", "type", "decision", "reason" };
        for (size_t i = 0; i < NB_ARRAY_LEN(head); i++)
                if (strcmp(key, head[i]) == 0)
                        return true;
        return false;
}

/* "2026-01-02T03:04:05.678Z" -> "2026-01-02 03:04:05Z"; anything else as it is. */
static void add_time(struct nb_buf *out, const char *time) {
        if (strlen(time) >= 20 && time[10] == 'T' && time[19] == '.') {
                nb_buf_add(out, time, 10);
                nb_buf_add(out, " ", 1);
                nb_buf_add(out, time + 11, 8);
                nb_buf_add(out, "Z", 1);
                return;
        }
        nb_buf_add(out, time, strlen(time));
}

static void add_text(struct nb_buf *out, const char *text) {
        nb_buf_add(out, text, strlen(text));
}

static const char *text_of(const json_t *event, const char *key) {
        const char *text = json_string_value(json_object_get(event, key));
        return text ? text : "";
}

char *events_describe(const json_t *event) {
        NB_AUTO_BUF out = { 0 };
        add_time(&out, text_of(event, "time"));
        NB_AUTO_FREE char *type = nb_asprintf("  %-9s", text_of(event, "type"));
        add_text(&out, type);
        if (text_of(event, "decision")[0]) {
                NB_AUTO_FREE char *decision = nb_asprintf(" %-5s", text_of(event, "decision"));
                add_text(&out, decision);
        }
        const char *key;
        const json_t *value;
        json_object_foreach((json_t *)event, key, value) {
                if (in_head(key))
                        continue;
                NB_AUTO_FREE char *text = json_is_string(value) ? nb_strdup(json_string_value(value))
                                                                : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
                NB_AUTO_FREE char *field = nb_asprintf(" %s=%s", key, text ? text : "?");
                add_text(&out, field);
        }
        if (text_of(event, "reason")[0]) {
                add_text(&out, ": ");
                add_text(&out, text_of(event, "reason"));
        }
        return nb_text_clean_bytes(nb_buf_bytes(&out), out.len, 0);
}
