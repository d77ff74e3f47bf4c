/* The client side of a session: what `nixbox run`, `shell` and `cp` share. Opens a session in a running box and moves bytes
 * between the caller's descriptors and the command inside until it ends. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct session_spec {
        char *const *argv;    /* NULL-terminated; with `shell` at most one element */
        bool shell;           /* give argv[0] to the login shell; none: interactive login shell */
        char *const *env;     /* extra "NAME=value" */
        const char *cwd;      /* path in the guest; NULL: see host_cwd */
        const char *host_cwd; /* the caller's folder, used where a mount shows it; NULL or not mounted: home */
        const char *user;     /* NULL: the caller */
        bool pty;
        int in, out, err; /* the caller's descriptors; in may be -1 */
};
/** Runs the session to its end on the control socket `control_fd` (connected; taken over). Returns the exit status to
 *  give (0..255; 128+N for a signal), or a negative errno value with `err` filled when nixbox itself failed. Puts the
 *  terminal in raw mode for a pty session and restores it on every way out. SIGINT, SIGTERM, SIGHUP and SIGQUIT go to the
 *  command meanwhile; the third SIGINT or SIGTERM gives up on it. */
int session_run(int control_fd, const struct session_spec *spec, struct nb_error *err);
