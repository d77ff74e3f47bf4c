/* May a repository's config be replaced by another? Recognises strictly what git itself writes for init, clone, remote, push -u
 * and branch; every other line (aliases, hooks, filters, helpers, includes, anything that runs a program or leads elsewhere)
 * must stand in the new content just as in the old. Pure: bytes in, an answer out. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define GITCONFIG_MAX ((size_t)256 * 1024)

/** True if `fresh` may stand where `old` stands (of no length where there is none). Else *ret_why says why, a new string that
 *  quotes no more of either than section and key. */
bool gitconfig_may_replace(const char *old, size_t old_len, const char *fresh, size_t fresh_len, char **ret_why);
/** Nothing is lost or gained by its absence: it holds only what the guest may write. */
bool gitconfig_harmless(const char *text, size_t len);
