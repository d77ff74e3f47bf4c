/* Where a session's output goes: a caller's descriptor that is written without ever blocking on it, whatever it is, and
 * without changing the flags that others share. */
#pragma once
#include <stdbool.h>

#include "base/buf.h"

struct sink {
        int fd;            /* poll this one for POLLOUT */
        bool own;          /* opened here, beside the caller's */
        bool socket;       /* written with MSG_DONTWAIT */
        bool never_blocks; /* may be written without polling first */
        bool broken;       /* nobody reads any more: what comes is dropped */
        struct nb_buf data;
};

void sink_init(struct sink *s, int fd);
void sink_clear(struct sink *s);
/** Writes what it can of the data. 0, or -errno (-EPIPE: nobody reads) after which the sink is broken and empty. */
int sink_write(struct sink *s);
