/* A hostile program for the inside of a box: sends what it is told, in every way that root of a machine can, and tells what
 * came back. Static and without nixbox's code. Whether anything got out is not for it to say: the tests ask the far side.
 *
 * Reads lines "ID VERB WORD...", carries out each in a process of its own, all at the same time, and prints a line "ID WORD..."
 * for each when it is over. HOST is an address, or a name that is asked for first (then "at=ADDRESS" is told). Bytes are hex.
 *   talk HOST PORT STEP...          connects by TCP; tells "connect=ok" or the error, and "ms=" it took; then the steps:
 *        sHEX send   bN send N bytes   rMS read until nothing came for MS   wMS wait   e end of sending
 *        aMS wait for an answer, however long a busy host takes, then read as r does
 *        tPATH make a file   fPATH wait until there is a file
 *      tells "r=HEX" for each read, "b=N" for what could be sent, "end=eof" or the error where the connection ended
 *   ask HOST PORT udp|tcp HEX MS    a query for a name; tells "r=HEX" or "end=ERROR"
 *   datagram HOST PORT HEX MS       the same for any datagram
 *   echo ADDRESS MS                 ICMP echo request; tells "r=" or "end=ERROR"
 *   raw PROTOCOL ADDRESS HEX        an IPv4 packet of any protocol
 *   frame HEX [MS]                  an Ethernet frame as it is, after MS
 *   listen MS                       tells "frame=HEX" for what arrives on the card
 *   overlap ADDRESS PORT MS OFFSET:HEX...   connects, then sends these segments by hand; tells "r=HEX" of what came within MS,
 *                                           or until it was over */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS_MAX 64
#define LINE_MAX_LEN (256 * 1024)
#define BYTES_MAX 65536
#define TOLD_MAX 2048 /* bytes of an answer that are told */
#define CONNECT_MS 15000
#define FILE_MS 120000
#define ANSWER_MS 30000
#define OVERLAP_QUIET_MS 1500
#define ASK_QUIET_MS 1500
#define NAME_SERVER "198.19.255.253"
#define GATEWAY_MAC \
        { 0x02, 0x6e, 0x62, 0, 0, 0x01 }
#define GUEST_MAC \
        { 0x02, 0x6e, 0x62, 0, 0, 0x02 }

