/* Memory: figures for the host, and giving back what is only cached. */
#pragma once
#include "base/buf.h"
#include "base/error.h"

/** The payload of STATS_REPLY. */
void memory_stats(struct nb_buf *payload);
/** WIRE_RECLAIM_*. `cgroup`: folder of the sessions' control group, or -1. */
int memory_reclaim(uint64_t flags, int cgroup, struct nb_error *err);
/** Drops unused dentries and inodes, and with them the handles of files of the host. Returns 0 or -errno. */
int memory_drop_dentries(void);
/** Makes the control group that sessions run in. Returns its folder or -1: then they run in the root group. */
int memory_make_group(void);
/** Lets the group count memory and limits its processes. Works on a group in use, and takes a while. */
void memory_limit_group(int cgroup);
