/* Debian packages to a tar: the one place that runs mmdebstrap, as root or inside a user namespace with the caller's
 * subordinate ids, in a process namespace that dies with nixbox. Chooses the mirror, keeps downloaded packages in the cache
 * folder, and turns a tool's complaint into an error with a way out. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "image/store.h"

#define DEBIAN_EPOCH "1735689600" /* SOURCE_DATE_EPOCH of everything built: 2025-01-01T00:00:00Z */

struct debian_job {
        const char *suite;       /* "trixie" */
        bool extract;            /* unpack only: no package's scripts run, needs no subordinate ids */
        char *const *packages;   /* what to include; names checked with debian_valid_package() */
        const char *const *dpkg; /* dpkg options, NULL-terminated; may be NULL */
        const char *unpacked;    /* shell script, $1 is the tree: after unpacking, apt still configured; may be NULL */
        const char *finish;      /* shell script, $1 is the tree: last; may be NULL */
        const char *work;        /* folder for its temporary files */
        const char *tar;         /* file to write */
        const char *step;        /* what to show while it runs */
};
int debian_build(const struct store *s, const struct debian_job *job, const struct image_progress *progress,
                 struct nb_error *err);
/** A Debian package name, as apt takes it without any of its operators. */
bool debian_valid_package(const char *name);
/** Mirror lines "deb URL SUITE main" for a suite, from `setting` ("MAIN [SECURITY]", may be NULL). -EINVAL if the setting
 *  is not one or two http(s) or file URLs. A new list. */
int debian_sources(const char *setting, const char *suite, char ***ret, struct nb_error *err);
/** The lines of a failed run's output that say what went wrong, joined by "; ": at most three. NULL if none does. New string.
 */
char *debian_complaint(const char *output);
/** What mmdebstrap reports on a line, as a phrase to show: NULL if nothing worth showing. New string. */
char *debian_progress_phrase(const char *line);
