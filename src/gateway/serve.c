/* The gateway process (see serve.h): descriptors in, start message read, parts made, jail shut, then one event loop until the
 * supervisor goes. What the parts do is theirs; the system calls that they may make all together are listed here. */
#include "gateway/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "gateway/impl.h"
#include "jail/jail.h"

#define FD_SCAN_MAX 64           /* the event loop's own descriptors are below this */
#define READ_CHUNK (64u * 1024u) /* of what the supervisor says */
#define PRIORITIES 2             /* what cannot wait, and everything else, which is libevent's middle one */
#define SYNTHETIC_SIZE (1u << (32u - NET_SYNTHETIC_BITS))

struct serve {
        struct gateway g;
        struct nb_buf in; /* from the supervisor, not yet a whole line */
        struct event readable;
};

/* What is needed after set-up: sockets that exist and IP sockets that are made, the event loop, memory, the clock, randomness
 * (of TLS to a proxy), and a way to abort. No file can be opened and no name but an IP address connected to. */
static const char *const allowed_calls[] = {
        "read",          "write",       "readv",       "writev",  "recvfrom",     "sendto",         "recvmsg",
        "sendmsg",       "recvmmsg",    "sendmmsg",    "accept4", "connect",      "shutdown",       "getsockopt",
        "setsockopt",    "getsockname", "getpeername", "close",   "fcntl",        "epoll_wait",     "epoll_pwait",
        "epoll_pwait2",  "epoll_ctl",   "brk",         "mmap",    "munmap",       "mremap",         "madvise",
        "futex",         "getrandom",   "exit",        "gettid",  "exit_group",   "rt_sigreturn",   "restart_syscall",
        "clock_gettime", "getpid",      "tgkill",      "poll",    "gettimeofday", "rt_sigprocmask", NULL,
};

void gateway_fail(struct gateway *g, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *why = nb_vasprintf(fmt, ap);
        va_end(ap);
        nb_log(NB_LOG_ERROR, "%s", why);
        g->status = GATEWAY_EXIT_FAILED;
        (void)event_base_loopbreak(g->base);
}

/* Descriptors that the box has no use for are something else. */
static bool is_socket(int fd) {
        struct stat st;
        return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* ---- what the supervisor says */

/* Takes the next whole line out of what has arrived. 1: there is one (NULL if it is no JSON object); 0: not yet. */
static int next_line(struct serve *s, json_t **ret) {
        const uint8_t *bytes = nb_buf_bytes(&s->in);
        const uint8_t *end = s->in.len > 0 ? memchr(bytes, '\n', s->in.len) : NULL;
        if (!end)
                return 0;
        size_t len = (size_t)(end - bytes);
        json_t *doc = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, NULL);
        if (doc && !json_is_object(doc)) {
                json_decref(doc);
                doc = NULL;
        }
        nb_buf_consume(&s->in, len + 1);
        if (s->in.len == 0)
                nb_buf_clear(&s->in);
        *ret = doc;
        return 1;
}

