/* What a host must have for a box to start, found out by trying where trying is possible, with the command that fixes
 * what is missing. Changes nothing on the host. */
#pragma once
#include <stddef.h>
#include <sys/types.h>

enum prereq_state {
        PREREQ_OK,
        PREREQ_NOTE,    /* a box starts, but slower or with less */
        PREREQ_MISSING, /* no box can start */
};
struct prereq {
        const char *name; /* "kernel", "kvm": stable, for programs */
        enum prereq_state state;
        char *detail; /* one line: what was found */
        char *fix;    /* the command or change that helps; NULL if nothing is to be done */
};

/** Looks at everything. Returns a new array and its length. */
struct prereq *prereq_check(size_t *ret_count);
void prereq_free(struct prereq *list, size_t count);
