/* Unit tests for jail plans as text and for the system call filters, whose programs are interpreted here call by call. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "jail/jail.h"
#include "jail/jail_internal.h"

#define X32_BIT 0x40000000u
#define FCHMODAT2 452

/* --- a filter's verdict on one call, by the subset of BPF that libseccomp writes --- */

static uint32_t run_filter(const struct sock_fprog *p, const struct seccomp_data *d) {
        uint32_t a = 0, m[BPF_MEMWORDS] = { 0 };
        for (size_t pc = 0; pc < p->len; pc++) {
                const struct sock_filter *f = &p->filter[pc];
                bool yes = false;
                switch (f->code) {
                case BPF_LD | BPF_W | BPF_ABS: memcpy(&a, (const uint8_t *)d + f->k, sizeof a); continue;
                case BPF_LD | BPF_MEM: a = m[f->k]; continue;
                case BPF_ST: m[f->k] = a; continue;
                case BPF_ALU | BPF_AND | BPF_K: a &= f->k; continue;
                case BPF_RET | BPF_K: return f->k;
                case BPF_JMP | BPF_JA: pc += f->k; continue;
                case BPF_JMP | BPF_JEQ | BPF_K: yes = a == f->k; break;
                case BPF_JMP | BPF_JGT | BPF_K: yes = a > f->k; break;
                case BPF_JMP | BPF_JGE | BPF_K: yes = a >= f->k; break;
                case BPF_JMP | BPF_JSET | BPF_K: yes = (a & f->k) != 0; break;
                default: fail_msg("instruction %#x is not understood", f->code);
                }
                pc += yes ? f->jt : f->jf;
        }
        fail_msg("the filter fell off its end");
        return 0;
}

static uint32_t verdict(const struct sock_fprog *p, int nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3) {
        struct seccomp_data d = { .nr = nr, .arch = AUDIT_ARCH_X86_64, .args = { a0, a1, a2, a3 } };
        return run_filter(p, &d);
}

#define DENIED(code) (SECCOMP_RET_ERRNO | (code))

static void virtiofsd_makes_no_setid_bits(void **state) {
        (void)state;
        struct sock_fprog p;
        assert_int_equal(jail_filter_deny(JAIL_SECCOMP_VIRTIOFSD, &p, NULL), 0);
        static const uint64_t bad[] = { 04755, 02755, 06777, 0104755, 02000, 04000 };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                assert_int_equal(verdict(&p, SYS_chmod, 0, bad[i], 0, 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_fchmod, 3, bad[i], 0, 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_fchmodat, 3, 0, bad[i], 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, FCHMODAT2, 3, 0, bad[i], 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_creat, 0, bad[i], 0, 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_mkdirat, 3, 0, bad[i], 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_mknodat, 3, 0, bad[i], 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_open, 0, O_CREAT | O_RDWR, bad[i], 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_openat, 3, 0, O_CREAT | O_EXCL | O_CLOEXEC, bad[i]), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_openat, 3, 0, O_TMPFILE | O_RDWR, bad[i]), DENIED(EPERM));
                /* without O_CREAT the register holds whatever was in it */
                assert_int_equal(verdict(&p, SYS_openat, 3, 0, O_RDWR, bad[i]), SECCOMP_RET_ALLOW);
                assert_int_equal(verdict(&p, SYS_openat, 3, 0, O_DIRECTORY, bad[i]), SECCOMP_RET_ALLOW);
        }
        assert_int_equal(verdict(&p, SYS_fchmodat, 3, 0, 01777, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_openat, 3, 0, O_CREAT, 0644), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_mkdirat, 3, 0, 0755, 0), SECCOMP_RET_ALLOW);
        jail_filter_clear(&p);
}

