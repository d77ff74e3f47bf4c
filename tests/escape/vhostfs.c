/* A QEMU that was taken over, with a guest kernel of its own making: takes the socket of virtiofsd out of a stopped QEMU, gives
 * virtiofsd other memory and other rings, and then hands on whatever bytes it is told to. What they mean (FUSE) and what must
 * come of them is known by who drives it: raw_fuse.py. Static and without nixbox's code.
 *   vhostfs QEMU FD VIRTIOFSD      process ids, and the socket's number in QEMU, which is stopped
 * One line in, one line out. Numbers and bytes are hexadecimal; addresses are the guest's, RAM begins at 0.
 *   ask REQUEST SIZE [QUEUE]   puts the bytes into the queue (1), with room of SIZE for an answer
 *   ring QUEUE BYTES HEAD DESCRIPTOR...   puts the bytes at DATA and descriptors ADDRESS,LENGTH,FLAGS,NEXT at the ring's start
 * Answers: "answer BYTES", "gone" (virtiofsd has ended, or the thread of it that serves the rings), "error TEXT". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RAM (16u << 20)
#define RAM_SHOWN 0x7f0000000000ull /* where a QEMU would have it mapped: rings are told in such addresses */
#define QUEUES 2
#define QUEUE_SIZE 64u
#define QUEUE_STEP 0x4000u /* descriptors, then at a page each what is offered and what was used */
#define DATA (1u << 20)    /* where requests lie */
#define REPLY (8u << 20)   /* where answers go */
#define REPLY_MAX (4u << 20)
#define PATIENCE_MS 60000 /* for an answer that must come */
#define STEP_MS 50        /* after which it is seen that virtiofsd's thread has ended */
#define LINE_MAX_LEN (8u << 20)

enum { /* of the protocol of vhost-user */
       GET_FEATURES = 1,
       SET_FEATURES = 2,
       SET_MEM_TABLE = 5,
       SET_VRING_NUM = 8,
       SET_VRING_ADDR = 9,
       SET_VRING_BASE = 10,
       GET_VRING_BASE = 11,
       SET_VRING_KICK = 12,
       SET_VRING_CALL = 13,
       SET_VRING_ENABLE = 18,
       SAYS_VERSION = 1,
       SAYS_REPLY = 4,
       WANTS_REPLY = 8,
};
#define FEATURES (1ull << 28 | 1ull << 30 | 1ull << 32) /* indirect descriptors, the protocol's own, version 1 */

struct message {
        uint32_t request, flags, size;
        uint8_t body[4096];
} __attribute__((packed));

struct queue {
        struct vring_desc *desc;
        struct vring_avail *avail;
        struct vring_used *used;
        int kick, call;
        uint16_t seen;
};

static struct {
        int sock, ram_fd;
        uint8_t *ram;
        struct queue queue[QUEUES];
        const char *process;
        unsigned threads; /* that virtiofsd had at first */
} d = { .sock = -1 };

static _Noreturn void give_up(const char *what) {
        printf("error %s: %s\n", what, strerror(errno));
        exit(1);
}

/* ---- the socket */

