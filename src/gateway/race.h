/* Connecting to the first of several addresses that answers, without waiting long for any of them (happy eyeballs, RFC 8305).
 * It connects to what it is given: who may be connected to is decided before, and checked after. */
#pragma once
#include <event2/event.h>

#include "gateway/resolver.h"

#define RACE_ADDRS_MAX 8u
#define RACE_STEP_MS 250u /* the next address gets its chance when this one has not answered */

struct race;
/** `fd` is connected, non-blocking and the receiver's, or -1 with a positive errno: all have failed. `index` is the address's.
 */
typedef void (*race_fn)(void *user, int fd, size_t index, int code);
/** The order to try addresses in: families take turns, beginning with that of the first one. Returns how many there are. */
size_t race_order(const struct resolver_addr *from, size_t n, struct resolver_addr ret[RACE_ADDRS_MAX]);
/** Starts. Calls `done` once, never before it returns; there is no deadline for the whole. */
struct race *race_new(struct event_base *base, const struct resolver_addr *addrs, size_t n, uint16_t port, race_fn done,
                      void *user);
/** Gives up; `done` is not called. NULL is fine. */
void race_free(struct race *r);
