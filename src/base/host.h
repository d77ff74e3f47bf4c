/* What the host offers: programs in a search path, and the subordinate ids that an ordinary user was given. Host only. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

/** Is there an executable of this name in one of the folders of `path` ("/usr/bin:/bin")? */
bool nb_have_program(const char *path, const char *name);
/** How many subordinate ids /etc/subuid or /etc/subgid (its text) gives to a user, named or by number. */
unsigned long nb_subordinate_ids(const char *table, const char *user, uid_t uid);
/** The same ids as arguments of newuidmap or newgidmap, "INSIDE OUTSIDE COUNT" one after the other, that give the inside ids
 *  1 to `want`. A new list; NULL if there are not enough. */
char **nb_subordinate_map(const char *table, const char *user, uid_t uid, unsigned long want);
