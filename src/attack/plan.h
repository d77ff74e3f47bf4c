/* What the program inside is told to do: the words of each row filled in from what this box has, and the text that carries
 * them. Values in, values out. */
#pragma once
#include <stdint.h>

#include "attack/row.h"
#include "base/buf.h"

/* What a box has. NULL: it has no such thing. All strings are the caller's. */
struct attack_facts {
        const char *token;  /* the run's own word: 16 hex digits */
        const char *router; /* address of the box's router */
        const char *host;   /* an address of this host, where somebody listens on the port */
        unsigned port, loopport;
        const char *allowed; /* a name that the config allows; on 443, on 80 */
        const char *allowed443, *allowed80;
        const char *ro, *witness; /* target of a read-only mount, and a file in it */
        const char *rw;           /* the run's folder in a writable mount, as the guest sees it */
        char *const *mounts;      /* the targets of both */
        const char *canary;       /* path on the host */
        uint64_t memory;
        char *const *needles; /* "name\0" pairs: name, text, name, text…; texts that must not be inside */
};
/** Fills in the words of every row, or says why it is not applicable. */
void attack_fill(struct attack_rows *rows, const struct attack_facts *f);
/** Appends the plan for all rows that have words, and the mark that ends it. */
void attack_plan(struct nb_buf *out, const struct attack_rows *rows, const struct attack_facts *f);
/** Bytes as a word: what is not a plain character becomes %XX. New string. */
char *attack_encode(const char *text);