static uint64_t now_ms(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static size_t unhex(const char *text, uint8_t *ret, size_t room) {
        size_t n = 0;
        for (unsigned byte; n < room && sscanf(text, "%2x", &byte) == 1; text += 2) {
                ret[n++] = (uint8_t)byte;
                if (!text[1])
                        break;
        }
        return n;
}

static void tell_hex(FILE *out, const char *what, const uint8_t *bytes, size_t n) {
        fprintf(out, " %s=", what);
        for (size_t i = 0; i < n && i < TOLD_MAX; i++)
                fprintf(out, "%02x", bytes[i]);
}

static void tell_end(FILE *out, int code) {
        fprintf(out, " end=%s", code ? strerrorname_np(code) : "eof");
}

/* ---- names */

static size_t make_query(const char *name, uint8_t *ret) {
        static const uint8_t head[] = { 0x4e, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, tail[] = { 0, 0, 1, 0, 1 };
        memcpy(ret, head, sizeof head);
        size_t n = sizeof head;
        for (const char *label = name; *label;) {
                size_t len = strcspn(label, ".");
                ret[n++] = (uint8_t)len;
                memcpy(ret + n, label, len);
                n += len;
                label += len + (label[len] == '.');
        }
        memcpy(ret + n, tail, sizeof tail);
        return n + sizeof tail;
}

/* The first address in an answer to make_query(). */
static bool find_address(const uint8_t *m, size_t n, size_t question_end, struct in_addr *ret) {
        for (size_t at = question_end; at + 12 <= n;) {
                while (at < n && m[at] && (m[at] & 0xc0) != 0xc0)
                        at += m[at] + 1u;
                at += at < n && (m[at] & 0xc0) == 0xc0 ? 2 : 1;
                if (at + 10 > n)
                        return false;
                size_t len = (size_t)m[at + 8] << 8 | m[at + 9];
                if (m[at] == 0 && m[at + 1] == 1 && len == 4 && at + 14 <= n) {
                        memcpy(ret, m + at + 10, 4);
                        return true;
                }
                at += 10 + len;
        }
        return false;
}

static bool find(FILE *out, const char *host, struct in_addr *ret) {
        if (inet_aton(host, ret))
                return true;
        uint8_t query[600], answer[2048];
        size_t len = make_query(host, query);
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(53) };
        inet_aton(NAME_SERVER, &to.sin_addr);
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        for (int try = 0; try < 3; try++) {
                (void)sendto(fd, query, len, 0, (struct sockaddr *)&to, sizeof to);
                struct pollfd p = { .fd = fd, .events = POLLIN };
                if (poll(&p, 1, 5000) <= 0)
                        continue;
                ssize_t n = recv(fd, answer, sizeof answer, 0);
                bool found = n > 12 && find_address(answer, (size_t)n, len, ret);
                char text[INET_ADDRSTRLEN];
                if (found)
                        fprintf(out, " at=%s", inet_ntop(AF_INET, ret, text, sizeof text));
                else
                        fprintf(out, " name=%d", n > 3 ? answer[3] & 15 : -1);
                close(fd);
                return found;
        }
        fprintf(out, " name=silent");
        close(fd);
        return false;
}

/* ---- connections */

static int connect_to(FILE *out, const char *host, const char *port) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
        if (!find(out, host, &to.sin_addr)) {
                fprintf(out, " connect=ENOENT");
                return -1;
        }
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), code = 0, one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        uint64_t began = now_ms();
        if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
                code = errno;
        if (code == EINPROGRESS) {
                struct pollfd p = { .fd = fd, .events = POLLOUT };
                socklen_t len = sizeof code;
                if (poll(&p, 1, CONNECT_MS) <= 0)
                        code = ETIMEDOUT;
                else
                        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len);
        }
        fprintf(out, " connect=%s ms=%d", code ? strerrorname_np(code) : "ok", (int)(now_ms() - began));
        if (!code)
                return fd;
        close(fd);
        return -1;
}

/* Sends all of it, or what goes within 10 seconds. */
static size_t send_all(int fd, const uint8_t *bytes, size_t n, int *ret_code) {
        size_t sent = 0;
        while (sent < n && !*ret_code) {
                ssize_t k = send(fd, bytes + sent, n - sent, MSG_NOSIGNAL);
                struct pollfd p = { .fd = fd, .events = POLLOUT };
                if (k > 0)
                        sent += (size_t)k;
                else if (errno != EAGAIN)
                        *ret_code = errno;
                else if (poll(&p, 1, 10000) <= 0)
                        *ret_code = ETIMEDOUT;
        }
        return sent;
}

/* False when the connection is over. */
static bool read_until_quiet(FILE *out, int fd, int first_ms, int ms) {
        static uint8_t bytes[BYTES_MAX];
        size_t n = 0;
        int code = -1;
        for (struct pollfd p = { .fd = fd, .events = POLLIN }; code < 0 && poll(&p, 1, n ? ms : first_ms) > 0;) {
                uint8_t spill[BYTES_MAX];
                ssize_t k = recv(fd, spill, sizeof spill, 0);
                code = k > 0 ? -1 : k == 0 ? 0 : errno;
                for (ssize_t i = 0; i < k && n < sizeof bytes; i++)
                        bytes[n++] = spill[i];
        }
        tell_hex(out, "r", bytes, n);
        if (code >= 0)
                tell_end(out, code);
        return code < 0;
}

static void wait_file(const char *path) {
        for (uint64_t end = now_ms() + FILE_MS; access(path, F_OK) < 0 && now_ms() < end;)
                usleep(50000);
}

