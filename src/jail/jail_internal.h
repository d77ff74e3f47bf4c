/* What the files of the jail share among themselves: the state of a start, and the steps that more than one kind of child
 * takes. Nothing outside src/jail/jail*.c and its tests includes this. */
#pragma once
#include <linux/filter.h>

#include "jail/jail.h"

/* A start in progress. The parent fills it in before it makes the child, which works on its copy. */
struct jail_run {
        const struct jail_plan *plan;
        int go_fd;                /* child: one byte arrives when its id maps are written */
        int report_fd;            /* child: where a failure is told; closed by a successful exec */
        int root_fd;              /* child: the new root, while it is put together */
        int *sources;             /* child: one detached tree a bind mount, -1 for other kinds */
        int null_fd;              /* child: /dev/null for standard descriptors that the plan does not name */
        bool drop_groups;         /* child: setgroups() is allowed and there may be groups to drop */
        struct sock_fprog filter; /* seccomp program; len 0: none */
        struct sock_fprog asking; /* what asks before files are changed; len 0: nothing does */
        int listener_sock;        /* child: where its listener goes */
};

/** Seccomp programs by libseccomp, as plain BPF, so that the child need not allocate. Free with jail_filter_clear(). */
int jail_filter_deny(enum jail_seccomp kind, struct sock_fprog *ret, struct nb_error *err);
/** What asks a listener before it changes files, for JAIL_SECCOMP_VIRTIOFSD; laid over jail_filter_deny(). */
int jail_filter_asking(struct sock_fprog *ret, struct nb_error *err);
/* With JAIL_SOCKETS_IP also socketpair() for streams. */
enum jail_sockets { JAIL_SOCKETS_NONE, JAIL_SOCKETS_TCP4, JAIL_SOCKETS_IP };
int jail_filter_allow(const char *const *names, enum jail_sockets which, struct sock_fprog *ret, struct nb_error *err);
/** For packages' scripts: what no such script has a use for is refused, and what only waits for the disk does nothing. */
int jail_filter_scripts(struct sock_fprog *ret, struct nb_error *err);
void jail_filter_clear(struct sock_fprog *filter);
int jail_filter_load(const struct sock_fprog *filter, struct nb_error *err);

/** A detached, writable tmpfs. `options` such as "size"/"64k" pairs end with NULL. Returns the descriptor or -errno. */
int jail_tmpfs(const char *const *options, struct nb_error *err);
/** Adds MOUNT_ATTR_* restrictions (and propagation, unless 0) to a mount or, recursively, a whole tree; clears nothing, so
 *  that flags it has already stay. Returns 0 or -errno. */
int jail_restrict_mount(int fd, bool recursive, uint64_t set, uint64_t propagation);
/** A detached instance of a file system type; options as above, or NULL. Returns the descriptor or -errno. */
int jail_new_mount(const char *type, const char *const *options, uint64_t attr, struct nb_error *err);
/** The two halves of jail_pivot(): attaches `root_fd` above "/", where names keep resolving below it; makes it the root. */
int jail_attach_root(int root_fd, struct nb_error *err);
int jail_change_root(int root_fd, struct nb_error *err);
/** Makes `root_fd` (a mount, not yet attached) the root of the calling process and lets go of everything else. */
int jail_pivot(int root_fd, struct nb_error *err);
/** Opens the sources of the plan's binds as detached trees, with the creator's own credentials. */
int jail_open_sources(struct jail_run *run, struct nb_error *err);
/** Puts the new root together from the sources and enters it. */
int jail_enter_root(struct jail_run *run, struct nb_error *err);

/** Capabilities but those in `keep` dropped from every set; no way to regain any; no_new_privs. */
int jail_drop_privileges(uint64_t keep, struct nb_error *err);
/** Killed when the parent dies. Credentials must not change after this. */
int jail_tether(struct nb_error *err);
/** Closes every descriptor but these. */
int jail_close_others(const int *keep, size_t n_keep, struct nb_error *err);
/** "0 OUTSIDE 1" maps (or, with all, every id) for /proc/PID; tells whether setgroups() stays possible. */
int jail_write_maps(const char *proc_pid, bool all, unsigned outside_uid, unsigned outside_gid, bool privileged,
                    bool *ret_groups, struct nb_error *err);

/** The child's whole life until exec. Never returns. */
_Noreturn void jail_child_main(struct jail_run *run);

/* A failure as the child tells it. */
#define JAIL_TEXT_MAX 400
struct jail_report {
        int code; /* 0: about to exec */
        char phase[24];
        char text[JAIL_TEXT_MAX];
};
