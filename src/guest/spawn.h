/* Starts one command as a user: its own process session, descriptors, environment, folder. The caller is never blocked by
 * it: everything that may wait (a slow mount, a large program) happens in the new process. */
#pragma once
#include <stdbool.h>

#include "guest/accounts.h"

#define SPAWN_NOT_STARTED 125 /* exit statuses of the new process when it could not become the command */
#define SPAWN_NOT_EXECUTABLE 126
#define SPAWN_NOT_FOUND 127

struct spawn_spec {
        char *const *argv;
        const char *file; /* what to execute: looked up in PATH of env unless it has a slash */
        char *const *env;
        const char *cwd; /* NULL or missing: the home folder */
        const struct account *who;
        int fd[3];  /* descriptors for 0, 1 and 2, borrowed; with a pty all three are its terminal side */
        bool pty;   /* fd[0] becomes the controlling terminal */
        int cgroup; /* folder of the control group to start in, or -1 */
};
/** Returns the process id or -errno. What goes wrong later is written to fd[2] and shows in the exit status. */
int spawn(const struct spawn_spec *spec);

/** fork() for helpers of our own: same privileges, signals still blocked. Returns as fork(), or -errno. */
int spawn_helper(void);