static int say(uint32_t number, uint32_t flags, const void *body, uint32_t size, int fd) {
        struct message m = { .request = number, .flags = flags | SAYS_VERSION, .size = size };
        char room[CMSG_SPACE(sizeof fd)] = { 0 };
        struct iovec part = { &m, offsetof(struct message, body) + size };
        struct msghdr h = { .msg_iov = &part, .msg_iovlen = 1 };
        if (size > sizeof m.body)
                return -1;
        memcpy(m.body, body, size);
        if (fd >= 0) {
                h.msg_control = room;
                h.msg_controllen = sizeof room;
                struct cmsghdr *c = CMSG_FIRSTHDR(&h);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof fd);
                memcpy(CMSG_DATA(c), &fd, sizeof fd);
        }
        return sendmsg(d.sock, &h, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* 1: read; 0: nothing came; -1: virtiofsd is gone. */
static int hear(struct message *ret) {
        struct pollfd p = { .fd = d.sock, .events = POLLIN };
        if (poll(&p, 1, PATIENCE_MS) <= 0)
                return 0;
        size_t head = offsetof(struct message, body);
        if (recv(d.sock, ret, head, MSG_WAITALL) != (ssize_t)head || ret->size > sizeof ret->body)
                return -1;
        return ret->size == 0 || recv(d.sock, ret->body, ret->size, MSG_WAITALL) == (ssize_t)ret->size ? 1 : -1;
}

/* Says it and waits for the word that it was done. */
static void tell(uint32_t number, const void *body, uint32_t size, int fd, const char *what) {
        struct message m;
        uint64_t refused = 1;
        if (say(number, WANTS_REPLY, body, size, fd) < 0 || hear(&m) != 1)
                give_up(what);
        memcpy(&refused, m.body, m.size == sizeof refused ? sizeof refused : 0);
        if (number != GET_VRING_BASE && refused)
                give_up(what);
}

static void set_queue(uint32_t i) {
        struct queue *q = &d.queue[i];
        uint64_t base = RAM_SHOWN + (uint64_t)i * QUEUE_STEP;
        uint32_t num[2] = { i, QUEUE_SIZE }, start[2] = { i, 0 }, on[2] = { i, 1 };
        uint64_t fd = i;
        struct {
                uint32_t index, flags;
                uint64_t desc, used, avail, log;
        } where = { i, 0, base, base + 0x2000, base + 0x1000, 0 };
        uint8_t *at = d.ram + (size_t)i * QUEUE_STEP;
        *q = (struct queue){ .desc = (void *)at, .avail = (void *)(at + 0x1000), .used = (void *)(at + 0x2000) };
        q->kick = eventfd(0, EFD_CLOEXEC);
        q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        tell(SET_VRING_NUM, num, sizeof num, -1, "the queue's size");
        tell(SET_VRING_BASE, start, sizeof start, -1, "the queue's start");
        tell(SET_VRING_ADDR, &where, sizeof where, -1, "the queue's place");
        tell(SET_VRING_CALL, &fd, sizeof fd, q->call, "the queue's call");
        tell(SET_VRING_KICK, &fd, sizeof fd, q->kick, "the queue's kick");
        tell(SET_VRING_ENABLE, on, sizeof on, -1, "the queue");
}

static void take_over(int pid, int fd) {
        struct {
                uint32_t n, padding;
                uint64_t guest, size, shown, offset;
        } table = { 1, 0, 0, RAM, RAM_SHOWN, 0 };
        uint64_t features = FEATURES;
        int process = (int)syscall(SYS_pidfd_open, pid, 0);
        d.sock = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, fd, 0);
        d.ram_fd = memfd_create("ram", MFD_CLOEXEC);
        if (d.sock < 0 || d.ram_fd < 0 || ftruncate(d.ram_fd, RAM) < 0)
                give_up("QEMU's socket");
        d.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, d.ram_fd, 0);
        if (d.ram == MAP_FAILED)
                give_up("memory");
        for (uint32_t i = 0; i < QUEUES; i++)
                tell(GET_VRING_BASE, (uint32_t[2]){ i, 0 }, 8, -1, "QEMU's queue");
        tell(SET_FEATURES, &features, sizeof features, -1, "features");
        tell(SET_MEM_TABLE, &table, sizeof table, d.ram_fd, "the memory");
        for (uint32_t i = 0; i < QUEUES; i++)
                set_queue(i);
}

/* ---- lines */

