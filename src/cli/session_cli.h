/* What run and shell share: a session in the box meant, which is booted if it is not up. */
#pragma once
#include <stdbool.h>

#include "box/session.h"
#include "cli/cli.h"

/** Runs `spec` (whose descriptors and host_cwd are filled in here) to its end. Returns as session_run() does. `*ret_booted`
 *  (may be NULL) says whether the box was started for it. */
int cli_session(struct cli *cli, struct session_spec *spec, bool *ret_booted, struct nb_error *err);
