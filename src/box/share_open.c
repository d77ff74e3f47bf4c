/* Opening a mount's source with the caller's view of the file system. Taking a copy of a mount tree needs privilege over a
 * mount namespace, which an ordinary caller has only in namespaces of its own: a short-lived child makes them, takes the
 * copy and passes it back. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/share.h"
#include "jail/userns.h"

struct answer {
        int code; /* positive errno value, 0: a descriptor comes with it */
        int step; /* enum step */
};
enum step { STEP_NAMESPACE, STEP_OPEN };

/* As real root a mount namespace is enough, and leaves the flags of mounts unlocked. */
static int own_namespace(void) {
        if (jail_real_root() && unshare(CLONE_NEWNS) == 0)
                return 0;
        return userns_enter(CLONE_NEWNS, NULL);
}

/* The path was made real when it was looked at and approved. Whoever can write on the way to it (a guest, through another
 * mount) may have put a symbolic link there since: it is not followed. */
static int clone_tree(const char *path) {
        struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
        NB_AUTO_CLOSE int at = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
        int fd = at < 0 ? -1 : open_tree(at, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
        return fd < 0 ? -errno : fd;
}

static _Noreturn void child(int sock, const char *path) {
        struct answer a = { .step = STEP_NAMESPACE };
        int fd = -1, r = own_namespace();
        if (r == 0) {
                a.step = STEP_OPEN;
                fd = clone_tree(path);
                r = fd < 0 ? fd : 0;
        }
        a.code = -r;
        (void)nb_send_fds(sock, &a, sizeof a, &fd, fd < 0 ? 0 : 1);
        _exit(0);
}

static int take(int sock, const char *path, int *ret_fd, struct nb_error *err) {
        struct answer a;
        int fd = -1;
        size_t n_fds = 1;
        ssize_t n = nb_recv_fds(sock, &a, sizeof a, &fd, &n_fds);
        if (n == sizeof a && a.code == 0 && n_fds == 1) {
                *ret_fd = fd;
                return 0;
        }
        if (n_fds == 1)
                nb_close(fd);
        if (n != sizeof a || a.code == 0)
                return nb_fail(err, ECHILD, "cannot open %s for a mount: the helper process ended", path);
        nb_fail_errno(err, a.code, a.step == STEP_OPEN ? "cannot open %s for a mount" : "cannot make a namespace to open %s in",
                      path);
        return a.step == STEP_OPEN ? -a.code : userns_hint(err);
}

int share_open_tree(const char *path, int *ret_fd, bool *ret_is_file, struct nb_error *err) {
        int sock[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
                return nb_fail_errno(err, errno, "cannot open %s for a mount", path);
        pid_t pid = fork();
        if (pid == 0) {
                close(sock[0]);
                child(sock[1], path);
        }
        int r = pid < 0 ? nb_fail_errno(err, errno, "cannot open %s for a mount", path) : 0;
        nb_close(sock[1]);
        NB_AUTO_CLOSE int fd = -1;
        if (r == 0)
                r = take(sock[0], path, &fd, err);
        nb_close(sock[0]);
        while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        struct stat st = { 0 };
        if (r == 0 && fstat(fd, &st) < 0)
                r = nb_fail_errno(err, errno, "cannot look at %s", path);
        if (r == 0 && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
                r = nb_fail(err, EINVAL, "cannot mount %s: it is neither a folder nor a regular file", path);
        if (r < 0)
                return r;
        *ret_is_file = !S_ISDIR(st.st_mode);
        *ret_fd = nb_steal_fd(&fd);
        return 0;
}
