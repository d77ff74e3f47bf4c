/* Making the box's network namespace and changing its rules (see netns.h). A child does it: it enters the namespace, makes the
 * device, has ip(8) and nft(8) load what netns_rules.c wrote, and passes the descriptors back. The supervisor itself stays
 * where it is. What the rules are is not said here. */
#include "box/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/proc.h"
#include "box/netns_internal.h"
#include "gateway/gateway.h"
#include "jail/userns.h"

#define TUN_PATH "/dev/net/tun"
#define BACKLOG 4096 /* connections that wait for the gateway: two seconds of the fastest guest */
#define NFLOG_RCVBUF (256 * 1024)
#define NFLOG_COPY 2048 /* an echo request of the link's size; refused packets are cut shorter by their rule */
#define TEXT_MAX 1024

/* Settings of the namespace, each only if the kernel has it. */
static const struct {
        const char *path, *value;
} settings[] = {
        { "net/ipv6/conf/all/disable_ipv6", "1" },
        { "net/ipv6/conf/default/disable_ipv6", "1" },
        { "net/ipv4/ip_forward", "0" },
        { "net/ipv4/conf/all/accept_redirects", "0" },
        { "net/ipv4/conf/all/accept_source_route", "0" },
        { "net/ipv4/conf/all/rp_filter",
          "0" }, /* an earlier rule has looked at the source; replies to far ends are routed by mark */
        { "net/ipv4/conf/default/rp_filter", "0" },
        { "net/ipv4/icmp_ratelimit", "0" }, /* a refusal that is held back looks like a time-out; only the guest hears them */
        /* the table of connections: what is over goes soon, so that 2,000 new ones a second have room */
        { "net/netfilter/nf_conntrack_tcp_timeout_time_wait", "5" },
        { "net/netfilter/nf_conntrack_tcp_timeout_syn_sent", "10" },
        { "net/netfilter/nf_conntrack_tcp_timeout_syn_recv", "10" },
        { "net/netfilter/nf_conntrack_udp_timeout", "20" },
        { "net/netfilter/nf_conntrack_udp_timeout_stream", "20" },
};

/* What the child says at its end; descriptors come along when code is 0. */
struct outcome {
        int code;
        char what[TEXT_MAX], hint[TEXT_MAX];
};

/* ---- in the child */

static int run_tool(const char *const *argv, const char *input, const char *package, const char *modules,
                    struct nb_error *err) {
        struct proc_spec spec = {
                .argv = (char *const *)argv, .input = input, .input_len = strlen(input), .stdout_fd = -1, .stderr_fd = -1
        };
        int r = proc_run(&spec, NULL, NULL, err);
        if (r == -ENOENT || r == -EACCES)
                return nb_hint(err, "sudo apt-get install %s", package);
        if (r < 0)
                return nb_hint(err, "the kernel may lack something; as root: modprobe -a %s", modules);
        return r;
}

static int run_nft(const char *rules, struct nb_error *err) {
        static const char *const argv[] = { "nft", "-f", "-", NULL };
        return run_tool(argv, rules, "nftables",
                        "nf_tables nf_conntrack nft_ct nft_chain_nat nft_redir nft_reject_inet nft_limit nft_log nfnetlink_log "
                        "nft_tproxy",
                        err);
}

static int run_ip(const char *batch, struct nb_error *err) {
        static const char *const argv[] = { "ip", "-batch", "-", NULL };
        return run_tool(argv, batch, "iproute2", "tun", err);
}

static int make_tap(struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) {
                int code = errno;
                nb_fail_errno(err, code, "cannot open " TUN_PATH ", which the box's network device is made with");
                if (code == EACCES || code == EPERM)
                        return nb_hint(err, "as root: chmod 0666 " TUN_PATH ", and to keep it so: echo 'KERNEL==\"tun\", "
                                            "MODE=\"0666\"' > /etc/udev/rules.d/50-tun.rules");
                return nb_hint(err, "as root: modprobe tun; a container must be started with the device " TUN_PATH);
        }
        struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
        (void)snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", NETNS_DEVICE);
        if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
                nb_fail_errno(err, errno, "cannot make the box's network device");
                return userns_hint(err);
        }
        return nb_steal_fd(&fd);
}

static int flag_on(int fd, int level, int name) {
        int on = 1;
        return setsockopt(fd, level, name, &on, sizeof on);
}

/* A socket bound to a port of the gateway's address, or of every address. It can listen again after a shutdown although
 * connections that it took still exist (SO_REUSEADDR). */
