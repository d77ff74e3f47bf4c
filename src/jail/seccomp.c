/* System call filters. Deny-lists for the programs of others (QEMU, virtiofsd), which bring a filter of their own, and for a
 * child that runs the host's libraries; an allow-list made from names for nixbox's other children. 32-bit and x32 calls end the
 * process everywhere. Filters become plain BPF here, in the parent, and are loaded by the child. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "jail/jail_internal.h"

#define FILTER_MAX (BPF_MAXINSNS * sizeof(struct sock_filter)) /* the kernel takes no more */
#define SETUID_BIT 04000u
#define SETGID_BIT 02000u
#define RENAME_MAKES_WHITEOUT 4u

/* Numbers that an older libseccomp does not know by name. */
static const struct {
        const char *name;
        int number;
} recent[] = {
        { "fchmodat2", 452 },  { "mount_setattr", 442 },     { "quotactl_fd", 443 },  { "open_tree_attr", 467 },
        { "setxattrat", 463 }, { "removexattrat", 466 },     { "file_setattr", 469 }, { "process_madvise", 440 },
        { "openat2", 437 },    { "lsm_set_self_attr", 460 },
};

static int number_of(const char *name) {
        int nr = seccomp_syscall_resolve_name(name);
        for (size_t i = 0; nr == __NR_SCMP_ERROR && i < NB_ARRAY_LEN(recent); i++)
                if (strcmp(recent[i].name, name) == 0)
                        nr = recent[i].number;
        return nr;
}

/* Interfaces to the kernel that neither program has a use for. Each entry is one that has led out of a sandbox, or leads to
 * other processes, namespaces, mounts or privileges. */
static const char *const never[] = {
        /* mounts and roots */
        "mount", "umount", "umount2", "pivot_root", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig",
        "fsmount", "fspick", "mount_setattr", "swapon", "swapoff", "quotactl", "quotactl_fd",
        /* other processes */
        "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "setns",
        /* kernel interfaces with a long history of holes */
        "bpf", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "perf_event_open", "keyctl", "add_key",
        "request_key", "open_by_handle_at", "fanotify_init", "lookup_dcookie", "vmsplice", "modify_ldt",
        /* the machine */
        "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "syslog", "acct",
        "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "iopl", "ioperm", "vhangup", "nfsservctl", "personality",
        "uselib",
        /* security labels */
        "lsm_set_self_attr", NULL
};

/* The network, for programs that are given what sockets they need. */
static const char *const sockets[] = { "socket", "connect", "bind", NULL };

/* What changes a file system, runs a program or reaches another process. Opening for writing is looked at by its flags. */
static const char *const changes[] = {
        "creat", "truncate", "ftruncate", "mkdir", "mkdirat", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat",
        "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown",
        "fchown", "lchown", "fchownat", "utime", "utimes", "utimensat", "futimesat", "setxattr", "lsetxattr", "fsetxattr",
        "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat", "file_setattr", "fallocate",
        /* programs and processes */
        "execve", "execveat", "fork", "vfork", "kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open",
        "pidfd_send_signal", "setpriority", "sched_setaffinity", "chroot", NULL
};

static int add(scmp_filter_ctx ctx, int code, const char *name, unsigned n_args, const struct scmp_arg_cmp *args) {
        int nr = number_of(name);
        if (nr == __NR_SCMP_ERROR || nr < 0) /* not a call of this architecture */
                return 0;
        return seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO((unsigned)code), nr, n_args, args);
}

static int deny(scmp_filter_ctx ctx, int code, const char *name) {
        return add(ctx, code, name, 0, NULL);
}

