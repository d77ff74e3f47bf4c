/* The stage for tests of the gateway without a guest: a box's network namespace as netns_make() makes it, the real gateway and
 * resolver beside it, and in the guest's place a namespace with a TAP device of its own; frames are carried from one device to
 * the other. This process is the supervisor: lines from its standard input go to the gateway, the gateway's to its output,
 * after one that tells the process ids. It ends, and everything with it, when its input does.
 *   load-stage GATEWAY-PROGRAM [COMMAND...]    the policy is the first line of input; a command takes the guest's place and has
 *                                              the box's TAP device as descriptor 3
 * The first line may also hold "proxy", as the gateway is told it, and "publish": [[port of the host, port of the guest], ...].
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/proc.h"
#include "box/helper.h"
#include "box/netns.h"
#include "box/port.h"
#include "box/supervisor_gateway.h"
#include "gateway/gateway.h"
#include "gateway/resolver.h"

#define FRAME_MAX (70u * 1024u) /* with segmentation left to the receiver */
#define UNUSED_ID 64123
#define COMMAND_TAP 3
#define GUEST_ADDRESS "198.19.255.254/30"
#define GUEST_ROUTER "198.19.255.253"

struct stage {
        struct netns net;
        int guest_tap;
        pid_t guest, pump;
        struct jail_child gateway, resolver, portal;
        int line, ports;
};

static _Noreturn void fail(const struct nb_error *err) {
        nb_error_print(err, stderr);
        _exit(1);
}

static void offload(int tap) {
        (void)ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4);
}

