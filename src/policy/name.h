/* Host names. There is one canonical form, and this is the only code that makes it: DNS questions, SNI, Host headers, rules in
 * a config and words on a command line all pass through here, so that two of them can never disagree about a name. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define NAME_MAX_LEN 253 /* RFC 1035, without the root's dot */

/** Canonical form of `len` bytes: lower case, one trailing dot removed, labels of 1 to 63 of a-z 0-9 - _ that neither begin
 *  nor end with -, at most 253 bytes, and not something that programs take for an address (its last label is a number:
 *  127.1, 0x7f.1, 2130706433). Anything else (NUL, space, bytes above 127, empty labels) has none.
 *  Returns the length, or -EINVAL. */
int name_canonical(const void *bytes, size_t len, char ret[NAME_MAX_LEN + 1]);
/** Why name_canonical() refuses it, for people: "is an address, not a name". NULL if it does not. */
const char *name_problem(const void *bytes, size_t len);
/** Is canonical `name` any number of labels below canonical `suffix`, and not the suffix itself? */
bool name_below(const char *name, const char *suffix);
