/* The builder's side of faked ownership: waits for calls, has each done by its handler, answers. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/fakeown_internal.h"

static const struct fakeown_entry table[] = {
        { SYS_chown, fakeown_chown },
        { SYS_lchown, fakeown_lchown },
        { SYS_fchown, fakeown_fchown },
        { SYS_fchownat, fakeown_fchownat },
        { SYS_stat, fakeown_stat },
        { SYS_lstat, fakeown_lstat },
        { SYS_fstat, fakeown_fstat },
        { SYS_newfstatat, fakeown_newfstatat },
        { SYS_statx, fakeown_statx },
        { SYS_listxattr, fakeown_listxattr },
        { SYS_llistxattr, fakeown_llistxattr },
        { SYS_flistxattr, fakeown_flistxattr },
        { SYS_creat, fakeown_creat },
        { SYS_open, fakeown_open },
        { SYS_openat, fakeown_openat },
        { SYS_mkdir, fakeown_mkdir },
        { SYS_mkdirat, fakeown_mkdirat },
        { SYS_mknod, fakeown_mknod },
        { SYS_mknodat, fakeown_mknodat },
        { SYS_symlink, fakeown_symlink },
        { SYS_symlinkat, fakeown_symlinkat },
        { SYS_setuid, fakeown_setuid },
        { SYS_setgid, fakeown_setgid },
        { SYS_setreuid, fakeown_setreuid },
        { SYS_setregid, fakeown_setregid },
        { SYS_setresuid, fakeown_setresuid },
        { SYS_setresgid, fakeown_setresgid },
        { SYS_setfsuid, fakeown_setfsuid },
        { SYS_setfsgid, fakeown_setfsgid },
        { SYS_getuid, fakeown_getuid },
        { SYS_geteuid, fakeown_geteuid },
        { SYS_getgid, fakeown_getgid },
        { SYS_getegid, fakeown_getegid },
        { SYS_getresuid, fakeown_getresuid },
        { SYS_getresgid, fakeown_getresgid },
        { SYS_setgroups, fakeown_setgroups },
        { SYS_getgroups, fakeown_getgroups },
        { 0, NULL },
};

const struct fakeown_entry *fakeown_table(void) {
        return table;
}

static fakeown_handler *find(int nr) {
        for (const struct fakeown_entry *e = table; e->handle; e++)
                if (e->nr == nr)
                        return e->handle;
        return NULL;
}

int fakeown_new(int notify_fd, struct fakeown **ret, struct nb_error *err) {
        __attribute__((cleanup(fakeown_freep))) struct fakeown *f = nb_calloc(1, sizeof *f);
        struct rlimit limit;
        f->own_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
        f->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        f->cwd_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        f->ids = nb_calloc(1, sizeof *f->ids);
        f->n_ids = 1;
        if (getrlimit(RLIMIT_RSS, &limit) == 0 && limit.rlim_max > FAKEOWN_IDS_MAX)
                f->tag_base = limit.rlim_max - FAKEOWN_IDS_MAX;
        int r = notify_begin(notify_fd, open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), &f->notify, err);
        if (r == 0 && (f->notify.proc_fd < 0 || f->own_fds < 0 || f->root_fd < 0 || f->cwd_fd < 0))
                r = nb_fail_errno(err, errno, "cannot open /proc");
        if (r == 0)
                *ret = nb_steal(&f);
        return r;
}

void fakeown_free(struct fakeown *f) {
        if (!f)
                return;
        notify_end(&f->notify);
        nb_close(f->own_fds);
        nb_close(f->root_fd);
        nb_close(f->cwd_fd);
        free(f->ids);
        free(f);
}

static int serve_one(struct fakeown *f) {
        struct fakeown_call c = { .f = f, .arg = c.call.arg };
        int r = notify_next(&f->notify, &c.call);
        if (r <= 0)
                return r;
        fakeown_handler *handle = find(c.call.nr);
        r = handle ? handle(&c) : -ENOSYS;
        return notify_answer(&c.call, r, c.value);
}

static int serve_all(struct fakeown *f, int until_fd) {
        struct pollfd p[] = { { .fd = f->notify.fd, .events = POLLIN }, { .fd = until_fd, .events = POLLIN } };
        for (;;) {
                int r = poll(p, NB_ARRAY_LEN(p), -1) < 0 ? -errno : 0;
                if (r == 0 && p[0].revents & POLLIN)
                        r = serve_one(f);
                else if (r == 0)
                        return p[1].revents || p[0].revents & POLLHUP ? 0 : -EIO;
                if (r < 0 && r != -EINTR)
                        return r;
        }
}

/* The paths of the child are walked with its root; ours comes back at the end. */
int fakeown_serve(struct fakeown *f, int until_fd, struct nb_error *err) {
        mode_t mask = umask(0);
        int r = fchdir(f->own_fds) < 0 ? -errno : serve_all(f, until_fd);
        (void)umask(mask);
        if (fchdir(f->root_fd) < 0 || chroot(".") < 0 || fchdir(f->cwd_fd) < 0)
                r = r < 0 ? r : -errno;
        return r < 0 ? nb_fail_errno(err, -r, "cannot watch the build's system calls") : 0;
}
