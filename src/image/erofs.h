/* From a tar to an EROFS image, by the pinned runtime's own mkfs.erofs, which reads owners and modes from the tar: the same
 * tar gives the same bytes on every host. */
#pragma once
#include "base/error.h"

#define EROFS_EPOCH "1735689600" /* the time of all files: 2025-01-01T00:00:00Z */

/** `runtime`: the runtime tree. `pack`: how it is compressed, as options of mkfs.erofs, NULL-terminated. */
int erofs_make(const char *runtime, const char *tar, const char *to, const char *const *pack, struct nb_error *err);
