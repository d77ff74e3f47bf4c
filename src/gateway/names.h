/* The box's synthetic addresses: one for one name, and back. Names of exact rules have theirs from the start; names under a
 * pattern get one when they are asked for, and when the range is used up the one that has not been used longest is taken
 * back, if nobody can hold it any more. A sixteenth of the range is left to names of exact rules, which may come while the box
 * runs. Pure: the caller brings the clock. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/name.h"

#define NAMES_TTL 60u                     /* seconds: what DNS answers say */
#define NAMES_HOLD_MS (60u * 60u * 1000u) /* an address is not given to another name within this of its last use */

struct names;
/** A table of the addresses base .. base+size-1 (host order; the first one is never used). Its memory grows with the names in
 *  it, to at most some 400 bytes for each address. */
struct names *names_new(uint32_t base, uint32_t size);
void names_free(struct names *n);
/** The name's address, given out now if it has none; counts as a use. `pinned`: it is never taken back. *ret_new tells whether
 *  it was given out now; *ret_lost (room NAME_MAX_LEN + 1) the name that lost it, or "". -ENOSPC when none is free and none
 *  can be taken back. */
int names_give(struct names *n, const char *name, bool pinned, uint64_t now_ms, uint32_t *ret, bool *ret_new, char *ret_lost);
/** Puts in an address that was given out before a restart. -EEXIST if either is taken, -ERANGE if outside, -EINVAL if the name
 * is not canonical. */
int names_restore(struct names *n, const char *name, uint32_t address, uint64_t now_ms);
/** The name of an address, NULL if it has none; counts as a use. Valid until the next change. */
const char *names_find(struct names *n, uint32_t address, uint64_t now_ms);
/** Connections that hold the address: while there are any it is not taken back, and the last one's end counts as a use. */
void names_hold(struct names *n, uint32_t address, int change, uint64_t now_ms);
/** No name is pinned any more (the rules changed); those that still are to be are given again. */
void names_unpin(struct names *n, uint64_t now_ms);
/** How many names have an address. */
size_t names_count(const struct names *n);
