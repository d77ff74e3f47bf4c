/* Requests that may take a while (mounts, unmounts, giving memory back) run one after the other, each in a process of its
 * own, so that sessions go on meanwhile. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "guest/port.h"
#include "guest/request.h"

struct jobs;

struct jobs *jobs_new(struct port *port);
/** Queues a MOUNT, UNMOUNT or RECLAIM frame. REPLY follows in any case. */
void jobs_add(struct jobs *j, const struct wire_frame *f, const struct setup *setup, int old_root, int cgroup);
/** A process has ended. True if it was a job. */
bool jobs_reaped(struct jobs *j, pid_t pid);
/** Sends a REPLY. */
void jobs_reply(struct port *port, uint32_t request, int code, const char *text);
