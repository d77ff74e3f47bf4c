/* Reading a log file line by line, from its rotated predecessor on, and following it while it grows, is rotated or made
 * anew. Lines of any length and any bytes are survived. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct follow;
/** Follows `dir/name` (and reads `dir/name.1` before it, if it is there). The file need not exist yet; the folder must. */
int follow_new(const char *dir, const char *name, struct follow **ret, struct nb_error *err);
void follow_free(struct follow *f);
/** The next line without its newline, valid until the next call. False when there is none now. A line that is too long is
 *  cut; a last line without newline is given only with `last`. */
bool follow_line(struct follow *f, bool last, const char **ret_line, size_t *ret_len);
/** Waits until something may have happened to one of the files, or to the reader of our stdout. Returns 0; -EPIPE when
 *  nobody reads stdout any more. */
int follow_wait(struct follow *const *files, size_t n_files);
