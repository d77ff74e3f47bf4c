/* Probes of the network with the sockets that every program has. Each is also tried against a listener of the guest's own: the
 * control. What is sent is empty or says what it is; nothing that an answer would do harm with. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "attack/guest/guest.h"
#include "attack/table.h"
#include "base/io.h"
#include "base/mem.h"

#define CONNECT_MS 8000
#define ANSWER_MS 1500
#define CONTROL_MS 8000 /* what must come is waited for, however busy the host is */
#define WORDS "nixbox attack"

/* ---- TCP */

/* 0 when it was connected, else the error. */
static int connect_tcp(const struct sockaddr *to, socklen_t len, int *ret_fd) {
        NB_AUTO_CLOSE int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int code = fd < 0 || connect(fd, to, len) < 0 ? errno : 0;
        if (code == EINPROGRESS) {
                struct pollfd p = { .fd = fd, .events = POLLOUT };
                socklen_t size = sizeof code;
                if (poll(&p, 1, CONNECT_MS) <= 0)
                        code = ETIMEDOUT;
                else
                        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
        }
        if (code == 0 && ret_fd)
                *ret_fd = nb_steal_fd(&fd);
        return code;
}

/* A listener of our own. */
static int listen_here(int type, struct sockaddr_in *ret) {
        socklen_t len = sizeof *ret;
        *ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
        if (fd >= 0 && (bind(fd, (struct sockaddr *)ret, sizeof *ret) < 0 || (type == SOCK_STREAM && listen(fd, 4) < 0) ||
                        getsockname(fd, (struct sockaddr *)ret, &len) < 0))
                fd = nb_close(fd);
        return fd;
}

static void control_tcp(struct outcome *o) {
        struct sockaddr_in here;
        NB_AUTO_CLOSE int fd = listen_here(SOCK_STREAM, &here);
        controlled(o, fd >= 0 && connect_tcp((struct sockaddr *)&here, sizeof here, NULL) == 0);
}

static void told_connect(struct outcome *o, int code) {
        if (code == 0)
                tried(o, TRIED_DONE, "connected");
        else
                tried(o, code == ETIMEDOUT ? TRIED_NOTHING : TRIED_REFUSED, "connect: %s", strerror(code));
}

void guest_tcp(char *const *words, struct outcome *o) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1])) };
        control_tcp(o);
        if (!inet_aton(words[0], &to.sin_addr))
                tried(o, TRIED_REFUSED, "not an address");
        else
                told_connect(o, connect_tcp((struct sockaddr *)&to, sizeof to, NULL));
}

/* A connection that ends at the gateway, which accepts it to say so. */
void guest_tcp_ended(char *const *words, struct outcome *o) {
        char byte;
        int fd = -1;
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1])) };
        (void)inet_aton(words[0], &to.sin_addr);
        control_tcp(o);
        int code = connect_tcp((struct sockaddr *)&to, sizeof to, &fd);
        NB_AUTO_CLOSE int own = fd;
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (code == 0 && poll(&p, 1, ANSWER_MS) > 0 && recv(fd, &byte, 1, 0) <= 0)
                tried(o, TRIED_REFUSED, "connected to nobody, and reset");
        else
                told_connect(o, code);
}

void guest_tcp6(char *const *words, struct outcome *o) {
        struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(words[1])) };
        control_tcp(o);
        if (inet_pton(AF_INET6, words[0], &to.sin6_addr) != 1)
                tried(o, TRIED_REFUSED, "not an address");
        else
                told_connect(o, connect_tcp((struct sockaddr *)&to, sizeof to, NULL));
}

/* ---- UDP, ICMP and the rest of IP: sent to an address, is there an answer? */

static void told_answer(struct outcome *o, int fd, ssize_t sent) {
        char bytes[2048];
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (sent < 0)
                tried(o, TRIED_REFUSED, "send: %s", strerror(errno));
        else if (poll(&p, 1, ANSWER_MS) <= 0)
                tried(o, TRIED_NOTHING, "sent, no answer");
        else if (recv(fd, bytes, sizeof bytes, 0) < 0)
                tried(o, TRIED_REFUSED, "%s", strerror(errno));
        else
                tried(o, TRIED_DONE, "answered");
}

void guest_udp(char *const *words, struct outcome *o) {
        struct sockaddr_in here, to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1])) };
        NB_AUTO_CLOSE int own = listen_here(SOCK_DGRAM, &here);
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int one = 1;
        char byte;
        struct pollfd p = { .fd = own, .events = POLLIN };
        (void)sendto(fd, WORDS, sizeof WORDS, 0, (struct sockaddr *)&here, sizeof here);
        controlled(o, poll(&p, 1, CONTROL_MS) > 0 && recv(own, &byte, 1, 0) == 1);
        NB_AUTO_CLOSE int out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        (void)setsockopt(out, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
        (void)inet_aton(words[0], &to.sin_addr);
        ssize_t n = connect(out, (struct sockaddr *)&to, sizeof to) < 0 ? -1 : send(out, WORDS, sizeof WORDS, 0);
        told_answer(o, out, n);
}

