/* The disk inside: a sparse file of the owner's (disk.h) that becomes an ext4 file system on first use. The tool comes from the
 * runtime image and runs in a jail that holds that one file. */
#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "box/supervisor_impl.h"

#define EXT4_MAGIC_AT 1080
#define FULL_BYTES (4u << 20) /* with less than this free, a disk counts as full */
#define DISK_TARGET "/disk"

static bool has_file_system(const char *path) {
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        unsigned char magic[2] = { 0 };
        return fd >= 0 && pread(fd, magic, 2, EXT4_MAGIC_AT) == 2 && magic[0] == 0x53 && magic[1] == 0xef;
}

static int wait_for(const struct jail_child *child, const char *dir, struct nb_error *err) {
        siginfo_t info = { 0 };
        int r;
        do
                r = waitid(P_PID, (id_t)child->pid, &info, WEXITED);
        while (r < 0 && errno == EINTR);
        nb_close(child->pidfd);
        if (r < 0 || info.si_code != CLD_EXITED || info.si_status != 0) {
                nb_fail(err, EIO, "cannot make a file system on the disk (mke2fs: %s %d)",
                        info.si_code == CLD_EXITED ? "status" : "signal", info.si_status);
                struct statvfs fs;
                if (statvfs(dir, &fs) == 0 && fs.f_bavail * fs.f_frsize < FULL_BYTES)
                        return nb_hint(err, "the disk with %s is full: make room there, or set XDG_STATE_HOME to another", dir);
                return nb_hint(err, "nixbox logs says more");
        }
        return 0;
}

struct jail_plan *disk_plan(const char *runtime, const char *path, int log_fd) {
        static const char *const args[] = { "/usr/sbin/mke2fs",
                                            "-q",
                                            "-F",
                                            "-t",
                                            "ext4",
                                            "-m",
                                            "0",
                                            "-E",
                                            "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
                                            DISK_TARGET };
        struct jail_plan *plan = jail_plan_new("mke2fs");
        plan->ids = JAIL_IDS_CALLER;
        jail_plan_runtime(plan, runtime);
        jail_plan_mount(plan, &(struct jail_mount){ .kind = JAIL_BIND, .source = path, .target = DISK_TARGET, .write = true });
        jail_plan_fd(plan, log_fd, STDOUT_FILENO);
        jail_plan_fd(plan, log_fd, STDERR_FILENO);
        for (size_t i = 0; i < NB_ARRAY_LEN(args); i++)
                nb_strv_add(&plan->argv, args[i]);
        return plan;
}

int disk_prepare(struct supervisor *s, struct nb_error *err) {
        NB_AUTO_FREE char *path = disk_file(&s->m);
        if (!s->m.disk_file || has_file_system(path))
                return 0;
        struct jail_plan *plan = disk_plan(s->m.image.runtime, path, s->log.fd);
        struct jail_child child;
        int r = jail_spawn(plan, &child, err);
        if (r == 0)
                r = wait_for(&child, s->m.state, err);
        jail_plan_free(plan);
        return r;
}
