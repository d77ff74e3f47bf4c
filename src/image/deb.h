/* Debian package files: an ar archive of two compressed tars. Reading them, and the few facts of their control data that
 * tell which must be there before dpkg itself can run. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/** Unpacks the files of packages for which `want` says where to, below `dir`, several packages at a time (see
 *  folder_unpack()). `paths` ends with NULL. */
int deb_unpack(char *const *paths, const char *dir, char *(*want)(const char *name), struct nb_error *err);

/* What one package says of itself. */
struct deb_control {
        char *name;
        bool essential;
        char **needs;    /* names in Depends and Pre-Depends, alternatives too */
        char **provides; /* names in Provides */
};
/** Reads it from a package's file. */
int deb_read_control(const char *path, struct deb_control *ret, struct nb_error *err);
/** The same from the text. */
void deb_parse_control(const char *text, struct deb_control *ret);
void deb_control_clear(struct deb_control *c);
/** Marks in `ret` which of the packages must be unpacked before the first package's scripts can run: the essential ones and
 *  dpkg, with all that they need. */
void deb_bootstrap(const struct deb_control *packages, size_t n, bool *ret);
