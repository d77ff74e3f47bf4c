/* What apt prints and reads, as values: lists of files to fetch, package records, status files. Pure: text in, value out. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "image/lock.h"

/* A package record, "Field: value" lines up to an empty line, within a longer text. */
struct apt_record {
        const char *text;
        size_t len;
};
/** The record that begins at or after *at, which is moved behind it. False at the end. */
bool apt_next_record(const char **at, struct apt_record *ret);
/** A field's first line. New string, NULL if there is no such field. */
char *apt_field(const struct apt_record *record, const char *field);
/** The record of this package and version; the search begins at *at, goes round once, and leaves *at behind what it found. */
bool apt_find_record(const char *text, const char **at, const char *name, const char *version, struct apt_record *ret);

/** Reads what `apt-get install --print-uris` prints: for each file a package with name, version and arch, in apt's order.
 *  -EBADMSG if a line is not as expected. */
int apt_parse_uris(const char *text, struct lock_set *ret);
/** Fills in path, archive, size and hash from the record of `apt-cache show`. -EBADMSG if a field is missing. */
int apt_fill_package(const struct apt_record *record, struct lock_package *p);
/** The package that a package depends on by exact version (as a kernel's meta package does): name and version. False if its
 *  first dependency is not of this form. New strings. */
bool apt_exact_dependency(const struct apt_record *record, char **ret_name, char **ret_version);
/** The first package among the records that provides this name. New string, NULL if none does. */
char *apt_provider(const char *show, const char *name);
/** A dpkg status file in which all packages of the sets (NULL-terminated list) are installed, from their records in `show`. A
 *  version that has no record is taken to depend on nothing and to provide what the record of another version does. New string.
 */
char *apt_status(const struct lock_set *const *sets, const char *show);
