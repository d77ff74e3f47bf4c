/* What the host asks for, read from TLV payloads into structs and checked: SETUP, OPEN, MOUNT and UNMOUNT. Pure but for
 * the locked memory that keeps secrets; nothing here acts on a request. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "wire/wire.h"

#define SETUP_SEED_MAX 512u

/* One share entry and where it goes. */
struct mount_request {
        char *id;     /* name in the root of the share */
        char *target; /* absolute path */
        uint32_t flags;
};

/* "NAME=value" strings in one piece of memory that is locked, kept out of core dumps, and wiped when freed. */
struct secrets {
        char *memory;
        size_t size;
        char **vars; /* pointers into memory */
        size_t n;
};

struct setup {
        char *hostname, *user, *home, *timezone; /* timezone may be NULL */
        uint32_t uid, gid;
        uint64_t time_ns;
        uint8_t seed[SETUP_SEED_MAX];
        size_t seed_len;
        char **env;
        struct secrets secrets;
        struct mount_request *mounts;
        size_t n_mounts;
        bool disk, keep_disk;
        bool has_net;
        struct wire_net net; /* where has_net */
};

struct open_request {
        char **argv; /* NULL-terminated; NULL if there is none */
        char **env;
        char *user, *cwd, *term; /* NULL where absent */
        uint16_t rows, cols;
        bool pty, shell;
};

/** Reads a SETUP payload. -EPROTO with the offending field in `err` if anything in it is missing, repeated or malformed. */
int setup_parse(const void *payload, size_t len, struct setup **ret, struct nb_error *err);
void setup_free(struct setup *s);

/** Reads an OPEN payload into `ret`, which the caller clears in any case. */
int open_request_parse(const void *payload, size_t len, struct open_request *ret, struct nb_error *err);
void open_request_clear(struct open_request *r);

/** Reads the fields of a MOUNT or UNMOUNT frame, or of a nested MOUNT field. */
int mount_request_parse(const void *payload, size_t len, struct mount_request *ret, struct nb_error *err);
void mount_request_clear(struct mount_request *m);

static inline void setup_freep(struct setup **s) {
        setup_free(*s);
}