/* Reads once. 1: something came; 0: nothing now; -EPIPE: the supervisor has closed its end; -errno. */
static int read_some(struct serve *s) {
        if (s->in.len >= GATEWAY_IN_MAX)
                return -EMSGSIZE;
        ssize_t n = recv(GATEWAY_FD_SUPER, nb_buf_reserve(&s->in, READ_CHUNK), READ_CHUNK, MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
                return -EPIPE;
        nb_buf_commit(&s->in, (size_t)n);
        return 1;
}

/* The start message, waited for. */
static int read_start(struct serve *s, json_t **ret, struct nb_error *err) {
        json_t *doc = NULL;
        while (next_line(s, &doc) == 0) {
                struct pollfd pfd = { .fd = GATEWAY_FD_SUPER, .events = POLLIN };
                (void)poll(&pfd, 1, -1);
                int r = read_some(s);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot read the start message");
        }
        json_t *start = json_object_get(doc, "start");
        if (!json_is_object(start)) {
                json_decref(doc);
                return nb_fail(err, EPROTO, "the first message does not say how to start");
        }
        *ret = json_incref(start);
        json_decref(doc);
        return 0;
}

/* The old policy is there until every part has looked at the new one. */
static void new_policy(struct gateway *g, const json_t *doc) {
        NB_AUTO_ERROR err = { 0 };
        struct policy *fresh = NULL, *old = g->policy;
        if (policy_from_json(doc, &fresh, &err) < 0) {
                gateway_fail(g, "the new policy cannot be read: %s", err.what);
                return;
        }
        if (fresh->mode != old->mode) {
                gateway_fail(g, "the mode of a running box does not change");
                policy_free(fresh);
                return;
        }
        report_policy_goes(g->report);
        g->policy = fresh;
        dnsd_pin(g);
        flows_recheck(g->flows);
        udp_recheck(g->udp);
        policy_free(old);
        report_applied(g->report);
}

static void on_super(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct serve *s = user;
        struct gateway *g = &s->g;
        int r = read_some(s);
        if (r == -EPIPE || r == -ECONNRESET) {
                g->status = GATEWAY_EXIT_OVER;
                (void)event_base_loopbreak(g->base);
                return;
        }
        if (r < 0)
                gateway_fail(g, "cannot read from the supervisor: %s", strerror(-r));
        json_t *doc = NULL;
        while (g->status == GATEWAY_EXIT_OVER && next_line(s, &doc) == 1) {
                const json_t *policy = json_object_get(doc, "policy");
                if (policy)
                        new_policy(g, policy);
                else
                        gateway_fail(g, "the supervisor said something else than a policy");
                json_decref(doc);
        }
}

/* ---- start and end */

/* What there was before a restart: names keep their addresses, limits what was used of them. */
static int restore(struct gateway *g, const json_t *start, struct nb_error *err) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(start, "names"), i, item) {
                const char *name = json_string_value(json_array_get(item, 0));
                const char *text = json_string_value(json_array_get(item, 1));
                struct addr a;
                uint32_t address;
                if (!name || !text || addr_parse(text, &a) < 0 || a.family != AF_INET)
                        return nb_fail(err, EPROTO, "the start message has a name without address");
                memcpy(&address, a.bytes, sizeof address);
                if (names_restore(g->names, name, ntohl(address), nb_now_ms()) < 0)
                        return nb_fail(err, EPROTO, "the start message gives %s to %s, which cannot be", text, name);
        }
        json_array_foreach(json_object_get(start, "used"), i, item) {
                const char *rule = json_string_value(json_array_get(item, 0));
                json_int_t bytes = json_integer_value(json_array_get(item, 1));
                if (!rule || bytes < 0)
                        return nb_fail(err, EPROTO, "the start message has a limit that cannot be read");
                report_used(g->report, rule, (uint64_t)bytes);
        }
        return 0;
}

static int make_parts(struct gateway *g, const json_t *start, struct nb_error *err) {
        int r = policy_from_json(json_object_get(start, "policy"), &g->policy, err);
        if (r == 0)
                r = report_new(g, GATEWAY_FD_SUPER, &g->report, err);
        g->names = names_new(NET_SYNTHETIC, SYNTHETIC_SIZE);
        if (r == 0)
                r = restore(g, start, err);
        if (r == 0)
                r = resolve_new(g, GATEWAY_FD_RESOLVER, &g->resolve, err);
        const json_t *settings = json_object_get(start, "proxy");
        if (r == 0 && settings)
                r = proxy_new(g, settings, &g->proxy, err);
        if (r == 0)
                r = dnsd_new(g, GATEWAY_FD_DNS_UDP, GATEWAY_FD_DNS_TCP, &g->dnsd, err);
        if (r == 0)
                r = flows_new(g, GATEWAY_FD_TCP, &g->flows, err);
        if (r == 0 && g->policy->mode == POLICY_OPEN)
                r = udp_new(g, GATEWAY_FD_UDP, GATEWAY_FD_RAW, &g->udp, err);
        if (r == 0 && is_socket(GATEWAY_FD_NFLOG))
                r = nflog_new(g, GATEWAY_FD_NFLOG, &g->nflog, err);
        if (r == 0)
                r = publish_new(g, GATEWAY_FD_PORTS, GATEWAY_FD_PORTAL, &g->publish, err);
        return r;
}

