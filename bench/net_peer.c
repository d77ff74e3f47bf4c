/* Both ends of the network's measurements, static: in the guest it is the init, which measures one path after the other, round
 * after round, and says what it found on the console, a JSON object a line; on the far side it is the servers.
 *   net-peer serve ADDRESS    TCP: 7 sends back, 9 throws away, 19 sends for ever; UDP 53 answers each question with ADDRESS
 * In the guest /paths has a line for each path:
 *   NAME MAC ADDRESS BITS ROUTER NAMESERVER MTU */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PATHS_MAX 8
#define ROUNDS 5
#define SECONDS 2.0 /* of each measurement */
#define QUESTIONS 100
#define AT_ONCE 16 /* connections, where their rate is measured */
#define HOLD 1000  /* connections that are held while the gateway's memory is looked at */
#define HOLD_SECONDS 8
#define CHUNK 65536u
#define FDS_MAX 16384
#define NAME "\4peer\7example" /* as in a DNS message */

struct path {
        char name[32], device[IFNAMSIZ], mac[18], address[16], router[16], nameserver[16];
        unsigned bits, mtu;
        struct in_addr server;
};

static char chunk[CHUNK];

static _Noreturn void die(const char *what) {
        printf("{\"failed\": \"%s\", \"why\": \"%s\"}\n", what, strerror(errno));
        fflush(stdout);
        if (getpid() == 1) {
                sleep(1);
                (void)reboot(RB_POWER_OFF);
        }
        exit(1);
}

static double now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct sockaddr_in at(struct in_addr address, uint16_t port) {
        return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address };
}

/* ---- the far side */

static void watch(int ep, int fd, uint32_t what) {
        struct epoll_event e = { .events = what, .data.fd = fd };
        if (fd < 0 || fd >= FDS_MAX || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
                die("epoll");
}

static int bound(int type, struct in_addr address, uint16_t port) {
        struct sockaddr_in sin = at(address, port);
        int on = 1, fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
            bind(fd, (struct sockaddr *)&sin, sizeof sin) < 0 || (type == SOCK_STREAM && listen(fd, 4096) < 0))
                die("bind");
        return fd;
}

/* The question comes back with an address if one was asked for, else without. */
static void answer(int fd, struct in_addr address) {
        uint8_t m[512];
        struct sockaddr_in from;
        socklen_t from_len = sizeof from;
        ssize_t len = recvfrom(fd, m, sizeof m - 16, 0, (struct sockaddr *)&from, &from_len);
        if (len < 12)
                return;
        size_t end = 12;
        while (end < (size_t)len && m[end])
                end += m[end] + 1u;
        end += 5;
        if (end > (size_t)len)
                return;
        bool a = m[end - 3] == 1;
        const uint8_t record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4 };
        m[2] = 0x84 | (m[2] & 1);
        m[3] = 0x80;
        memset(m + 6, 0, 6);
        m[7] = a;
        if (a) {
                memcpy(m + end, record, sizeof record);
                memcpy(m + end + sizeof record, &address, 4);
                end += sizeof record + 4;
        }
        (void)sendto(fd, m, end, 0, (struct sockaddr *)&from, from_len);
}

static void serve_one(int fd, char kind) {
        ssize_t n = kind == 's' ? send(fd, chunk, sizeof chunk, MSG_NOSIGNAL) : recv(fd, chunk, sizeof chunk, 0);
        if (kind == 'e' && n > 0)
                n = send(fd, chunk, (size_t)n, MSG_NOSIGNAL);
        if (n == 0 || (n < 0 && errno != EAGAIN))
                close(fd);
}

