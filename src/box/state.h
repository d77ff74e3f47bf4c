/* A box's folders and lock. The supervisor holds an exclusive flock on BOX/lock for as long as it lives, so a box is running
 * exactly when its lock is held; whatever else lies in the folder of a box that is not running is stale and is cleared. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

struct box_paths {
        char *name;
        char *runtime; /* $XDG_RUNTIME_DIR/nixbox/NAME: lock, control.sock, pid, share/ */
        char *state;   /* $XDG_STATE_HOME/nixbox/NAME: events.jsonl, box.log, console.log, disk.raw */
        char *control; /* runtime/control.sock */
};
int box_paths_new(const char *name, struct box_paths **ret, struct nb_error *err);
void box_paths_free(struct box_paths *p);
static inline void box_paths_freep(struct box_paths **p) {
        box_paths_free(*p);
}

enum box_state { BOX_NONE, BOX_STARTING, BOX_RUNNING, BOX_STOPPING };
/** Is the box there? Clears what a killed box left behind (and says so in the event log) before it answers BOX_NONE. */
int box_probe(const struct box_paths *p, enum box_state *ret, struct nb_error *err);
/** Names of all boxes that have a runtime folder, stale ones cleared. NULL-terminated, sorted. */
int box_list(char ***ret, struct nb_error *err);
/** Connects to the control socket. -ENOENT with a hint to run `nixbox up` when the box is not running. */
int box_connect(const struct box_paths *p, int *ret_fd, struct nb_error *err);
