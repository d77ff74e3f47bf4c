/* Logging (see log.h). The level, the descriptor and the tag are the process's only mutable globals. */
#include "log.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"
#include "text.h"

static struct {
        enum nb_log_level level;
        int fd;
        char tag[32];
} state = { .level = NB_LOG_WARN, .fd = -1 };

void nb_log_set_level(enum nb_log_level level) {
        state.level = level;
}

enum nb_log_level nb_log_level(void) {
        return state.level;
}

void nb_log_to(int fd, const char *tag) {
        state.fd = fd;
        snprintf(state.tag, sizeof state.tag, "%s", tag);
}

void nb_log(enum nb_log_level level, const char *fmt, ...) {
        if (level > state.level)
                return;
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *raw = nb_vasprintf(fmt, ap);
        va_end(ap);
        NB_AUTO_FREE char *text = nb_text_clean(raw, 0);
        NB_AUTO_FREE char *line = NULL;
        if (state.fd >= 0) {
                struct timespec now;
                struct tm tm;
                char stamp[32];
                clock_gettime(CLOCK_REALTIME, &now);
                gmtime_r(&now.tv_sec, &tm);
                strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
                line = nb_asprintf("%s.%03ldZ %s: %s\n", stamp, now.tv_nsec / 1000000, state.tag, text);
        } else {
                line = nb_asprintf("nixbox: %s\n", text);
        }
        (void)!write(state.fd >= 0 ? state.fd : STDERR_FILENO, line, strlen(line));
}
