/* What the files of the checks share. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "box/prereq.h"

#define PREREQ_MESSAGE_MAX 4096

struct checks {
        struct prereq *list;
        size_t count;
};
/** Adds a line; `detail` is taken over. Valid until the next one is added. */
struct prereq *prereq_add(struct checks *c, const char *name, enum prereq_state state, char *detail);
/** Makes the attempt in a child. True if it worked; else `message` is what failed, a newline, and the hint, or empty if the
 * child died before it could say. */
bool prereq_try(int (*attempt)(struct nb_error *err), char message[static PREREQ_MESSAGE_MAX]);

/* prereq_limits.c: what is used where it is there. */
void prereq_check_limits(struct checks *c);

/* prereq_network.c: what a box with a network needs besides. */
void prereq_check_network(struct checks *c);
