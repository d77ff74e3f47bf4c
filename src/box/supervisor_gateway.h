/* The box's way out as the supervisor has it: the network namespace, the gateway with its helpers, what is known of them, and
 * what is kept so that they can be started again as they were.
 *   supervisor_gateway.c        the processes: start, death, restart, end
 *   supervisor_gateway_line.c   the line to the gateway: what is said, and what is taken of what it says
 *   supervisor_gateway_table.c  what outlives a gateway: names, totals, what was used of limits
 *   supervisor_policy.c         rules that change while the box runs; why
 *   supervisor_ports.c          published ports */
#pragma once
#include "box/netns.h"
#include "box/supervisor_requests.h"

#define EGRESS_RESTARTS_MAX 3

enum egress_state {
        EGRESS_DOWN,     /* nothing runs; what comes from the guest is refused */
        EGRESS_STARTING, /* not ready yet */
        EGRESS_UP,
};

struct egress_total {
        char *host; /* a name or an address */
        char *rule; /* the last one that let something through to it; "" if none */
        uint64_t up, down;
};
struct egress_used {
        char *rule;
        uint64_t bytes;
};
struct egress_table; /* supervisor_gateway_table.c */

struct egress {
        struct supervisor *super;
        struct netns net;
        int program;
        enum egress_state state;
        bool was_up;
        unsigned restarts;
        char *why;                 /* it is down */
        unsigned changes, applied; /* policies sent after the start, and those that the gateway has put in force */
        struct event *ready_timer, *restart_timer, *applied_timer;

        int line_fd; /* JSON lines to and from the gateway */
        struct event *readable, *writable, *pause_timer;
        struct nb_buf in, out;
        uint64_t budget, budget_ms; /* lines that may be taken now, and since when */

        int ports_fd;  /* to the gateway: sockets of published ports */
        int portal_fd; /* the portal's end, until there is a portal */
        struct egress_table *table;
};

/* supervisor_gateway.c */
/** Makes the network and starts the processes. Nothing if the mode is off. */
int egress_begin(struct supervisor *s, struct nb_error *err);
/** Waits until the gateway is ready: nothing may run in the box before. */
int egress_wait(struct supervisor *s, struct nb_error *err);
/** For QEMU, once; -1: no network device. The caller's. */
int egress_take_tap(struct supervisor *s);
/** A process of these has died, as `death` says. */
void egress_died(struct supervisor *s, const struct child *c, const char *death);
/** The gateway said something that it must not, or nothing: away with all of them. */
void egress_broke(struct egress *e, const char *fmt, ...) NB_PRINTF(2, 3);
/** Tells them that it is over; they report and end. */
void egress_over(struct supervisor *s);
void egress_free(struct supervisor *s);
/** What one of its processes may use. */
struct helper_limits egress_limits(enum child_role role);
/** What status shows of the network besides its mode. */
json_t *egress_status(const struct supervisor *s);
int egress_start_portal(struct egress *e, struct nb_error *err);
/** The gateway says that it is ready. */
void egress_ready(struct egress *e);
/** The gateway says that a change of policy is in force. */
void egress_applied(struct egress *e);
/** Sends the policy of this moment. Returns the number of the change that `applied` must reach; 0: it is in force as far as
 *  anything is, since there is no gateway and the next one starts with it. */
unsigned egress_policy(struct supervisor *s);

/* supervisor_gateway_line.c */
int egress_line_begin(struct egress *e, int fd, struct nb_error *err);
void egress_line_end(struct egress *e);
/** Sends one document; the reference is taken over. */
void egress_say(struct egress *e, json_t *doc);

/* supervisor_gateway_table.c */
struct egress_table *egress_table_new(void);
void egress_table_free(struct egress_table *t);
/** A name has an address (host order), or 0: has none any more. Beyond what is kept names are forgotten: after a restart they
 *  get another address, as after their time. */
void egress_table_name(struct egress_table *t, const char *name, uint32_t address);
void egress_table_total(struct egress_table *t, const char *host, const char *rule, uint64_t up, uint64_t down);
/** From now on what is sent under these rules counts, where they have a limit. */
void egress_table_limits(struct egress_table *t, const struct policy *p);
/** For the start message: [["name","198.18.0.5"],...] and [[RULE, bytes],...]. */
json_t *egress_table_names(const struct egress_table *t);
json_t *egress_table_used(const struct egress_table *t);
/** For status: destinations with most bytes first. */
json_t *egress_table_totals(const struct egress_table *t);

/* supervisor_policy.c */
/** The rules in force as words. */
json_t *policy_words(const struct policy *p);
/** Adds a rule (taking over what it owns) as one that was added while the box runs; those of the opposite kind that were, and
 *  that it takes back, go. */
int policy_change(struct policy *p, struct policy_rule *rule, struct nb_error *err);
void on_policy(struct super_client *c, const json_t *request);
void on_why(struct super_client *c, const json_t *request);
void on_saved(struct super_client *c, const json_t *request);

/* supervisor_ports.c */
json_t *ports_status(const struct supervisor *s);
/** Gives the gateway all published ports, with a portal if there are any. */
int ports_send(struct egress *e, struct nb_error *err);
void on_port(struct super_client *c, const json_t *request);
