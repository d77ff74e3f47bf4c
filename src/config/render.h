/* The resolved config as JSON values. Private to src/config. */
#pragma once
#include <jansson.h>

#include "config/config.h"

/** What is hashed and compared: every value that has a meaning, with symbolic links resolved, and the digests of the files
 *  that the config reads or makes the host run. What follows from this host alone (its number of CPUs) is left out. */
json_t *render_canonical(const struct config *c);