static bool step(FILE *out, int fd, const char *s) {
        static uint8_t bytes[BYTES_MAX];
        int code = 0;
        switch (s[0]) {
        case 's': (void)send_all(fd, bytes, unhex(s + 1, bytes, sizeof bytes), &code); break;
        case 'b': {
                size_t want = strtoull(s + 1, NULL, 10), sent = 0;
                memset(bytes, 'x', sizeof bytes);
                while (sent < want && !code)
                        sent += send_all(fd, bytes, want - sent < sizeof bytes ? want - sent : sizeof bytes, &code);
                fprintf(out, " b=%zu", sent);
                break;
        }
        case 'r': return read_until_quiet(out, fd, atoi(s + 1), atoi(s + 1));
        case 'a': return read_until_quiet(out, fd, ANSWER_MS, atoi(s + 1));
        case 'w': usleep((unsigned)atoi(s + 1) * 1000u); break;
        case 'e': (void)shutdown(fd, SHUT_WR); break;
        case 't': close(open(s + 1, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)); break;
        case 'f': wait_file(s + 1); break;
        default: fprintf(out, " unknown=%s", s); return false;
        }
        if (code)
                tell_end(out, code);
        return !code;
}

static void do_talk(FILE *out, char **words) {
        int fd = connect_to(out, words[0], words[1]);
        if (fd < 0)
                return;
        bool over = false;
        for (char **s = words + 2; *s && !over; s++)
                over = !step(out, fd, *s);
        if (!over)
                fprintf(out, " end=open");
        close(fd);
}

/* ---- datagrams */

static void tell_reply(FILE *out, int fd, int ms) {
        uint8_t bytes[BYTES_MAX];
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (poll(&p, 1, ms) <= 0) {
                fprintf(out, " end=silent");
                return;
        }
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n < 0)
                tell_end(out, errno);
        else
                tell_hex(out, "r", bytes, (size_t)n);
}

static void do_datagram(FILE *out, char **words) {
        uint8_t bytes[BYTES_MAX];
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1])) };
        if (!find(out, words[0], &to.sin_addr))
                return;
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1;
        (void)setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 || send(fd, bytes, unhex(words[2], bytes, sizeof bytes), 0) < 0)
                tell_end(out, errno);
        else
                tell_reply(out, fd, atoi(words[3]));
        close(fd);
}

static void do_ask(FILE *out, char **words) {
        if (strcmp(words[2], "udp") == 0) {
                do_datagram(out, (char *[]){ words[0], words[1], words[3], words[4], NULL });
                return;
        }
        uint8_t bytes[BYTES_MAX];
        int fd = connect_to(out, words[0], words[1]), code = 0;
        if (fd < 0)
                return;
        size_t n = unhex(words[3], bytes + 2, sizeof bytes - 2);
        bytes[0] = (uint8_t)(n >> 8);
        bytes[1] = (uint8_t)n;
        (void)send_all(fd, bytes, n + 2, &code);
        if (code)
                tell_end(out, code);
        else
                (void)read_until_quiet(out, fd, atoi(words[4]), ASK_QUIET_MS);
        close(fd);
}

/* ---- below TCP and UDP */

static uint32_t add_up(const void *bytes, size_t n) {
        uint32_t sum = 0;
        const uint8_t *b = bytes;
        for (size_t i = 0; i < n; i++)
                sum += i % 2 ? b[i] : (uint32_t)b[i] << 8;
        return sum;
}

static uint16_t checksum(uint32_t sum) {
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return htons((uint16_t)~sum);
}

static void do_echo(FILE *out, char **words) {
        struct sockaddr_in to = { .sin_family = AF_INET };
        inet_aton(words[0], &to.sin_addr);
        int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
        uint8_t bytes[2048];
        struct icmphdr h = { .type = ICMP_ECHO, .un.echo = { htons((uint16_t)getpid()), htons(1) } };
        h.checksum = checksum(add_up(&h, sizeof h));
        if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 || send(fd, &h, sizeof h, 0) < 0) {
                tell_end(out, errno);
                return;
        }
        for (uint64_t end = now_ms() + (uint64_t)atoi(words[1]); now_ms() < end;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                ssize_t n = poll(&p, 1, (int)(end - now_ms())) > 0 ? recv(fd, bytes, sizeof bytes, 0) : 0;
                if (n < 0) {
                        tell_end(out, errno);
                        return;
                }
                if (n >= 28 && bytes[20] == ICMP_ECHOREPLY && memcmp(bytes + 24, &h.un.echo.id, 2) == 0) {
                        tell_hex(out, "r", bytes, (size_t)n);
                        return;
                }
        }
        fprintf(out, " end=silent");
}

