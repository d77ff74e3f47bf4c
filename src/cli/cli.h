/* The command line: global options and the table of verbs. A verb parses, calls the library, prints; it reports an error
 * once, through cli_fail(). */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "box/state.h"
#include "config/config.h"

#define CLI_FAILED 125 /* nixbox itself failed (docker's habit) */

struct cli {
        const char *name; /* -n */
        const char *file; /* -f */
        bool quiet, json;
        int verbose;
        bool color;
};
struct cli_verb {
        const char *name;
        const char *args;                                   /* usage after the verb's name */
        const char *summary;                                /* one line */
        const char *help;                                   /* options and an example, one screen at most */
        int (*run)(struct cli *cli, int argc, char **argv); /* argv[0] is the verb; returns the exit status */
        bool hidden;
};
extern const struct cli_verb cli_verbs[]; /* ends with name NULL */

/** The program: what main() does. */
int cli_main(int argc, char **argv);
/** Takes the global options before the verb; returns the verb's index in argv, or -1 after a reported usage error. */
int cli_global(struct cli *cli, int argc, char **argv);
/** Prints the error (and clears it); returns CLI_FAILED. */
int cli_fail(struct nb_error *err);
/** Global options may also stand after the verb: getopt_long with the verb's own options merged with the global ones.
 *  `own` are short options as for getopt, `longs` ends with {0}. Returns the option, -1 at the end, '?' after a usage error
 *  (reported). --help prints the verb's help and exits. With '+' first in `own` stops at the first operand. */
struct option;
int cli_getopt(struct cli *cli, int argc, char **argv, const char *own, const struct option *longs);
/** The config file in force: -f, or the nearest nixbox.yaml. New string. */
int cli_config_file(struct cli *cli, char **ret, struct nb_error *err);
/** The box meant: -n, else the one of the config in force. */
int cli_box(struct cli *cli, struct box_paths **ret, struct nb_error *err);
/** Connects to the box meant. */
int cli_connect(struct cli *cli, int *ret_fd, struct nb_error *err);
/** Sends a request to the box meant, which must run, and returns its answer (*ret may be NULL; else the caller's reference). */
int cli_call(struct cli *cli, const json_t *request, const int *fds, size_t n_fds, json_t **ret, struct nb_error *err);
/** The box meant and whether it runs; one that is just starting is waited for. */
int cli_running(struct cli *cli, struct box_paths **ret, bool *ret_running, struct nb_error *err);
/** A result for programs: one line of JSON on stdout (reference taken over). */
int cli_print_json(json_t *doc, struct nb_error *err);
/** Prints a usage error for the verb with the way to its help; returns CLI_FAILED. */
int cli_usage(const struct cli_verb *verb, const char *fmt, ...) NB_PRINTF(2, 3);

int verb_init(struct cli *, int, char **);
int verb_up(struct cli *, int, char **);
int verb_run(struct cli *, int, char **);
int verb_shell(struct cli *, int, char **);
int verb_down(struct cli *, int, char **);
int verb_status(struct cli *, int, char **);
int verb_mount(struct cli *, int, char **);
int verb_unmount(struct cli *, int, char **);
int verb_allow(struct cli *, int, char **);
int verb_deny(struct cli *, int, char **);
int verb_why(struct cli *, int, char **);
int verb_port(struct cli *, int, char **);
int verb_review(struct cli *, int, char **);
int verb_attack(struct cli *, int, char **);
int verb_events(struct cli *, int, char **);
int verb_cp(struct cli *, int, char **);
int verb_logs(struct cli *, int, char **);
int verb_config(struct cli *, int, char **);
int verb_image(struct cli *, int, char **);
int verb_doctor(struct cli *, int, char **);
int verb_volume(struct cli *, int, char **);
int verb_version(struct cli *, int, char **);
/** Starts the box of the config in force if it is not running (for `run`). Defined with `up`. */
int cli_ensure_up(struct cli *cli, struct nb_error *err);
