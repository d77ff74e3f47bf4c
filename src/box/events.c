/* Writing, rotating and reading the event log (see events.h); describing it is in events_describe.c. What is worth an event is
 * decided by the callers. */
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
