/* The control socket: requests from the owner's commands to the supervisor. A connection carries one request: a line of JSON
 * {"op": …} (at most CONTROL_LINE_MAX bytes, descriptors by SCM_RIGHTS), answered by a line {"ok": true, …} or
 * {"ok": false, "code": errno, "error": text, "hint": text}. After "session" is answered the connection carries wire frames
 * (the client speaks as the host side of src/wire, stream ids of its own choice) and belongs to the conduit.
 *   status                       -> everything `nixbox status --json` shows of this box; of its network: "network": mode,
 *          "rules": how many are in force, "ports": [{"address","host_port","guest_port"}], "destinations": [{"host","rule",
 *          "up","down"}] with the bytes sent and received, those with most bytes first
 *   down   {"keep_disk": bool}   -> answered when the box has ended
 *   mount  {"source","target","write"} + the detached tree's descriptor
 *   unmount{"target","force"}
 *   session{"argv"|"cmd": for the event log}
 *   policy {"allow": [RULE…], "deny": [RULE…]}  rules as policy_rule_parse() takes them, from now on, for open connections too;
 *          an equal rule of the opposite kind that was added while the box runs goes -> {"rules": how many are in force}
 *   attack {"action": "start" or "end", and counts}  for the event log
 *   saved  {"was": hash, "now": hash}  the config was given rules that are in force: if it was the one the box was started
 * from, "config_hash" of status changes with it why    {"host","port"}       -> what policy_why() makes of it with the rules in
 * force, and "proxy": bool, whether a proxy of the host is asked to connect (the "port" may be absent) port
 * {"address","host_port","guest_port"} + the listening socket; {"host_port","address","remove": true} ends one wait -> answered
 * {"ok": true} when the box is ready, progress lines {"phase": …} before */
#pragma once
#include <jansson.h>

#include "base/error.h"

#define CONTROL_LINE_MAX (256u * 1024u)

/** Sends a request with descriptors on a connected control socket. */
int control_send(int fd, const json_t *request, const int *fds, size_t n_fds, struct nb_error *err);
/** Reads exactly one line (never beyond it) as JSON. */
int control_read(int fd, json_t **ret, struct nb_error *err);
/** Send, read the answer, turn {"ok": false} into an error. *ret (may be NULL) is the answer, the caller's reference. */
int control_call(int fd, const json_t *request, const int *fds, size_t n_fds, json_t **ret, struct nb_error *err);
