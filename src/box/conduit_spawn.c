/* Starting the conduit: the supervisor's own program again, with four descriptors and nothing else. */
#include "base/mem.h"
#include "box/conduit.h"
#include "box/helper.h"
#include "wire/wire.h"

#define OTHER_FILES 64 /* besides those of the sessions */

/* Data that clients have not read yet, and the guest has credit for. */
const struct helper_limits conduit_limits = { .memory = 2ull << 30, .files = WIRE_STREAMS_MAX + OTHER_FILES };

int conduit_spawn(const struct conduit_spec *spec, struct jail_child *ret, struct nb_error *err) {
        NB_AUTO_FREE char *id = nb_asprintf("%u", spec->unused_id);
        char *argv[] = { "nixbox", "@conduit", id, NULL };
        NB_AUTO_CLOSE int program = helper_open("/proc/self/exe", err);
        if (program < 0)
                return program;
        const struct jail_fd fds[] = { { spec->guest_fd, CONDUIT_FD_GUEST },
                                       { spec->super_fd, CONDUIT_FD_SUPER },
                                       { spec->clients_fd, CONDUIT_FD_CLIENTS },
                                       { spec->log_fd, CONDUIT_FD_LOG } };
        struct helper_spec helper = { .name = "the conduit",
                                      .program = program,
                                      .argv = argv,
                                      .fds = fds,
                                      .n_fds = NB_ARRAY_LEN(fds),
                                      .fd_end = CONDUIT_FD_GUEST,
                                      .limits = conduit_limits,
                                      .network = -1 };
        return helper_spawn(&helper, ret, err);
}
