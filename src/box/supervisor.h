/* The supervisor: owner of one box from start to end. `nixbox up` prepares everything that needs the caller's view (config,
 * approval, image, mount trees, secrets), starts the supervisor as a process of its own and watches it until the box is
 * ready; from then on the supervisor answers the control socket, watches its children and writes the event log. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "box/state.h"
#include "box/vmm.h"
#include "config/config.h"

struct box_start {
        const struct config *config;
        const struct image *image;
        const struct accel *accel;
        const struct box_paths *paths;
        bool recreate; /* end a running box first, and forget a kept disk */
        /* called for each phase with the milliseconds it took; may be NULL */
        void (*phase)(void *user, const char *name, unsigned long ms);
        /* called once this start owns the box, before anything runs (host hooks); may be NULL */
        int (*owned)(void *user, struct nb_error *err);
        /* called when a command can run, before the box counts as up (setup commands); the box ends if it fails; may be NULL */
        int (*ready)(void *user, struct nb_error *err);
        void *user;
};
/** Boots the box and returns when a command can run in it. Ctrl-C (SIGINT/SIGTERM to the caller) ends the start cleanly. On
 *  failure nothing is left behind, and the reason is also in the event log. -EALREADY if it runs already; where another
 *  command is starting it, waits for that. */
int box_start(const struct box_start *start, struct nb_error *err);
/** What would be started, for `up --dry-run`: mounts, jails, QEMU arguments. New string. */
int box_describe(const struct box_start *start, char **ret, struct nb_error *err);
/** Ends a box and waits until nothing of it is left. -ENOENT if it is not running. */
int box_stop(const struct box_paths *paths, bool keep_disk, struct nb_error *err);
/** Waits until a box that somebody else starts is up. */
int box_wait(const struct box_paths *paths, struct nb_error *err);

/** Body of the process `nixbox @supervisor`. Does not return but with an exit status. */
int supervisor_main(void);