/* An answer to a ping, or -1 with errno. 0: none came. */
static int ping(const char *address, unsigned ms) {
        struct sockaddr_in to = { .sin_family = AF_INET };
        uint8_t bytes[2048];
        struct icmphdr h = { .type = ICMP_ECHO, .un.echo = { htons((uint16_t)getpid()), htons(1) } };
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
        h.checksum = packet_sum(&h, sizeof h, 0);
        (void)inet_aton(address, &to.sin_addr);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 || send(fd, &h, sizeof h, 0) < 0)
                return -1;
        for (uint64_t now, end = nb_now_ms() + ms; (now = nb_now_ms()) < end;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                ssize_t n = poll(&p, 1, (int)(end - now)) > 0 ? recv(fd, bytes, sizeof bytes, 0) : 0;
                if (n < 0)
                        return -1;
                if (n >= 28 && bytes[20] == ICMP_ECHOREPLY && memcmp(bytes + 24, &h.un.echo.id, 2) == 0)
                        return 1;
        }
        return 0;
}

void guest_icmp(char *const *words, struct outcome *o) {
        controlled(o, ping("127.0.0.1", CONTROL_MS) == 1);
        int r = ping(words[0], ANSWER_MS);
        if (r == 0)
                tried(o, TRIED_NOTHING, "sent, no answer");
        else
                tried(o, r < 0 ? TRIED_REFUSED : TRIED_DONE, "ping: %s", r < 0 ? strerror(errno) : "answered");
}

void guest_raw(char *const *words, struct outcome *o) {
        int protocol = atoi(words[0]);
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        NB_AUTO_CLOSE int own = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, protocol);
        char bytes[256];
        struct pollfd p = { .fd = own, .events = POLLIN };
        (void)sendto(own, WORDS, sizeof WORDS, 0, (struct sockaddr *)&to, sizeof to);
        controlled(o, poll(&p, 1, CONTROL_MS) > 0 && recv(own, bytes, sizeof bytes, 0) > (ssize_t)sizeof WORDS);
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, protocol);
        (void)inet_aton(words[1], &to.sin_addr);
        ssize_t n = connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ? -1 : send(fd, WORDS, sizeof WORDS, 0);
        told_answer(o, fd, n);
}

/* ---- to an allowed host, but not for it */

/* The first flight of TLS, with a server name or without one. */
static size_t client_hello(const char *name, uint8_t *ret) {
        static const uint8_t front[] = { 22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3 }, middle[] = { 0, 0, 2, 0x13, 0x01, 1, 0 };
        static const uint8_t versions[] = { 0, 43, 0, 3, 2, 3, 4 };
        size_t len = name ? strlen(name) : 0, n = sizeof front;
        memset(ret, 0x42, 512);
        memcpy(ret, front, sizeof front);
        n += 32; /* the random bytes */
        memcpy(ret + n, middle, sizeof middle);
        n += sizeof middle;
        size_t extensions = n;
        n += 2;
        if (name) {
                const uint8_t head[] = { 0, 0, 0, (uint8_t)(len + 5), 0, (uint8_t)(len + 3), 0, 0, (uint8_t)len };
                memcpy(ret + n, head, sizeof head);
                memcpy(ret + n + sizeof head, name, len);
                n += sizeof head + len;
        }
        memcpy(ret + n, versions, sizeof versions);
        n += sizeof versions;
        ret[extensions] = 0;
        ret[extensions + 1] = (uint8_t)(n - extensions - 2);
        ret[3] = (uint8_t)((n - 5) >> 8);
        ret[4] = (uint8_t)(n - 5);
        ret[7] = (uint8_t)((n - 9) >> 8);
        ret[8] = (uint8_t)(n - 9);
        return n;
}

static size_t first_bytes(const char *kind, const char *host, uint8_t *ret, size_t room) {
        if (strcmp(kind, "tls-none") == 0)
                return client_hello(NULL, ret);
        if (strcmp(kind, "tls-other") == 0)
                return client_hello("other.nixbox-attack.invalid", ret);
        if (strcmp(kind, "http-other") == 0)
                return (size_t)snprintf((char *)ret, room,
                                        "HEAD / HTTP/1.1\r\nHost: other.nixbox-attack.invalid\r\nConnection: close\r\n\r\n");
        if (strcmp(kind, "http-connect") == 0)
                return (size_t)snprintf((char *)ret, room,
                                        "CONNECT other.nixbox-attack.invalid:443 HTTP/1.1\r\nHost: %s\r\n\r\n", host);
        return (size_t)snprintf((char *)ret, room, "SSH-2.0-nixbox_attack\r\n");
}

