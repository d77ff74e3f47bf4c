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
/** Records that the owner approves `after`, if `before` was approved and they differ in nothing but the rules in `asked`: those
 *  added, and those that were their opposite gone. Returns 1, or 0 if they differ otherwise too and nothing is recorded. */
int approval_follow(const struct config *before, const struct config *after, const struct policy_rule *asked, size_t n_asked,
                    struct nb_error *err);
/** Carries the record over a nixbox.lock that nixbox itself has just written: `c` holds its bytes, and `before` is the hash
 * that `c` had until then. Does nothing if what is on record is another config than that. */
int approval_follow_lock(const struct config *c, const char *before, struct nb_error *err);
/** Notes that the running box of the config `file` can now write below `source` (a mount added while it runs), so that a
 *  change to any config or hook there is asked about. */
int approval_note_writable(const char *file, const char *source, struct nb_error *err);

#define APPROVAL_FDS_MAX 8
/* A host command ready to run: local programs in it are replaced by sealed copies of the bytes that were approved. */
struct approval_command {
        char **argv;               /* /bin/sh -c …, NULL-terminated */
        char *dir;                 /* working folder */
        int fds[APPROVAL_FDS_MAX]; /* the copies; not close-on-exec: argv refers to them by number */
        size_t n_fds;
};
/** Prepares a host command of `c` (a hook's `command` and `dir`, a secret's `arg` and `dir`). -EPERM if a file it names has
 *  changed since `c` was loaded. Run argv in dir, then approval_command_clear(). */
int approval_command(const struct config *c, const char *command, const char *dir, struct approval_command *ret,
                     struct nb_error *err);
void approval_command_clear(struct approval_command *cmd);
