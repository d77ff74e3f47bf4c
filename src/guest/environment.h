/* The environment of a command: login defaults, then the box's, then its secrets, then the session's; later wins. */
#pragma once
#include <stddef.h>

#include "guest/accounts.h"
#include "guest/request.h"

struct environment {
        char **var; /* NULL-terminated; points at strings of others: secrets are not copied */
        size_t n;
        char **own; /* those made here */
};

/** Secrets are for the caller and for root, and for nobody else in the box. */
void environment_for(struct environment *env, const struct setup *setup, const struct account *who,
                     const struct open_request *o);
/** The last value of a name in lines "NAME=value" or "NAME=\"value\"", as /etc/default/locale has them. NULL: none. New string.
 *  Pure. */
char *environment_value(const char *text, const char *name);
void environment_clear(struct environment *env);