static int make_socket(int type, uint32_t address, unsigned port, bool transparent, int backlog, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(address) };
        if (fd < 0 || (type == SOCK_STREAM && flag_on(fd, SOL_SOCKET, SO_REUSEADDR) < 0) ||
            (transparent && (flag_on(fd, IPPROTO_IP, IP_TRANSPARENT) < 0 || flag_on(fd, IPPROTO_IP, IP_RECVORIGDSTADDR) < 0)) ||
            bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || (backlog > 0 && listen(fd, backlog) < 0))
                return nb_fail_errno(err, errno, "cannot make the gateway's socket on port %u", port);
        return nb_steal_fd(&fd);
}

/* Can send to nothing but the guest's device. */
static int make_raw(struct nb_error *err) {
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
        if (fd < 0 || flag_on(fd, IPPROTO_IP, IP_HDRINCL) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, NETNS_DEVICE, sizeof NETNS_DEVICE) < 0)
                return nb_fail_errno(err, errno, "cannot make the gateway's raw socket");
        return nb_steal_fd(&fd);
}

static void put_attr(struct nlmsghdr *head, uint16_t type, const void *value, uint16_t len) {
        struct nlattr *attr = (struct nlattr *)((char *)head + NLMSG_ALIGN(head->nlmsg_len));
        attr->nla_type = type;
        attr->nla_len = (uint16_t)(NLA_HDRLEN + len);
        memcpy((char *)attr + NLA_HDRLEN, value, len);
        head->nlmsg_len = NLMSG_ALIGN(head->nlmsg_len) + NLA_ALIGN(attr->nla_len);
}

/* Packets logged to the group come to this socket, each at once. */
static int bind_group(int fd, unsigned group) {
        union {
                struct nlmsghdr head;
                char space[256];
        } m = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)),
                          .nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK } };
        struct nfgenmsg *gen = NLMSG_DATA(&m.head);
        *gen = (struct nfgenmsg){ .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons((uint16_t)group) };
        const struct nfulnl_msg_config_cmd cmd = { .command = NFULNL_CFG_CMD_BIND };
        const struct nfulnl_msg_config_mode mode = { .copy_range = htonl(NFLOG_COPY), .copy_mode = NFULNL_COPY_PACKET };
        const uint32_t one = htonl(1);
        put_attr(&m.head, NFULA_CFG_CMD, &cmd, sizeof cmd);
        put_attr(&m.head, NFULA_CFG_MODE, &mode, sizeof mode);
        put_attr(&m.head, NFULA_CFG_QTHRESH, &one, sizeof one);
        if (send(fd, &m, m.head.nlmsg_len, 0) < 0)
                return -errno;
        struct {
                struct nlmsghdr head;
                struct nlmsgerr error;
                char rest[512];
        } answer = { 0 };
        ssize_t n = recv(fd, &answer, sizeof answer, 0);
        if (n < (ssize_t)(sizeof answer.head + sizeof answer.error.error) || answer.head.nlmsg_type != NLMSG_ERROR)
                return n < 0 ? -errno : -EPROTO;
        return answer.error.error;
}

