/* Files that programs of the host run or obey (git hooks, editor settings, …): which paths in a writable mount are such. A
 * list of patterns and a decision about a path; pure, no descriptor and no clock. Who keeps to it is src/box/guard*.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* A pattern is a path of names: "*" and "?" stand for characters of one name, "**" alone for any number of names (at least one
 * at the end). Without a slash at its start it may begin anywhere, so that nested repositories are covered. Letters match in
 * either case, because the host's file system or git itself may not tell them apart. What ends in ".sample" is never matched:
 * nothing runs it, and git puts such files among its hooks. */
#define PROTECT_MAX 1024          /* patterns */
#define PROTECT_DEFAULT "default" /* in a list: all of protect_defaults() */

/* What a path is to the patterns: bits. */
#define PROTECT_IS 1u     /* one of the files */
#define PROTECT_LEADS 2u  /* a folder of this name would hold some of them */
#define PROTECT_VETTED 4u /* with PROTECT_IS: git's config, which may change to what policy/gitconfig.h finds harmless */
#define PROTECT_LOCK 8u   /* the file through which git changes its config */

struct protect;
/** NULL-terminated; what is protected where the config says nothing. */
const char *const *protect_defaults(void);
/** Checks one pattern as written in a config. */
int protect_check(const char *pattern, struct nb_error *err);
/** Patterns as written, "default" and "!PATTERN" resolved: "!" takes one out that stands before it. New list; -ENOENT names
 *  the one that is not there. */
int protect_resolve(char *const *words, char ***ret, struct nb_error *err);
int protect_new(char *const *patterns, struct protect **ret, struct nb_error *err);
void protect_free(struct protect *p);
static inline void protect_freep(struct protect **p) {
        protect_free(*p);
}
/** What an absolute path is; the pattern that says so in *ret_pattern (may be NULL), owned by `p`. */
unsigned protect_match(const struct protect *p, const char *path, const char **ret_pattern);
