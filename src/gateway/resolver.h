/* Between gateway and resolver: one request or answer a message on a seqpacket socket. The resolver checks that the name is
 * canonical and asks the host's resolver; the gateway checks every length in the answer, since its content came from the
 * network. Addresses come with a mark that tells the host's own ones, and those on networks the host is directly attached to.
 */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "policy/addr.h"
#include "policy/name.h"

#define RESOLVER_ADDRS_MAX 32
#define RESOLVER_RECORDS_MAX 64
#define RESOLVER_RDATA_MAX 1024 /* of one record */
#define RESOLVER_MESSAGE_MAX (16u * 1024u)
#define RESOLVER_PENDING_MAX 256u
#define RESOLVER_TIMEOUT_MS 15000u

enum resolver_status { RESOLVER_OK, RESOLVER_NONE, RESOLVER_NODATA, RESOLVER_FAILED, RESOLVER_BUSY };
struct resolver_addr {
        struct addr addr;
        bool own; /* of this host, or of a network it is attached to */
};
struct resolver_record {
        uint32_t ttl;
        uint16_t type;
        uint16_t len;
        const uint8_t *rdata; /* names in it uncompressed */
};
struct resolver_answer {
        enum resolver_status status;
        struct resolver_addr addrs[RESOLVER_ADDRS_MAX]; /* of a request for addresses, in the order to try */
        size_t n_addrs;
        struct resolver_record records[RESOLVER_RECORDS_MAX]; /* of a request for another type */
        size_t n_records;
};
struct gateway;
struct resolve;
struct resolve_query;
typedef void (*resolve_fn)(void *user, const struct resolver_answer *a);
/** The gateway's side; `fd` is the socket to the resolver. */
int resolve_new(struct gateway *g, int fd, struct resolve **ret, struct nb_error *err);
void resolve_free(struct resolve *r);
/** Asks for the addresses of a name (type 0: A and AAAA, as getaddrinfo(3) orders them), or for the records of one DNS type.
 * Calls `done` once, never before it returns; equal questions under way are asked once. */
struct resolve_query *resolve_ask(struct resolve *r, const char *name, uint16_t type, resolve_fn done, void *user);
/** Whether an address that came from no name is the host's own, or of a network it is attached to. */
bool resolve_own(struct resolve *r, const struct addr *a);
/** `done` is not called any more. */
void resolve_cancel(struct resolve_query *q);

/** Body of `nixbox-gateway resolver`. */
int resolver_main(int argc, char **argv);
