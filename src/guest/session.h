/* Sessions: commands with their byte streams, as many as the host asks for. Each stream has its own credit and its own small
 * buffer, so a reader that stalls holds up its own stream only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/port.h"
#include "guest/request.h"

struct sessions;

/* What sessions need of their surroundings; borrowed. */
struct session_host {
        struct port *port;
        int epoll;
        int cgroup;                /* folder of the sessions' control group, or -1 */
        const struct setup *setup; /* NULL before SETUP */
};
struct sessions *sessions_new(const struct session_host *host);
void sessions_set(struct sessions *all, const struct session_host *host);

/** OPEN, SIGNAL, RESIZE, CLOSE, DATA, EOF, CREDIT. -EPROTO if the host broke the protocol. */
int sessions_frame(struct sessions *all, const struct wire_frame *f);
/** An event of epoll whose data pointer is one of ours. */
void sessions_event(struct sessions *all, void *source, uint32_t events);
/** A process has ended. True if it was a session's. */
bool sessions_reaped(struct sessions *all, pid_t pid, int wait_status);
/** Passes some output on. True if there is more that could be passed on at once. */
bool sessions_pump(struct sessions *all);
/** Frees what ended since the last call; no event of theirs may be pending. */
void sessions_sweep(struct sessions *all);
/** The host's caller is gone in every session. */
void sessions_close_all(struct sessions *all);
unsigned sessions_count(const struct sessions *all);
