/* Giving things up: capabilities, privileges, descriptors, core dumps. Shared by jailed programs (jail_child.c) and by
 * nixbox's own children (jail_self.c). */
#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/mem.h"
#include "jail/jail_internal.h"

/* Being uid 0 grants nothing, changing ids grants nothing, and none of that can be undone. */
#define NO_ROOT_BITS                                                                                     \
        (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | \
         SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)
#define CAP_MAX 63

static int set_caps(uint64_t caps) {
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[2] = {
                { .effective = (uint32_t)caps, .permitted = (uint32_t)caps },
                { .effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32) },
        };
        return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

int jail_drop_privileges(uint64_t keep, struct nb_error *err) {
        for (int cap = 0; cap <= CAP_MAX; cap++) {
                if (keep & (1ull << cap))
                        continue;
                if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
                        if (errno == EINVAL) /* the kernel knows no more of them */
                                break;
                        return nb_fail_errno(err, errno, "cannot drop capability %d", cap);
                }
        }
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
                return nb_fail_errno(err, errno, "cannot clear ambient capabilities");
        if (!keep && prctl(PR_SET_SECUREBITS, NO_ROOT_BITS, 0, 0, 0) < 0)
                return nb_fail_errno(err, errno, "cannot lock the secure bits");
        int r = set_caps(keep);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot drop capabilities");
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return nb_fail_errno(err, errno, "cannot forbid new privileges");
        return 0;
}

int jail_tether(struct nb_error *err) {
        return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? nb_fail_errno(err, errno, "cannot be tied to the parent") : 0;
}

/* A limit of 0 would still run a crash handler named in core_pattern; the kernel skips both for 1 byte. */
int jail_no_core(struct nb_error *err) {
        struct rlimit one = { .rlim_cur = 1, .rlim_max = 1 };
        struct rlimit now;
        if (getrlimit(RLIMIT_CORE, &now) == 0 && now.rlim_max < 1)
                one = (struct rlimit){ 0 };
        return setrlimit(RLIMIT_CORE, &one) < 0 ? nb_fail_errno(err, errno, "cannot forbid core dumps") : 0;
}

static int by_number(const void *a, const void *b) {
        return *(const int *)a - *(const int *)b;
}

int jail_close_others(const int *keep, size_t n_keep, struct nb_error *err) {
        NB_AUTO_FREE int *sorted = nb_calloc(n_keep + 1, sizeof *sorted);
        if (n_keep > 0)
                memcpy(sorted, keep, n_keep * sizeof *sorted);
        qsort(sorted, n_keep, sizeof *sorted, by_number);
        unsigned from = 0;
        for (size_t i = 0; i < n_keep; i++) {
                unsigned fd = (unsigned)sorted[i];
                if (fd > from && close_range(from, fd - 1, 0) < 0)
                        return nb_fail_errno(err, errno, "cannot close descriptors");
                from = fd + 1;
        }
        return close_range(from, ~0u, 0) < 0 ? nb_fail_errno(err, errno, "cannot close descriptors") : 0;
}
