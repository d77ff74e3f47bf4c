/* What the program inside says, read as the hostile bytes that they are: a line at a time, of a bounded length, about rows that
 * were asked for and each of them once. Values in, values out. */
#pragma once
#include "attack/row.h"
#include "base/buf.h"
#include "base/error.h"

#define ANSWER_LINE_MAX 512u

struct attack_answer {
        struct attack_rows *rows;
        const char *token;
        struct nb_buf line; /* one that has not ended yet */
        unsigned answered;
        bool begun, over;
};
/** Takes bytes as they come. -EPROTO at the first thing that does not belong there. */
int attack_answer_add(struct attack_answer *a, const void *bytes, size_t len, struct nb_error *err);
/** The stream has ended. -EPROTO unless it is whole and every row that was asked for was answered. */
int attack_answer_end(const struct attack_answer *a, struct nb_error *err);
void attack_answer_clear(struct attack_answer *a);
