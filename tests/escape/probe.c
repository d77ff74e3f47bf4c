/* A hostile program: tries everything that a taken-over QEMU or virtiofsd would try, and tells what it got, one line each:
 * "PROBE allowed" or "PROBE denied ERRNO". Static and without nixbox's code, so that it runs in any jail, outside, in a box.
 *   probe WHERE SECRET VICTIM ABSTRACT [WRITABLE]
 *   probe victim ABSTRACT
 * WHERE: "jail"; "guarded", a jail with the victim in it, which is there when a byte comes on descriptor 3; "namespaces", its
 * own, where it may change what it can; "plain", where it must change nothing. What it mounts it mounts on its working folder,
 * so that a jail that does not hold harms nobody. SECRET: a file of the host; VICTIM: a process of the host; ABSTRACT: name of
 * a listening abstract socket; WRITABLE: a folder in which it may make files, for the probes that are about what it can make
 * there. The victim has what the probes look for: the socket, shared memory, and no objection to being looked into. It says its
 * process id when all that is there, and goes on SIGTERM. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define FDS_LOOKED_AT 4096
#define MANY 400
#define LISTEN_MAX 16
#define GUARDED_FD 3
#define SHM_KEY 0x6e000000 /* and the victim's process id */
#define X32_GETPID (0x40000000 | 39)

struct target {
        const char *secret, *abstract, *writable;
        pid_t victim;
        bool jailed, may_change;
};

static void tell(const char *probe, long r) {
        if (r >= 0)
                printf("%s allowed\n", probe);
        else
                printf("%s denied %s\n", probe, strerrorname_np(errno));
}

/* In a child of its own, because it may be killed for it, or succeed and change the process. */
static void tell_child(const char *probe, long (*attempt)(const struct target *t), const struct target *t) {
        fflush(stdout);
        int report[2];
        if (pipe(report) < 0)
                exit(1);
        pid_t pid = fork();
        if (pid == 0) {
                long r = attempt(t);
                int code = r < 0 ? errno : 0;
                (void)!write(report[1], &code, sizeof code);
                _exit(0);
        }
        close(report[1]);
        int code = 0, status = 0;
        ssize_t n = pid < 0 ? 0 : read(report[0], &code, sizeof code);
        close(report[0]);
        if (pid > 0)
                (void)waitpid(pid, &status, 0);
        if (WIFSIGNALED(status))
                printf("%s denied %s\n", probe, sigabbrev_np(WTERMSIG(status)));
        else if (n == sizeof code && code == 0)
                printf("%s allowed\n", probe);
        else
                printf("%s denied %s\n", probe, strerrorname_np(code));
}

/* --- files --- */

static long read_file(const char *path) {
        char byte;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        long r = fd < 0 ? -1 : read(fd, &byte, 1);
        int code = errno;
        if (fd >= 0)
                close(fd);
        errno = code;
        return r;
}

/* Where processes are to be seen: in virtiofsd's jail under another name. */
static const char *proc(void) {
        return access("/process/self", F_OK) == 0 ? "/process" : "/proc";
}

static void probe_files(const struct target *t) {
        char path[4096];
        tell("file.secret", read_file(t->secret));
        tell("file.passwd", read_file("/etc/passwd"));
        snprintf(path, sizeof path, "/proc/self/root/../../..%s", t->secret);
        tell("file.dotdot", read_file(path));
        snprintf(path, sizeof path, "%s/%d/root%s", proc(), (int)t->victim, t->secret);
        tell("file.other-root", read_file(path));
        tell("file.sysctl", read_file("/proc/sys/kernel/hostname"));
        tell("file.sys", read_file("/sys/kernel/mm/transparent_hugepage/enabled"));
        tell("file.dev", open("/dev/zero", O_RDONLY | O_CLOEXEC));
}

static void list_root(void) {
        char path[4096];
        DIR *root = opendir("/");
        for (struct dirent *e; root && (e = readdir(root));) {
                if (e->d_name[0] == '.')
                        continue;
                printf("root %s\n", e->d_name);
                snprintf(path, sizeof path, "/%s/nixbox-probe", e->d_name);
                int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                if (fd >= 0) {
                        printf("writable /%s\n", e->d_name);
                        (void)unlink(path);
                        close(fd);
                }
        }
}

/* --- processes --- */

static long attach(const struct target *t) {
        return ptrace(PTRACE_SEIZE, t->victim, NULL, NULL);
}

static long read_memory(const struct target *t) {
        char byte;
        /* the probe is one and the same program when it runs as the victim: its code lies at the same place */
        struct iovec here = { &byte, 1 }, there = { (void *)attach, 1 };
        return process_vm_readv(t->victim, &here, 1, &there, 1, 0);
}