static void virtiofsd_makes_no_devices_and_no_attributes(void **state) {
        (void)state;
        struct sock_fprog p;
        assert_int_equal(jail_filter_deny(JAIL_SECCOMP_VIRTIOFSD, &p, NULL), 0);
        assert_int_equal(verdict(&p, SYS_mknodat, 3, 0, S_IFCHR | 0600, 0), DENIED(EPERM)); /* 0: a whiteout */
        assert_int_equal(verdict(&p, SYS_mknodat, 3, 0, S_IFBLK | 0600, 0x800), DENIED(EPERM));
        assert_int_equal(verdict(&p, SYS_mknod, 0, S_IFCHR, 0, 0), DENIED(EPERM));
        assert_int_equal(verdict(&p, SYS_mknodat, 3, 0, S_IFREG | 0644, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_mknodat, 3, 0, S_IFIFO | 0644, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_mknodat, 3, 0, S_IFSOCK | 0644, 0), SECCOMP_RET_ALLOW);
        struct seccomp_data whiteout = { .nr = SYS_renameat2, .arch = AUDIT_ARCH_X86_64, .args = { 3, 0, 3, 0, 4 } };
        assert_int_equal(run_filter(&p, &whiteout), DENIED(EINVAL));
        whiteout.args[4] = 1; /* RENAME_NOREPLACE */
        assert_int_equal(run_filter(&p, &whiteout), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_setxattr, 0, 0, 0, 0), DENIED(EOPNOTSUPP));
        assert_int_equal(verdict(&p, SYS_fsetxattr, 0, 0, 0, 0), DENIED(EOPNOTSUPP));
        assert_int_equal(verdict(&p, SYS_openat2, 0, 0, 0, 0), DENIED(ENOSYS));
        jail_filter_clear(&p);
}

static void a_reader_changes_nothing(void **state) {
        (void)state;
        static const int never[] = { SYS_mount,  SYS_setns,   SYS_ptrace, SYS_execve,  SYS_execveat, SYS_kill,   SYS_unlinkat,
                                     SYS_rename, SYS_mkdirat, SYS_chmod,  SYS_symlink, SYS_bpf,      SYS_chroot, SYS_creat };
        struct sock_fprog p;
        assert_int_equal(jail_filter_deny(JAIL_SECCOMP_READER, &p, NULL), 0);
        for (size_t i = 0; i < NB_ARRAY_LEN(never); i++)
                assert_int_equal(verdict(&p, never[i], 1, 0, 0, 0), DENIED(EPERM));
        assert_int_equal(verdict(&p, SYS_prlimit64, 17, 0, 0, 0), DENIED(EPERM));
        assert_int_equal(verdict(&p, SYS_prlimit64, 0, 0, 0, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_openat, 3, 0, O_RDWR | O_CLOEXEC, 0), DENIED(EROFS));
        assert_int_equal(verdict(&p, SYS_openat, 3, 0, O_WRONLY, 0), DENIED(EROFS));
        assert_int_equal(verdict(&p, SYS_open, 0, O_CREAT, 0600, 0), DENIED(EROFS));
        assert_int_equal(verdict(&p, SYS_openat, 3, 0, O_TMPFILE | O_RDWR, 0600), DENIED(EROFS));
        assert_int_equal(verdict(&p, SYS_openat2, 3, 0, 0, 0), DENIED(ENOSYS));
        assert_int_equal(verdict(&p, SYS_openat, 3, 0, O_RDONLY | O_CLOEXEC, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_socket, AF_INET, SOCK_DGRAM, 0, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_connect, 3, 0, 0, 0), SECCOMP_RET_ALLOW);
        jail_filter_clear(&p);
}

