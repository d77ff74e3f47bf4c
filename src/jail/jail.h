/* Jails: a typed plan of what a child process gets (namespaces, ids, mounts, descriptors, limits, system calls), which can
 * be printed and tested without privilege, and the one function that carries it out in named phases. A phase that fails
 * stops the start; nothing runs half-jailed. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/error.h"
#include "jail/landlock.h"

enum jail_ids {
        JAIL_IDS_CALLER, /* uid 0 inside is the caller outside; the only map an ordinary user can make */
        JAIL_IDS_ALL,    /* every id as itself (real root only; for virtiofsd) */
        JAIL_IDS_UNUSED, /* real root: an id that nobody has, one per box; ordinary user: as JAIL_IDS_CALLER */
};
enum jail_mount_kind {
        JAIL_BIND,
        JAIL_SYMLINK,
        JAIL_FILE, /* a small read-only file */
        JAIL_PROC, /* the jail's own processes, nothing else of /proc */
};
struct jail_mount {
        enum jail_mount_kind kind;
        const char *source; /* BIND: path seen by the supervisor; SYMLINK: what it points at; FILE: its text */
        const char *target; /* absolute, inside the jail */
        const char *seal;   /* BIND: refused if the inode says something else (base/seal.h); NULL: it may be anything */
        bool write;         /* default read-only; always nosuid,nodev */
        bool recursive;     /* BIND: with everything mounted below, and slave propagation of later mounts */
        bool exec;          /* BIND: programs in it may run; default noexec */
};
struct jail_fd {
        int fd;
        int as;
}; /* descriptor `fd` becomes number `as`; everything else is closed */
struct jail_limit {
        int resource;
        rlim_t value;
};
enum jail_seccomp {
        JAIL_SECCOMP_NONE,
        JAIL_SECCOMP_VIRTIOFSD, /* no set-id bits, devices, extended attributes; openat2 looks absent so that modes are visible
                                 */
        JAIL_SECCOMP_QEMU,      /* deny-list under QEMU's own filter */
        JAIL_SECCOMP_READER,    /* may open sockets, and files for reading; nothing is written, run or signalled */
};
struct jail_plan {
        const char *name; /* "qemu", "virtiofsd": for messages and logs */
        enum jail_ids ids;
        unsigned unused_id; /* for JAIL_IDS_UNUSED as real root */
        uint64_t keep_caps; /* mask of capabilities kept inside its own user namespace (virtiofsd needs some); else none, for
                               ever */
        struct jail_mount *mounts;
        size_t n_mounts;
        struct jail_fd *fds;
        size_t n_fds;
        struct jail_limit *limits;
        size_t n_limits;
        enum jail_seccomp seccomp;
        /* JAIL_SECCOMP_VIRTIOFSD: a socket on which the listener for calls that change files is sent (jail/notify.h), before
         * the program starts; -1: they are made without being asked about */
        int listener_sock;
        struct landlock_plan landlock;
        int landlock_abi;  /* what this kernel knows */
        int oom_score_adj; /* added to what the kernel thinks of it when memory runs out; such a child goes before others */
        int cgroup_fd;     /* folder of the cgroup to be in, -1: the caller's; borrowed */
        char **argv;       /* argv[0]: absolute path inside the jail */
        char **env;
};
#define JAIL_OOM_FIRST 500 /* oom_score_adj of a box's large processes: when the host runs out of memory, a box goes first */

struct jail_child {
        pid_t pid;
        int pidfd;
};

/** What the limit RLIMIT_… is about, for people. */
const char *jail_limit_name(int resource);
/** The plan as text, a line a decision, for `up --dry-run` and for tests. New string. */
char *jail_describe(const struct jail_plan *plan);
/** Starts the program in its jail; it is killed when the calling process dies. Must be called from the main thread of a
 *  process that owns its user and mount namespace. On failure names the phase; nothing is left running. */
int jail_spawn(const struct jail_plan *plan, struct jail_child *ret, struct nb_error *err);
/** For nixbox's own children, which load their libraries first: gives up everything but the descriptors listed (kept under
 *  their own numbers), the file system, the network and all system calls that the NULL-terminated list of names does not
 *  allow; as real root also its user id, for `unused_id` (0: keeps it). Called by the child itself, while it has one thread;
 *  it is killed when its parent dies. */
struct jail_self {
        unsigned unused_id;
        const int *keep_fds;
        size_t n_keep;
        const char *const *allow_syscalls;
        bool keep_network; /* stays in the network namespace it is in */
        bool ip_sockets;   /* socket() for AF_INET and AF_INET6, streams and datagrams only, besides what is listed; and
                              socketpair() for streams, which lead nowhere else */
        bool tcp4_sockets; /* only socket() for AF_INET streams */
        bool keep_user;    /* stays in its user namespace, with its id and the capabilities in keep_caps */
        uint64_t keep_caps;
};
int jail_enter_self(const struct jail_self *self, struct nb_error *err);
/** The same for a child that cannot do without the host's files and network, because the host's libraries work for it: it keeps
 *  them and its namespaces, and gives up its other descriptors, its user id (as above), all capabilities, new privileges, and
 *  the system calls that write, run or reach other processes. */
int jail_lessen_self(unsigned unused_id, const int *keep_fds, size_t n_keep, struct nb_error *err);
/** The processes that the caller can see, and nothing else of /proc, as a mount that is attached nowhere: no name leads out of
 * it but the links of those processes. Needs the rights of the creator of their namespace. Returns the descriptor or -errno. */
int jail_processes(struct nb_error *err);
/** For the calling process and what it starts: no core file, and none handed to a crash handler either. */
int jail_no_core(struct nb_error *err);
/** True for a caller that holds the whole range of ids (real root), false in a user namespace with one id or without
 *  privilege. */
bool jail_real_root(void);
void jail_plan_free(struct jail_plan *plan);
/* Builders for plans; every string is copied but `name`, a literal. Mounts are made in the order given; targets are absolute
 * and not "/". Descriptors are borrowed. argv and env are nb_strv lists of the plan. */
struct jail_plan *jail_plan_new(const char *name);
void jail_plan_mount(struct jail_plan *plan, const struct jail_mount *mount);
void jail_plan_fd(struct jail_plan *plan, int fd, int as);
void jail_plan_limit(struct jail_plan *plan, int resource, rlim_t value);
/** The binds with which programs of the runtime image run: its usr, read-only, and the usual links into it. */
void jail_plan_runtime(struct jail_plan *plan, const char *runtime);
