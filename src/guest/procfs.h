/* Reading /proc: who uses a mount, memory figures. The parsers are pure; the scans walk the file system. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mountinfo {
        char *dev, *root, *target; /* "major:minor", path in the file system, path here; escapes resolved */
};
/** Reads one line of mountinfo and moves *text behind it. False at the end; a malformed line gives empty strings. */
bool mountinfo_next(const char **text, struct mountinfo *ret);
void mountinfo_clear(struct mountinfo *m);

/** A figure of /proc/meminfo in bytes, 0 if it is not there. */
uint64_t meminfo_value(const char *text, const char *name);
/** A figure of a "name value" file such as memory.stat, 0 if it is not there. */
uint64_t stat_value(const char *text, const char *name);

/** How often an interrupt of /proc/interrupts ("LOC") came, all processors together; -1 if it is not there. */
int64_t interrupts_sum(const char *text, const char *name);

/** "pid comm, pid comm, …" of those that use a file below `path`, and mounts on top of it; NULL if there are none. */
char *procfs_users(const char *path);
/** The same for processes in other mount namespaces that have the mount at `target` too. */
char *procfs_foreign_mounts(const char *target);
