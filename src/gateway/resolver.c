/* The resolver process: canonical names in, what the host's resolver says about them out. It is apart from the gateway because
 * the host's resolver needs files and sockets of every kind. One thread reads questions; a few others, started when there is
 * work, wait for the host. It parses nothing that the guest wrote but canonical names. */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "gateway/gateway.h"
#include "gateway/resolver_host.h"
#include "jail/jail.h"

#define THREADS_MAX 16u
#define THREAD_STACK (512u * 1024u) /* modules of the host's name service are not ours */
#define LINKS_CHECK_MS 3000         /* how often the interfaces are looked at when nobody asks */

struct job {
        struct resolver_request request;
        uint64_t asked_ms;
};

struct resolver {
        pthread_mutex_t queue_lock; /* what follows */
        pthread_cond_t work;
        struct job jobs[RESOLVER_PENDING_MAX]; /* a ring */
        size_t first, n_jobs;
        unsigned threads, idle;

        pthread_mutex_t send_lock; /* what follows, and that an answer never overtakes the links it was judged by */
        struct resolver_links links;
        bool links_told;
};

/* ---- to the gateway */

/* Without the gateway there is nothing to do, and waiting threads cannot be called back. */
static void say(const struct nb_buf *message) {
        ssize_t n;
        do
                n = send(RESOLVER_FD, nb_buf_bytes(message), message->len, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                _exit(errno == EPIPE || errno == ECONNRESET ? GATEWAY_EXIT_OVER : GATEWAY_EXIT_FAILED);
}

/* With send_lock held. */
static void refresh_links(struct resolver *r) {
        struct resolver_links now;
        resolver_host_links(&now);
        if (r->links_told && resolver_links_equal(&now, &r->links))
                return;
        r->links = now;
        r->links_told = true;
        NB_AUTO_BUF message = { 0 };
        resolver_put_links(&message, &now);
        say(&message);
}

static void tell_links(struct resolver *r) {
        (void)pthread_mutex_lock(&r->send_lock);
        refresh_links(r);
        (void)pthread_mutex_unlock(&r->send_lock);
}

static void tell_answer(struct resolver *r, uint32_t id, struct resolver_answer *a) {
        NB_AUTO_BUF message = { 0 };
        (void)pthread_mutex_lock(&r->send_lock);
        if (a->n_addrs > 0)
                refresh_links(r);
        for (size_t i = 0; i < a->n_addrs; i++)
                a->addrs[i].own = resolver_links_hold(&r->links, &a->addrs[i].addr);
        resolver_put_answer(&message, id, a);
        say(&message);
        (void)pthread_mutex_unlock(&r->send_lock);
}

/* ---- the threads */

static void answer(struct resolver *r, const struct job *job) {
        NB_AUTO_BUF space = { 0 };
        struct resolver_answer a = { .status = RESOLVER_FAILED };
        if (nb_now_ms() - job->asked_ms < RESOLVER_TIMEOUT_MS) /* else nobody waits for it any more */
                resolver_host_ask(job->request.name, job->request.type, &space, &a);
        tell_answer(r, job->request.id, &a);
}

static void *serve(void *user) {
        struct resolver *r = user;
        (void)pthread_mutex_lock(&r->queue_lock);
        for (;;) {
                r->idle++;
                while (r->n_jobs == 0)
                        (void)pthread_cond_wait(&r->work, &r->queue_lock);
                r->idle--;
                struct job job = r->jobs[r->first];
                r->first = (r->first + 1) % RESOLVER_PENDING_MAX;
                r->n_jobs--;
                (void)pthread_mutex_unlock(&r->queue_lock);
                answer(r, &job);
                (void)pthread_mutex_lock(&r->queue_lock);
        }
        return NULL;
}

/* With queue_lock held. */
static bool start_thread(struct resolver *r) {
        pthread_attr_t attr;
        pthread_t thread;
        (void)pthread_attr_init(&attr);
        (void)pthread_attr_setstacksize(&attr, THREAD_STACK);
        (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        bool ok = pthread_create(&thread, &attr, serve, r) == 0;
        (void)pthread_attr_destroy(&attr);
        r->threads += ok;
        return ok;
}

static bool enqueue(struct resolver *r, const struct resolver_request *q) {
        (void)pthread_mutex_lock(&r->queue_lock);
        bool room = r->n_jobs < RESOLVER_PENDING_MAX;
        if (room && r->n_jobs >= r->idle && r->threads < THREADS_MAX)
                room = start_thread(r) || r->threads > 0;
        if (room) {
                r->jobs[(r->first + r->n_jobs++) % RESOLVER_PENDING_MAX] =
                    (struct job){ .request = *q, .asked_ms = nb_now_ms() };
                (void)pthread_cond_signal(&r->work);
        }
        (void)pthread_mutex_unlock(&r->queue_lock);
        return room;
}

/* ---- questions */

/* Returns the process's exit status, or -1 to go on. */
static int take_request(struct resolver *r) {
        uint8_t bytes[RESOLVER_REQUEST_MAX + 1]; /* one more, to tell what is too long */
        struct resolver_request q;
        ssize_t n = recv(RESOLVER_FD, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return -1;
        if (n <= 0)
                return n == 0 || errno == ECONNRESET ? GATEWAY_EXIT_OVER : GATEWAY_EXIT_FAILED;
        if (resolver_read_request(bytes, (size_t)n, &q) < 0) {
                nb_log(NB_LOG_ERROR, "the gateway asked for something that is not a name");
                return GATEWAY_EXIT_FAILED;
        }
        if (!enqueue(r, &q)) {
                struct resolver_answer busy = { .status = RESOLVER_BUSY };
                tell_answer(r, q.id, &busy);
        }
        return -1;
}

static int loop(struct resolver *r) {
        for (;;) {
                struct pollfd p = { .fd = RESOLVER_FD, .events = POLLIN };
                int n = poll(&p, 1, LINKS_CHECK_MS);
                int status = n > 0 ? take_request(r) : -1;
                if (status >= 0)
                        return status;
                if (n == 0)
                        tell_links(r);
        }
}

int resolver_main(int argc, char **argv) {
        static const int keep[] = { 0, 1, 2, RESOLVER_FD, RESOLVER_FD_LOG };
        struct resolver *r = nb_calloc(1, sizeof *r);
        NB_AUTO_ERROR err = { 0 };
        uint64_t unused_id = 0;
        nb_log_to(RESOLVER_FD_LOG, "resolver");
        tzset();
        (void)signal(SIGPIPE, SIG_IGN); /* a name server may hang up on the library */
        (void)mallopt(M_ARENA_MAX, 2);  /* else each thread keeps memory of its own */
        if (argc != 2 || nb_parse_uint(argv[1], UINT32_MAX, &unused_id) < 0) {
                nb_log(NB_LOG_ERROR, "started with wrong arguments");
                return GATEWAY_EXIT_FAILED;
        }
        if (jail_lessen_self((unsigned)unused_id, keep, NB_ARRAY_LEN(keep), &err) < 0) {
                nb_log(NB_LOG_ERROR, "%s", err.what);
                return GATEWAY_EXIT_FAILED;
        }
        (void)pthread_mutex_init(&r->queue_lock, NULL);
        (void)pthread_mutex_init(&r->send_lock, NULL);
        (void)pthread_cond_init(&r->work, NULL);
        tell_links(r);
        _exit(loop(r)); /* threads may be waiting for the host; the kernel takes back the rest */
}
