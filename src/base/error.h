/* Errors: the one way a function says what failed, why, and what the person can do about it.
 * A function that can fail returns 0 (or a count) on success and a negative errno value on failure; when it takes a
 * `struct nb_error *` it has filled it in before it returns. Libraries never print; the verb that was called prints once. */
#pragma once
#include <stdio.h>

struct nb_error {
        int code;   /* positive errno value, 0 while nothing failed */
        char *what; /* "what failed: why", one line, no trailing newline */
        char *hint; /* the way out: a command or a change to make; may be NULL */
};

#define NB_PRINTF(f, a) __attribute__((format(printf, f, a)))

/** Records a failure, replacing an earlier one. `code` is a positive errno value. `err` may be NULL. Returns -code. */
int nb_fail(struct nb_error *err, int code, const char *fmt, ...) NB_PRINTF(3, 4);

/** Like nb_fail(), and appends ": " and strerror(code). */
int nb_fail_errno(struct nb_error *err, int code, const char *fmt, ...) NB_PRINTF(3, 4);

/** Puts "prefix: " before what is recorded already. Returns -err->code. */
int nb_context(struct nb_error *err, const char *fmt, ...) NB_PRINTF(2, 3);

/** Sets the way out for the recorded failure. Returns -err->code, so that it can end a return statement. */
int nb_hint(struct nb_error *err, const char *fmt, ...) NB_PRINTF(2, 3);

/** Writes "nixbox: what" and, on a second line, the hint. Control characters are neutralised. */
void nb_error_print(const struct nb_error *err, FILE *out);

/** Frees what is recorded and makes the object empty again. NULL is fine. */
void nb_error_clear(struct nb_error *err);

#define NB_AUTO_ERROR __attribute__((cleanup(nb_error_clear))) struct nb_error