static void do_raw(FILE *out, char **words) {
        uint8_t bytes[BYTES_MAX];
        struct sockaddr_in to = { .sin_family = AF_INET };
        inet_aton(words[1], &to.sin_addr);
        int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, atoi(words[0]));
        ssize_t n = sendto(fd, bytes, unhex(words[2], bytes, sizeof bytes), 0, (struct sockaddr *)&to, sizeof to);
        if (n < 0)
                tell_end(out, errno);
        else
                fprintf(out, " sent=%zd", n);
}

/* The card is the only device beside the loopback. */
static int open_card(struct sockaddr_ll *ret) {
        int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
        *ret = (struct sockaddr_ll){ .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_halen = 6 };
        struct if_nameindex *all = if_nameindex();
        for (struct if_nameindex *i = all; i && i->if_index; i++)
                if (strcmp(i->if_name, "lo") != 0)
                        ret->sll_ifindex = (int)i->if_index;
        if_freenameindex(all);
        return fd;
}

static void do_frame(FILE *out, char **words) {
        uint8_t bytes[BYTES_MAX];
        struct sockaddr_ll card;
        int fd = open_card(&card);
        usleep(words[1] ? (unsigned)atoi(words[1]) * 1000u : 0);
        ssize_t n = sendto(fd, bytes, unhex(words[0], bytes, sizeof bytes), 0, (struct sockaddr *)&card, sizeof card);
        if (n < 0)
                tell_end(out, errno);
        else
                fprintf(out, " sent=%zd", n);
}

static void do_listen(FILE *out, char **words) {
        uint8_t bytes[2048];
        struct sockaddr_ll card, from;
        socklen_t len = sizeof from;
        int fd = open_card(&card);
        (void)bind(fd, (struct sockaddr *)&card, sizeof card);
        for (uint64_t end = now_ms() + (uint64_t)atoi(words[0]); now_ms() < end; len = sizeof from) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                if (poll(&p, 1, (int)(end - now_ms())) <= 0)
                        continue;
                ssize_t n = recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &len);
                if (n > 0 && from.sll_pkttype != PACKET_OUTGOING)
                        tell_hex(out, "frame", bytes, (size_t)n < 128 ? (size_t)n : 128);
        }
}

/* ---- segments by hand, on a connection that the kernel made */

struct by_hand {
        int card;
        struct sockaddr_ll to;
        struct sockaddr_in here, there;
        uint32_t send_next, receive_next;
};

static uint32_t sequence_of(int fd, int queue) {
        uint32_t seq = 0;
        socklen_t len = sizeof seq;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue);
        (void)getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, &len);
        return seq;
}

static void send_segment(struct by_hand *c, uint32_t offset, const uint8_t *bytes, size_t n) {
        struct {
                struct ether_header eth;
                struct iphdr ip;
                struct tcphdr tcp;
                uint8_t bytes[1400];
        } __attribute__((packed)) f = {
                .eth = { GATEWAY_MAC, GUEST_MAC, htons(ETH_P_IP) },
                .ip = { .ihl = 5,
                        .version = 4,
                        .ttl = 64,
                        .protocol = IPPROTO_TCP,
                        .saddr = c->here.sin_addr.s_addr,
                        .daddr = c->there.sin_addr.s_addr },
                .tcp = { .source = c->here.sin_port,
                         .dest = c->there.sin_port,
                         .doff = 5,
                         .ack = 1,
                         .psh = 1,
                         .seq = htonl(c->send_next + offset),
                         .ack_seq = htonl(c->receive_next),
                         .window = htons(60000) },
        };
        n = n < sizeof f.bytes ? n : sizeof f.bytes;
        memcpy(f.bytes, bytes, n);
        f.ip.tot_len = htons((uint16_t)(sizeof f.ip + sizeof f.tcp + n));
        f.ip.check = checksum(add_up(&f.ip, sizeof f.ip));
        uint32_t sum = add_up(&f.ip.saddr, 8) + IPPROTO_TCP + (uint32_t)(sizeof f.tcp + n);
        f.tcp.check = checksum(sum + add_up(&f.tcp, sizeof f.tcp + n));
        (void)sendto(c->card, &f, sizeof f - sizeof f.bytes + n, 0, (struct sockaddr *)&c->to, sizeof c->to);
}

