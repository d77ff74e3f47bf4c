/* The state shared by the two halves of the conduit's state machine, conduit_core.c and conduit_client.c, and by nobody
 * else. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "wire/wire.h"

#define CONDUIT_GUEST_OUT_MAX (128u * 1024u) /* while more than this waits for the guest, nothing that can wait is added */
#define REQUESTS_MAX 64u                     /* questions to the guest that it has not answered yet */

enum session_state {
        SESSION_NEW,     /* connected, nothing opened yet */
        SESSION_OPENED,  /* OPEN was passed to the guest */
        SESSION_STARTED, /* the guest says that the command runs */
        SESSION_EXITED,  /* the guest is done with the stream; the client may still be reading */
};

/* One of stdout and stderr, on its way from the guest to a client. */
struct output {
        struct nb_buf data; /* at most WIRE_WINDOW: credit + data.len never exceeds it */
        uint32_t credit;    /* bytes the guest may still send */
        bool eof, eof_told;
};

struct session {
        enum session_state state;
        uint32_t number;    /* the supervisor's */
        uint32_t stream;    /* toward the guest; 0 before OPEN */
        uint32_t client_id; /* the stream id the client chose */
        bool attached;      /* the client is connected */
        bool done;          /* disconnect it when to_client is written */
        bool close_sent, stdin_eof;
        bool tell_started;
        uint32_t stdin_credit; /* bytes the client may still send */
        uint32_t stdin_grant;  /* of these, what it has not been told yet */
        uint32_t exit_status, exit_signal;
        struct output out[2];
        unsigned turn;           /* which of out[] goes first next time */
        struct nb_buf in;        /* from the client, not yet passed on */
        struct nb_buf to_client; /* whole frames */
};

struct request {
        uint32_t id;
        uint8_t type;
};

struct conduit {
        struct session *slots[WIRE_STREAMS_MAX];
        uint32_t generation; /* of the last stream id given out */
        unsigned next;       /* slot whose turn it is */
        unsigned top;        /* no slot at or above this is in use */
        struct request requests[REQUESTS_MAX];
        size_t n_requests;
        struct nb_buf from_guest, from_super, guest_out, super_out;
        bool ready, failed, bye;
        char *reason; /* why the box ends, as far as known */
};

void conduit_slot_free(struct conduit *c, unsigned slot);
void conduit_report_exit(struct conduit *c, uint32_t session, uint32_t status, uint32_t signal);
/* Tells the client why (WIRE_BYE) after the output held for it, and is done with it. */
void conduit_dismiss(struct session *s, const char *why);
