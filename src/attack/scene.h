/* The places on this host that a run of `nixbox attack` has: a folder of its own in a writable mount, with a FIFO and a socket
 * in it, a canary in nixbox's own folders, listeners that nobody should reach. Made before, looked at after, and removed.
 * Nothing of the owner's is written: of a read-only mount it is only remembered what it looks like. */
#pragma once
#include <jansson.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "attack/plan.h"
#include "base/error.h"
#include "box/state.h"
#include "policy/policy.h"

#define ATTACK_TOKEN_LEN 16u

struct attack_seen_file {
        char *path;
        struct stat st;
        char sha256[65];
};
struct attack_scene {
        const struct box_paths *paths;
        json_t *status; /* of the box before */
        bool sealed;    /* judge as if the config gave nothing */
        char token[ATTACK_TOKEN_LEN + 1];
        struct attack_facts facts;
        char *marker; /* in the caller's environment only */
        char *canary, *canary_text;
        char *rw_source, *rw_folder; /* on this host; the folder's name in it */
        int rw;                      /* the folder, -1: none */
        int fifo, listener;          /* in it */
        char *ro_source;
        struct attack_seen_file witness, image;
        int host_tcp, host_udp, loop_tcp;
        off_t events_from;
        char *rw_inside, *ro_target, *witness_inside, *host, *router;
        char **needles, **mounts;
        char **secrets; /* values that must be in no log; filled in by the caller */
};
#define ATTACK_MARKER "NIXBOX_ATTACK_MARKER" /* the variable that the caller's environment gets */

/** A run's words, and the marker in our own environment, before a box is started from it. */
int attack_scene_begin(struct attack_scene *s, struct nb_error *err);
/** Makes the places. `status` (a reference is taken) is what the box says of itself. A place that cannot be made is left out.
 */
int attack_scene_make(struct attack_scene *s, const struct box_paths *paths, json_t *status, struct nb_error *err);
/** Looks at all of them after the run. */
void attack_scene_look(struct attack_scene *s, struct attack_rows *rows);
/** Removes what was made, also after a failure. What cannot be removed is an error that names it. */
int attack_scene_end(struct attack_scene *s, struct nb_error *err);

/* ---- trace.c */
/** Which rows the box's config allows: they are not tried. `ask` answers as nixbox why does. */
void attack_ask_policy(struct attack_rows *rows, json_t *(*ask)(void *user, const char *host, unsigned port), void *user);
/** What the gateway decided, by the event log from where the run began. False if something is missing (yet): it tells of what
 *  repeats itself a moment later. */
bool attack_trace(const struct attack_scene *s, struct attack_rows *rows);
/** No more will come. */
void attack_trace_end(struct attack_rows *rows, bool whole);

/* ---- looks.c */
void attack_looks(const struct attack_scene *s, const json_t *after, struct attack_rows *rows);
