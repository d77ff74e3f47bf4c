/* virtiofsd on the share tree: its jail and arguments, and the watch over the descriptors that it holds, one for each inode
 * that the guest remembers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/share_internal.h"

#define DAEMON_FD_LISTEN 3
#define SHARE_TARGET "/share"
#define DAEMON_THREADS 64 /* it has a handful; as real root the kernel does not count those of its id */
#define EVERY_ID "4294967295"

/* What serving files takes, over ids of its own user namespace only. No FSETID: writing to a set-id file clears the bit, as
 * for anybody. No MKNOD, no SETFCAP. SYS_CHROOT and SETPCAP are for its start: it leaves the runtime image behind and drops
 * both. */
#define CAP(c) (1ull << (c))
#define DAEMON_CAPS                                                                                                           \
        (CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_FOWNER) | CAP(CAP_SETUID) | CAP(CAP_SETGID) | CAP(CAP_SYS_CHROOT) | \
         CAP(CAP_SETPCAP))

/* The guest is expected to look up no more files than this in a second; see share_fd_pressure(). */
#define LOOKUPS_PER_SECOND 100000u
#define WORKER "vring_worker" /* the thread of virtiofsd that answers the guest */
#define COMM_MAX 64
#define WATCH_MIN_MS 20u
#define WATCH_MAX_MS 1000u

static void translate(char ***argv, const char *what, unsigned guest_id) {
        nb_strv_addf(argv, "--translate-%s", what);
        nb_strv_add(argv, "squash-guest:0:0:" EVERY_ID);
        nb_strv_addf(argv, "--translate-%s", what);
        nb_strv_addf(argv, "squash-host:0:%u:" EVERY_ID, guest_id);
}

/* All that virtiofsd reads of /proc: its own descriptors and mounts, and at its start a limit that it then does not use. */
static const struct jail_mount own_proc[] = {
        { .kind = JAIL_PROC, .target = "/process" },
        { .kind = JAIL_FILE, .target = "/proc/sys/fs/nr_open", .source = "1048576\n" },
        { .kind = JAIL_SYMLINK, .target = "/proc/self", .source = "/process/self" },
};

int share_daemon_plan(struct share *s, const struct share_daemon *d, struct jail_plan **ret, struct nb_error *err) {
        struct rlimit files;
        if (getrlimit(RLIMIT_NOFILE, &files) < 0)
                return nb_fail_errno(err, errno, "cannot read the limit of open files");
        struct jail_plan *plan = jail_plan_new("virtiofsd");
        plan->ids = JAIL_IDS_ALL; /* without privilege, the caller alone */
        plan->keep_caps = DAEMON_CAPS;
        plan->seccomp = JAIL_SECCOMP_VIRTIOFSD;
        plan->listener_sock = d->listener_sock;
        plan->landlock = (struct landlock_plan){ .on = true, .read = true, .write = SHARE_TARGET };
        plan->oom_score_adj = JAIL_OOM_FIRST;
        plan->cgroup_fd = d->cgroup_fd;
        jail_plan_runtime(plan, d->runtime);
        for (size_t i = 0; i < NB_ARRAY_LEN(own_proc); i++)
                jail_plan_mount(plan, &own_proc[i]);
        jail_plan_mount(plan,
                        &(struct jail_mount){
                            .kind = JAIL_BIND, .source = s->dir, .target = SHARE_TARGET, .recursive = true, .write = true });
        jail_plan_fd(plan, d->listen_fd, DAEMON_FD_LISTEN);
        jail_plan_fd(plan, d->log_fd, STDOUT_FILENO);
        jail_plan_fd(plan, d->log_fd, STDERR_FILENO);
        jail_plan_limit(plan, RLIMIT_MEMLOCK, 0);
        jail_plan_limit(plan, RLIMIT_MSGQUEUE, 0);
        jail_plan_limit(plan, RLIMIT_NOFILE, files.rlim_max);
        jail_plan_limit(plan, RLIMIT_NPROC, DAEMON_THREADS);
        /* cache=auto: the guest keeps what it read, asks after a second whether it still holds, and asks at each open; so the
         * host's edits appear, and programs can map files, which cache=never forbids. File handles in place of descriptors
         * would need privilege on the host. */
        static const char *const args[] = {
                "/usr/libexec/virtiofsd",
                "--fd=3",
                ("--shared-dir=" SHARE_TARGET),
                "--sandbox=chroot",
                "--seccomp=kill",
                "--announce-submounts",
                "--inode-file-handles=never",
                "--cache=auto",
                "--rlimit-nofile=0",
                "--log-level=warn",
                "--modcaps=-mknod:-setfcap:-fsetid",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(args); i++)
                nb_strv_add(&plan->argv, args[i]);
        translate(&plan->argv, "uid", d->guest_uid);
        translate(&plan->argv, "gid", d->guest_gid);
        *ret = plan;
        return 0;
}

/* Newer kernels tell the number as the size of the folder; older ones must be counted. */
static int count_entries(int proc_pid, unsigned long *ret) {
        struct stat st;
        if (fstatat(proc_pid, "fd", &st, 0) < 0)
                return -errno;
        if (st.st_size > 0) {
                *ret = (unsigned long)st.st_size;
                return 0;
        }
        int fd = openat(proc_pid, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                int r = -errno;
                nb_close(fd);
                return r;
        }
        unsigned long n = 0;
        for (struct dirent *e; (e = readdir(dir));)
                n += e->d_name[0] != '.';
        closedir(dir);
        *ret = n;
        return 0;
}

int share_fd_use(pid_t virtiofsd, unsigned long *ret_held, unsigned long *ret_limit) {
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d", (int)virtiofsd);
        NB_AUTO_CLOSE int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct rlimit limit;
        if (dir < 0 || prlimit(virtiofsd, RLIMIT_NOFILE, NULL, &limit) < 0)
                return -errno;
        *ret_limit = (unsigned long)limit.rlim_cur;
        return count_entries(dir, ret_held);
}

/* Asks early, at three eighths of the limit: what the guest is asked to forget takes a round trip, and it goes on looking
 * up files meanwhile. Looks again before the remaining room up to that point can have been used. */
struct share_pressure share_fd_pressure(unsigned long held, unsigned long limit) {
        unsigned long mark = limit / 8 * 3;
        struct share_pressure p = { .ask = held >= mark, .next_ms = WATCH_MIN_MS };
        unsigned long room = p.ask ? 0 : mark - held;
        if (room >= WATCH_MAX_MS * (LOOKUPS_PER_SECOND / 1000))
                p.next_ms = WATCH_MAX_MS;
        else if (room / (LOOKUPS_PER_SECOND / 1000) > WATCH_MIN_MS)
                p.next_ms = (unsigned)(room / (LOOKUPS_PER_SECOND / 1000));
        return p;
}

bool share_answers(pid_t virtiofsd) {
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/task", (int)virtiofsd);
        DIR *dir = opendir(path);
        bool found = false;
        for (struct dirent *e; dir && !found && (e = readdir(dir));) {
                NB_AUTO_FREE char *comm = nb_asprintf("%s/%s/comm", path, e->d_name);
                NB_AUTO_FREE char *name = NULL;
                found = nb_read_file(comm, COMM_MAX, &name, NULL) == 0 && strcmp(name, WORKER "\n") == 0;
        }
        if (dir)
                closedir(dir);
        return found;
}
