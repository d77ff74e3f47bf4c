/* Debian's archive as seen from here: names of releases and packages, the mirrors to use, the key that signs it, and what its
 * tools complain about as errors with a way out. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "image/store.h"

#define DEBIAN_KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"

/** The suite of a base: "trixie" for "debian-13"; NULL: none of Debian's. */
const char *debian_suite(const char *base);
/** A Debian package name, as apt takes it without any of its operators. */
bool debian_valid_package(const char *name);
/** Mirror lines "deb URL SUITE main" for a suite, from `setting` ("MAIN [SECURITY]", may be NULL). -EINVAL if the setting
 *  is not one or two http(s) or file URLs. A new list. */
int debian_sources(const char *setting, const char *suite, char ***ret, struct nb_error *err);
/** The addresses of the main and the security archive, from such a setting. New strings. */
int debian_mirrors(const char *setting, char **ret_main, char **ret_security, struct nb_error *err);
/** The lines of a failed run's output that say what went wrong, joined by "; ": at most three. NULL if none does. New string.
 */
char *debian_complaint(const char *output);
/** What `tool` printed when something outside nixbox was wrong, recorded in `err` by proc_run(), as an error with a way out. */
int debian_explain(const struct store *s, const char *tool, struct nb_error *err);