/* Denies the call when any bit of `bits` is set in argument `arg`. */
static int deny_bits(scmp_filter_ctx ctx, int code, const char *name, unsigned arg, uint64_t bits) {
        for (uint64_t bit = 1; bit != 0 && bit <= bits; bit <<= 1) {
                struct scmp_arg_cmp cmp = SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, bit, bit);
                int r = bits & bit ? add(ctx, code, name, 1, &cmp) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int deny_namespaces(scmp_filter_ctx ctx) {
        const uint64_t flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                               CLONE_NEWCGROUP | 0x80u /* CLONE_NEWTIME; of clone() this bit is the exit signal's */;
        int r = deny_bits(ctx, EPERM, "unshare", 0, flags);
        if (r == 0)
                r = deny_bits(ctx, EPERM, "clone", 0, flags & ~(uint64_t)0xff);
        /* its flags are behind a pointer; libraries fall back to clone() */
        return r == 0 ? deny(ctx, ENOSYS, "clone3") : r;
}

/* Calls whose last argument is the mode of something that they make or change, and that argument's place. `flags` is the
 * place of the open flags where the mode counts only with O_CREAT or O_TMPFILE, else -1. */
static int deny_setid_modes(scmp_filter_ctx ctx) {
        static const struct {
                const char *name;
                unsigned mode;
                int flags;
        } calls[] = {
                { "chmod", 1, -1 },   { "fchmod", 1, -1 }, { "fchmodat", 2, -1 }, { "fchmodat2", 2, -1 },
                { "creat", 1, -1 },   { "mkdir", 1, -1 },  { "mkdirat", 2, -1 },  { "mknod", 1, -1 },
                { "mknodat", 2, -1 }, { "open", 2, 1 },    { "openat", 3, 2 },
        };
        static const uint64_t creating[] = { O_CREAT, O_TMPFILE & ~O_DIRECTORY };
        int r = 0;
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(calls); i++) {
                if (calls[i].flags < 0) {
                        r = deny_bits(ctx, EPERM, calls[i].name, calls[i].mode, SETUID_BIT | SETGID_BIT);
                        continue;
                }
                for (size_t k = 0; r == 0 && k < 4; k++) {
                        uint64_t bit = k & 1 ? SETUID_BIT : SETGID_BIT, flag = creating[k >> 1];
                        struct scmp_arg_cmp cmp[] = {
                                SCMP_CMP((unsigned)calls[i].flags, SCMP_CMP_MASKED_EQ, flag, flag),
                                SCMP_CMP(calls[i].mode, SCMP_CMP_MASKED_EQ, bit, bit),
                        };
                        r = add(ctx, EPERM, calls[i].name, 2, cmp);
                }
        }
        return r;
}

/* Devices, and whiteouts, which are devices that need no privilege. */
static int deny_devices(scmp_filter_ctx ctx) {
        static const uint64_t kinds[] = { S_IFCHR, S_IFBLK };
        int r = 0;
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(kinds); i++) {
                struct scmp_arg_cmp first = SCMP_CMP(1, SCMP_CMP_MASKED_EQ, S_IFMT, kinds[i]);
                struct scmp_arg_cmp second = SCMP_CMP(2, SCMP_CMP_MASKED_EQ, S_IFMT, kinds[i]);
                r = add(ctx, EPERM, "mknod", 1, &first);
                if (r == 0)
                        r = add(ctx, EPERM, "mknodat", 1, &second);
        }
        return r == 0 ? deny_bits(ctx, EINVAL, "renameat2", 4, RENAME_MAKES_WHITEOUT) : r;
}

static int fill_virtiofsd(scmp_filter_ctx ctx) {
        static const char *const attributes[] = { "setxattr",     "lsetxattr",    "fsetxattr",     "setxattrat",  "removexattr",
                                                  "lremovexattr", "fremovexattr", "removexattrat", "file_setattr" };
        int r = deny_setid_modes(ctx);
        if (r == 0)
                r = deny_devices(ctx);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(attributes); i++)
                r = deny(ctx, EOPNOTSUPP, attributes[i]);
        /* its mode is behind a pointer, where a filter cannot look; virtiofsd falls back to openat() */
        return r == 0 ? deny(ctx, ENOSYS, "openat2") : r;
}

static int deny_all(scmp_filter_ctx ctx, int code, const char *const *names) {
        int r = 0;
        for (; r == 0 && *names; names++)
                r = deny(ctx, code, *names);
        return r;
}

/* Besides kill() there are other ways to have a signal sent, to whoever has the same user id: as the owner of a descriptor. */
static int deny_signals(scmp_filter_ctx ctx) {
        static const unsigned commands[] = { F_SETOWN, F_SETSIG, F_SETOWN_EX }, requests[] = { FIOSETOWN, SIOCSPGRP };
        struct scmp_arg_cmp another = SCMP_CMP32(0, SCMP_CMP_NE, (uint32_t)getpid());
        int r = add(ctx, EPERM, "tgkill", 1, &another);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(commands); i++) {
                struct scmp_arg_cmp cmp = SCMP_CMP32(1, SCMP_CMP_EQ, commands[i]);
                r = add(ctx, EPERM, "fcntl", 1, &cmp);
        }
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(requests); i++) {
                struct scmp_arg_cmp cmp = SCMP_CMP32(1, SCMP_CMP_EQ, requests[i]);
                r = add(ctx, EPERM, "ioctl", 1, &cmp);
        }
        return r;
}

