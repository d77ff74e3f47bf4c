/* The guard: a process of its own that is asked before virtiofsd changes a file, and refuses what would change a file that
 * programs of the host run (policy/protect.h). It sees the names of files and reads git's configs; it never writes what the
 * guest wrote but such a config, once it was found harmless (policy/gitconfig.h). */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "box/helper.h"

/* Descriptor numbers the guard is started with. */
#define GUARD_FD_LISTENER 3 /* the listener for virtiofsd's system calls; nobody else has it */
#define GUARD_FD_SUPER 4    /* seqpacket socketpair: the messages below */
#define GUARD_FD_LOG 5

/* From the supervisor: a letter, then texts that each end with a NUL. A mount is told before it can be seen. */
#define GUARD_SAYS_PATTERN 'P' /* pattern */
#define GUARD_SAYS_MOUNT 'M'   /* id ("m3"), source; a volume has no source: nothing in it is protected */
#define GUARD_SAYS_ALLOW 'A'   /* absolute path on the host: it, and what is below it, may be changed from now on */
#define GUARD_SAYS_GO 'G'      /* all that was there at the start has been told */
/* To the supervisor: what was refused. "D", then texts: what was asked for, the mount's id, the path below the mount's source
 * ("" for itself), the reason. Some are left out when there are very many; then "S", and how many. */
#define GUARD_SAYS_DENIED 'D'
#define GUARD_SAYS_SKIPPED 'S'
#define GUARD_MESSAGE_MAX 16384u

/** What the guard may use at most. */
extern const struct helper_limits guard_limits;
/** Body of the process `nixbox @guard`. Returns its exit status. */
int guard_main(int argc, char **argv);

/** For the supervisor: starts it with these ends; the descriptors are borrowed. */
struct guard_spec {
        const struct jail_child *virtiofsd; /* the guard is started among its processes */
        int listener_fd, super_fd, log_fd;
};
int guard_spawn(const struct guard_spec *spec, struct jail_child *ret, struct nb_error *err);