static int make_nflog(enum policy_mode mode, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
        int size = NFLOG_RCVBUF;
        int r = fd < 0 ? -errno : bind_group(fd, NET_LOG_DENIED);
        if (r == 0 && mode == POLICY_OPEN)
                r = bind_group(fd, NET_LOG_ECHO);
        if (r < 0) {
                nb_fail_errno(err, -r, "cannot listen to the kernel's refusals");
                return nb_hint(err, "as root: modprobe -a nfnetlink_log nft_log");
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        (void)flag_on(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS); /* what does not fit is lost, which the rate limit does anyway */
        (void)nb_set_nonblock(fd, true);
        return nb_steal_fd(&fd);
}

static int make_sockets(enum policy_mode mode, struct netns *n, struct nb_error *err) {
        n->tcp = make_socket(SOCK_STREAM, NET_GATEWAY, NET_PORT_TCP, false, BACKLOG, err);
        if (n->tcp >= 0)
                n->dns_udp = make_socket(SOCK_DGRAM, NET_GATEWAY, NET_PORT_DNS, false, 0, err);
        if (n->dns_udp >= 0)
                n->dns_tcp = make_socket(SOCK_STREAM, NET_GATEWAY, NET_PORT_DNS, false, BACKLOG, err);
        if (n->dns_tcp >= 0)
                n->nflog = make_nflog(mode, err);
        if (mode != POLICY_OPEN || n->nflog < 0)
                return n->nflog;
        n->udp = make_socket(SOCK_DGRAM, INADDR_ANY, NET_PORT_UDP, true, 0, err);
        if (n->udp >= 0)
                n->raw = make_raw(err);
        return n->raw;
}

static void apply_settings(void) {
        for (size_t i = 0; i < NB_ARRAY_LEN(settings); i++) {
                NB_AUTO_FREE char *path = nb_asprintf("/proc/sys/%s", settings[i].path);
                (void)nb_write_string_at(AT_FDCWD, path, settings[i].value);
        }
}

static int make(const struct policy *p, struct netns *n, struct nb_error *err) {
        if (unshare(CLONE_NEWNET) < 0) {
                nb_fail_errno(err, errno, "cannot make a network namespace");
                return userns_hint(err);
        }
        n->ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (n->ns < 0)
                return nb_fail_errno(err, errno, "cannot open the network namespace");
        n->tap = make_tap(err);
        if (n->tap < 0)
                return n->tap;
        NB_AUTO_FREE char *rules = netns_nft(p);
        NB_AUTO_FREE char *batch = netns_ip(p->mode);
        int r = run_nft(rules, err); /* before the device is up */
        apply_settings();
        if (r == 0)
                r = run_ip(batch, err);
        return r < 0 ? r : make_sockets(p->mode, n, err);
}

/* ---- in the parent */

/* The descriptors in the order in which they travel; the last two only in mode open. */
#define NETNS_FDS 8
static size_t fds_of(struct netns *n, enum policy_mode mode, int *ret[NETNS_FDS]) {
        int *all[] = { &n->ns, &n->tap, &n->tcp, &n->dns_udp, &n->dns_tcp, &n->nflog, &n->udp, &n->raw };
        memcpy(ret, all, sizeof all);
        return mode == POLICY_OPEN ? NETNS_FDS : NETNS_FDS - 2;
}

static _Noreturn void tell(int sock, int code, const struct nb_error *err, const int *fds, size_t n_fds) {
        struct outcome o = { .code = code };
        (void)snprintf(o.what, sizeof o.what, "%s", err->what ? err->what : "");
        (void)snprintf(o.hint, sizeof o.hint, "%s", err->hint ? err->hint : "");
        (void)nb_send_fds(sock, &o, sizeof o, fds, n_fds);
        _exit(0);
}

/* Runs `body` in a child; what it leaves in *n comes back. */
static int in_child(int (*body)(const struct policy *, struct netns *, struct nb_error *), const struct policy *p,
                    struct netns *n, size_t n_fds, struct nb_error *err) {
        int sock[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
                return nb_fail_errno(err, errno, "cannot make a socket");
        int *slots[NETNS_FDS], fds[NETNS_FDS];
        (void)fds_of(n, POLICY_OPEN, slots);
        pid_t pid = fork();
        if (pid == 0) {
                NB_AUTO_ERROR why = { 0 };
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
                int r = body(p, n, &why);
                for (size_t i = 0; i < n_fds; i++)
                        fds[i] = *slots[i];
                tell(sock[1], r < 0 ? -r : 0, &why, fds, r < 0 ? 0 : n_fds);
        }
        int r = pid < 0 ? nb_fail_errno(err, errno, "cannot make the box's network") : 0;
        nb_close(sock[1]);
        struct outcome o = { 0 };
        size_t got = NETNS_FDS;
        ssize_t len = r < 0 ? 0 : nb_recv_fds(sock[0], &o, sizeof o, fds, &got);
        nb_close(sock[0]);
        while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        if (r < 0)
                return r;
        o.what[sizeof o.what - 1] = o.hint[sizeof o.hint - 1] = 0;
        if (len == sizeof o && o.code == 0 && got == n_fds) {
                for (size_t i = 0; i < n_fds; i++)
                        *slots[i] = fds[i];
                return 0;
        }
        for (size_t i = 0; len > 0 && i < got; i++)
                nb_close(fds[i]);
        if (len != sizeof o || o.code == 0)
                return nb_fail(err, ECHILD, "the child that makes the box's network died");
        nb_fail(err, o.code, "%s", o.what);
        return o.hint[0] ? nb_hint(err, "%s", o.hint) : -o.code;
}

int netns_make(const struct policy *p, struct netns *ret, struct nb_error *err) {
        static const struct netns none = NETNS_NONE;
        int *slots[NETNS_FDS];
        *ret = none;
        return in_child(make, p, ret, fds_of(ret, p->mode, slots), err);
}

static int apply(const struct policy *p, struct netns *n, struct nb_error *err) {
        if (setns(n->ns, CLONE_NEWNET) < 0)
                return nb_fail_errno(err, errno, "cannot enter the box's network");
        NB_AUTO_FREE char *rules = netns_nft_policy(p);
        return run_nft(rules, err);
}

int netns_apply(const struct netns *n, const struct policy *p, struct nb_error *err) {
        struct netns copy = *n;
        return in_child(apply, p, &copy, 0, err);
}

void netns_close(struct netns *n) {
        int *slots[NETNS_FDS];
        size_t count = fds_of(n, POLICY_OPEN, slots);
        for (size_t i = 0; i < count; i++)
                *slots[i] = nb_close(*slots[i]);
}
