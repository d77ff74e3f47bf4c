/* Progress on stderr for anything over a second: one line rewritten in place on a terminal, plain lines elsewhere. */
#pragma once
#include <stdbool.h>

struct progress;
struct progress *progress_new(bool quiet, bool color);
/** Shows a step; the same step again updates it. total 0: unknown. Nothing appears in a step's first second. */
void progress_step(struct progress *p, const char *step, const char *detail, unsigned long long done, unsigned long long total);
/** Ends the line: clears it on a terminal. */
void progress_end(struct progress *p);
void progress_free(struct progress *p);
