/* Reading the program's answer (see answer.h). */
#include "attack/answer.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

static int refuse(struct nb_error *err, const char *what) {
        nb_fail(err, EPROTO, "what the box said was not understood: %s", what);
        (void)nb_hint(err, "the program in the box was tampered with, or ended; nothing that it said counts");
        return -EPROTO;
}

/* Cuts the next word off. NULL at the end. */
static char *next_word(char **text) {
        char *word = *text, *end = strchr(word, ' ');
        if (!*word)
                return NULL;
        *text = end ? end + 1 : word + strlen(word);
        if (end)
                *end = 0;
        return word;
}

static int index_of(const char *word, const char *const *list) {
        for (int i = 0; word && list[i]; i++)
                if (strcmp(word, list[i]) == 0)
                        return i;
        return -1;
}

static int take_row(struct attack_answer *a, char *line, struct nb_error *err) {
        static const char *const attempts[] = { "nothing", "refused", "done", NULL }, *const controls[] = { "none", "ok",
                                                                                                            "failed", NULL };
        const char *name = next_word(&line);
        struct attack_row *row = name ? attack_row_find(a->rows, name) : NULL;
        if (!row || !row->args || row->allowed)
                return refuse(err, "a row that nobody asked for");
        if (row->attempt != ATTEMPT_NONE)
                return refuse(err, "the same row twice");
        int attempt = index_of(next_word(&line), attempts), control = index_of(next_word(&line), controls);
        if (attempt < 0 || control < 0)
                return refuse(err, "a row without a result");
        row->attempt = ATTEMPT_NOTHING + (unsigned)attempt;
        row->control = CONTROL_NONE + (unsigned)control;
        row->said = nb_text_clean(line, 0);
        a->answered++;
        return 0;
}

static int take_line(struct attack_answer *a, char *line, struct nb_error *err) {
        NB_AUTO_FREE char *begin = nb_asprintf("attack 1 %s", a->token), *end = nb_asprintf("end %s %u", a->token, a->answered);
        if (a->over)
                return refuse(err, "more after the end");
        if (!a->begun) {
                a->begun = strcmp(line, begin) == 0;
                return a->begun ? 0 : refuse(err, "it does not begin as it should");
        }
        if (strcmp(line, end) == 0) {
                a->over = true;
                return 0;
        }
        return take_row(a, line, err);
}

int attack_answer_add(struct attack_answer *a, const void *bytes, size_t len, struct nb_error *err) {
        const char *at = bytes;
        while (len > 0) {
                const char *newline = memchr(at, '\n', len);
                size_t n = newline ? (size_t)(newline - at) : len;
                if (memchr(at, 0, n) || a->line.len + n > ANSWER_LINE_MAX)
                        return refuse(err, "a line that is no text, or too long");
                nb_buf_add(&a->line, at, n);
                if (!newline)
                        return 0;
                nb_buf_add(&a->line, "", 1);
                NB_AUTO_FREE char *line = nb_strdup((const char *)nb_buf_bytes(&a->line));
                nb_buf_consume(&a->line, a->line.len);
                int r = take_line(a, line, err);
                if (r < 0)
                        return r;
                at += n + 1;
                len -= n + 1;
        }
        return 0;
}

int attack_answer_end(const struct attack_answer *a, struct nb_error *err) {
        if (!a->over || a->line.len > 0)
                return refuse(err, a->begun ? "it ended early" : "it said nothing");
        for (size_t i = 0; i < a->rows->n; i++) {
                const struct attack_row *row = &a->rows->rows[i];
                if (row->args && !row->allowed && row->attempt == ATTEMPT_NONE)
                        return refuse(err, "a row is missing");
        }
        return 0;
}

void attack_answer_clear(struct attack_answer *a) {
        nb_buf_clear(&a->line);
}
