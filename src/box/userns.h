/* User namespaces: entering one with the id map that the caller's rights allow, and saying what a host that refuses them
 * needs. */
#pragma once
#include "base/error.h"

/** Moves the calling (single-threaded) process into a new user namespace, and into the other new namespaces in `flags`
 *  (CLONE_NEW*). An ordinary user becomes uid 0 there, mapped to itself; real root keeps every id as it is. */
int userns_enter(int flags, struct nb_error *err);
/** Adds the way out to a recorded failure that a host without usable user namespaces causes. Returns -err->code. */
int userns_hint(struct nb_error *err);
/** The ids of our own namespace, each mapped to itself, in the form of an id map; `path` is a map in /proc. New string, NULL
 *  on failure. */
char *userns_identity_map(const char *path);