static int nibble(char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes of a line to memory of that size; as many as fit. */
static size_t unhex(const char *text, uint8_t *to, size_t size) {
        size_t n = 0;
        for (; text && nibble(text[0]) >= 0 && nibble(text[1]) >= 0 && n < size; text += 2)
                to[n++] = (uint8_t)(nibble(text[0]) << 4 | nibble(text[1]));
        return n;
}

static void show(const uint8_t *bytes, size_t n) {
        printf("answer ");
        for (size_t i = 0; i < n; i++)
                printf("%02x", bytes[i]);
        printf("\n");
}

static uint64_t number(const char *text) {
        return text ? strtoull(text, NULL, 16) : 0;
}

/* ---- the rings */

static unsigned count_threads(void) {
        char path[64];
        (void)snprintf(path, sizeof path, "/proc/%s/task", d.process);
        DIR *dir = opendir(path);
        unsigned n = 0;
        while (dir && readdir(dir))
                n++;
        if (dir)
                closedir(dir);
        return n;
}

/* Offers a chain and waits until it was used. */
static void offer(struct queue *q, uint16_t head, uint32_t room) {
        struct pollfd p[] = { { .fd = q->call, .events = POLLIN }, { .fd = d.sock, .events = 0 } };
        uint64_t one = 1;
        int waited = 0;
        q->avail->ring[q->avail->idx % QUEUE_SIZE] = head;
        __atomic_store_n(&q->avail->idx, (uint16_t)(q->avail->idx + 1), __ATOMIC_SEQ_CST);
        (void)!write(q->kick, &one, sizeof one);
        while (__atomic_load_n(&q->used->idx, __ATOMIC_SEQ_CST) == q->seen) {
                int r = poll(p, 2, STEP_MS);
                waited += r == 0 ? STEP_MS : 0;
                if (p[1].revents & (POLLHUP | POLLERR) || count_threads() < d.threads || waited > PATIENCE_MS) {
                        printf(waited > PATIENCE_MS ? "error no answer\n" : "gone\n");
                        return;
                }
                (void)!read(q->call, &one, sizeof one);
        }
        uint32_t len = q->used->ring[q->seen++ % QUEUE_SIZE].len;
        show(d.ram + REPLY, len < room ? len : room);
}

static void ask(void) {
        size_t len = unhex(strtok(NULL, " \n"), d.ram + DATA, REPLY - DATA);
        uint32_t room = (uint32_t)number(strtok(NULL, " \n"));
        const char *which = strtok(NULL, " \n");
        struct queue *q = &d.queue[which ? number(which) % QUEUES : 1];
        room = room < REPLY_MAX ? room : REPLY_MAX;
        memset(d.ram + REPLY, 0, room);
        q->desc[0] = (struct vring_desc){ DATA, (uint32_t)len, room ? VRING_DESC_F_NEXT : 0, 1 };
        q->desc[1] = (struct vring_desc){ REPLY, room, VRING_DESC_F_WRITE, 0 };
        offer(q, 0, room);
}

static void ring(void) {
        struct queue *q = &d.queue[number(strtok(NULL, " \n")) % QUEUES];
        const char *bytes = strtok(NULL, " \n");
        uint16_t head = (uint16_t)number(strtok(NULL, " \n"));
        unhex(bytes, d.ram + DATA, REPLY - DATA);
        for (uint32_t i = 0; i < QUEUE_SIZE; i++) {
                char *at = strtok(NULL, " \n");
                if (!at)
                        break;
                uint64_t part[4] = { 0 };
                for (size_t k = 0; k < 4; k++, at += *at == ',')
                        part[k] = strtoull(at, &at, 16);
                q->desc[i] = (struct vring_desc){ part[0], (uint32_t)part[1], (uint16_t)part[2], (uint16_t)part[3] };
        }
        offer(q, head, 4096);
}

int main(int argc, char **argv) {
        static const struct {
                const char *name;
                void (*run)(void);
        } commands[] = { { "ask", ask }, { "ring", ring } };
        static char line[LINE_MAX_LEN];
        if (argc != 4)
                return 2;
        d.process = argv[3];
        d.threads = count_threads();
        take_over(atoi(argv[1]), atoi(argv[2]));
        printf("answer \n");
        while (fflush(stdout) == 0 && fgets(line, sizeof line, stdin)) {
                const char *name = strtok(line, " \n");
                size_t i = 0;
                while (i < sizeof commands / sizeof *commands && name && strcmp(name, commands[i].name) != 0)
                        i++;
                if (!name || i == sizeof commands / sizeof *commands)
                        printf("error no such command\n");
                else
                        commands[i].run();
        }
        return 0;
}
