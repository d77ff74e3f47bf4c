/* The layout of nixbox.lock as tables, shared by what reads it and what writes it: which keys an object has, in which order,
 * what each may hold and where it goes in the structs of lock.h. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "image/lock.h"

enum lock_kind {
        LOCK_VERSION_NUMBER, /* of the layout; no member */
        LOCK_TEXT,           /* char * */
        LOCK_LINES,          /* char *, each line ending in a newline; an array of strings in the file */
        LOCK_HASH,           /* char[NB_SHA256_HEX] */
        LOCK_SIZE,           /* uint64_t */
        LOCK_FLAG,           /* bool; left out when false */
        LOCK_STRINGS,        /* char **; left out when empty */
        LOCK_SET,            /* struct lock_set */
        LOCK_NPM,            /* struct lock_npm *, the first of the list */
        LOCK_BLOBS,          /* struct lock_blob *, followed by a size_t, their number */
};

struct lock_field {
        const char *key;
        enum lock_kind kind;
        bool optional;
        size_t offset;
        bool (*valid)(const char *text); /* LOCK_TEXT; each of LOCK_LINES and LOCK_STRINGS */
};
struct lock_table {
        const struct lock_field *fields;
        size_t n;
};
extern const struct lock_table lock_table_file, lock_table_package, lock_table_npm, lock_table_blob;

/** 64 lower-case hexadecimal digits. */
bool lock_valid_hash(const char *text);
