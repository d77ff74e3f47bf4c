/* The host's proxy: its URL, and which names go past it (NO_PROXY). Shared by those who read the caller's environment, enforce
 * and explain. Nothing here repeats a URL in a message: it may hold a password. Pure. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "policy/addr.h"

#define PROXY_URL_MAX 2048u
#define PROXY_NO_PROXY_MAX (64u * 1024u)

struct proxy_url {
        bool tls;          /* https:// */
        char *host;        /* canonical name; NULL: an address */
        struct addr addr;  /* where host is NULL */
        uint16_t port;     /* 80 or 443 unless the URL names one */
        char *credentials; /* "user:password", decoded; NULL: none */
};
/** "http://[USER:PASSWORD@]HOST[:PORT][/]", https:// likewise; without a scheme it is http://. -EINVAL says what is wrong. */
int proxy_url_parse(const char *text, struct proxy_url *ret, struct nb_error *err);
void proxy_url_clear(struct proxy_url *u);
/** Does the list, as curl reads NO_PROXY, take this canonical name past the proxy? Items are separated by commas or spaces:
 *  "*" alone is everything; a name is itself and what is below it, with a dot or "*." before it too; ":PORT" restricts it to
 * that port. Addresses and ranges in it never match a name. NULL is an empty list. */
bool proxy_passed_by(const char *no_proxy, const char *name, uint16_t port);
/** Where there is a proxy: is a connection to this canonical name made through it? A `private` rule and the host's own name
 * mean somewhere near, which is connected to directly. */
bool proxy_serves(const char *no_proxy, const char *name, uint16_t port, bool private);
