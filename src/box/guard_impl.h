/* What the files of the guard share; nobody else includes this.
 *   guard.c         the process: its jail, its messages, the loop
 *   guard_place.c   from a call's arguments to a path on the host
 *   guard_calls.c   what each call may do
 *   guard_config.c  git's config and its lock */
#pragma once
#include <sys/stat.h>

#include "box/guard.h"
#include "jail/notify.h"
#include "policy/protect.h"

#define GUARD_LOCKS_MAX 64 /* configs that the guest is changing at once */

struct guard_mount {
        char *id, *source; /* source NULL: a volume */
};

/* A lock of git's that was made for the guest: only through such a one may a config change, because the host's git makes its
 * own under the same name, and what it writes there must not be touched. */
struct guard_lock {
        int fd; /* reads it, and keeps its number from being given to another file; -1: no lock */
        dev_t dev;
        ino_t ino;
};

struct guard {
        struct notify notify;
        struct protect *protect;
        char **patterns;
        bool started;
        struct guard_mount *mounts;
        size_t n_mounts;
        char **allowed;
        struct guard_lock locks[GUARD_LOCKS_MAX];
        size_t next_lock;
        uint64_t second;  /* for which `reports` counts */
        unsigned reports; /* refusals told in it */
        uint64_t skipped; /* that were not told */
};

/* What a call names: an entry of a folder, or with an empty name the file itself. */
struct guard_place {
        int fd;     /* O_PATH: the folder, or the file itself */
        char *name; /* in the folder; NULL: `fd` is the file */
        const struct guard_mount *mount;
        char *path;      /* on the host */
        const char *rel; /* the part of it below the mount's source */
        unsigned is;     /* PROTECT_* bits, after what the owner has allowed */
        const char *pattern;
};
void guard_place_clear(struct guard_place *p);
#define GUARD_AUTO_PLACE __attribute__((cleanup(guard_place_clear))) struct guard_place

/* guard_place.c */
/** Returns 0 or -errno: what cannot be understood is refused. */
int guard_place_at(struct guard *g, const struct notify_call *c, int dirfd, uint64_t name, struct guard_place *ret);
int guard_place_fd(struct guard *g, const struct notify_call *c, int fd, struct guard_place *ret);
/** lstat() of what is there. Returns 0 or -errno. */
int guard_place_stat(const struct guard *g, const struct guard_place *p, struct stat *ret);
/** "self/fd/N", for calls relative to the guard's /proc. */
#define GUARD_OWN_FD 32
void guard_own_fd(int fd, char ret[GUARD_OWN_FD]);

/* guard_calls.c */
/** Decides; returns what notify_answer() takes. */
int guard_decide(struct guard *g, struct notify_call *c);

/* guard_config.c */
bool guard_lock_is_ours(const struct guard *g, const struct guard_place *lock);
/** open() of git's lock. */
int guard_lock_open(struct guard *g, struct notify_call *c, const struct guard_place *lock, int flags, mode_t mode,
                    const char **ret_why);
int guard_lock_remove(struct guard *g, const struct guard_place *lock, const char **ret_why);
/** The rename with which git puts a new config in place. */
int guard_config_replace(struct guard *g, const struct guard_place *lock, const struct guard_place *config, char **ret_why);
/** May it be removed? */
bool guard_config_removable(const struct guard_place *config);
