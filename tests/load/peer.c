/* Both ends of the load on the gateway: the servers of the far side, and the clients in the guest's place. Clients print one
 * JSON object with what they measured.
 *   load-peer serve                          port 7 sends back what it gets, 9 throws it away, 19 sends for ever
 *   load-peer hold ADDRESS COUNT             opens COUNT connections to port 7, one byte there and back on each; holds them
 *                                            until its input ends
 *   load-peer rate ADDRESS RATE SECONDS      opens RATE connections a second to port 7, one byte there and back, closes them
 *   load-peer read ADDRESS SECONDS [PAUSE]   reads from port 19, with PAUSE milliseconds after each 4096 bytes
 *   load-peer write ADDRESS SECONDS          writes to port 9
 *   load-peer ask SERVER COUNT               COUNT DNS questions (A) for different names nNNN.denied.example, one after another
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX (1u << 17)
#define WAIT_MS 60000u /* longer than anything takes that works */
#define CHUNK 65536u

struct conn {
        uint64_t begun_ns;
        bool sent;
};
struct load {
        int ep;
        struct conn conns[FDS_MAX];
        uint32_t *latency_us;
        unsigned begun, done, failed;
        bool hold;
};

static uint64_t now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void die(const char *what) {
        perror(what);
        exit(1);
}

static struct sockaddr_in to(const char *address, uint16_t port) {
        struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };
        if (inet_pton(AF_INET, address, &sin.sin_addr) != 1)
                die(address);
        return sin;
}

/* ---- servers */

static int listen_on(uint16_t port) {
        struct sockaddr_in sin = to("0.0.0.0", port);
        int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
            bind(fd, (struct sockaddr *)&sin, sizeof sin) < 0 || listen(fd, 4096) < 0)
                die("listen");
        return fd;
}

static void watch(int ep, int fd, uint32_t what) {
        struct epoll_event e = { .events = what, .data.fd = fd };
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
                die("epoll_ctl");
}

static void serve_one(int fd, char kind) {
        static char bytes[CHUNK];
        ssize_t n = kind == 's' ? send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) : recv(fd, bytes, sizeof bytes, 0);
        if (kind == 'e' && n > 0)
                n = send(fd, bytes, (size_t)n, MSG_NOSIGNAL);
        if (n == 0 || (n < 0 && errno != EAGAIN))
                close(fd);
}

static void serve(void) {
        static char kinds[FDS_MAX]; /* 0: listening */
        const uint16_t ports[] = { 7, 9, 19 };
        const char as[] = { 'e', 'd', 's' };
        int listeners[3], ep = epoll_create1(0);
        struct epoll_event events[256];
        for (int i = 0; i < 3; i++)
                watch(ep, listeners[i] = listen_on(ports[i]), EPOLLIN);
        puts("ready");
        fflush(stdout);
        for (;;) {
                int n = epoll_wait(ep, events, 256, -1);
                for (int k = 0; k < n; k++) {
                        int fd = events[k].data.fd, which = -1;
                        for (int i = 0; i < 3; i++)
                                which = listeners[i] == fd ? i : which;
                        if (which < 0) {
                                serve_one(fd, kinds[fd]);
                                continue;
                        }
                        int client;
                        while ((client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                                kinds[client] = as[which];
                                watch(ep, client, as[which] == 's' ? EPOLLOUT : EPOLLIN);
                        }
                }
        }
}

/* ---- many connections */

static void open_one(struct load *l, const struct sockaddr_in *sin) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (fd < 0 || (connect(fd, (const struct sockaddr *)sin, sizeof *sin) < 0 && errno != EINPROGRESS))
                die("connect");
        l->conns[fd] = (struct conn){ .begun_ns = now_ns() };
        l->begun++;
        watch(l->ep, fd, EPOLLIN | EPOLLOUT);
}

static void end_one(struct load *l, int fd, bool good) {
        uint64_t us = (now_ns() - l->conns[fd].begun_ns) / 1000;
        if (good)
                l->latency_us[l->done++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
        else
                l->failed++;
        (void)epoll_ctl(l->ep, EPOLL_CTL_DEL, fd, NULL);
        if (!l->hold || !good)
                close(fd);
}

static void step_one(struct load *l, int fd) {
        char c = 1; /* the start of neither TLS nor HTTP */
        struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
        if (!l->conns[fd].sent) {
                ssize_t n = send(fd, &c, 1, MSG_NOSIGNAL);
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n != 1) {
                        end_one(l, fd, false);
                        return;
                }
                l->conns[fd].sent = true;
                (void)epoll_ctl(l->ep, EPOLL_CTL_MOD, fd, &e);
                return;
        }
        ssize_t n = recv(fd, &c, 1, 0);
        if (n < 0 && errno == EAGAIN)
                return;
        end_one(l, fd, n == 1);
}

static int by_value(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
        return x < y ? -1 : x > y;
}