/* A process of nixbox's own that keeps the host's files and network. */
static int fill_reader(scmp_filter_ctx ctx) {
        const uint64_t writing = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;
        int r = deny_all(ctx, EPERM, changes);
        if (r == 0)
                r = deny_signals(ctx);
        if (r == 0)
                r = deny_bits(ctx, EROFS, "open", 1, writing);
        struct scmp_arg_cmp another = SCMP_CMP(0, SCMP_CMP_NE, 0);
        if (r == 0)
                r = add(ctx, EPERM, "prlimit64", 1, &another);
        if (r == 0)
                r = deny_bits(ctx, EROFS, "openat", 2, writing);
        return r == 0 ? deny(ctx, ENOSYS, "openat2") : r;
}

static int fill_deny(scmp_filter_ctx ctx, enum jail_seccomp kind) {
        int r = deny_all(ctx, EPERM, never);
        if (r == 0)
                r = deny_namespaces(ctx);
        if (r == 0)
                r = kind == JAIL_SECCOMP_READER ? fill_reader(ctx) : deny_all(ctx, EPERM, sockets);
        return r == 0 && kind == JAIL_SECCOMP_VIRTIOFSD ? fill_virtiofsd(ctx) : r;
}

static int export_filter(scmp_filter_ctx ctx, struct sock_fprog *ret, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = memfd_create("filter", MFD_CLOEXEC);
        int r = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);
        if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
                r = -errno;
        char *code = NULL;
        size_t len = 0;
        if (r == 0)
                r = nb_read_fd(fd, FILTER_MAX, &code, &len);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot make the system call filter");
        *ret = (struct sock_fprog){ .len = (unsigned short)(len / sizeof(struct sock_filter)), .filter = (void *)code };
        return 0;
}

int jail_filter_deny(enum jail_seccomp kind, struct sock_fprog *ret, struct nb_error *err) {
        *ret = (struct sock_fprog){ 0 };
        if (kind == JAIL_SECCOMP_NONE)
                return 0;
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        int r = ctx ? seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) : -ENOMEM;
        if (r == 0)
                r = fill_deny(ctx, kind);
        r = r == 0 ? export_filter(ctx, ret, err) : nb_fail_errno(err, -r, "cannot make the system call filter");
        seccomp_release(ctx);
        return r;
}

/* Changing a file by a descriptor is not asked about: opening it for that was. */
static int fill_asking(scmp_filter_ctx ctx) {
        static const char *const asked[] = { "mkdirat",   "mknodat",  "symlinkat", "linkat",
                                             "renameat2", "fchmodat", "fchmodat2", "fchmod" };
        /* other forms of the same, which virtiofsd does not use and nobody looks at */
        static const char *const others[] = { "creat",  "truncate", "mkdir",  "mknod", "symlink", "link",
                                              "rename", "renameat", "unlink", "rmdir", "chmod",   NULL };
        static const uint64_t writing[] = { O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE & ~O_DIRECTORY };
        struct scmp_arg_cmp file = SCMP_CMP32(2, SCMP_CMP_MASKED_EQ, AT_REMOVEDIR, 0);
        int r = deny_all(ctx, EPERM, others);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(asked); i++)
                r = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, number_of(asked[i]), 0);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(writing); i++) {
                struct scmp_arg_cmp how = SCMP_CMP32(2, SCMP_CMP_MASKED_EQ, writing[i], writing[i]);
                r = seccomp_rule_add_array(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(openat), 1, &how);
                if (r == 0)
                        r = deny_bits(ctx, EPERM, "open", 1, writing[i]);
        }
        return r == 0 ? seccomp_rule_add_array(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(unlinkat), 1, &file) : r;
}

int jail_filter_asking(struct sock_fprog *ret, struct nb_error *err) {
        *ret = (struct sock_fprog){ 0 };
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        int r = ctx ? seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) : -ENOMEM;
        if (r == 0) /* most calls pass: a tree instead of a list */
                r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        if (r == 0)
                r = fill_asking(ctx);
        r = r == 0 ? export_filter(ctx, ret, err) : nb_fail_errno(err, -r, "cannot make the system call filter");
        seccomp_release(ctx);
        return r;
}

