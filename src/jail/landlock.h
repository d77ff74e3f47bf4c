/* Landlock: what a process may still do with files, sockets and signals, taken from itself, above all else that a jail has.
 * Kernels know more or less of it (its ABI), or nothing; what this one knows is used. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define LANDLOCK_ABI_MIN 2 /* the first without which renaming from folder to folder would be impossible */

/* What stays allowed; everything else that this kernel's Landlock knows is denied. */
struct landlock_plan {
        bool on;
        bool read;         /* reading and running files, wherever the process can name them */
        const char *write; /* folder below which files and folders may be made and changed; no devices. NULL: none */
        bool tcp;          /* binding and connecting TCP sockets */
        bool abstract;     /* connecting to abstract unix sockets of other processes */
};
/* A plan in the words of the kernel. */
struct landlock_rules {
        uint64_t handled_fs, handled_net, scoped; /* denied, but where the next ones allow it */
        uint64_t read, write;                     /* below "/", and below the plan's folder */
};

/** What this kernel knows, 0 if it has no Landlock (or too old a one). */
int landlock_abi(void);
/** Pure. */
struct landlock_rules landlock_translate(const struct landlock_plan *plan, int abi);
/** For the plan as text: "ABI 6: …". New string. Pure. */
char *landlock_describe(const struct landlock_plan *plan, int abi);
/** Takes it all from the calling process and what it will start, for ever. It must have no_new_privs. Does nothing where the
 *  plan is off or the kernel has none; fails where it has and does not do it. */
int landlock_enter(const struct landlock_plan *plan, int abi, struct nb_error *err);
