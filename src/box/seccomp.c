/* System call filters. Deny-lists for the programs of others (QEMU, virtiofsd), which bring a filter of their own; an
 * allow-list made from names for nixbox's own children. 32-bit and x32 calls end the process everywhere. Filters become
 * plain BPF here, in the parent, and are loaded by the child. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/jail_internal.h"

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
        /* the network: what sockets are needed are passed in */
        "socket", "connect", "bind",
        /* security labels */
        "lsm_set_self_attr", NULL
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

static int fill_deny(scmp_filter_ctx ctx, enum jail_seccomp kind) {
        int r = 0;
        for (const char *const *name = never; r == 0 && *name; name++)
                r = deny(ctx, EPERM, *name);
        if (r == 0)
                r = deny_namespaces(ctx);
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

int jail_filter_allow(const char *const *names, struct sock_fprog *ret, struct nb_error *err) {
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
                        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
        }
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