/* The guest's namespace is kept by a process that does nothing else. */
static void be_guest(int report) {
        NB_AUTO_ERROR err = { 0 };
        const char *batch = "link set dev eth0 address " NET_GUEST_MAC "\n"
                            "address add " GUEST_ADDRESS " dev eth0\n"
                            "link set dev lo up\n"
                            "link set dev eth0 up\n"
                            "route add default via " GUEST_ROUTER "\n";
        char *argv[] = { (char *)"ip", (char *)"-batch", (char *)"-", NULL };
        struct proc_spec spec = { .argv = argv, .input = batch, .input_len = strlen(batch), .stdout_fd = -1, .stderr_fd = -1 };
        struct ifreq ifr = { .ifr_name = "eth0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
        if (unshare(CLONE_NEWNET) < 0)
                _exit(1);
        int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (tap < 0 || ioctl(tap, TUNSETIFF, &ifr) < 0) {
                perror("load-stage: the guest's device");
                _exit(1);
        }
        offload(tap);
        if (proc_run(&spec, NULL, NULL, &err) < 0)
                fail(&err);
        (void)nb_send_fds(report, "g", 1, &tap, 1);
        for (;;)
                pause();
}

/* From one device to the other, in turns. */
static void be_pump(int a, int b) {
        static uint8_t frame[FRAME_MAX];
        struct pollfd pfd[] = { { .fd = a, .events = POLLIN }, { .fd = b, .events = POLLIN } };
        for (;;) {
                (void)poll(pfd, 2, -1);
                for (int i = 0; i < 2; i++) {
                        ssize_t n;
                        for (int k = 0; k < 64 && (n = read(pfd[i].fd, frame, sizeof frame)) > 0; k++)
                                (void)!write(pfd[!i].fd, frame, (size_t)n);
                }
        }
}

static pid_t start_child(void) {
        pid_t pid = fork();
        if (pid == 0)
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        return pid;
}

static int make_guest(struct stage *s) {
        int sock[2];
        char c;
        size_t n = 1;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
                return -errno;
        if ((s->guest = start_child()) == 0) {
                nb_close(sock[0]);
                be_guest(sock[1]);
        }
        nb_close(sock[1]);
        ssize_t r = nb_recv_fds(sock[0], &c, 1, &s->guest_tap, &n);
        nb_close(sock[0]);
        return r == 1 && n == 1 ? 0 : -EPIPE;
}

/* A command instead of the guest. */
static int make_command(struct stage *s, char **argv) {
        if ((s->guest = start_child()) == 0) {
                (void)nb_set_nonblock(s->net.tap, true);
                if (dup2(s->net.tap, COMMAND_TAP) < 0 || fcntl(COMMAND_TAP, F_SETFD, 0) < 0)
                        _exit(1);
                execv(argv[0], argv);
                perror(argv[0]);
                _exit(1);
        }
        return s->guest < 0 ? -errno : 0;
}

static int start_portal(struct stage *s, int program, int fd, char *id, struct nb_error *err) {
        char *argv[] = { (char *)GATEWAY_PROGRAM, (char *)"portal", id, NULL };
        const struct jail_fd fds[] = { { fd, PORTAL_FD }, { STDERR_FILENO, PORTAL_FD_LOG } };
        const struct helper_spec spec = { .name = "the portal",
                                          .program = program,
                                          .argv = argv,
                                          .fds = fds,
                                          .n_fds = 2,
                                          .fd_end = PORTAL_FD_LOG + 1,
                                          .limits = egress_limits(CHILD_PORTAL),
                                          .network = s->net.ns };
        return helper_spawn(&spec, &s->portal, err);
}

static int start_gateway(struct stage *s, int program, struct nb_error *err) {
        int line[2], resolver[2], ports[2], portal[2];
        NB_AUTO_FREE char *id = nb_asprintf("%d", UNUSED_ID);
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line) < 0 ||
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, resolver) < 0 ||
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ports) < 0 ||
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, portal) < 0)
                return nb_fail_errno(err, errno, "cannot make sockets");
        char *resolver_argv[] = { (char *)GATEWAY_PROGRAM, (char *)"resolver", id, NULL };
        char *gateway_argv[] = { (char *)GATEWAY_PROGRAM, (char *)"gateway", id, NULL };
        const struct jail_fd resolver_fds[] = { { resolver[0], RESOLVER_FD }, { STDERR_FILENO, RESOLVER_FD_LOG } };
        const struct jail_fd all[] = { { line[1], GATEWAY_FD_SUPER },          { resolver[1], GATEWAY_FD_RESOLVER },
                                       { STDERR_FILENO, GATEWAY_FD_LOG },      { s->net.tcp, GATEWAY_FD_TCP },
                                       { s->net.dns_udp, GATEWAY_FD_DNS_UDP }, { s->net.dns_tcp, GATEWAY_FD_DNS_TCP },
                                       { s->net.nflog, GATEWAY_FD_NFLOG },     { s->net.udp, GATEWAY_FD_UDP },
                                       { s->net.raw, GATEWAY_FD_RAW },         { ports[1], GATEWAY_FD_PORTS },
                                       { portal[1], GATEWAY_FD_PORTAL } };
        struct jail_fd fds[NB_ARRAY_LEN(all)];
        size_t n = 0;
        for (size_t i = 0; i < NB_ARRAY_LEN(all); i++)
                if (all[i].fd >= 0)
                        fds[n++] = all[i];
        struct helper_spec spec = { .name = "the resolver",
                                    .program = program,
                                    .argv = resolver_argv,
                                    .fds = resolver_fds,
                                    .n_fds = 2,
                                    .fd_end = RESOLVER_FD_LOG + 1,
                                    .limits = egress_limits(CHILD_RESOLVER),
                                    .network = -1 };
        int r = helper_spawn(&spec, &s->resolver, err);
        if (r == 0)
                r = start_portal(s, program, portal[0], id, err);
        if (r < 0)
                return r;
        spec = (struct helper_spec){ .name = "the gateway",
                                     .program = program,
                                     .argv = gateway_argv,
                                     .fds = fds,
                                     .n_fds = n,
                                     .fd_end = GATEWAY_FD_END,
                                     .limits = egress_limits(CHILD_GATEWAY),
                                     .network = -1 };
        r = helper_spawn(&spec, &s->gateway, err);
        nb_close(line[1]);
        nb_close(resolver[0]);
        nb_close(resolver[1]);
        nb_close(ports[1]);
        nb_close(portal[0]);
        nb_close(portal[1]);
        s->line = line[0];
        s->ports = ports[0];
        return r;
}

