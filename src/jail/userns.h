/* User namespaces: entering one with the id map that the caller's rights allow, and saying what a host that refuses them
 * needs. */
#pragma once
#include <sys/types.h>

#include "base/error.h"

/** Moves the calling (single-threaded) process into a new user namespace, and into the other new namespaces in `flags`
 *  (CLONE_NEW*). An ordinary user becomes uid 0 there, mapped to itself; real root keeps every id as it is. */
int userns_enter(int flags, struct nb_error *err);
/** Adds the way out to a recorded failure that a host without usable user namespaces causes. Returns -err->code. */
int userns_hint(struct nb_error *err);
/** The ids of our own namespace, each mapped to itself, in the form of an id map; `path` is a map in /proc. New string, NULL
 *  on failure. */
char *userns_identity_map(const char *path);

/* What a process in a new user namespace of ours may own files as. */
enum userns_ids {
        USERNS_ALL,    /* real root: every id as itself */
        USERNS_SUBIDS, /* an ordinary user's subordinate ids as 1 to 65535, and the user as 0 */
        USERNS_ONE,    /* the user as 0, and no other id */
};
#define USERNS_SUBIDS_WANTED 65535ul /* all that a Debian system uses */

/** The most that this caller can have here: USERNS_SUBIDS needs newuidmap, newgidmap and entries in /etc/subuid and
 *  /etc/subgid. */
enum userns_ids userns_best(void);
/** Forks a child that becomes uid 0 of a new user namespace with these ids, and enters the other new namespaces in `flags`; it
 *  calls `body` and ends with what that returns as its exit status. It is killed when the calling thread ends. */
struct userns_child {
        enum userns_ids ids;
        int flags; /* CLONE_NEW* */
        int (*body)(void *user);
        void *user;
};
int userns_start(const struct userns_child *what, pid_t *ret_pid, struct nb_error *err);
/** Waits for its end. Returns its exit status, 128 and the signal's number, or -errno. */
int userns_wait(pid_t pid);
