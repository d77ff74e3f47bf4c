/* What the two ways of resolving (see resolve.h) share. */
#pragma once
#include "image/apt.h"
#include "image/lock.h"

/** Fills in all of a set that apt_install() has named; `ret_show` are the packages' records, a new string (may be NULL). */
int resolve_fill(struct apt *a, struct lock_set *set, char **ret_show, struct nb_error *err);
/** The current kernel package. */
int resolve_kernel(struct apt *a, struct lock_set *ret, struct nb_error *err);
/** The lock as it is when it is written and read again: whatever does not fit a lock's grammar is an error here. */
int resolve_check(struct lock **l, struct nb_error *err);
/** Now, as locks have it. New string. */
char *resolve_now(void);