static void tell(struct load *l, double seconds) {
        qsort(l->latency_us, l->done, sizeof *l->latency_us, by_value);
        uint32_t p50 = l->done ? l->latency_us[l->done / 2] : 0, p99 = l->done ? l->latency_us[l->done * 99ull / 100] : 0;
        printf("{\"done\": %u, \"failed\": %u, \"seconds\": %.3f, \"per_second\": %.0f, \"p50_ms\": %.2f, \"p99_ms\": %.2f}\n",
               l->done, l->failed, seconds, l->done / seconds, p50 / 1000.0, p99 / 1000.0);
        fflush(stdout);
}

/* `rate` connections a second are begun whatever becomes of the earlier ones; 0: 512 at a time. */
static void many(const char *address, unsigned rate, unsigned count, bool hold) {
        static struct load l;
        struct sockaddr_in sin = to(address, 7);
        struct epoll_event events[256];
        l.ep = epoll_create1(0);
        l.hold = hold;
        l.latency_us = calloc(count + 1u, sizeof *l.latency_us);
        uint64_t begun = now_ns(), until = begun + WAIT_MS * 1000000ull;
        if (!l.latency_us)
                die("calloc");
        while (l.done + l.failed < count && now_ns() < until) {
                uint64_t due = rate ? (now_ns() - begun) * rate / 1000000000u : l.done + l.failed + 512u;
                while (l.begun < due && l.begun < count)
                        open_one(&l, &sin);
                int n = epoll_wait(l.ep, events, 256, 1);
                for (int i = 0; i < n; i++)
                        step_one(&l, events[i].data.fd);
        }
        l.failed = count - l.done;
        tell(&l, (double)(now_ns() - begun) / 1e9);
        char c;
        while (hold && read(STDIN_FILENO, &c, 1) > 0)
                ;
}

/* ---- bytes */

static void stream(const char *address, bool up, double seconds, unsigned pause_ms) {
        static char chunk[CHUNK];
        struct sockaddr_in sin = to(address, up ? 9 : 19);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&sin, sizeof sin) < 0)
                die("connect");
        uint64_t begun = now_ns(), total = 0;
        double passed = 0;
        while ((passed = (double)(now_ns() - begun) / 1e9) < seconds) {
                ssize_t n =
                    up ? send(fd, chunk, sizeof chunk, MSG_NOSIGNAL) : recv(fd, chunk, pause_ms ? 4096 : sizeof chunk, 0);
                if (n <= 0)
                        die("stream");
                total += (uint64_t)n;
                if (pause_ms)
                        (void)poll(NULL, 0, (int)pause_ms);
        }
        printf("{\"bytes\": %llu, \"seconds\": %.3f, \"mb_per_second\": %.1f}\n", (unsigned long long)total, passed,
               (double)total / passed / 1e6);
}

/* ---- names */

static size_t question(uint8_t *out, unsigned number) {
        char label[16];
        int n = snprintf(label, sizeof label, "n%u", number);
        const uint8_t head[] = { (uint8_t)(number >> 8), (uint8_t)number, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, (uint8_t)n };
        static const char rest[] = "\6denied\7example\0\0\1\0\1";
        memcpy(out, head, sizeof head);
        memcpy(out + sizeof head, label, (size_t)n);
        memcpy(out + sizeof head + n, rest, sizeof rest - 1);
        return sizeof head + (size_t)n + sizeof rest - 1;
}

static void ask(const char *server, unsigned count) {
        struct sockaddr_in sin = to(server, 53);
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        const struct timeval limit = { .tv_sec = 2 };
        unsigned refused = 0, other = 0, lost = 0;
        if (connect(fd, (struct sockaddr *)&sin, sizeof sin) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0)
                die("connect");
        uint64_t begun = now_ns();
        for (unsigned i = 0; i < count; i++) {
                uint8_t out[128], in[1500];
                ssize_t len = (ssize_t)question(out, i);
                if (send(fd, out, (size_t)len, 0) != len)
                        die("send");
                ssize_t n = recv(fd, in, sizeof in, 0);
                lost += n < 0;
                refused += n >= 12 && in[0] == out[0] && in[1] == out[1] && (in[3] & 15) == 3;
                other += n >= 0 && !(n >= 12 && in[0] == out[0] && in[1] == out[1] && (in[3] & 15) == 3);
        }
        double seconds = (double)(now_ns() - begun) / 1e9;
        printf("{\"nxdomain\": %u, \"other\": %u, \"lost\": %u, \"seconds\": %.3f, \"per_second\": %.0f}\n", refused, other,
               lost, seconds, count / seconds);
}

int main(int argc, char **argv) {
        struct rlimit files;
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
                files.rlim_cur = files.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &files);
        }
        const char *verb = argc > 1 ? argv[1] : "", *address = argc > 2 ? argv[2] : "";
        const unsigned one = argc > 3 ? (unsigned)atoi(argv[3]) : 0, two = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
        if (strcmp(verb, "serve") == 0)
                serve();
        else if (strcmp(verb, "hold") == 0)
                many(address, 0, one, true);
        else if (strcmp(verb, "rate") == 0)
                many(address, one, one * two, false);
        else if (strcmp(verb, "read") == 0)
                stream(address, false, one, two);
        else if (strcmp(verb, "write") == 0)
                stream(address, true, one, 0);
        else if (strcmp(verb, "ask") == 0)
                ask(address, one);
        else
                return 2;
        return 0;
}