static void serve(const char *text) {
        static char kinds[FDS_MAX]; /* capital: listening */
        struct in_addr address;
        struct epoll_event events[256];
        int ep = epoll_create1(0);
        if (inet_pton(AF_INET, text, &address) != 1)
                die(text);
        int dns = bound(SOCK_DGRAM, address, 53);
        watch(ep, dns, EPOLLIN);
        const struct {
                uint16_t port;
                char kind;
        } ports[] = { { 7, 'E' }, { 9, 'D' }, { 19, 'S' } };
        for (size_t i = 0; i < 3; i++) {
                int fd = bound(SOCK_STREAM, address, ports[i].port);
                watch(ep, fd, EPOLLIN);
                kinds[fd] = ports[i].kind;
        }
        puts("ready");
        fflush(stdout);
        for (;;) {
                int n = epoll_wait(ep, events, 256, -1);
                for (int k = 0; k < n; k++) {
                        int fd = events[k].data.fd, client;
                        if (fd == dns)
                                answer(fd, address);
                        else if (kinds[fd] >= 'a')
                                serve_one(fd, kinds[fd]);
                        else
                                while ((client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                                        kinds[client] = (char)(kinds[fd] | 0x20);
                                        watch(ep, client, kinds[client] == 's' ? EPOLLOUT : EPOLLIN);
                                }
                }
        }
}

/* ---- the guest's devices */

static void load_modules(void) {
        char name[64], file[128];
        FILE *list = fopen("/modules.list", "re");
        while (list && fscanf(list, "%63s", name) == 1) {
                (void)snprintf(file, sizeof file, "/modules/%s", name);
                int fd = open(file, O_RDONLY | O_CLOEXEC);
                if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
                        die(file);
                close(fd);
        }
        if (list)
                fclose(list);
}

static bool find_device(struct path *p) {
        struct ifreq ifr;
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        for (int i = 0; i < 2 * PATHS_MAX; i++) {
                (void)snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "eth%d", i);
                if (ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
                        continue;
                const uint8_t *m = (uint8_t *)ifr.ifr_hwaddr.sa_data;
                char mac[18];
                (void)snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
                if (strcmp(mac, p->mac) == 0) {
                        memcpy(p->device, ifr.ifr_name, sizeof p->device);
                        close(fd);
                        return true;
                }
        }
        close(fd);
        return false;
}

static void set_address(int fd, const char *device, unsigned long what, in_addr_t address) {
        struct ifreq ifr = { 0 };
        struct sockaddr_in sin = at((struct in_addr){ address }, 0);
        memcpy(ifr.ifr_name, device, sizeof ifr.ifr_name);
        memcpy(&ifr.ifr_addr, &sin, sizeof sin);
        if (ioctl(fd, what, &ifr) < 0)
                die("address");
}

/* One default route for each device: sockets are bound to theirs. */
static void set_up(struct path *p, int metric) {
        struct ifreq ifr = { 0 };
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        for (int tries = 0; !find_device(p); tries++) {
                if (tries > 100)
                        die(p->name);
                usleep(50000);
        }
        memcpy(ifr.ifr_name, p->device, sizeof ifr.ifr_name);
        ifr.ifr_mtu = (int)p->mtu;
        if (ioctl(fd, SIOCSIFMTU, &ifr) < 0)
                die("mtu");
        set_address(fd, p->device, SIOCSIFADDR, inet_addr(p->address));
        set_address(fd, p->device, SIOCSIFNETMASK, htonl(~0u << (32 - p->bits)));
        ifr.ifr_flags = IFF_UP | IFF_RUNNING;
        if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
                die("up");
        struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = p->device, .rt_metric = (short)(metric + 1) };
        struct sockaddr_in router = at((struct in_addr){ inet_addr(p->router) }, 0), any = at((struct in_addr){ 0 }, 0);
        memcpy(&route.rt_gateway, &router, sizeof router);
        memcpy(&route.rt_dst, &any, sizeof any);
        memcpy(&route.rt_genmask, &any, sizeof any);
        if (ioctl(fd, SIOCADDRT, &route) < 0)
                die("route");
        close(fd);
}

/* ---- measuring */

static int open_on(const struct path *p, int type, struct in_addr address, uint16_t port) {
        struct sockaddr_in sin = at(address, port);
        int fd = socket(AF_INET, type, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, p->device, (socklen_t)strlen(p->device)) < 0 ||
            (connect(fd, (struct sockaddr *)&sin, sizeof sin) < 0 && errno != EINPROGRESS))
                die(p->name);
        return fd;
}

/* One question; the address in the answer. */
static struct in_addr ask(const struct path *p) {
        static uint16_t id;
        uint8_t m[512] = { 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
        static const char question[] = NAME "\0\0\1\0\1";
        struct in_addr found;
        m[0] = (uint8_t)(++id >> 8);
        m[1] = (uint8_t)id;
        memcpy(m + 12, question, sizeof question - 1);
        int fd = open_on(p, SOCK_DGRAM, (struct in_addr){ inet_addr(p->nameserver) }, 53);
        const struct timeval limit = { .tv_sec = 5 };
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        ssize_t n = 0;
        for (int tries = 0; tries < 3 && n < 16; tries++)
                if (send(fd, m, 12 + sizeof question - 1, 0) > 0)
                        n = recv(fd, m, sizeof m, 0);
        if (n < 12 + (ssize_t)sizeof question - 1 + 16)
                die(p->name);
        memcpy(&found, m + n - 4, 4); /* the gateway and the server send one record and nothing after it */
        for (ssize_t i = 12; i + 16 <= n; i++)
                if (m[i] == 0xc0 && m[i + 1] == 12 && m[i + 3] == 1)
                        memcpy(&found, m + i + 12, 4);
        close(fd);
        return found;
}

static double dns(const struct path *p) {
        double begun = now();
        for (int i = 0; i < QUESTIONS; i++)
                (void)ask(p);
        return (now() - begun) / QUESTIONS * 1000;
}

/* Milliseconds for a million bytes. */
static double bulk(const struct path *p, bool up) {
        int fd = open_on(p, SOCK_STREAM, p->server, up ? 9 : 19);
        double begun = 0, total = 0, passed = 0;
        for (double first = now(); passed < SECONDS;) {
                ssize_t n = up ? send(fd, chunk, sizeof chunk, MSG_NOSIGNAL) : recv(fd, chunk, sizeof chunk, 0);
                if (n <= 0)
                        die(p->name);
                if (begun == 0 && now() - first > 0.5) /* after its slow start */
                        begun = now();
                else if (begun > 0)
                        total += (double)n;
                passed = begun > 0 ? now() - begun : 0;
        }
        close(fd);
        return passed * 1000 / (total / 1e6);
}

/* One step of a connection: a byte there and back. 1: done; 0: under way; -1: failed. */
static int step(int ep, int fd, bool *sent) {
        struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
        char c = 1; /* the start of nothing that the gateway would look at more of */
        if (*sent)
                return recv(fd, &c, 1, 0) == 1 ? 1 : -1;
        *sent = true;
        return send(fd, &c, 1, MSG_NOSIGNAL) == 1 && epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e) == 0 ? 0 : -1;
}

