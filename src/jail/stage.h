/* The place where packages' own scripts run while an image is built: namespaces of their own that end with nixbox, a folder
 * as the whole file system, no network, none of the host's files but those that are shown, no rights over the host. */
#pragma once
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"
#include "jail/userns.h"

#define STAGE_FILES "/dev/packages" /* where the files that are shown lie inside */

struct stage_file {
        char *path; /* on the host */
        char *name; /* inside, below STAGE_FILES */
};
struct stage {
        enum userns_ids ids;
        const char *root;               /* folder of the host that becomes "/" */
        const struct stage_file *files; /* shown read-only */
        size_t n_files;
        int log_fd; /* where the output of the scripts goes */
        /* Pid 1 inside, with all rights over the folder. What it writes to `say_fd`, a line each, is heard outside. */
        int (*body)(void *user, int say_fd, struct nb_error *err);
        void (*heard)(void *user, const char *line); /* outside */
        void *user;
};
/** Runs `body` to its end. Fails as it fails; nothing that it started is left. */
int stage_run(const struct stage *s, struct nb_error *err);

/* A filter of the caller's own under which a program runs, and what answers it. */
struct stage_watch {
        int (*enter)(int *ret_fd, struct nb_error *err);       /* in the child, last before it becomes the program */
        int (*serve)(int fd, int pidfd, struct nb_error *err); /* in pid 1, with that descriptor, until the program has ended */
};
/** Inside: runs a program without any right that a package's script has no use for, and ends everything that it leaves
 *  running. `pass_fd` keeps its number, unless it is -1; `watch` may be NULL. Returns its exit status, 128 and the signal's
 *  number, or -errno. */
int stage_exec(char *const *argv, char *const *env, int pass_fd, const struct stage_watch *watch, struct nb_error *err);
