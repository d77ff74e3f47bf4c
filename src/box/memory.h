/* Guest memory seen from the host: what it takes now, and when and how to ask for some of it back. Pure code: figures in,
 * decision out; the supervisor reads the figures and carries the decision out. */
#pragma once
#include <stdint.h>

/** Figures out of the text of /proc/PID/status of QEMU: `ret_guest` shared memory (guest RAM is a memfd), `ret_own` the
 *  rest. Returns 0 or -EINVAL. */
int memory_parse_status(const char *text, uint64_t *ret_guest, uint64_t *ret_own);
