/* One row of `nixbox attack`: what is tried, what the guest said, what was seen from here, and what that comes to. */
#pragma once
#include <stdbool.h>

#include "attack/table.h"

enum attack_attempt {
        ATTEMPT_NONE,
        ATTEMPT_NOTHING,
        ATTEMPT_REFUSED,
        ATTEMPT_DONE
}; /* as the guest says; NONE: it said nothing */
enum attack_control { CONTROL_NONE, CONTROL_OK, CONTROL_FAILED };
enum attack_far { FAR_NONE, FAR_HELD, FAR_OPEN, FAR_UNCLEAR }; /* as seen from here; NONE: there is nothing to see */
enum attack_verdict { VERDICT_HELD, VERDICT_UNCONTROLLED, VERDICT_ALLOWED, VERDICT_OPEN, VERDICT_UNPROVEN, VERDICT_SKIPPED };

struct attack_row {
        const struct attack_probe *probe;
        char *args;    /* the words of its line in the plan; NULL: it is not tried */
        char *skipped; /* why not: the box has nothing for it */
        char *allowed; /* why not: the config allows it, by this rule */
        enum attack_attempt attempt;
        enum attack_control control;
        char *said; /* the guest's words; hostile */
        enum attack_far far;
        char *seen; /* from here */
        enum attack_verdict verdict;
};
struct attack_rows {
        struct attack_row *rows;
        size_t n;
};

struct nb_error;
/** Rows for the probes whose names are, or begin with, one of `names` (none: all). -ENOENT if one of them means nothing. */
int attack_rows_new(char *const *names, struct attack_rows *ret, struct nb_error *err);
void attack_rows_clear(struct attack_rows *rows);
struct attack_row *attack_row_find(const struct attack_rows *rows, const char *name);
/** What was seen from here replaces what was seen before unless that is worse; the text is copied. */
void attack_row_see(struct attack_row *row, enum attack_far far, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/** Sets the verdict of every row. Pure. */
void attack_judge(struct attack_rows *rows);
/** "held", "held (no control)", "allowed", "OPEN", "unproven", "not applicable". */
const char *attack_verdict_name(enum attack_verdict verdict);
/** The same for programs: "held", "uncontrolled", "allowed", "open", "unproven", "not_applicable". */
const char *attack_verdict_key(enum attack_verdict verdict);
/** How many rows have it. */
unsigned attack_count(const struct attack_rows *rows, enum attack_verdict verdict);