static void free_parts(struct gateway *g) {
        publish_free(g->publish);
        nflog_free(g->nflog);
        udp_free(g->udp);
        flows_free(g->flows);
        dnsd_free(g->dnsd);
        proxy_free(g->proxy);
        resolve_free(g->resolve);
        report_free(g->report);
        names_free(g->names);
        policy_free(g->policy);
}

/* A descriptor for each end of each connection. */
static void raise_limit(void) {
        struct rlimit files;
        if (getrlimit(RLIMIT_NOFILE, &files) < 0)
                return;
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
}

static int lock_down(unsigned unused_id, struct nb_error *err) {
        int keep[FD_SCAN_MAX];
        size_t n = 0;
        for (int fd = 0; fd < FD_SCAN_MAX; fd++) /* also /dev/null as 0 to 2: no connection may become those */
                if (fcntl(fd, F_GETFD) >= 0)
                        keep[n++] = fd;
        struct jail_self self = { .unused_id = unused_id,
                                  .keep_fds = keep,
                                  .n_keep = n,
                                  .allow_syscalls = allowed_calls,
                                  .keep_network = true,
                                  .ip_sockets = true };
        return jail_enter_self(&self, err);
}

static int begin(struct serve *s, unsigned unused_id, struct nb_error *err) {
        struct gateway *g = &s->g;
        json_t *start = NULL;
        int r = read_start(s, &start, err);
        if (r == 0 && (!(g->base = event_base_new()) || event_base_priority_init(g->base, PRIORITIES) < 0))
                r = nb_fail(err, EIO, "cannot make an event loop");
        if (r == 0)
                r = make_parts(g, start, err);
        json_decref(start);
        if (r == 0 && (event_assign(&s->readable, g->base, GATEWAY_FD_SUPER, EV_READ | EV_PERSIST, on_super, s) < 0 ||
                       event_add(&s->readable, NULL) < 0))
                r = nb_fail(err, EIO, "cannot watch the supervisor's socket");
        if (r == 0)
                r = lock_down(unused_id, err);
        if (r == 0) {
                dnsd_pin(g);
                report_ready(g->report);
        }
        return r;
}

int gateway_main(int argc, char **argv) {
        struct serve *s = nb_calloc(1, sizeof *s);
        NB_AUTO_ERROR err = { 0 };
        uint64_t unused_id = 0;
        nb_log_to(GATEWAY_FD_LOG, "gateway");
        tzset(); /* the C library opens the zone's file with the first time it formats: not after the lock-down */
        (void)signal(SIGPIPE, SIG_IGN);
        raise_limit();
        if (argc != 2 || nb_parse_uint(argv[1], UINT32_MAX, &unused_id) < 0) {
                nb_log(NB_LOG_ERROR, "started with wrong arguments");
                return GATEWAY_EXIT_FAILED;
        }
        if (begin(s, (unsigned)unused_id, &err) < 0) {
                nb_log(NB_LOG_ERROR, "%s", err.what);
                return GATEWAY_EXIT_FAILED; /* the kernel takes back the rest */
        }
        s->g.status = GATEWAY_EXIT_OVER;
        if (event_base_dispatch(s->g.base) < 0)
                s->g.status = GATEWAY_EXIT_FAILED;
        free_parts(&s->g);
        return s->g.status;
}
