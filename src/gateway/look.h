/* What a client's bytes on one connection say about where they want to go: TLS by its server name, HTTP by each request's Host,
 * anything else nothing. Decides whether they may pass. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/name.h"

#define LOOK_PASSED_MAX 256u
enum look_kind { LOOK_UNKNOWN, LOOK_TLS, LOOK_HTTP, LOOK_OTHER };
struct http;
struct look {
        const char *host; /* borrowed: the connection's name, and no other may be asked for; NULL: bound to no name */
        uint16_t port;
        bool strict; /* without a name: refuse what `allowed` says no to, and what cannot be read; else everything passes */
        bool (*allowed)(void *user, const char *host); /* may that name ("": none) be asked for? */
        void *user;
        enum look_kind kind;
        bool settled;    /* everything passes from here on */
        bool overdue;    /* the client waits, having said too little to tell: that may pass, and is judged with what follows */
        uint8_t *passed; /* such bytes, */
        size_t n_passed; /* at most LOOK_PASSED_MAX */
        struct http *http;
        const char *problem;          /* of a refusal, for people */
        char asked[NAME_MAX_LEN + 1]; /* the name last asked for, "" if none or not a name */
        uint8_t told[12];             /* the server's first bytes, after a request for a websocket */
        uint8_t n_told;
};
/** How many of these bytes, from the front, may pass; 0: more are needed; negative: refused. What did not pass is given again.
 */
ssize_t look_up(struct look *l, const uint8_t *bytes, size_t len);
/** Nothing follows what was given last. May it pass after all? */
bool look_end(struct look *l);
/** The server's bytes. */
void look_down(struct look *l, const uint8_t *bytes, size_t len);
/** Is it known where the client wants to go? */
bool look_done(const struct look *l);
void look_clear(struct look *l);
