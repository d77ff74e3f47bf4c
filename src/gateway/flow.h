/* What the files about connections (flow*.c) share. One connection of the guest is one struct flow, from accept to the end. */
#pragma once
#include <sys/queue.h>

#include "gateway/impl.h"
#include "gateway/look.h"

enum flow_state {
        FLOW_DIALING,  /* the far end is being connected to; the client's first bytes are looked at without being taken */
        FLOW_RELAYING, /* bytes go both ways */
        FLOW_REFUSING, /* not allowed: its first bytes say in which words it can be told */
        FLOW_LEAVING,  /* told; it may read that before the connection ends */
};
struct flow {
        struct flows *all;
        LIST_ENTRY(flow) link;
        enum flow_state state;
        int fd;                /* the client; -1 while a relay has it */
        struct event readable; /* of fd */
        struct event timer;
        struct addr to; /* where the guest connected to */
        uint16_t port;
        uint32_t synthetic; /* the held address of a name, 0: none */
        char *name;         /* what that address stands for; NULL: the guest connected to an address */
        char *label;        /* what people read: name, or name asked for, or address */
        struct policy_decision found;
        struct look look;
        size_t looked; /* bytes that were looked at while dialling */
        struct dial *dial;
        struct relay *relay;
        struct addr far; /* what was really connected to; family 0: not known */
        uint64_t begun_ms, up, down;
        uint64_t unsure_ms;           /* since when the client's bytes wait because they may become anything; 0: none do */
        uint64_t half_ms, half_moved; /* when, after one side had closed, and at how many bytes it was last looked at */
        bool told;                    /* an event says that it is open */
        bool spent;                   /* its rule's limit is used up */
        uint8_t alert;                /* for a client that is refused and speaks TLS */
        char *why;                    /* the refusal, in words */
        char *command;                /* and what would allow it, NULL: nothing short */
};
LIST_HEAD(flow_list, flow);

struct flows {
        struct gateway *g;
        int fd; /* listening */
        struct event acceptable, again, spent, quiet;
        struct flow_list list;
        unsigned n, max, peak;
        bool strict; /* some rule denies a name: matters to connections that are not bound to one */
};

/* ---- flow.c */
/** Forgets the connection; with `reset` its ends see a RST. */
void flow_free(struct flow *f, bool reset);
/** Runs (again) after this time. */
void flow_wait(struct flow *f, unsigned ms);
/* ---- flow_refuse.c */
/** Says no: takes `why` over, tells the event, and answers the client in its own protocol before the RST. */
void flow_refuse(struct flow *f, char *why);
/** The same for a client whose protocol is known, on a descriptor taken out of a relay (-1: it cannot be told). */
void flow_refuse_late(struct flow *f, char *why, int fd);
/** The client said something, or the time is over, in the states REFUSING and LEAVING. */
void flow_refusing(struct flow *f);
void flow_refusing_over(struct flow *f);
/** Tells about an allowed connection; with `ended` the figures, and with `reason` why it did not come to anything. */
void flow_tell(struct flow *f, bool ended, const char *reason);
