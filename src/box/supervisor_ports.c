/* Ports of the guest that are published on the host. The listening sockets were made by the owner's commands, with the owner's
 * rights; they are kept here and given to each gateway anew. The portal, which makes the connections into the box, exists
 * only while there is something to publish. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/supervisor_gateway.h"
#include "gateway/gateway.h"

json_t *ports_status(const struct supervisor *s) {
        json_t *list = json_array();
        for (size_t i = 0; i < s->m.n_ports; i++)
                (void)json_array_append_new(list, json_pack("{s:s, s:i, s:i}", "address", s->m.ports[i].address, "host_port",
                                                            (int)s->m.ports[i].host_port, "guest_port",
                                                            (int)s->m.ports[i].guest_port));
        return list;
}

/* A port with its socket, or without: not published any more. The number of the socket here is its name there: it stays open
 * here for as long as it is published. */
static int send_port(const struct egress *e, uint16_t guest_port, int fd, bool with_socket, struct nb_error *err) {
        struct gateway_port port = { .id = (uint32_t)fd, .guest_port = guest_port };
        ssize_t n = nb_send_fds(e->ports_fd, &port, sizeof port, &fd, with_socket);
        return n < 0 ? nb_fail_errno(err, (int)-n, "cannot give a published port to the gateway") : 0;
}

int ports_send(struct egress *e, struct nb_error *err) {
        const struct start_message *m = &e->super->m;
        int r = m->n_ports > 0 ? egress_start_portal(e, err) : 0;
        for (size_t i = 0; r == 0 && i < m->n_ports; i++)
                r = send_port(e, m->ports[i].guest_port, m->ports[i].fd, true, err);
        return r;
}

static struct start_port *find(struct supervisor *s, const char *address, json_int_t host_port) {
        for (size_t i = 0; i < s->m.n_ports; i++)
                if (s->m.ports[i].host_port == host_port && (!address || strcmp(s->m.ports[i].address, address) == 0))
                        return &s->m.ports[i];
        return NULL;
}

static void record(struct supervisor *s, const char *action, const struct start_port *p) {
        events_add(s->events, "policy",
                   json_pack("{s:s, s:s, s:i, s:i}", "action", action, "address", p->address, "host_port", (int)p->host_port,
                             "guest_port", (int)p->guest_port));
}

/* Only a socket that listens for TCP is one. */
static bool listens(int fd) {
        int type = 0, listening = 0;
        struct sockaddr_storage at = { 0 };
        socklen_t len = sizeof type, room = sizeof at;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
                return false;
        len = sizeof listening;
        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening &&
               getsockname(fd, (struct sockaddr *)&at, &room) == 0 && (at.ss_family == AF_INET || at.ss_family == AF_INET6);
}

static int publish(struct super_client *c, const char *address, uint16_t host_port, uint16_t guest_port, struct nb_error *err) {
        struct supervisor *s = c->super;
        int r = 0;
        if (s->egress->state != EGRESS_DOWN) { /* the next gateway gets it with all the others */
                r = egress_start_portal(s->egress, err);
                if (r < 0) /* its end of the line is gone: only a new start of all of them brings another */
                        egress_broke(s->egress, "cannot start the portal");
                else
                        r = send_port(s->egress, guest_port, c->fds[0], true, err);
        }
        if (r < 0)
                return r;
        s->m.ports = nb_realloc(s->m.ports, s->m.n_ports + 1, sizeof *s->m.ports);
        s->m.ports[s->m.n_ports] = (struct start_port){
                .address = nb_strdup(address), .host_port = host_port, .guest_port = guest_port, .fd = c->fds[0]
        };
        c->n_fds = 0;
        record(s, "publish", &s->m.ports[s->m.n_ports++]);
        return 0;
}

static void withdraw(struct supervisor *s, struct start_port *p) {
        NB_AUTO_ERROR err = { 0 };
        record(s, "withdraw", p);
        if (s->egress->state != EGRESS_DOWN && send_port(s->egress, p->guest_port, p->fd, false, &err) < 0)
                egress_broke(s->egress, "%s", err.what);
        free(p->address);
        nb_close(p->fd);
        *p = s->m.ports[--s->m.n_ports];
}

void on_port(struct super_client *c, const json_t *request) {
        struct supervisor *s = c->super;
        NB_AUTO_ERROR err = { 0 };
        const char *address = json_string_value(json_object_get(request, "address"));
        json_int_t host_port = json_integer_value(json_object_get(request, "host_port"));
        json_int_t guest_port = json_integer_value(json_object_get(request, "guest_port"));
        bool remove = json_is_true(json_object_get(request, "remove"));
        struct start_port *there = find(s, address, host_port);
        if (!s->egress) {
                client_refuse(c, ENOTSUP, "set network.mode: filtered in its config, then nixbox up --recreate",
                              "the box '%s' has no network", s->m.name);
        } else if (remove && !there) {
                client_refuse(c, ENOENT, "nixbox port lists what is published", "port %lld is not published",
                              (long long)host_port);
        } else if (remove) {
                withdraw(s, there);
                client_answer(c, NULL);
        } else if (!address || host_port < 1 || host_port > UINT16_MAX || guest_port < 1 || guest_port > UINT16_MAX ||
                   c->n_fds != 1 || !listens(c->fds[0])) {
                client_refuse(c, EPROTO, NULL, "the request for a port is not complete");
        } else if (there) {
                client_refuse(c, EEXIST, "nixbox port --remove ends it", "port %lld is published already",
                              (long long)host_port);
        } else if (s->m.n_ports >= SUPER_PORTS_MAX) {
                client_refuse(c, EBUSY, NULL, "the box publishes %d ports already", SUPER_PORTS_MAX);
        } else if (publish(c, address, (uint16_t)host_port, (uint16_t)guest_port, &err) < 0) {
                client_refuse(c, err.code, err.hint, "%s", err.what);
        } else {
                client_answer(c, NULL);
        }
}
