/* nixbox's own children of the supervisor (the conduit, the gateway and its helpers): programs of this project that jail
 * themselves, started with a table of descriptors and nothing else. Programs of others are started by src/jail/jail.h. */
#pragma once
#include "jail/jail.h"

/* What a helper may use at most; besides, it locks no memory, and dumps no core. */
struct helper_limits {
        rlim_t memory; /* address space */
        rlim_t files;  /* open descriptors, where the host allows so many */
        rlim_t file;   /* bytes of a file that it writes; 0: none but its own system call filter */
};
struct helper_spec {
        const char *name;  /* for messages: "the gateway" */
        int program;       /* the opened executable (O_PATH is enough) */
        char *const *argv; /* its environment is empty */
        const struct jail_fd *fds;
        size_t n_fds;
        int fd_end; /* numbers below this that the table does not name are /dev/null; none of the table is as high */
        struct helper_limits limits;
        int network; /* a network namespace to start in, -1: ours */
        /* A child whose process ids it shares: it sees those processes only, and ends with the first of them. NULL: ours. */
        const struct jail_child *among;
};
#define HELPER_FD_END_MAX 16
/** Limits as text, for `up --dry-run`. New string. */
char *helper_describe(const struct helper_limits *limits);
/** Opens a program, so that later starts run the same file whatever has become of its name. Returns the descriptor. */
int helper_open(const char *path, struct nb_error *err);
/** Starts it; it is killed when the calling process dies. The descriptors stay the caller's. */
int helper_spawn(const struct helper_spec *spec, struct jail_child *ret, struct nb_error *err);
