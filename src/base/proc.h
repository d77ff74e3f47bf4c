/* Running another program and waiting for it, with its output captured or passed on. Host only; not for the jailed
 * children (src/jail/jail.h) and not for the guest. */
#pragma once
#include <stddef.h>
#include <sys/types.h>

#include "error.h"

struct proc_spec {
        char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
        char *const *env;  /* NULL: the caller's */
        const char *dir;   /* working folder, NULL: the caller's */
        const void *input; /* given on stdin; NULL: /dev/null */
        size_t input_len;
        size_t output_max; /* stdout beyond this is an error; 0: stdout goes to stdout_fd */
        int stdout_fd;     /* used when output_max is 0; -1: /dev/null */
        int stderr_fd;     /* -1: collected (the last 4 kB) for the error message */
        /* called for each line of stderr while it runs (progress); may be NULL; only when stderr_fd is -1 */
        void (*on_stderr_line)(void *user, const char *line);
        void *user;
};

/** Runs the program to its end. Fails with the end of its stderr if it cannot be started, is killed or exits non-zero.
 *  `*ret_output` (NUL-terminated, the caller's) is set when output_max is not 0. SIGINT/SIGTERM to us end it too. */
int proc_run(const struct proc_spec *spec, char **ret_output, size_t *ret_len, struct nb_error *err);