static void probe_processes(const struct target *t) {
        char path[64];
        tell("process.signal", kill(t->victim, 0));
        tell("process.everyone", kill(-1, 0));
        tell("process.pidfd", syscall(SYS_pidfd_open, t->victim, 0));
        snprintf(path, sizeof path, "%s/%d/mem", proc(), (int)t->victim);
        tell("process.mem", open(path, O_RDONLY | O_CLOEXEC));
        snprintf(path, sizeof path, "%s/%d/fd/0", proc(), (int)t->victim);
        tell("process.fd", open(path, O_RDONLY | O_CLOEXEC));
        snprintf(path, sizeof path, "%s/%d/cmdline", proc(), (int)t->victim);
        tell("process.cmdline", read_file(path));
        tell_child("process.ptrace", attach, t);
        tell("process.read", read_memory(t));
        tell("process.shm", shmget(SHM_KEY | t->victim, 1, 0));
}

/* --- network --- */

static socklen_t abstract_address(const char *name, struct sockaddr_un *ret) {
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        strncpy(ret->sun_path + 1, name, sizeof ret->sun_path - 2);
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static long connect_abstract(const struct target *t) {
        struct sockaddr_un a;
        socklen_t len = abstract_address(t->abstract, &a);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, len);
}

static void probe_network(const struct target *t) {
        tell("net.inet", socket(AF_INET, SOCK_STREAM, 0));
        tell("net.inet6", socket(AF_INET6, SOCK_DGRAM, 0));
        tell("net.unix", socket(AF_UNIX, SOCK_STREAM, 0));
        tell("net.netlink", socket(AF_NETLINK, SOCK_RAW, 0));
        tell("net.abstract", connect_abstract(t));
        FILE *f = fopen("/proc/net/dev", "re");
        tell("net.interfaces", f ? 0 : -1);
}

/* --- what it can use of the machine --- */

static long start_many(const struct target *t) {
        (void)t;
        pid_t made[MANY];
        int n = 0, code = 0;
        for (; n < MANY && code == 0; n++) {
                made[n] = fork();
                if (made[n] == 0)
                        for (;;)
                                pause();
                code = made[n] < 0 ? errno : 0;
        }
        for (int i = 0; i < n; i++)
                if (made[i] > 0 && kill(made[i], SIGKILL) == 0)
                        (void)waitpid(made[i], NULL, 0);
        errno = code;
        return code ? -1 : 0;
}

static long huge_file(const struct target *t) {
        (void)t;
        return ftruncate(memfd_create("huge", MFD_CLOEXEC), 1L << 40);
}

static long lock_memory(const struct target *t) {
        (void)t;
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return mlock(page, 4096);
}

static long message_queue(const struct target *t) {
        long queue = syscall(SYS_mq_open, t->abstract, O_CREAT | O_RDWR, 0600, NULL);
        int code = errno;
        if (queue >= 0)
                (void)syscall(SYS_mq_unlink, t->abstract);
        errno = code;
        return queue;
}

static void probe_limits(const struct target *t) {
        struct rlimit core = { 0 };
        tell_child("limit.processes", start_many, t);
        tell_child("limit.file", huge_file, t);
        tell_child("limit.lock", lock_memory, t);
        if (t->may_change)
                tell_child("limit.queue", message_queue, t);
        (void)getrlimit(RLIMIT_CORE, &core);
        printf("core %llu\n", (unsigned long long)core.rlim_cur);
}

/* --- privileges and the kernel --- */

static long new_user(const struct target *t) {
        (void)t;
        return unshare(CLONE_NEWUSER);
}

static long new_mounts(const struct target *t) {
        (void)t;
        return unshare(CLONE_NEWNS);
}

static long clone_user(const struct target *t) {
        (void)t;
        long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid == 0)
                _exit(0);
        return pid;
}