static void both_programs_are_kept_from_the_kernel(void **state) {
        (void)state;
        static const enum jail_seccomp kinds[] = { JAIL_SECCOMP_VIRTIOFSD, JAIL_SECCOMP_QEMU };
        static const int never[] = {
                SYS_mount,       SYS_umount2,         SYS_pivot_root,   SYS_move_mount, SYS_open_tree,        SYS_fsopen,
                SYS_setns,       SYS_ptrace,          SYS_bpf,          SYS_keyctl,     SYS_io_uring_setup,   SYS_socket,
                SYS_bind,        SYS_connect,         SYS_userfaultfd,  SYS_kexec_load, SYS_process_vm_readv, SYS_reboot,
                SYS_pidfd_getfd, SYS_perf_event_open, SYS_mount_setattr
        };
        for (size_t k = 0; k < NB_ARRAY_LEN(kinds); k++) {
                struct sock_fprog p;
                assert_int_equal(jail_filter_deny(kinds[k], &p, NULL), 0);
                for (size_t i = 0; i < NB_ARRAY_LEN(never); i++)
                        assert_int_equal(verdict(&p, never[i], 1, 0, 0, 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_unshare, CLONE_NEWUSER, 0, 0, 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_unshare, CLONE_FS, 0, 0, 0), SECCOMP_RET_ALLOW);
                assert_int_equal(verdict(&p, SYS_clone, CLONE_NEWNS | 17, 0, 0, 0), DENIED(EPERM));
                assert_int_equal(verdict(&p, SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, 0, 0, 0), SECCOMP_RET_ALLOW);
                assert_int_equal(verdict(&p, SYS_clone3, 0, 0, 0, 0), DENIED(ENOSYS));
                assert_int_equal(verdict(&p, SYS_read, 0, 0, 0, 0), SECCOMP_RET_ALLOW);
                jail_filter_clear(&p);
        }
}

