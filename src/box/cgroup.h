/* The box's own cgroup, where the host lets its owner make one: as real root, or below a systemd session that hands its part of
 * the tree to the user. It holds QEMU and virtiofsd, and bounds what they use together of memory, swap, tasks and processors.
 * Where there is none to be had, the supervisor's own look at their memory (room.h) and the jails' limits remain. */
#pragma once
#include <stdint.h>

#include "base/error.h"

struct cgroup_limits {
        uint64_t memory, swap; /* bytes */
        unsigned tasks;
        unsigned weight; /* of its share of the processors, where those are short; 100 is the usual */
};
struct cgroup {
        char *path; /* NULL: there is none */
        int fd;     /* its folder */
};

/** The place for it: a folder of the tree below which one can be made. Returns a new string, or NULL and the reason in *ret_why
 *  (a new string). */
char *cgroup_find(char **ret_why);
/** Makes it below such a folder and sets all of its limits, or fails and leaves nothing. One of the same name that was left
 *  behind is replaced. */
int cgroup_make(const char *parent, const char *name, const struct cgroup_limits *limits, struct cgroup *ret,
                struct nb_error *err);
/** Removes it; its processes must have ended. */
void cgroup_remove(struct cgroup *c);

/* Parsers. Pure. */
/** The path in the unified tree of a /proc/PID/cgroup; and where a mountinfo has that tree (and from which of its folders on
 *  in *ret_root). New strings, or NULL. */
char *cgroup_parse_own(const char *text);
char *cgroup_parse_mount(const char *mountinfo, char **ret_root);