/* Milliseconds for a connection with one byte there and back, with several under way. libslirp loses some when it is hurried;
 * they cost their time. */
static double connections(const struct path *p) {
        static bool sent[FDS_MAX];
        struct epoll_event events[AT_ONCE];
        int ep = epoll_create1(0), open = 0, done = 0;
        double begun = now(), passed;
        while ((passed = now() - begun) < SECONDS || open > 0) {
                for (; passed < SECONDS && open < AT_ONCE; open++) {
                        int fd = open_on(p, SOCK_STREAM | SOCK_NONBLOCK, p->server, 7);
                        sent[fd] = false;
                        watch(ep, fd, EPOLLOUT);
                }
                int n = epoll_wait(ep, events, AT_ONCE, 5000);
                if (n <= 0)
                        die("connections hang");
                for (int i = 0; i < n; i++) {
                        int fd = events[i].data.fd, r = step(ep, fd, &sent[fd]);
                        if (r != 0) {
                                close(fd);
                                open--;
                                done += r > 0;
                        }
                }
        }
        close(ep);
        if (done == 0)
                die("no connection");
        return (now() - begun) * 1000 / done;
}

static void tell(const char *path, const char *measure, double value) {
        printf("{\"path\": \"%s\", \"measure\": \"%s\", \"value\": %.4f}\n", path, measure, value);
        fflush(stdout);
}

static void hold(const struct path *p) {
        char c = 1; /* the start of nothing that the gateway would look at more of */
        for (int i = 0; i < HOLD; i++) {
                int fd = open_on(p, SOCK_STREAM, p->server, 7);
                if (send(fd, &c, 1, MSG_NOSIGNAL) != 1 || recv(fd, &c, 1, 0) != 1)
                        die("hold");
        }
        tell(p->name, "held", HOLD);
        sleep(HOLD_SECONDS);
}

static void measure(struct path *paths, int n) {
        for (int i = 0; i < n; i++)
                paths[i].server = ask(&paths[i]);
        tell(paths[0].name, "idle", 0);
        sleep(HOLD_SECONDS);
        for (int round = 0; round < ROUNDS; round++)
                for (int i = 0; i < n; i++) {
                        const struct path *p = &paths[(i + round) % n];
                        tell(p->name, "down", bulk(p, false));
                        tell(p->name, "up", bulk(p, true));
                        tell(p->name, "connection", connections(p));
                        tell(p->name, "dns", dns(p));
                }
        hold(&paths[0]);
        tell(paths[0].name, "done", 0);
}

static void be_init(void) {
        static struct path paths[PATHS_MAX];
        int n = 0;
        struct rlimit files = { FDS_MAX, FDS_MAX };
        (void)mount("dev", "/dev", "devtmpfs", 0, NULL);
        load_modules();
        for (int tries = 0; tries < 100 && access("/dev/hvc0", W_OK) < 0; tries++)
                usleep(50000);
        if (!freopen("/dev/hvc0", "we", stdout))
                (void)reboot(RB_POWER_OFF);
        (void)setrlimit(RLIMIT_NOFILE, &files);
        FILE *f = fopen("/paths", "re");
        if (!f)
                die("/paths");
        for (struct path *p = paths; n < PATHS_MAX && fscanf(f, "%31s %17s %15s %u %15s %15s %u", p->name, p->mac, p->address,
                                                             &p->bits, p->router, p->nameserver, &p->mtu) == 7;
             p = &paths[++n])
                set_up(p, n);
        measure(paths, n);
        sleep(1);
        (void)reboot(RB_POWER_OFF);
}

int main(int argc, char **argv) {
        (void)signal(SIGPIPE, SIG_IGN);
        if (argc == 3 && strcmp(argv[1], "serve") == 0)
                serve(argv[2]);
        if (getpid() == 1)
                be_init();
        return 2;
}
