/* /etc/passwd, /etc/group, /etc/shadow and /etc/hosts as text: looking up a user, and the changes that make the caller a
 * user of the box. Pure: text in, text out. Lines that are not understood are kept as they are. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ACCOUNT_GROUPS_MAX 64u

struct account {
        char *name, *home, *shell;
        uid_t uid;
        gid_t gid;
        gid_t groups[ACCOUNT_GROUPS_MAX]; /* supplementary, the primary one first */
        size_t n_groups;
};

/** Looks a user up by name, or by number if no such name exists. `passwd` may be NULL. The caller clears `ret`. */
bool account_find(const char *passwd, const char *name_or_number, struct account *ret);
/** Fills in the supplementary groups from the text of /etc/group (may be NULL). */
void account_find_groups(const char *group, struct account *a);
void account_clear(struct account *a);

/** The file with a line for this user in it. Another user of that name is dropped; another name for that number stays as
 *  an alias behind it. Root's own line keeps its place. New strings. */
char *passwd_with(const char *passwd, const struct account *a);
char *shadow_with(const char *shadow, const char *name);
/** The file with a group of this number: the image's own where there is one, else a new one named after the user. */
char *group_with(const char *group, const char *user, gid_t gid);
/** The file with localhost and the host name in it, and without lines of IPv6 addresses. */
char *hosts_with(const char *hosts, const char *hostname);
