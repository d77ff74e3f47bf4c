/* The conduit: a process of its own that parses every byte the guest says. It joins clients (nixbox run, shell, cp) to
 * sessions in the guest, enforces credit, and passes small checked messages to the supervisor. It opens nothing, knows no
 * secret, and when it meets a byte that the protocol does not allow it ends, and the box with it. */
#pragma once
#include "base/error.h"

/* Descriptor numbers the conduit is started with. */
#define CONDUIT_FD_GUEST 3   /* stream socket to QEMU's control port */
#define CONDUIT_FD_SUPER 4   /* stream socketpair: wire frames to and from the supervisor (stream 0 traffic) */
#define CONDUIT_FD_CLIENTS 5 /* seqpacket socketpair: each message is one client connection (SCM_RIGHTS) */
#define CONDUIT_FD_LOG 6

/* Supervisor to conduit, on FD_SUPER: WIRE_MOUNT, WIRE_UNMOUNT, WIRE_TIME, WIRE_STATS, WIRE_RECLAIM, WIRE_SHUTDOWN are passed
 * to the guest. Conduit to supervisor: READY, REPLY, STATS_REPLY, BYE from the guest once checked, and WIRE_EXIT frames with
 * the host-side session number in the stream field when a session ended (for the event log).
 * A client learns the reason when the box ends under it: WIRE_BYE with TEXT on its connection.
 * (SETUP, which carries secrets, is written to the guest by the supervisor before the conduit gets the descriptor.) */

/** Body of the process `nixbox @conduit UNUSED-ID`. Returns its exit status. */
int conduit_main(int argc, char **argv);
#define CONDUIT_EXIT_OVER 0     /* the guest's end or the supervisor's is closed */
#define CONDUIT_EXIT_FAILED 1   /* could not start or go on; the log says why */
#define CONDUIT_EXIT_PROTOCOL 2 /* the guest broke the protocol; the log says how */

/** For the supervisor: starts the process with these ends; the descriptors are borrowed. */
#include "box/helper.h"
#include "jail/jail.h"
struct conduit_spec {
        int guest_fd, super_fd, clients_fd, log_fd;
        unsigned unused_id;
};
extern const struct helper_limits conduit_limits;
int conduit_spawn(const struct conduit_spec *spec, struct jail_child *ret, struct nb_error *err);
