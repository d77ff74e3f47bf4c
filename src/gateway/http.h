/* HTTP/1 requests on a plain connection, strict: each request must name the connection's host, and there must be one reading of
 * where it ends (RFC 9112), or the connection ends. Bodies are passed on without being kept. Pure.
 * Refused: any other Host (or absolute target), none or two of them, CONNECT and TRACE, Content-Length together with
 * Transfer-Encoding, lists and odd spellings of either, chunked with anything else, chunk extensions and trailers, bare LF or
 * CR, NUL, folded lines, space before the colon, HTTP/0.9, HTTP/2 by prior knowledge, heads over 16 kB, a request for a
 * websocket that is not the first one. Any other upgrade is passed on, but what follows must still be HTTP/1. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/name.h"

#define HTTP_HEAD_MAX (16u * 1024u)

struct http {
        const char *host;             /* borrowed: what Host must be; NULL: `allowed` says */
        uint16_t port;                /* Host may name it; must, unless it is 80 */
        uint8_t state;                /* http.c, like the next two */
        size_t scanned;               /* bytes of a waiting head that need not be looked at again */
        uint64_t left;                /* of a body or chunk */
        int code;                     /* what ended it */
        unsigned requests;            /* heads seen */
        bool upgrade;                 /* the first request asks for a websocket: see http_switched() */
        bool raw;                     /* passing everything */
        const char *problem;          /* why it was refused, for people */
        char method[24];              /* of the last request head, and */
        char asked[NAME_MAX_LEN + 1]; /* the host it named, "" if none that is one */
        /* Where host is NULL: may a request to this host pass ("" for none and for addresses)? NULL: any may. Set after
         * http_begin(). */
        bool (*allowed)(void *user, const char *host);
        void *user;
};
void http_begin(struct http *h, const char *host, uint16_t port);
/** Could a server take these bytes for the start of an HTTP/1 request ("GET /...", with whatever blanks in front)? 1 yes, 0
 * more bytes are needed, -EPROTO no. */
int http_looks(const uint8_t *bytes, size_t len);
/** Looks at bytes from the client; returns how many of them, from the front, may be passed on now; 0: more are needed.
 *  -EPROTO: malformed; -EACCES: names another host. Bytes not passed must be given again. Good bytes in front of a bad request
 *  pass first: where some pass and some are left, call again at once with what is left. */
ssize_t http_up(struct http *h, const uint8_t *bytes, size_t len);
/** The server's first bytes (12 are enough): 101 to an upgrade makes everything after it pass; else it stays HTTP. While
 * upgrade is set and this was not answered, http_up() passes nothing after the first request. 1 settled, 0 more are needed. */
int http_switched(struct http *h, const uint8_t *bytes, size_t len);
/** A whole 403 answer that says which host was asked for and how its owner can allow it. New string. */
char *http_refusal(const char *host, const char *why, const char *command);
