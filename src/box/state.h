/* A box's folders and locks. The owner of a box (the starting command first, then its supervisor) holds an exclusive flock
 * on BOX/lock for as long as it lives, so a box is there exactly when its lock is held; whatever else lies in the folder
 * of a box that is not there is stale and is cleared. A second lock, on the state folder itself, keeps two boxes apart
 * even after somebody removed the runtime folder of a running one. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

struct box_paths {
        char *name;
        char *runtime; /* $XDG_RUNTIME_DIR/nixbox/NAME: lock, control.sock, pid */
        char *state;   /* $XDG_STATE_HOME/nixbox/NAME: events.jsonl, box.log, console.log, disk.raw, share/ */
        char *control; /* runtime/control.sock */
};
int box_paths_new(const char *name, struct box_paths **ret, struct nb_error *err);
void box_paths_free(struct box_paths *p);
static inline void box_paths_freep(struct box_paths **p) {
        box_paths_free(*p);
}

enum box_state { BOX_NONE, BOX_STARTING, BOX_RUNNING, BOX_STOPPING };
/** The state as a word: "none", "starting", "running", "stopping". */
const char *box_state_name(enum box_state state);
/** Is the box there? Clears what a killed box left behind (and says so in the event log) before it answers BOX_NONE. */
int box_probe(const struct box_paths *p, enum box_state *ret, struct nb_error *err);
/** Names of all boxes that have a runtime folder, stale ones cleared. NULL-terminated, sorted. */
int box_list(char ***ret, struct nb_error *err);
/** Connects to the control socket. -ENOENT with a hint to run `nixbox up` when the box is not running. */
int box_connect(const struct box_paths *p, int *ret_fd, struct nb_error *err);

/* For the owner. */
struct box_lock {
        int runtime; /* the lock file; holds the state as a word */
        int state;   /* the state folder */
};
/** Makes the box's folders and takes its locks, clearing what a killed box left; the box is then BOX_STARTING.
 *  -EALREADY if somebody else owns it. The locks follow the descriptors: they may be handed to another process. */
int box_claim(const struct box_paths *p, struct box_lock *ret, struct nb_error *err);
/** Publishes the state (and the calling process as the owner). */
void box_mark(const struct box_paths *p, const struct box_lock *lock, enum box_state state);
#define BOX_BACKLOG 128
/** Makes the control socket, mode 0600. Its path may be longer than a socket address can hold. */
int box_listen(const struct box_paths *p, int *ret_fd, struct nb_error *err);
/** Is the runtime folder still the one whose lock is held? False after a logout removed it. */
bool box_in_place(const struct box_paths *p, const struct box_lock *lock);
/** Removes the runtime folder and what must not outlive a boot, and gives the locks up. */
void box_release(const struct box_paths *p, struct box_lock *lock);
