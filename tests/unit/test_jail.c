/* Unit tests for jail plans as text and for the system call filters, whose programs are interpreted here call by call. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/jail_internal.h"

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
                /* the other system call tables */
                struct seccomp_data d = { .nr = SYS_read, .arch = AUDIT_ARCH_I386 };
                assert_int_equal(run_filter(&p, &d), SECCOMP_RET_KILL_PROCESS);
                d = (struct seccomp_data){ .nr = (int)(SYS_read | X32_BIT), .arch = AUDIT_ARCH_X86_64 };
                assert_int_equal(run_filter(&p, &d), SECCOMP_RET_KILL_PROCESS);
                jail_filter_clear(&p);
        }
}

static void allow_list_allows_nothing_else(void **state) {
        (void)state;
        static const char *const names[] = { "read", "write", "exit_group", NULL };
        static const char *const wrong[] = { "read", "rite", NULL };
        struct sock_fprog p;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(jail_filter_allow(names, &p, NULL), 0);
        assert_int_equal(verdict(&p, SYS_read, 0, 0, 0, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_exit_group, 0, 0, 0, 0), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&p, SYS_openat, 0, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
        assert_int_equal(verdict(&p, 9999, 0, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
        struct seccomp_data d = { .nr = SYS_read, .arch = AUDIT_ARCH_I386 };
        assert_int_equal(run_filter(&p, &d), SECCOMP_RET_KILL_PROCESS);
        d = (struct seccomp_data){ .nr = (int)(SYS_read | X32_BIT), .arch = AUDIT_ARCH_X86_64 };
        assert_int_equal(run_filter(&p, &d), SECCOMP_RET_KILL_PROCESS);
        jail_filter_clear(&p);
        assert_int_equal(jail_filter_allow(wrong, &p, &err), -EINVAL);
        assert_non_null(strstr(err.what, "rite"));
}

/* --- plans --- */

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
                "limit         7 = 512\n",
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
                cmocka_unit_test(allow_list_allows_nothing_else),
                cmocka_unit_test(description_names_every_decision),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
