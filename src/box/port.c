/* Listening on the host (see port.h). */
#include "box/port.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "policy/addr.h"

#define BACKLOG 128

static const char *way_out(int code) {
        switch (code) {
        case EADDRINUSE: return "something else listens there; take another port of this host";
        case EACCES: return "low ports are root's; take one from 1024 on";
        case EADDRNOTAVAIL: return "the address must be one of this host's";
        default: return NULL;
        }
}

int port_listen(const char *address, uint16_t port, int *ret_fd, struct nb_error *err) {
        struct addr a;
        struct sockaddr_storage where;
        if (addr_parse(address, &a) < 0)
                return nb_fail(err, EINVAL, "'%s' is not an address", address);
        socklen_t len = addr_to_sockaddr(&a, port, &where);
        const int one = 1;
        NB_AUTO_CLOSE int fd = socket(where.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0) {
                (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
                if (a.family == AF_INET6)
                        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
        }
        if (fd < 0 || bind(fd, (struct sockaddr *)&where, len) < 0 || listen(fd, BACKLOG) < 0) {
                int code = errno;
                const char *hint = way_out(code);
                nb_fail_errno(err, code, "cannot publish on %s port %u", address, port);
                return hint ? nb_hint(err, "%s", hint) : -code;
        }
        *ret_fd = nb_steal_fd(&fd);
        return 0;
}
