/* The child's side of faked ownership: which system calls its filter hands to the builder. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "image/fakeown_internal.h"

#define FILTER_MAX (64 * 1024)
#define TMPFILE (O_TMPFILE & ~O_DIRECTORY) /* the bit of its own */

/* Other ways to the same effects, whose arguments a filter cannot see: programs do without where the kernel is older. */
static const int absent_calls[] = { SCMP_SYS(openat2), SCMP_SYS(io_uring_setup) };

/* Opening matters where it can make a file. */
static int add_notify(scmp_filter_ctx ctx, int nr) {
        static const unsigned making[] = { O_CREAT, TMPFILE };
        if (nr != SYS_open && nr != SYS_openat)
                return seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, nr, 0);
        int r = 0;
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(making); i++)
                r = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, nr, 1,
                                     SCMP_CMP32(nr == SYS_open ? 1 : 2, SCMP_CMP_MASKED_EQ, making[i], making[i]));
        return r;
}

static int fill(scmp_filter_ctx ctx) {
        int r = 0;
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(absent_calls); i++)
                r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), absent_calls[i], 0);
        for (const struct fakeown_entry *e = fakeown_table(); r == 0 && e->handle; e++)
                r = add_notify(ctx, e->nr);
        return r;
}

static int export_and_load(scmp_filter_ctx ctx) {
        NB_AUTO_CLOSE int fd = memfd_create("filter", MFD_CLOEXEC);
        int r = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);
        if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
                r = -errno;
        NB_AUTO_FREE char *code = NULL;
        size_t len = 0;
        if (r == 0)
                r = nb_read_fd(fd, FILTER_MAX, &code, &len);
        if (r < 0)
                return r;
        struct sock_fprog program = { .len = (unsigned short)(len / sizeof(struct sock_filter)), .filter = (void *)code };
        return notify_load(&program);
}

/* Programs of the 32-bit interfaces would not be seen by the rules and are killed. */
int fakeown_filter(int *ret_notify_fd, struct nb_error *err) {
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        int r = ctx ? seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) : -ENOMEM;
        if (r == 0)
                r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        if (r == 0)
                r = fill(ctx);
        if (r == 0)
                r = export_and_load(ctx);
        seccomp_release(ctx);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot load the system call filter of the build");
        *ret_notify_fd = r;
        return 0;
}
