/* Rows and their verdicts (see row.h). Pure. */
#include "attack/row.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"

static bool is_meant(const char *probe, char *const *names) {
        bool any = !names || !names[0];
        for (size_t i = 0; names && names[i] && !any; i++)
                any = nb_starts_with(probe, names[i]);
        return any;
}

int attack_rows_new(char *const *names, struct attack_rows *ret, struct nb_error *err) {
        for (size_t i = 0; names && names[i]; i++) {
                bool found = false;
                for (size_t k = 0; k < attack_n_probes; k++)
                        found = found || (names[i][0] && nb_starts_with(attack_probes[k].name, names[i]));
                if (!found) {
                        nb_fail(err, ENOENT, "there is no probe '%s'", names[i]);
                        return nb_hint(err,
                                       "nixbox attack --list shows them; the first part of a name means all that begin so");
                }
        }
        *ret = (struct attack_rows){ .rows = nb_calloc(attack_n_probes, sizeof *ret->rows) };
        for (int letter = 'A'; letter <= 'G'; letter++)
                for (size_t i = 0; i < attack_n_probes; i++)
                        if (attack_probes[i].class == letter && is_meant(attack_probes[i].name, names))
                                ret->rows[ret->n++].probe = &attack_probes[i];
        return 0;
}

void attack_rows_clear(struct attack_rows *rows) {
        for (size_t i = 0; i < rows->n; i++) {
                free(rows->rows[i].args);
                free(rows->rows[i].skipped);
                free(rows->rows[i].allowed);
                free(rows->rows[i].said);
                free(rows->rows[i].seen);
        }
        free(rows->rows);
        *rows = (struct attack_rows){ 0 };
}

struct attack_row *attack_row_find(const struct attack_rows *rows, const char *name) {
        for (size_t i = 0; i < rows->n; i++)
                if (strcmp(rows->rows[i].probe->name, name) == 0)
                        return &rows->rows[i];
        return NULL;
}

void attack_row_see(struct attack_row *row, enum attack_far far, const char *fmt, ...) {
        static const int badness[] = { [FAR_NONE] = 0, [FAR_HELD] = 1, [FAR_UNCLEAR] = 2, [FAR_OPEN] = 3 };
        va_list ap;
        if (badness[far] < badness[row->far] || (row->seen && badness[far] == badness[row->far]))
                return;
        va_start(ap, fmt);
        free(row->seen);
        row->seen = nb_vasprintf(fmt, ap);
        va_end(ap);
        row->far = far;
}

/* Can what was seen from here alone say that nothing happened? Elsewhere the guest's own word counts as well: it can only make
 * things worse. */
static bool far_side_decides(enum attack_judge judge) {
        return judge == JUDGE_SHARE || judge == JUDGE_MEETS || judge == JUDGE_CONSOLE || judge == JUDGE_LOOK;
}

static enum attack_verdict verdict_of(const struct attack_row *r) {
        if (r->skipped)
                return VERDICT_SKIPPED;
        if (r->allowed)
                return VERDICT_ALLOWED;
        if (r->far == FAR_OPEN || (r->attempt == ATTEMPT_DONE && !far_side_decides(r->probe->judge)))
                return VERDICT_OPEN;
        bool silent = r->probe->judge != JUDGE_LOOK && r->attempt == ATTEMPT_NONE;
        if (silent || r->far == FAR_UNCLEAR || r->control == CONTROL_FAILED)
                return VERDICT_UNPROVEN;
        if (far_side_decides(r->probe->judge) && r->far == FAR_NONE)
                return VERDICT_UNPROVEN;
        return r->control == CONTROL_OK ? VERDICT_HELD : VERDICT_UNCONTROLLED;
}

void attack_judge(struct attack_rows *rows) {
        for (size_t i = 0; i < rows->n; i++)
                rows->rows[i].verdict = verdict_of(&rows->rows[i]);
}

const char *attack_verdict_name(enum attack_verdict verdict) {
        static const char *const names[] = { [VERDICT_HELD] = "held",         [VERDICT_UNCONTROLLED] = "held (no control)",
                                             [VERDICT_ALLOWED] = "allowed",   [VERDICT_OPEN] = "OPEN",
                                             [VERDICT_UNPROVEN] = "unproven", [VERDICT_SKIPPED] = "not applicable" };
        return names[verdict];
}

const char *attack_verdict_key(enum attack_verdict verdict) {
        static const char *const keys[] = {
                [VERDICT_HELD] = "held", [VERDICT_UNCONTROLLED] = "uncontrolled", [VERDICT_ALLOWED] = "allowed",
                [VERDICT_OPEN] = "open", [VERDICT_UNPROVEN] = "unproven",         [VERDICT_SKIPPED] = "not_applicable"
        };
        return keys[verdict];
}

unsigned attack_count(const struct attack_rows *rows, enum attack_verdict verdict) {
        unsigned n = 0;
        for (size_t i = 0; i < rows->n; i++)
                n += rows->rows[i].verdict == verdict;
        return n;
}
