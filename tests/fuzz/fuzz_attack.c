/* Fuzz target: what the program of nixbox attack says from inside a box. Only rows that were asked for get a result, and what
 * is kept of the guest's words holds no control character. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attack/answer.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct attack_rows *rows) {
        for (size_t i = 0; i < rows->n; i++) {
                const struct attack_row *row = &rows->rows[i];
                if (!row->args && row->attempt != ATTEMPT_NONE)
                        abort();
                for (const char *c = row->said; c && *c; c++)
                        if ((unsigned char)*c < 0x20 || *c == 0x7f)
                                abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct attack_rows rows;
        if (attack_rows_new((char *[]){ "files.create", "files.mkdir", NULL }, &rows, NULL) < 0)
                abort();
        rows.rows[0].args = nb_strdup("x");
        struct attack_answer a = { .rows = &rows, .token = "t" };
        size_t half = size / 2;
        if (attack_answer_add(&a, data, half, NULL) == 0 && attack_answer_add(&a, data + half, size - half, NULL) == 0 &&
            attack_answer_end(&a, NULL) == 0 && rows.rows[0].attempt == ATTEMPT_NONE)
                abort();
        check(&rows);
        attack_answer_clear(&a);
        attack_rows_clear(&rows);
        return 0;
}
