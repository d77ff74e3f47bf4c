/* Between the connections (supervisor_control.c) and what they may ask for (supervisor_requests.c). */
#pragma once
#include "box/supervisor_impl.h"

#define CLIENT_FDS_MAX 4

enum client_state { CLIENT_READING, CLIENT_WAITING, CLIENT_ANSWERED };
enum client_wait { WAITS_GUEST, WAITS_READY, WAITS_END, WAITS_POLICY };

/* A request that the guest is working on; outlives its client. */
struct super_op {
        struct super_client *client; /* NULL: gone */
        struct start_mount mount;
        bool force;
        unsigned tries;
        struct event *retry;
        struct supervisor *super;
};

struct super_client {
        TAILQ_ENTRY(super_client) link;
        struct supervisor *super;
        int fd;
        enum client_state state;
        enum client_wait waits_for;
        struct event *readable, *writable;
        struct nb_buf in, out;
        int fds[CLIENT_FDS_MAX];
        size_t n_fds;
        uint32_t session; /* after the answer the connection goes to the conduit under this number */
        struct super_op *op;
        unsigned change; /* POLICY: which one, see egress_policy() */
};

/** Answers {"ok": true, …} (reference taken over; NULL: nothing more) and closes; the client may be gone afterwards. */
void client_answer(struct super_client *c, json_t *answer);
void client_refuse(struct super_client *c, int code, const char *hint, const char *fmt, ...) NB_PRINTF(4, 5);
/** A line before the answer. */
void client_progress(struct super_client *c, json_t *line);

/* supervisor_guard.c */
void on_review(struct super_client *c, const json_t *request);

void request_dispatch(struct super_client *c, const json_t *request);
