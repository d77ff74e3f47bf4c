/* Seccomp user notifications: the listener, a call's arguments in the caller's memory, the answer (see notify.h). */
#include "jail/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"

/* Kernel 6.6: the caller runs on where the answer was given, instead of waking up elsewhere. Only faster. */
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1ul
#endif

#define PAGE 4096u
#define NAME_SPACE 96 /* "TID/task/TID/status" */

/* Loaded here and not by libseccomp, whose older versions do not know the flag with which a signal does not interrupt (and so
 * repeat) a call that is being answered. Kernels before 5.19 do not know it either. */
int notify_load(const struct sock_fprog *program) {
        unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
        long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, program);
        if (fd < 0 && errno == EINVAL)
                fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);
        return fd < 0 ? -errno : (int)fd;
}

static size_t larger(size_t a, size_t b) {
        return a > b ? a : b;
}

int notify_begin(int fd, int proc_fd, struct notify *ret, struct nb_error *err) {
        struct seccomp_notif_sizes sizes;
        *ret = (struct notify){ .fd = fd, .proc_fd = proc_fd };
        if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
                return nb_fail_errno(err, errno, "cannot watch system calls");
        ret->request_size = larger(sizes.seccomp_notif, sizeof *ret->request);
        ret->request = nb_calloc(1, ret->request_size);
        ret->response = nb_calloc(1, larger(sizes.seccomp_notif_resp, sizeof *ret->response));
        (void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
        return 0;
}

void notify_end(struct notify *n) {
        nb_close(n->fd);
        nb_close(n->proc_fd);
        free(n->request);
        free(n->response);
}

int notify_next(struct notify *n, struct notify_call *ret) {
        struct seccomp_notif *request = n->request;
        memset(request, 0, n->request_size); /* the kernel insists */
        if (ioctl(n->fd, SECCOMP_IOCTL_NOTIF_RECV, request) < 0)
                return errno == ENOENT || errno == EINTR ? 0 : -errno;
        *ret = (struct notify_call){ .n = n, .id = request->id, .tid = (pid_t)request->pid, .nr = request->data.nr };
        for (size_t i = 0; i < NB_ARRAY_LEN(ret->arg); i++)
                ret->arg[i] = request->data.args[i];
        return 1;
}

int notify_answer(const struct notify_call *c, int result, int64_t value) {
        struct seccomp_notif_resp *response = c->n->response;
        if (c->answered)
                return 0;
        *response = (struct seccomp_notif_resp){ .id = c->id };
        if (result == NOTIFY_CONTINUE)
                response->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        else if (result < 0)
                response->error = result;
        else
                response->val = value;
        /* ENOENT: it was killed meanwhile */
        return ioctl(c->n->fd, SECCOMP_IOCTL_NOTIF_SEND, response) < 0 && errno != ENOENT ? -errno : 0;
}

int notify_hand_over(struct notify_call *c, int fd, bool cloexec) {
        struct seccomp_notif_addfd add = {
                .id = c->id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)fd, .newfd_flags = cloexec ? O_CLOEXEC : 0
        };
        if (ioctl(c->n->fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        c->answered = true;
        return 0;
}

bool notify_alive(const struct notify_call *c) {
        return ioctl(c->n->fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &c->id) == 0;
}

static struct iovec there_at(uint64_t address, size_t len) {
        return (struct iovec){ (void *)(uintptr_t)address, len }; /* NOLINT(performance-no-int-to-ptr): of another process */
}

int notify_read(const struct notify_call *c, uint64_t address, void *to, size_t len) {
        struct iovec here = { to, len }, there = there_at(address, len);
        ssize_t n = process_vm_readv(c->tid, &here, 1, &there, 1, 0);
        if (n < 0)
                return -errno;
        return (size_t)n == len ? 0 : -EFAULT;
}

int notify_write(const struct notify_call *c, uint64_t address, const void *from, size_t len) {
        struct iovec here = { (void *)from, len }, there = there_at(address, len);
        ssize_t n = process_vm_writev(c->tid, &here, 1, &there, 1, 0);
        if (n < 0)
                return -errno;
        return (size_t)n == len ? 0 : -EFAULT;
}

/* In steps that end with a page, because what follows the string may not be there. */
int notify_read_path(const struct notify_call *c, uint64_t address, char **ret) {
        char text[PATH_MAX];
        size_t len = 0;
        while (len < sizeof text) {
                size_t step = PAGE - (size_t)((address + len) % PAGE);
                if (step > sizeof text - len)
                        step = sizeof text - len;
                int r = notify_read(c, address + len, text + len, step);
                if (r < 0)
                        return r;
                if (memchr(text + len, 0, step)) {
                        *ret = nb_strdup(text);
                        return 0;
                }
                len += step;
        }
        return -ENAMETOOLONG;
}

int notify_open_proc(const struct notify_call *c, const char *what, int flags) {
        char name[NAME_SPACE];
        (void)snprintf(name, sizeof name, "%d/%s", c->tid, what);
        int fd = openat(c->n->proc_fd, name, flags | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int notify_open_fd(const struct notify_call *c, int fd) {
        char name[NAME_SPACE];
        (void)snprintf(name, sizeof name, "fd/%d", fd);
        int opened = fd < 0 ? -EBADF : notify_open_proc(c, name, O_PATH);
        return opened == -ENOENT ? -EBADF : opened;
}