static int publish(const struct stage *s, const json_t *list, struct nb_error *err) {
        size_t i;
        json_t *pair;
        json_array_foreach(list, i, pair) {
                NB_AUTO_CLOSE int fd = -1;
                const struct gateway_port port = { .id = (uint32_t)i,
                                                   .guest_port = (uint16_t)json_integer_value(json_array_get(pair, 1)) };
                if (port_listen("127.0.0.1", (uint16_t)json_integer_value(json_array_get(pair, 0)), &fd, err) < 0)
                        return -1;
                if (nb_send_fds(s->ports, &port, sizeof port, &fd, 1) < 0)
                        return nb_fail(err, EIO, "cannot give the gateway a port");
        }
        return 0;
}

static char *read_line(int fd) {
        NB_AUTO_BUF b = { 0 };
        char c;
        while (read(fd, &c, 1) == 1 && c != '\n')
                nb_buf_add(&b, &c, 1);
        return nb_strndup((const char *)nb_buf_bytes(&b), b.len);
}

/* Everything both ways until one side ends. */
static void carry(int line) {
        static char bytes[65536];
        struct pollfd pfd[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = line, .events = POLLIN } };
        const int to[] = { line, STDOUT_FILENO };
        for (;;) {
                (void)poll(pfd, 2, -1);
                for (int i = 0; i < 2; i++) {
                        if (!(pfd[i].revents & (POLLIN | POLLHUP)))
                                continue;
                        ssize_t n = read(pfd[i].fd, bytes, sizeof bytes);
                        if (n <= 0 || nb_write_all(to[i], bytes, (size_t)n) < 0)
                                return;
                }
        }
}

int main(int argc, char **argv) {
        struct stage s = { .net = NETNS_NONE };
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *text = read_line(STDIN_FILENO);
        json_t *doc = json_loads(text, 0, NULL);
        json_t *proxy = json_incref(json_object_get(doc, "proxy")), *ports = json_incref(json_object_get(doc, "publish"));
        struct policy *policy = NULL;
        (void)json_object_del(doc, "proxy");
        (void)json_object_del(doc, "publish");
        int program = argc >= 2 ? helper_open(argv[1], &err) : -1;
        if (program < 0 || policy_from_json(doc, &policy, &err) < 0 || netns_make(policy, &s.net, &err) < 0)
                fail(&err);
        if (argc > 2) {
                if (make_command(&s, argv + 2) < 0)
                        return 1;
        } else {
                if (make_guest(&s) < 0)
                        return 1;
                offload(s.net.tap);
                if ((s.pump = start_child()) == 0)
                        be_pump(s.net.tap, s.guest_tap);
        }
        if (start_gateway(&s, program, &err) < 0)
                fail(&err);
        NB_AUTO_FREE char *start =
            json_dumps(json_pack("{s:{s:o, s:[], s:[], s:o*}}", "start", "policy", doc, "names", "used", "proxy", proxy), 0);
        NB_AUTO_FREE char *first = nb_asprintf("%s\n", start);
        printf("{\"stage\": {\"guest\": %d, \"pump\": %d, \"gateway\": %d, \"resolver\": %d}}\n", s.guest, s.pump,
               s.gateway.pid, s.resolver.pid);
        fflush(stdout);
        if (nb_write_all(s.line, first, strlen(first)) < 0)
                return 1;
        if (publish(&s, ports, &err) < 0)
                fail(&err);
        carry(s.line);
        return 0;
}
