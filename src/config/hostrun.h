/* Commands that a config makes the host run: which files they name, and running the bytes that were read. Private to
 * src/config; the way to run them is approval_command(). */
#pragma once
#include "config/config.h"
#include "config/doc.h"

#define HOSTRUN_WORDS_MAX 256

struct hostrun_word {
        size_t start, end; /* where it stands in the command, quotes included */
        char *text;        /* without quotes */
        bool command;      /* it stands where the shell looks for a program */
        bool plain;        /* no $, `, * and the like: what it says is what the shell takes */
};
/** Splits a shell command roughly into words. Returns their number (at most `max`). Pure. */
size_t hostrun_words(const char *command, struct hostrun_word *words, size_t max);
void hostrun_words_clear(struct hostrun_word *words, size_t n);

/** Reads one file into c->files, if it is not there yet; not an error if there is no such file. `at` is what names it. */
int hostrun_add_file(struct config *c, const char *path, const struct doc_node *at, struct nb_error *err);
/** Reads every local file the command names into c->files. With `must`, a program named by a path must be there and be
 *  executable. `at` is where the command stands. */
int hostrun_collect(struct config *c, const char *command, const char *dir, bool must, const struct doc_node *at,
                    struct nb_error *err);
