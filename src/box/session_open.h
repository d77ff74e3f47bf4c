/* How a session begins: the request to the supervisor, the caller's folder as the guest sees it, and the OPEN frame. Values
 * in, values out. */
#pragma once
#include <jansson.h>

#include "base/buf.h"
#include "box/session.h"

#define SESSION_STREAM 1u /* our own name for the one stream of the connection */

/** The request that announces the session, for the event log. New reference. */
json_t *session_request(const struct session_spec *spec);
/** Where the host's folder `cwd` is in the guest, by the mounts of the session answer. New string; NULL if it is in none. */
char *session_map_cwd(const json_t *mounts, const char *cwd);
/** Appends the OPEN frame. -E2BIG if command and environment do not fit. `term`, `rows`, `cols`: for a pty, 0 if unknown. */
int session_put_open(struct nb_buf *out, const struct session_spec *spec, const char *cwd, const char *term, unsigned rows,
                     unsigned cols, struct nb_error *err);
