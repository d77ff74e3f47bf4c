/* What the files of the proxy share. Nothing outside src/gateway/proxy*.c, dial.c and their tests includes this. */
#pragma once
#include <openssl/types.h>
#include <sys/queue.h>

#include "gateway/impl.h"
#include "gateway/proxy_head.h"

struct proxy_pump;
struct proxy {
        struct gateway *g;
        struct proxy_url url;
        char *no_proxy;
        SSL_CTX *tls;                             /* NULL: http:// */
        LIST_HEAD(proxy_pumps, proxy_pump) pumps; /* tunnels through TLS that are open */
};

/** A tunnel through the proxy to a name. Calls `done` once, never before it returns: with a connected descriptor, the
 * receiver's; or with -1, a positive errno and why, for people. There is no deadline. */
struct proxy_dial;
typedef void (*proxy_fn)(void *user, int fd, int code, const char *reason);
struct proxy_dial *proxy_dial(struct proxy *p, const char *name, uint16_t port, proxy_fn done, void *user);
/** Gives up; `done` is not called. NULL is fine. */
void proxy_dial_free(struct proxy_dial *d);

/* ---- proxy_tls.c: the only user of OpenSSL */
#define PROXY_AGAIN_READ (-EAGAIN)       /* when the socket can be read, and */
#define PROXY_AGAIN_WRITE (-EINPROGRESS) /* when it can be written, the same call again */

/** What connections to the proxy have in common. Reads files never; must be called before the jail is shut all the same. */
int proxy_tls_new(const char *ca, SSL_CTX **ret, struct nb_error *err);
void proxy_tls_free(SSL_CTX *tls);
/** One connection to the proxy over a non-blocking socket, which stays the caller's. NULL if it cannot be made. */
SSL *proxy_tls_begin(SSL_CTX *tls, const struct proxy_url *url, int fd);
void proxy_tls_end(SSL *ssl);
/** 0, PROXY_AGAIN_*, or a negative errno. */
int proxy_tls_handshake(SSL *ssl);
/** Why the handshake failed, for people. New string. */
char *proxy_tls_problem(SSL *ssl);
/** Bytes moved, 0 at the end (reading), PROXY_AGAIN_*, or a negative errno. */
ssize_t proxy_tls_read(SSL *ssl, void *bytes, size_t len);
ssize_t proxy_tls_write(SSL *ssl, const void *bytes, size_t len);
/** Nothing more will be written. */
void proxy_tls_shut(SSL *ssl);

/* ---- proxy_pump.c */
/** Joins a TLS connection (taking over it and its socket) with one end of a new pair of sockets; `first` are bytes that came
 * from it already. Returns the other end, or -errno. */
int proxy_pump_new(struct proxy *p, SSL *ssl, int far, const void *first, size_t first_len);
void proxy_pump_free_all(struct proxy *p);
