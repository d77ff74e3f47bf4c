/* What a DNS query of the box is answered: the decision comes from the policy, the answer from the table of names or, where the
 * policy says so, from the host's resolver. Nothing is asked of anybody before it is decided. No socket is known here. */
#pragma once
#include "gateway/dns.h"
#include "gateway/impl.h"

struct answer; /* one that waits for the resolver */
typedef void (*answer_fn)(void *user, struct nb_buf *message);

/** Appends the answer to `out` and returns NULL, or returns what waits; `done` then gets the message, not before this returns.
 *  Without `may_wait` a query that would have to wait is refused (SERVFAIL). */
struct answer *answer_query(struct gateway *g, const struct dns_query *q, bool may_wait, answer_fn done, void *user,
                            struct nb_buf *out);
/** `done` is not called any more. */
void answer_cancel(struct answer *a);