static void allow_list_allows_nothing_else(void **state) {
        (void)state;
        static const char *const names[] = { "read", "write", "exit_group", NULL };
        static const char *const wrong[] = { "read", "rite", NULL };
        struct sock_fprog p;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(jail_filter_allow(names, JAIL_SOCKETS_NONE, &p, NULL), 0);
        assert_int_equal(verdict(&p, SYS_read, 0, 0, 0, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_exit_group, 0, 0, 0, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_openat, 0, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
        assert_int_equal(verdict(&p, 9999, 0, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
        jail_filter_clear(&p);
        assert_int_equal(jail_filter_allow(wrong, JAIL_SOCKETS_NONE, &p, &err), -EINVAL);
        assert_non_null(strstr(err.what, "rite"));
}

/* --- signals to other processes of the user, from children that are jailed but in the host's pid namespace --- */

static const char *const few_calls[] = { "tgkill", "fcntl", "write", "exit_group", NULL };

static int stay_free(void) {
        return 0;
}

static int enter(void) {
        static const int keep[] = { 0, 1, 2, 3, 4 };
        const struct jail_self self = { .keep_fds = keep, .n_keep = NB_ARRAY_LEN(keep), .allow_syscalls = few_calls };
        return jail_enter_self(&self, NULL);
}

static int lessen(void) {
        static const int keep[] = { 0, 1, 2, 3, 4 };
        return jail_lessen_self(0, keep, NB_ARRAY_LEN(keep), NULL);
}

static void by_call(pid_t victim, const int *pair) {
        (void)pair;
        (void)syscall(SYS_tgkill, victim, victim, SIGKILL);
}

static void by_owner(pid_t victim, const int *pair) {
        (void)fcntl(pair[0], F_SETOWN, victim);
        (void)fcntl(pair[0], F_SETSIG, SIGKILL);
        (void)fcntl(pair[0], F_SETFL, O_ASYNC);
        (void)!write(pair[1], "x", 1);
}

/* Does the victim die of what a process in that jail does? */
static bool kills(int (*jail)(void), void (*how)(pid_t victim, const int *pair)) {
        int status, pair[2];
        pid_t victim = fork();
        if (victim == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0)
                for (;;)
                        pause();
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        pid_t killer = fork();
        if (killer == 0) {
                if (dup2(pair[0], 3) != 3 || dup2(pair[1], 4) != 4 || jail() < 0)
                        _exit(1);
                how(victim, (const int[]){ 3, 4 });
                _exit(0);
        }
        assert_int_equal(waitpid(killer, &status, 0), killer);
        bool entered = !(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        nb_close(pair[0]);
        nb_close(pair[1]);
        /* The first fatal signal decides what a process dies of, however late it gets a processor to die on. */
        (void)kill(victim, SIGTERM);
        assert_int_equal(waitpid(victim, &status, 0), victim);
        bool dead = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        assert_true(entered); /* only now: a failed assertion must not leave the victim behind */
        return dead;
}

static void no_signals_to_others(void **state) {
        (void)state;
        assert_true(kills(stay_free, by_call));
        assert_true(kills(stay_free, by_owner));
        if (geteuid() != 0) /* the supervisor has its user namespace before it starts such children */
                skip();
        assert_false(kills(enter, by_call));
        assert_false(kills(enter, by_owner));
        assert_false(kills(lessen, by_call));
        assert_false(kills(lessen, by_owner));
}

/* --- the other tables of system calls --- */

static int make_filter(size_t which, struct sock_fprog *ret) {
        static const char *const names[] = { "read", "getpid", NULL };
        switch (which) {
        case 0: return jail_filter_deny(JAIL_SECCOMP_VIRTIOFSD, ret, NULL);
        case 1: return jail_filter_deny(JAIL_SECCOMP_QEMU, ret, NULL);
        case 2: return jail_filter_deny(JAIL_SECCOMP_READER, ret, NULL);
        case 3: return jail_filter_asking(ret, NULL);
        case 4: return jail_filter_scripts(ret, NULL);
        case 5: return jail_filter_allow(names, JAIL_SOCKETS_NONE, ret, NULL);
        default: return -ENOENT;
        }
}

static void no_filter_knows_other_tables(void **state) {
        (void)state;
        struct sock_fprog p;
        size_t n = 0;
        for (; make_filter(n, &p) == 0; n++) {
                assert_int_equal(verdict(&p, SYS_read, 0, 0, 0, 0), SECCOMP_RET_ALLOW);
                struct seccomp_data d = { .nr = SYS_read, .arch = AUDIT_ARCH_I386 };
                assert_int_equal(run_filter(&p, &d), SECCOMP_RET_KILL_PROCESS);
                d = (struct seccomp_data){ .nr = (int)(SYS_read | X32_BIT), .arch = AUDIT_ARCH_X86_64 };
                assert_int_equal(run_filter(&p, &d), SECCOMP_RET_KILL_PROCESS);
                jail_filter_clear(&p);
        }
        assert_int_equal(n, 6);
}

static void call_i386(void) {
        long r;
        __asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory");
}

static void call_x32(void) {
        (void)syscall(SYS_getpid | X32_BIT);
}

/* The signal that a process in that jail dies of when it makes the call, 0: none. */
static int dies_of(int (*jail)(void), void (*call)(void)) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
                if (dup2(STDERR_FILENO, 3) != 3 || dup2(STDERR_FILENO, 4) != 4 || jail() < 0)
                        _exit(1);
                call();
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void calls_of_other_tables_end_the_process(void **state) {
        (void)state;
        assert_int_equal(dies_of(stay_free, call_x32), 0);
        if (geteuid() != 0 || dies_of(stay_free, call_i386) != 0) /* as above; a kernel without this table */
                skip();
        assert_int_equal(dies_of(enter, call_i386), SIGSYS);
        assert_int_equal(dies_of(enter, call_x32), SIGSYS);
        assert_int_equal(dies_of(lessen, call_i386), SIGSYS);
        assert_int_equal(dies_of(lessen, call_x32), SIGSYS);
}

/* --- plans --- */

static void allow_list_tells_sockets_apart(void **state) {
        (void)state;
        static const char *const names[] = { "read", NULL };
        static const struct {
                int family, type;
                bool tcp4, ip;
        } cases[] = {
                { AF_INET, SOCK_STREAM, true, true },     { AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, true, true },
                { AF_INET, SOCK_DGRAM, false, true },     { AF_INET6, SOCK_STREAM, false, true },
                { AF_INET6, SOCK_DGRAM, false, true },    { AF_INET, SOCK_RAW, false, false },
                { AF_UNIX, SOCK_STREAM, false, false },   { AF_UNIX, SOCK_DGRAM, false, false },
                { AF_NETLINK, SOCK_DGRAM, false, false }, { AF_PACKET, SOCK_DGRAM, false, false },
        };
        struct sock_fprog tcp4, ip;
        assert_int_equal(jail_filter_allow(names, JAIL_SOCKETS_TCP4, &tcp4, NULL), 0);
        assert_int_equal(jail_filter_allow(names, JAIL_SOCKETS_IP, &ip, NULL), 0);
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                uint64_t family = (uint64_t)cases[i].family, type = (uint64_t)cases[i].type;
                assert_int_equal(verdict(&tcp4, SYS_socket, family, type, 0, 0),
                                 cases[i].tcp4 ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS);
                assert_int_equal(verdict(&ip, SYS_socket, family, type, 0, 0),
                                 cases[i].ip ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS);
        }
        assert_int_equal(verdict(&ip, SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&ip, SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, 0), SECCOMP_RET_KILL_PROCESS);
        assert_int_equal(verdict(&tcp4, SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 0), SECCOMP_RET_KILL_PROCESS);
        jail_filter_clear(&tcp4);
        jail_filter_clear(&ip);
}

static void description_names_every_decision(void **state) {
        (void)state;
        struct jail_plan *plan = jail_plan_new("example");
        plan->ids = JAIL_IDS_UNUSED;
        plan->unused_id = 77;
        plan->seccomp = JAIL_SECCOMP_QEMU;
        jail_plan_runtime(plan, "/data/runtime");
        jail_plan_mount(plan, &(struct jail_mount){ .kind = JAIL_BIND, .source = "/a", .target = "/b", .write = true });
        jail_plan_mount(plan, &(struct jail_mount){ .kind = JAIL_PROC, .target = "/proc" });
        jail_plan_mount(plan, &(struct jail_mount){ .kind = JAIL_FILE, .target = "/f", .source = "text" });
        jail_plan_fd(plan, 12, 3);
        jail_plan_limit(plan, RLIMIT_NOFILE, 512);
        nb_strv_add(&plan->argv, "/usr/bin/true");
        nb_strv_add(&plan->argv, "-x");
        NB_AUTO_FREE char *text = jail_describe(plan);
        static const char *const parts[] = {
                "jail example\n",
                "[77]",
                "/usr from /data/runtime/usr ro,nosuid,nodev\n",
                "/lib64 to usr/lib64\n",
                "/b from /a rw,",
                "/proc ro,nosuid,nodev,noexec",
                "descriptor    3\n",
                "limit         open files = 512\n",
                "none, and none to be had",
                "runs          /usr/bin/true -x\n",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(parts); i++)
                if (!strstr(text, parts[i]))
                        fail_msg("%s is missing from:\n%s", parts[i], text);
        plan->keep_caps = 1;
        NB_AUTO_FREE char *with = jail_describe(plan);
        assert_non_null(strstr(with, "over its own user namespace only"));
        jail_plan_free(plan);
        jail_plan_free(NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(virtiofsd_makes_no_setid_bits),
                cmocka_unit_test(virtiofsd_makes_no_devices_and_no_attributes),
                cmocka_unit_test(both_programs_are_kept_from_the_kernel),
                cmocka_unit_test(a_reader_changes_nothing),
                cmocka_unit_test(allow_list_allows_nothing_else),
                cmocka_unit_test(allow_list_tells_sockets_apart),
                cmocka_unit_test(no_signals_to_others),
                cmocka_unit_test(no_filter_knows_other_tables),
                cmocka_unit_test(calls_of_other_tables_end_the_process),
                cmocka_unit_test(description_names_every_decision),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
