/* Output of the guest's console and of the children, read from pipes so that nothing they write can fill the disk: whole
 * lines, cleaned of control characters, into files that are rotated once at a limit. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/supervisor_impl.h"

#define CAPTURE_CHUNK 16384
#define CAPTURE_LINE_MAX 2048 /* a longer line is broken */

static int reopen(struct log_file *f) {
        f->fd = nb_close(f->fd);
        f->fd = open(f->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        if (f->fd < 0)
                return -errno;
        struct stat st;
        f->size = fstat(f->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
        return 0;
}

int log_file_open(struct log_file *f, const char *dir, const char *name, uint64_t limit, struct nb_error *err) {
        *f = (struct log_file){ .path = nb_path_join(dir, name), .fd = -1, .limit = limit };
        int r = reopen(f);
        return r < 0 ? nb_fail_errno(err, -r, "cannot open %s", f->path) : 0;
}

static void rotate(struct log_file *f) {
        NB_AUTO_FREE char *old = nb_asprintf("%s.1", f->path);
        (void)rename(f->path, old);
        (void)reopen(f);
}

void log_file_write(struct log_file *f, const void *bytes, size_t len) {
        if (f->size + len > f->limit)
                rotate(f);
        if (f->fd >= 0 && nb_write_all(f->fd, bytes, len) == 0)
                f->size += len;
}

void log_file_close(struct log_file *f) {
        f->fd = nb_close(f->fd);
        free(f->path);
        f->path = NULL;
}

/* The box's own log is written through nb_log(), which knows nothing of limits. */
static void log_line(struct supervisor *s, const char *name, const char *text) {
        struct stat st;
        nb_info("%s: %s", name, text);
        if (s->log.fd >= 0 && fstat(s->log.fd, &st) == 0 && (uint64_t)st.st_size > s->log.limit) {
                rotate(&s->log);
                nb_log_to(s->log.fd, "supervisor");
        }
}

static void take_line(struct capture *c) {
        size_t len = c->line.len;
        while (len > 0 && nb_buf_bytes(&c->line)[len - 1] == '\r')
                len--;
        NB_AUTO_FREE char *text = nb_text_clean_bytes(nb_buf_bytes(&c->line), len, 0);
        nb_buf_consume(&c->line, c->line.len);
        if (!c->file) {
                log_line(c->super, c->name, text);
                return;
        }
        NB_AUTO_FREE char *line = nb_asprintf("%s\n", text);
        log_file_write(c->file, line, strlen(line));
        if (text[0]) {
                free(c->super->last_console);
                c->super->last_console = nb_steal(&text);
        }
}

static void on_output(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct capture *c = user;
        char chunk[CAPTURE_CHUNK];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        for (ssize_t i = 0; i < n; i++) {
                if (chunk[i] != '\n')
                        nb_buf_add(&c->line, &chunk[i], 1);
                if (chunk[i] == '\n' || c->line.len >= CAPTURE_LINE_MAX)
                        take_line(c);
        }
        if (n <= 0) {
                if (c->line.len > 0)
                        take_line(c);
                (void)event_del(c->event);
        }
}

int capture_begin(struct supervisor *s, size_t index, const char *name, struct log_file *file, int *ret_write,
                  struct nb_error *err) {
        struct capture *c = &s->capture[index];
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return nb_fail_errno(err, errno, "cannot make a pipe");
        *c = (struct capture){ .super = s, .name = name, .fd = ends[0], .file = file };
        *ret_write = ends[1];
        (void)nb_set_nonblock(c->fd, true);
        c->event = event_new(s->base, c->fd, EV_READ | EV_PERSIST, on_output, c);
        if (!c->event || event_add(c->event, NULL) < 0)
                return nb_fail(err, ENOMEM, "cannot watch the output of %s", name);
        return 0;
}

void capture_free(struct capture *c) {
        if (!c->super)
                return;
        if (c->event) {
                if (c->fd >= 0)
                        on_output(c->fd, EV_READ, c); /* the last words */
                event_free(c->event);
        }
        nb_close(c->fd);
        nb_buf_clear(&c->line);
        *c = (struct capture){ 0 };
}