static int fill_scripts(scmp_filter_ctx ctx) {
        /* What is built is thrown away after a crash, so nothing has to be on the disk before the end. */
        static const char *const waits[] = { "fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync", NULL };
        int r = deny_all(ctx, EPERM, never);
        if (r == 0)
                r = deny_namespaces(ctx);
        return r == 0 ? deny_all(ctx, 0, waits) : r;
}

int jail_filter_scripts(struct sock_fprog *ret, struct nb_error *err) {
        *ret = (struct sock_fprog){ 0 };
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        int r = ctx ? seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) : -ENOMEM;
        if (r == 0)
                r = fill_scripts(ctx);
        r = r == 0 ? export_filter(ctx, ret, err) : nb_fail_errno(err, -r, "cannot make the system call filter");
        seccomp_release(ctx);
        return r;
}

/* Unix sockets would reach the host's abstract names, netlink its kernel, raw ones the wire. */
static int allow_socket(scmp_filter_ctx ctx, unsigned family, unsigned type) {
        const unsigned type_mask = ~(unsigned)(SOCK_CLOEXEC | SOCK_NONBLOCK);
        return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, SCMP_A0_32(SCMP_CMP_EQ, family),
                                SCMP_A1_32(SCMP_CMP_MASKED_EQ, type_mask, type));
}

static int allow_ip_sockets(scmp_filter_ctx ctx) {
        static const unsigned families[] = { AF_INET, AF_INET6 }, types[] = { SOCK_STREAM, SOCK_DGRAM };
        int r = 0;
        for (size_t f = 0; f < NB_ARRAY_LEN(families); f++)
                for (size_t t = 0; r == 0 && t < NB_ARRAY_LEN(types); t++)
                        r = allow_socket(ctx, families[f], types[t]);
        return r;
}

/* A connected pair of streams can be connected to nothing else, which datagrams could. */
static int allow_pairs(scmp_filter_ctx ctx) {
        const unsigned type_mask = ~(unsigned)(SOCK_CLOEXEC | SOCK_NONBLOCK);
        return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 2, SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX),
                                SCMP_A1_32(SCMP_CMP_MASKED_EQ, type_mask, SOCK_STREAM));
}

/* A call that is on the list; of those that could have signals sent to other processes of the user, only what cannot. */
static int allow_call(scmp_filter_ctx ctx, const char *name, int nr) {
        static const unsigned commands[] = { F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC };
        int r = 0;
        if (strcmp(name, "tgkill") == 0)
                return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1, SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid()));
        if (strcmp(name, "fcntl") != 0)
                return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(commands); i++)
                r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1, SCMP_A1_32(SCMP_CMP_EQ, commands[i]));
        return r;
}

int jail_filter_allow(const char *const *names, enum jail_sockets which, struct sock_fprog *ret, struct nb_error *err) {
        *ret = (struct sock_fprog){ 0 };
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
        int r = ctx ? seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) : -ENOMEM;
        for (; r == 0 && *names; names++) {
                int nr = number_of(*names);
                if (nr == __NR_SCMP_ERROR) {
                        seccomp_release(ctx);
                        return nb_fail(err, EINVAL, "there is no system call named %s", *names);
                }
                if (nr >= 0)
                        r = allow_call(ctx, *names, nr);
        }
        if (r == 0 && which == JAIL_SOCKETS_TCP4)
                r = allow_socket(ctx, AF_INET, SOCK_STREAM);
        if (r == 0 && which == JAIL_SOCKETS_IP)
                r = allow_ip_sockets(ctx);
        if (r == 0 && which == JAIL_SOCKETS_IP)
                r = allow_pairs(ctx);
        r = r == 0 ? export_filter(ctx, ret, err) : nb_fail_errno(err, -r, "cannot make the system call filter");
        seccomp_release(ctx);
        return r;
}

void jail_filter_clear(struct sock_fprog *filter) {
        free(filter->filter);
        *filter = (struct sock_fprog){ 0 };
}

int jail_filter_load(const struct sock_fprog *filter, struct nb_error *err) {
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter) < 0)
                return nb_fail_errno(err, errno, "cannot load the system call filter");
        return 0;
}
