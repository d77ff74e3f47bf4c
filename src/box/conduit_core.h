/* The conduit's protocol logic as a pure state machine: bytes in, bytes out; no descriptor, no clock. The guest may be
 * hostile: whatever it says, memory stays bounded by what the host's own commands asked for, and the first byte that the
 * protocol does not allow is a failure that ends the box. A client that misbehaves is only disconnected. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

#define CONDUIT_READ_MAX (64u * 1024u) /* hand over at most this much at a time */

struct conduit;

struct conduit *conduit_new(void);
void conduit_free(struct conduit *c);

/** Bytes from the guest. -EPROTO when it broke the protocol: the box must end. */
int conduit_from_guest(struct conduit *c, const void *bytes, size_t len, struct nb_error *err);
/** Bytes from the supervisor. -EPROTO when they are not what conduit.h allows. */
int conduit_from_super(struct conduit *c, const void *bytes, size_t len, struct nb_error *err);

/** A client connected; `session` is the supervisor's number for it. Returns its slot (below WIRE_STREAMS_MAX), or -EMFILE
 *  when the table is full (the supervisor has been told that the session ended). */
int conduit_client_add(struct conduit *c, uint32_t session);
/** How many bytes the client may hand over now: 0 while what it sent before cannot be passed on. */
size_t conduit_client_room(const struct conduit *c, unsigned slot);
/** Bytes from a client, at most its room. */
void conduit_from_client(struct conduit *c, unsigned slot, const void *bytes, size_t len);
/** The client's connection is gone; the slot must not be used again by the caller. */
void conduit_client_gone(struct conduit *c, unsigned slot);

/** What is to be written: consume what was, then call conduit_pump() for more. */
struct nb_buf *conduit_guest_out(struct conduit *c);
struct nb_buf *conduit_super_out(struct conduit *c);
/** Refills and returns what is to be written to a client. */
struct nb_buf *conduit_client_out(struct conduit *c, unsigned slot);
/** True when nothing more will come for this client: close the connection once its output is written. */
bool conduit_client_done(const struct conduit *c, unsigned slot);

/** Moves what clients sent toward the guest, fairly, as far as there is room. Call after any input or write. */
void conduit_pump(struct conduit *c);
/** The box ends: every client is told why (the guest's own reason, if it gave one) and is done after that. */
void conduit_end(struct conduit *c, const char *why);
