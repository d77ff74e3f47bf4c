/* System calls that wait for the answer of another process (seccomp user notifications): what every such process needs to
 * take a call, look at the caller, and answer. What the answer is, is decided by image/fakeown*.c and box/guard*.c. */
#pragma once
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct notify {
        int fd;
        int proc_fd;
        struct seccomp_notif *request; /* as large as the kernel wants them */
        struct seccomp_notif_resp *response;
        size_t request_size;
};

/* A call that waits for its answer. */
struct notify_call {
        struct notify *n;
        uint64_t id;
        pid_t tid;
        int nr;
        uint64_t arg[6];
        bool answered; /* already, together with a descriptor */
};
#define NOTIFY_CONTINUE 1 /* an answer: the kernel does it after all, as it is */

/** In the process that is to be watched: loads the filter and returns its listener, close-on-exec, or -errno. */
int notify_load(const struct sock_fprog *program);
/** Takes the listener, and a /proc in which the callers are to be seen. */
int notify_begin(int fd, int proc_fd, struct notify *ret, struct nb_error *err);
void notify_end(struct notify *n);
/** Takes the next call, waiting for one. Returns 1, 0 if it is gone again, -errno. */
int notify_next(struct notify *n, struct notify_call *ret);
/** Answers with `value`, with -errno, or with NOTIFY_CONTINUE in `result`. Returns 0 (also if the caller was killed) or -errno.
 */
int notify_answer(const struct notify_call *c, int result, int64_t value);
/** Gives the caller a descriptor as the answer. */
int notify_hand_over(struct notify_call *c, int fd, bool cloexec);

/** Is the call still waiting? Until this is true after the last look at the caller, another process may have been seen. */
bool notify_alive(const struct notify_call *c);
int notify_read(const struct notify_call *c, uint64_t address, void *to, size_t len);
int notify_write(const struct notify_call *c, uint64_t address, const void *from, size_t len);
/** A path of the caller: a NUL-terminated string of less than PATH_MAX bytes. -EFAULT, -ENAMETOOLONG. New string. */
int notify_read_path(const struct notify_call *c, uint64_t address, char **ret);
/** Opens something in the caller's folder in /proc, such as "fd/3". Returns the descriptor or -errno. */
int notify_open_proc(const struct notify_call *c, const char *what, int flags);
/** A descriptor of the caller's, as O_PATH. */
int notify_open_fd(const struct notify_call *c, int fd);
