/* What a tar holds, as text: a line for each entry with type, mode, owner, SHA-256 or target, and name, in the order of the
 * tar. It lies beside an image, so that the first file in which another differs can be named. */
#pragma once
#include "base/error.h"

/** New string. */
int listing_of_tar(const char *tar, char **ret, struct nb_error *err);
/** The name in the first line in which two listings differ, and how; NULL if they are the same. New string. Pure. */
char *listing_difference(const char *was, const char *is);
