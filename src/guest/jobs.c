/* Slow requests (see jobs.h). A job's process writes its answer, REPLY's payload, into a pipe that is read when it ended. */
#include "jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "guest/memory.h"
#include "guest/share.h"
#include "guest/spawn.h"

#define QUEUE_MAX 64u
#define TEXT_MAX 16384u /* fits a pipe, so that a job never waits for us */

struct job {
        uint8_t type;
        uint32_t request;
        uint64_t flags;
        struct mount_request mount;
        const struct setup *setup;
        int old_root, cgroup;
        struct job *next;
};

struct jobs {
        struct port *port;
        struct job *first; /* the one that runs, if pid is set */
        pid_t pid;
        int answer;
        unsigned n;
};

struct jobs *jobs_new(struct port *port) {
        struct jobs *j = nb_calloc(1, sizeof *j);
        j->port = port;
        j->answer = -1;
        return j;
}

static void add_reply(struct nb_buf *payload, int code, const char *text) {
        size_t len = text ? strlen(text) : 0;
        wire_tlv_u32(payload, WIRE_T_ERRNO, (uint32_t)code);
        if (len > 0)
                wire_tlv_bytes(payload, WIRE_T_TEXT, text, len < TEXT_MAX ? len : TEXT_MAX);
}

void jobs_reply(struct port *port, uint32_t request, int code, const char *text) {
        NB_AUTO_BUF payload = { 0 };
        add_reply(&payload, code, text);
        wire_put(&port->out, WIRE_REPLY, 0, request, nb_buf_bytes(&payload), payload.len);
}

static int perform(const struct job *job, struct nb_error *err) {
        switch (job->type) {
        case WIRE_MOUNT: return share_mount(job->old_root, job->setup, &job->mount, err);
        case WIRE_UNMOUNT: return share_unmount(job->old_root, &job->mount, err);
        default: return memory_reclaim(job->flags, job->cgroup, err);
        }
}

static _Noreturn void job_process(const struct job *job, int answer) {
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_BUF payload = { 0 };
        if (perform(job, &err) == 0) {
                add_reply(&payload, 0, NULL);
        } else {
                NB_AUTO_FREE char *text = nb_asprintf("%s%s%s", err.what, err.hint ? "\n" : "", err.hint ? err.hint : "");
                add_reply(&payload, err.code, text);
        }
        (void)nb_write_all(answer, nb_buf_bytes(&payload), payload.len);
        _exit(0);
}

static void drop_first(struct jobs *j) {
        struct job *job = j->first;
        j->first = job->next;
        j->n--;
        mount_request_clear(&job->mount);
        free(job);
}

static void start_next(struct jobs *j) {
        while (j->first && j->pid == 0) {
                int fd[2];
                int pid = pipe2(fd, O_CLOEXEC) < 0 ? -errno : spawn_helper();
                if (pid == 0)
                        job_process(j->first, fd[1]);
                if (pid > 0) {
                        nb_close(fd[1]);
                        j->answer = fd[0];
                        j->pid = pid;
                        return;
                }
                jobs_reply(j->port, j->first->request, -pid, "no process for the request");
                drop_first(j);
        }
}

void jobs_add(struct jobs *j, const struct wire_frame *f, const struct setup *setup, int old_root, int cgroup) {
        struct job *job = nb_calloc(1, sizeof *job);
        *job = (struct job){ .type = f->type, .request = f->stream, .setup = setup, .old_root = old_root, .cgroup = cgroup };
        NB_AUTO_ERROR err = { 0 };
        int r =
            f->type == WIRE_RECLAIM ? wire_get_u64(f, &job->flags) : mount_request_parse(f->payload, f->len, &job->mount, &err);
        if (r == 0 && j->n >= QUEUE_MAX)
                r = nb_fail(&err, EAGAIN, "too many requests at once");
        if (r == 0 && !setup)
                r = nb_fail(&err, EAGAIN, "the box is not set up");
        if (r < 0) {
                jobs_reply(j->port, f->stream, -r, err.what);
                mount_request_clear(&job->mount);
                free(job);
                return;
        }
        struct job **end = &j->first;
        while (*end)
                end = &(*end)->next;
        *end = job;
        j->n++;
        start_next(j);
}

bool jobs_reaped(struct jobs *j, pid_t pid) {
        if (j->pid == 0 || pid != j->pid)
                return false;
        NB_AUTO_FREE char *payload = NULL;
        size_t len = 0;
        if (nb_read_fd(j->answer, WIRE_GUEST_MAX, &payload, &len) == 0 && len > 0)
                wire_put(&j->port->out, WIRE_REPLY, 0, j->first->request, payload, len);
        else
                jobs_reply(j->port, j->first->request, EIO, "the request's process ended without an answer");
        j->answer = nb_close(j->answer);
        j->pid = 0;
        drop_first(j);
        start_next(j);
        return true;
}