/* Outside a jail a mount that succeeds is this process's alone: what is made later in the folder would go into it otherwise. */
static void alone(const struct target *t) {
        if (!t->jailed && (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
                _exit(1);
}

static long make_mount(const struct target *t) {
        alone(t);
        return mount("none", ".", "tmpfs", 0, NULL);
}

static long make_mount_new(const struct target *t) {
        (void)t;
        return syscall(SYS_fsopen, "tmpfs", 0);
}

static long remount(const struct target *t) {
        alone(t);
        return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV, NULL);
}

static long bind_mount(const struct target *t) {
        alone(t);
        return mount("/", ".", NULL, MS_BIND | MS_REC, NULL);
}

static long i386_getpid(const struct target *t) {
        (void)t;
        long r;
        __asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory");
        errno = r < 0 ? (int)-r : 0;
        return r < 0 ? -1 : r;
}

static long x32_getpid(const struct target *t) {
        (void)t;
        long r = syscall(X32_GETPID);
        return r < 0 && errno == ENOSYS ? 0 : r; /* a kernel without x32 says so; the filter does not let it answer */
}

static long hostname(const struct target *t) {
        (void)t;
        return sethostname("box", 3);
}

static void probe_kernel(const struct target *t) {
        char attr[128] = { 0 };
        tell_child("priv.userns", new_user, t);
        tell_child("priv.mountns", new_mounts, t);
        tell_child("priv.clone", clone_user, t);
        if (t->may_change) {
                tell_child("priv.mount", make_mount, t);
                tell_child("priv.fsopen", make_mount_new, t);
                tell_child("priv.remount", remount, t);
                tell_child("priv.bind", bind_mount, t);
                tell_child("priv.hostname", hostname, t);
        }
        tell_child("kernel.i386", i386_getpid, t);
        tell_child("kernel.x32", x32_getpid, t);
        tell("kernel.io_uring", syscall(SYS_io_uring_setup, 1, attr));
        tell("kernel.keyctl", syscall(SYS_keyctl, 0, -3 /* session keyring */, 1));
        printf("no_new_privs %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct caps[2] = { 0 };
        (void)syscall(SYS_capget, &head, caps);
        printf("capabilities %x%08x\n", caps[1].permitted, caps[0].permitted);
        int bound = 0;
        for (int cap = 0; cap < 64; cap++)
                bound += prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1;
        printf("bounding %d\n", bound);
        char name[64] = "";
        (void)gethostname(name, sizeof name - 1);
        printf("hostname %s\n", name);
        for (int fd = 0; fd < FDS_LOOKED_AT; fd++)
                if (fcntl(fd, F_GETFD) >= 0)
                        printf("descriptor %d\n", fd);
}

/* --- what can be made in a writable folder --- */

static long make(const char *name, unsigned mode) {
        (void)unlink(name);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0)
                close(fd);
        return fd;
}

static long make_openat2(const char *name, unsigned mode) {
        struct open_how how = { .flags = O_WRONLY | O_CREAT, .mode = mode };
        (void)unlink(name);
        return syscall(SYS_openat2, AT_FDCWD, name, &how, sizeof how);
}

static void probe_making(const struct target *t) {
        if (chdir(t->writable) < 0) {
                perror(t->writable);
                exit(1);
        }
        (void)umask(0);
        tell("make.plain", make("plain", 0644));
        tell("make.setuid-create", make("suid-create", 04755));
        tell("make.setgid-create", make("sgid-create", 02755));
        tell("make.setuid-openat2", make_openat2("suid-openat2", 04755));
        tell("make.setuid-mknod", mknod("suid-mknod", S_IFREG | 04755, 0));
        tell("make.setuid-chmod", chmod("plain", 04755));
        tell("make.setgid-fchmodat2", syscall(452, AT_FDCWD, "plain", 02755, AT_SYMLINK_NOFOLLOW));
        tell("make.setuid-fchmod", fchmod(open("plain", O_RDONLY), 06755));
        tell("make.tmpfile", open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 04755));
        tell("make.char-device", mknod("char", S_IFCHR | 0666, 0x103));
        tell("make.block-device", mknod("block", S_IFBLK | 0666, 0x800));
        tell("make.whiteout", mknod("whiteout", S_IFCHR, 0));
        tell("make.rename-whiteout", syscall(SYS_renameat2, AT_FDCWD, "plain", AT_FDCWD, "moved", 4));
        (void)rename("moved", "plain");
        tell("make.user-xattr", setxattr("plain", "user.probe", "x", 1, 0));
        tell("make.capability", setxattr("plain", "security.capability", "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0));
        tell("make.fifo", mkfifo("fifo", 0644));
}

static int be_victim(const char *abstract) {
        struct sockaddr_un a;
        socklen_t len = abstract_address(abstract, &a);
        int number, fd = socket(AF_UNIX, SOCK_STREAM, 0), shm = shmget(SHM_KEY | getpid(), 1, IPC_CREAT | 0600);
        sigset_t end;
        sigemptyset(&end);
        sigaddset(&end, SIGTERM);
        (void)sigprocmask(SIG_BLOCK, &end, NULL);
        (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* fails where there is no Yama that could forbid it */
        bool ready = fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 && listen(fd, LISTEN_MAX) == 0 && shm >= 0;
        if (ready) {
                printf("%d\n", (int)getpid());
                fflush(stdout);
                (void)sigwait(&end, &number);
        }
        if (shm >= 0)
                (void)shmctl(shm, IPC_RMID, NULL);
        return !ready;
}

int main(int argc, char **argv) {
        if (argc == 3 && strcmp(argv[1], "victim") == 0)
                return be_victim(argv[2]);
        if (argc < 5) {
                fprintf(
                    stderr,
                    "usage: probe jail|guarded|namespaces|plain SECRET VICTIM ABSTRACT [WRITABLE] | probe victim ABSTRACT\n");
                return 2;
        }
        struct target t = {
                .secret = argv[2],
                .victim = atoi(argv[3]),
                .abstract = argv[4],
                .writable = argc > 5 ? argv[5] : NULL,
                .jailed = strcmp(argv[1], "jail") == 0 || strcmp(argv[1], "guarded") == 0,
                .may_change = strcmp(argv[1], "plain") != 0,
        };
        char byte;
        if (strcmp(argv[1], "guarded") == 0 && read(GUARDED_FD, &byte, 1) != 1)
                return 2;
        if (!t.jailed && (!t.writable || chdir(t.writable) < 0))
                return 2;
        probe_kernel(&t); /* first: later probes open descriptors */
        probe_files(&t);
        if (t.jailed)
                list_root();
        probe_processes(&t);
        probe_network(&t);
        probe_limits(&t);
        if (t.writable)
                probe_making(&t);
        return 0;
}
