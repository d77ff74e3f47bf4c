/* The program for the inside of a box: what its probes share. A probe runs in a process of its own, tries the forbidden thing
 * and, wherever there is a place where the same must succeed, that as well: the control. What it says is for people; the host
 * judges by what it sees itself wherever it can see something. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attack/table.h"
#include "base/error.h"

#define WORDS_MAX 12   /* of a probe's arguments */
#define SAID_MAX 160   /* bytes of what a probe says */
#define NEEDLES_MAX 16 /* texts of the host's that must not be inside */

enum attempt { TRIED_NOTHING, TRIED_REFUSED, TRIED_DONE };
enum control { CONTROL_NONE, CONTROL_OK, CONTROL_FAILED };

struct outcome {
        enum attempt attempt;
        enum control control;
        char said[SAID_MAX];
};

/* The run: where its folders are, and what to look for. */
struct guest {
        char *folder;  /* on the guest's own disk, only this run's */
        char *share;   /* the folder that all shared folders are in, reached through process 1; NULL: it was not found */
        char *rw;      /* the run's folder in a writable mount, NULL: none */
        char **mounts; /* where the shared folders that are looked at are mounted */
        struct needle {
                char *name, *text;
        } needles[NEEDLES_MAX];
        size_t n_needles;
};
extern struct guest guest;

typedef void probe_fn(char *const *words, struct outcome *o);
#define GUEST_DECLARE(class, name, judge, function, args, description) probe_fn guest_##function;
ATTACK_PROBES(GUEST_DECLARE)

/** What was tried succeeded, was refused (with the error), or came to nothing; and words about it. */
void tried(struct outcome *o, enum attempt attempt, const char *fmt, ...) NB_PRINTF(3, 4);
/** By the result of a system call. */
void tried_call(struct outcome *o, long result, const char *what);
void controlled(struct outcome *o, bool ok);
/** A word of the plan as bytes, %XX resolved. New string. */
char *decode(const char *word);

/* ---- scan.c */
/** The needle's name if one of them is in the bytes, else NULL. */
const char *find_needle(const void *bytes, size_t len);
/** Looks for needles, and for `known` (may be NULL), in at most `max` bytes of a file from `offset`. The needle's name or NULL.
 */
const char *scan_file(const char *path, off_t offset, size_t max, const char *known, bool *ret_known);
/** The same for every file below a folder, `depth` levels deep; `path_of` (may be NULL) gets where the needle was. */
const char *scan_tree(const char *path, unsigned depth, const char *known, bool *ret_known, char *ret_where, size_t where_size);

/* ---- packets.c */
struct packet {
        uint8_t bytes[1600];
        size_t len;
};
uint16_t packet_sum(const void *bytes, size_t len, uint32_t more);
/** A query for a name whose labels are separated by dots, other bytes as %XX. 0 if it does not fit. */
size_t packet_query(const char *name, unsigned type, uint8_t *ret, size_t room);
/** How many answers, and the first address among them (0: none). -1: not an answer. */
int packet_answers(const uint8_t *m, size_t len, uint32_t *ret_address, unsigned *ret_code);
void packet_tcp(struct packet *p, uint32_t from, uint32_t to, uint16_t from_port, uint16_t to_port);
void packet_udp(struct packet *p, uint32_t from, uint32_t to, uint16_t from_port, uint16_t to_port, const void *data,
                size_t len);
/** Asks a server for a name's address, as any program would. 0: there is none. */
uint32_t find_name(const char *name, const char *server);
