/* A command in the box, run by a child process of ours, so that its streams can be read and written here. */
#pragma once
#include <sys/types.h>

#include "cli/cli.h"

#define REMOTE_WORDS_MAX 4096u /* of what the command says on stderr */

struct remote {
        pid_t pid;
        int words; /* what it said on stderr */
};
/** Starts it, as `user` (NULL: the caller). `in` and `out` are the child's and closed here unless they are the standard ones;
 *  -1: none. `ours` is a descriptor that the child must not keep, -1: none. */
int remote_start(struct cli *cli, char *const *argv, const char *user, int in, int out, int ours, struct remote *ret,
                 struct nb_error *err);
/** Waits for it. Returns its status as session_run() does, CLI_FAILED where nixbox failed, which was said already; what it said
 * on stderr is a new string, without newlines at its end. */
int remote_wait(struct remote *remote, char **ret_words);