static void hear_segments(FILE *out, struct by_hand *c, int ms) {
        uint8_t frame[2048], heard[TOLD_MAX];
        size_t total = 0;
        for (uint64_t end = now_ms() + (uint64_t)ms; now_ms() < end;) {
                struct pollfd p = { .fd = c->card, .events = POLLIN };
                ssize_t n = poll(&p, 1, (int)(end - now_ms())) > 0 ? recv(c->card, frame, sizeof frame, 0) : 0;
                if (n < 54 || frame[23] != IPPROTO_TCP || memcmp(frame + 34, &c->there.sin_port, 2) != 0 ||
                    memcmp(frame + 36, &c->here.sin_port, 2) != 0)
                        continue;
                size_t from = 34u + (size_t)(frame[46] >> 4) * 4u, until = 14u + ((size_t)frame[16] << 8 | frame[17]);
                for (size_t i = from; i < until && i < (size_t)n && total < sizeof heard; i++)
                        heard[total++] = frame[i];
                if (total > 0 && end > now_ms() + OVERLAP_QUIET_MS)
                        end = now_ms() + OVERLAP_QUIET_MS;
                if (frame[47] & 4)
                        fprintf(out, " reset=1");
        }
        tell_hex(out, "r", heard, total);
}

static void do_overlap(FILE *out, char **words) {
        struct by_hand c = { 0 };
        uint8_t bytes[BYTES_MAX];
        int fd = connect_to(out, words[0], words[1]), on = 1, off = -1;
        if (fd < 0)
                return;
        socklen_t len = sizeof c.here;
        (void)getsockname(fd, (struct sockaddr *)&c.here, &len);
        (void)getpeername(fd, (struct sockaddr *)&c.there, &len);
        if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0)
                tell_end(out, errno);
        c.send_next = sequence_of(fd, TCP_SEND_QUEUE);
        c.receive_next = sequence_of(fd, TCP_RECV_QUEUE);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off);
        c.card = open_card(&c.to);
        (void)bind(c.card, (struct sockaddr *)&c.to, sizeof c.to);
        for (char **w = words + 3; *w; w++) {
                const char *colon = strchr(*w, ':');
                send_segment(&c, (uint32_t)atoi(*w), bytes, colon ? unhex(colon + 1, bytes, sizeof bytes) : 0);
        }
        hear_segments(out, &c, atoi(words[2]));
}

/* ---- */

static const struct verb {
        const char *name;
        int words; /* at least */
        void (*call)(FILE *out, char **words);
} verbs[] = {
        { "talk", 2, do_talk }, { "ask", 5, do_ask },     { "datagram", 4, do_datagram }, { "echo", 2, do_echo },
        { "raw", 3, do_raw },   { "frame", 1, do_frame }, { "listen", 1, do_listen },     { "overlap", 4, do_overlap },
};

static void carry_out(char *line) {
        char *words[WORDS_MAX + 1] = { 0 }, *text = NULL;
        size_t n = 0, len = 0;
        for (char *w = strtok(line, " \n"); w && n < WORDS_MAX; w = strtok(NULL, " \n"))
                words[n++] = w;
        if (n < 2)
                return;
        FILE *out = open_memstream(&text, &len);
        fprintf(out, "%s", words[0]);
        const struct verb *v = NULL;
        for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
                if (strcmp(words[1], verbs[i].name) == 0 && n >= (size_t)verbs[i].words + 2)
                        v = &verbs[i];
        if (v)
                v->call(out, words + 2);
        else
                fprintf(out, " unknown=%s", words[1]);
        fputc('\n', out);
        fclose(out);
        int lock = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        (void)flock(lock, LOCK_EX); /* whole lines */
        (void)!write(STDOUT_FILENO, text, len);
        _exit(0);
}

int main(void) {
        static char line[LINE_MAX_LEN];
        while (fgets(line, sizeof line, stdin))
                if (fork() == 0)
                        carry_out(line);
        while (wait(NULL) > 0)
                ;
        return 0;
}
