/* Error objects (see error.h). Only formatting and ownership live here; no policy about when to print. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "text.h"

static void record(struct nb_error *err, int code, char *what) {
        nb_error_clear(err);
        err->code = code;
        err->what = what;
}

int nb_fail(struct nb_error *err, int code, const char *fmt, ...) {
        if (err) {
                va_list ap;
                va_start(ap, fmt);
                char *what = nb_vasprintf(fmt, ap);
                va_end(ap);
                record(err, code, what);
        }
        return -code;
}

int nb_fail_errno(struct nb_error *err, int code, const char *fmt, ...) {
        if (err) {
                va_list ap;
                va_start(ap, fmt);
                NB_AUTO_FREE char *what = nb_vasprintf(fmt, ap);
                va_end(ap);
                record(err, code, nb_asprintf("%s: %s", what, strerror(code)));
        }
        return -code;
}

int nb_context(struct nb_error *err, const char *fmt, ...) {
        if (!err)
                return -EIO;
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *prefix = nb_vasprintf(fmt, ap);
        va_end(ap);
        char *what = nb_asprintf("%s: %s", prefix, err->what ? err->what : "failed");
        free(err->what);
        err->what = what;
        if (err->code == 0)
                err->code = EIO;
        return -err->code;
}

int nb_hint(struct nb_error *err, const char *fmt, ...) {
        if (!err)
                return -EIO;
        va_list ap;
        va_start(ap, fmt);
        free(err->hint);
        err->hint = nb_vasprintf(fmt, ap);
        va_end(ap);
        return -err->code;
}

void nb_error_print(const struct nb_error *err, FILE *out) {
        NB_AUTO_FREE char *what = nb_text_clean(err->what ? err->what : "unknown failure", NB_TEXT_KEEP_NEWLINE);
        fprintf(out, "nixbox: %s\n", what);
        if (err->hint) {
                NB_AUTO_FREE char *hint = nb_text_clean(err->hint, NB_TEXT_KEEP_NEWLINE);
                fprintf(out, "  %s\n", hint);
        }
}

void nb_error_clear(struct nb_error *err) {
        if (!err)
                return;
        free(err->what);
        free(err->hint);
        *err = (struct nb_error){ 0 };
}
