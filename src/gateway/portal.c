/* The portal: it lives in the box's network namespace and does one thing there, making TCP sockets. The gateway, which may not
 * enter that namespace, connects them to published ports of the guest. */
#include "gateway/portal.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "gateway/gateway.h"
#include "jail/jail.h"

static const char *const allowed_calls[] = { "read",   "write",         "recvfrom",        "sendmsg", "close",
                                             "exit",   "exit_group",    "rt_sigreturn",    "brk",     "mmap",
                                             "munmap", "clock_gettime", "restart_syscall", NULL };

/* Answers one request. Returns false when the gateway is gone. */
static bool serve(void) {
        uint8_t byte = 0;
        ssize_t n = recv(PORTAL_FD, &byte, sizeof byte, 0);
        if (n < 0 && errno == EINTR)
                return true;
        if (n <= 0)
                return false;
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        byte = fd < 0 ? (uint8_t)errno : 0;
        return nb_send_fds(PORTAL_FD, &byte, sizeof byte, &fd, fd >= 0) > 0;
}

int portal_main(int argc, char **argv) {
        static const int keep[] = { PORTAL_FD, PORTAL_FD_LOG };
        NB_AUTO_ERROR err = { 0 };
        uint64_t unused_id = 0;
        nb_log_to(PORTAL_FD_LOG, "portal");
        tzset();
        if (argc != 2 || nb_parse_uint(argv[1], UINT32_MAX, &unused_id) < 0) {
                nb_log(NB_LOG_ERROR, "started with wrong arguments");
                return GATEWAY_EXIT_FAILED;
        }
        const struct jail_self self = { .unused_id = (unsigned)unused_id,
                                        .keep_fds = keep,
                                        .n_keep = NB_ARRAY_LEN(keep),
                                        .allow_syscalls = allowed_calls,
                                        .keep_network = true,
                                        .tcp4_sockets = true };
        if (jail_enter_self(&self, &err) < 0) {
                nb_log(NB_LOG_ERROR, "%s", err.what);
                return GATEWAY_EXIT_FAILED;
        }
        while (serve())
                continue;
        return GATEWAY_EXIT_OVER;
}