/* Does this come from a server? The gateway itself says no more than an alert, or a page with an error. */
static bool from_a_server(const uint8_t *bytes, ssize_t n) {
        bool page = n > 12 && memcmp(bytes, "HTTP/1.", 7) == 0;
        return n > 0 && (page ? bytes[9] != '4' : bytes[0] != 21);
}

void guest_inside(char *const *words, struct outcome *o) {
        uint8_t bytes[2048];
        int fd = -1;
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[2])) };
        to.sin_addr.s_addr = find_name(words[1], words[3]);
        int code = to.sin_addr.s_addr ? connect_tcp((struct sockaddr *)&to, sizeof to, &fd) : ENOENT;
        controlled(o, code == 0); /* the connection itself is allowed */
        if (code != 0) {
                tried(o, TRIED_NOTHING, "connect to %s: %s", words[1], strerror(code));
                return;
        }
        size_t len = first_bytes(words[0], words[1], bytes, sizeof bytes);
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (n > 0)
                n = poll(&p, 1, CONTROL_MS) > 0 ? recv(fd, bytes, sizeof bytes, 0) : -2;
        if (from_a_server(bytes, n))
                tried(o, TRIED_DONE, "the server answered");
        else
                tried(o, n == -2 ? TRIED_NOTHING : TRIED_REFUSED, "%s", n == -2 ? "no answer" : "connected, then refused");
        nb_close(fd);
}

/* ---- names */

static unsigned type_of(const char *word) {
        static const struct {
                const char *name;
                unsigned number;
        } types[] = { { "A", 1 }, { "NULL", 10 }, { "TXT", 16 }, { "AAAA", 28 }, { "HTTPS", 65 }, { "ANY", 255 } };
        for (size_t i = 0; i < NB_ARRAY_LEN(types); i++)
                if (strcmp(types[i].name, word) == 0)
                        return types[i].number;
        return (unsigned)atoi(word);
}

/* The bytes of an answer, by UDP or TCP; -1 with errno, 0 when none came. */
static ssize_t ask(const char *server, bool tcp, const uint8_t *query, size_t len, uint8_t *ret, size_t room) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(53) };
        const uint8_t size[] = { (uint8_t)(len >> 8), (uint8_t)len };
        int fd = -1;
        (void)inet_aton(server, &to.sin_addr);
        if (tcp) {
                errno = connect_tcp((struct sockaddr *)&to, sizeof to, &fd);
        } else {
                fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
                        fd = nb_close(fd);
        }
        NB_AUTO_CLOSE int own = fd;
        if (fd < 0 || (tcp && send(fd, size, 2, MSG_NOSIGNAL) < 0) || send(fd, query, len, MSG_NOSIGNAL) < 0)
                return -1;
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (poll(&p, 1, CONNECT_MS) <= 0)
                return 0;
        ssize_t n = recv(fd, ret, room, 0);
        if (tcp && n > 0 && n <= 2 && poll(&p, 1, CONNECT_MS) > 0) /* the length came alone */
                n = recv(fd, ret, room, 0);
        else if (tcp && n > 2)
                memmove(ret, ret + 2, (size_t)(n -= 2));
        return n;
}

static void told_name(struct outcome *o, const uint8_t *answer, ssize_t n) {
        uint32_t address = 0;
        unsigned code = 0;
        int answers = n > 0 ? packet_answers(answer, (size_t)n, &address, &code) : -1;
        if (n < 0)
                tried(o, TRIED_REFUSED, "%s", strerror(errno));
        else if (answers < 0)
                tried(o, TRIED_NOTHING, "no answer");
        else if (answers > 0)
                tried(o, TRIED_DONE, "answered with %d record%s", answers, answers == 1 ? "" : "s");
        else
                tried(o, TRIED_REFUSED, code == 3 ? "there is no such name" : "answered with nothing (code %u)", code);
}

void guest_dns(char *const *words, struct outcome *o) {
        uint8_t query[600], answer[4096];
        const char *known = words[4];
        size_t len = packet_query(words[0], type_of(words[1]), query, sizeof query);
        if (known && strcmp(known, "-") != 0)
                controlled(o, find_name(known, "198.19.255.253") != 0);
        told_name(o, answer, len > 0 ? ask(words[2], strcmp(words[3], "tcp") == 0, query, len, answer, sizeof answer) : 0);
}
