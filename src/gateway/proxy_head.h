/* What is said to an HTTP proxy, and how its answer begins (RFC 9110, 9.3.6; RFC 9112). Strict: an answer that can be read in
 * two ways is an error. Pure. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "policy/proxy.h"

#define PROXY_HEAD_MAX (16u * 1024u)
#define PROXY_REASON_MAX 120u

/** The whole request for a tunnel to name:port. New string, which may hold a password: wipe it. */
char *proxy_request(const struct proxy_url *proxy, const char *name, uint16_t port);

struct proxy_answer {
        unsigned status;
        char reason[PROXY_REASON_MAX + 1]; /* the proxy's words, printable ASCII only */
};
/** Reads the head of an answer. The length of the head (what follows belongs to the tunnel); 0: more is needed; -EPROTO;
 *  -E2BIG: there is no end to it. */
ssize_t proxy_answer_read(const uint8_t *bytes, size_t len, struct proxy_answer *ret);
