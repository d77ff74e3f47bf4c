/* The progress line (see progress.h). Writes to stderr only; decides by time and by what stderr is whether to write at all. */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#define QUIET_MS 1000u       /* a step shows nothing in its first second */
#define REDRAW_MS 100u       /* on a terminal */
#define PLAIN_LINE_MS 10000u /* elsewhere: a line at most this often within a step */
#define WIDTH_DEFAULT 80

struct progress {
        bool quiet, color, terminal, on_line;
        char *step;
        uint64_t started, shown;
};

struct progress *progress_new(bool quiet, bool color) {
        struct progress *p = nb_calloc(1, sizeof *p);
        p->quiet = quiet;
        p->color = color;
        p->terminal = isatty(STDERR_FILENO);
        return p;
}

static size_t terminal_width(void) {
        struct winsize size;
        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
                return size.ws_col;
        return WIDTH_DEFAULT;
}

static char *describe(const struct progress *p, const char *detail, unsigned long long done, unsigned long long total,
                      uint64_t now) {
        NB_AUTO_FREE char *have = nb_format_size(done);
        NB_AUTO_FREE char *want = nb_format_size(total);
        NB_AUTO_FREE char *amount = total  ? nb_asprintf("  %s of %s (%u%%)", have, want,
                                                        done >= total ? 100u : (unsigned)((double)done * 100 / (double)total))
                                     : done ? nb_asprintf("  %s", have)
                                           : nb_strdup("");
        NB_AUTO_FREE char *text = nb_asprintf("%s%s%s%s  %us", p->step, detail ? ": " : "", detail ? detail : "", amount,
                                              (unsigned)((now - p->started) / 1000));
        return nb_text_clean(text, 0);
}

/* Cuts after `width` characters, never inside one. */
static void cut(char *text, size_t width) {
        size_t chars = 0;
        for (char *c = text; *c; c++)
                if (((unsigned char)*c & 0xc0) != 0x80 && chars++ == width) {
                        *c = 0;
                        return;
                }
}

void progress_step(struct progress *p, const char *step, const char *detail, unsigned long long done,
                   unsigned long long total) {
        if (!p || p->quiet)
                return;
        uint64_t now = nb_now_ms();
        if (!p->step || strcmp(p->step, step) != 0) {
                progress_end(p);
                p->step = nb_strdup(step);
                p->started = now;
                p->shown = 0;
        }
        uint64_t pause = p->terminal ? REDRAW_MS : PLAIN_LINE_MS;
        if (now - p->started < QUIET_MS || (p->shown && now - p->shown < pause))
                return;
        p->shown = now;
        NB_AUTO_FREE char *text = describe(p, detail, done, total, now);
        if (!p->terminal) {
                fprintf(stderr, "nixbox: %s\n", text);
                return;
        }
        cut(text, terminal_width() - 1);
        fprintf(stderr, p->color ? "\r\033[2m%s\033[0m\033[K" : "\r%s\033[K", text);
        (void)fflush(stderr);
        p->on_line = true;
}

void progress_end(struct progress *p) {
        if (!p)
                return;
        if (p->on_line) {
                fputs("\r\033[K", stderr);
                (void)fflush(stderr);
        }
        p->on_line = false;
        free(nb_steal(&p->step));
}

void progress_free(struct progress *p) {
        progress_end(p);
        free(p);
}
