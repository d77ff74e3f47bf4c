/* Approvals: a config that reaches beyond its own folder runs only after its owner has seen and accepted it. Kept outside
 * every mount, in the state folder, by hash of the resolved config and of every file that it makes the host read or run. */
#pragma once
#include "config/config.h"

enum approval_ask { APPROVAL_ASK_TERMINAL, APPROVAL_ACCEPT, APPROVAL_REFUSE };

/** Decides whether `c` may start now: nothing to approve, approved already (and not widened), or asked for and accepted.
 *  At a terminal shows what is asked (or a diff to what was approved) on stderr and reads the answer from it.
 *  -EPERM with the way out (`nixbox up --accept`) if it may not. On success the bytes that were hashed (hook commands,
 *  local files) are those that must be used: see approval_command(). */
int approval_check(const struct config *c, enum approval_ask ask, struct nb_error *err);
/** Records that the owner approves `c` as it is (used by `nixbox init`). */
int approval_grant(const struct config *c, struct nb_error *err);
