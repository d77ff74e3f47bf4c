/* Runs the hostile program (probe.c) in the jail of QEMU or of virtiofsd: the very plans that a box is started with, changed
 * in nothing but the program that is run. Also in no jail at all, for the positive controls.
 *   jailer qemu|virtiofsd|guarded|namespaces|plain RUNTIME FOLDER PROBE ARG...
 * FOLDER is shared with virtiofsd for writing, as /share/m0. "guarded": virtiofsd, with another process among its own, started
 * as the guard is; that one is the victim. "namespaces": outside a jail, as root of namespaces of its own; "plain": outside a
 * jail. Both, as real root too, in mount and host name spaces of their own: the machine is not touched. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/helper.h"
#include "box/share.h"
#include "box/vmm.h"
#include "jail/userns.h"

#define SOME_UNUSED_ID 1903217u
#define BESIDE "2" /* the second among the processes that the probe is the first of */

static _Noreturn void give_up(struct nb_error *err) {
        nb_error_print(err, stderr);
        exit(125);
}

static int some_fd(void) {
        return memfd_create("some", MFD_CLOEXEC);
}

static int some_socket(int *ret_other) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -1;
        if (ret_other)
                *ret_other = pair[1];
        return pair[0];
}

static struct jail_plan *plan_qemu(const char *runtime, const char *probe) {
        struct nb_error err = { 0 };
        /* any file does for the kernel: nothing looks at it */
        struct image image = { .runtime = (char *)runtime, .vmlinux = (char *)probe, .initrd = (char *)probe };
        struct accel accel = { .kind = ACCEL_TCG };
        struct vmm_spec spec = {
                .accel = &accel,
                .image = &image,
                .cpus = 1,
                .memory = 256u << 20,
                .rootfs_fd = some_fd(),
                .modules_fd = some_fd(),
                .disk_fd = -1,
                .agent_fd = some_socket(NULL),
                .console_fd = some_socket(NULL),
                .qmp_fd = some_socket(NULL),
                .vhost_fd = some_socket(NULL),
                .kvm_fd = -1,
                .tap_fd = -1,
                .log_fd = STDOUT_FILENO,
                .cgroup_fd = -1,
                .unused_id = SOME_UNUSED_ID,
        };
        struct jail_plan *plan = NULL;
        if (vmm_plan(&spec, &plan, &err) < 0)
                give_up(&err);
        return plan;
}

static struct jail_plan *plan_virtiofsd(struct share *share, const char *runtime, int *ret_other) {
        struct nb_error err = { 0 };
        struct share_daemon d = { .runtime = runtime,
                                  .listen_fd = some_socket(ret_other),
                                  .guest_uid = 1000,
                                  .guest_gid = 1000,
                                  .log_fd = STDOUT_FILENO,
                                  .listener_sock = -1,
                                  .cgroup_fd = -1 };
        struct jail_plan *plan = NULL;
        if (share_daemon_plan(share, &d, &plan, &err) < 0)
                give_up(&err);
        return plan;
}

/* In the guard's place: it can be traced and looked into, other than the guard, as far as the kernel lets the probe. */
static pid_t start_beside(const struct jail_child *virtiofsd, const char *probe, const char *name) {
        struct nb_error err = { 0 };
        struct jail_child child;
        int ready[2];
        char number[16];
        char *argv[] = { "probe", "victim", (char *)name, NULL };
        if (pipe(ready) < 0)
                give_up(&err);
        const struct jail_fd fds[] = { { ready[1], STDOUT_FILENO } };
        const struct helper_spec spec = { .name = "the neighbour",
                                          .program = helper_open(probe, &err),
                                          .argv = argv,
                                          .fds = fds,
                                          .n_fds = 1,
                                          .fd_end = STDERR_FILENO + 1,
                                          .limits = { .memory = 1u << 30, .files = 64 },
                                          .network = -1,
                                          .among = virtiofsd };
        if (spec.program < 0 || helper_spawn(&spec, &child, &err) < 0)
                give_up(&err);
        close(ready[1]);
        if (read(ready[0], number, sizeof number) != 2 || memcmp(number, BESIDE "\n", 2) != 0)
                _exit(125);
        close(ready[0]);
        return child.pid;
}

static int status_of(pid_t pid) {
        int status;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* With `guarded` the other end of the probe's descriptor 3, -1: without a neighbour. */
static int run(struct jail_plan *plan, const char *probe, char **args, int guarded) {
        struct nb_error err = { 0 };
        struct jail_child child;
        NB_AUTO_FREE char *name = nb_asprintf("%s-beside", args[2]);
        jail_plan_mount(plan, &(struct jail_mount){ .kind = JAIL_BIND, .source = probe, .target = "/probe", .exec = true });
        nb_strv_free(plan->argv);
        plan->argv = NULL;
        nb_strv_add(&plan->argv, "/probe");
        nb_strv_add(&plan->argv, guarded >= 0 ? "guarded" : "jail");
        for (size_t i = 0; args[i]; i++)
                nb_strv_add(&plan->argv, guarded >= 0 && i == 1 ? BESIDE : args[i]);
        if (jail_spawn(plan, &child, &err) < 0)
                give_up(&err);
        jail_plan_free(plan);
        if (guarded >= 0) {
                pid_t beside = start_beside(&child, probe, name);
                if (write(guarded, "g", 1) != 1)
                        _exit(125);
                (void)status_of(beside); /* it ends with the probe, which is gone only after it */
        }
        return status_of(child.pid);
}

static int control(const char *where, const char *probe, char **args) {
        char **argv = NULL;
        nb_strv_add(&argv, probe);
        nb_strv_add(&argv, where);
        for (; *args; args++)
                nb_strv_add(&argv, *args);
        execv(probe, argv);
        return 127;
}

int main(int argc, char **argv) {
        struct nb_error err = { 0 };
        if (argc < 8)
                return 2;
        const char *where = argv[1], *runtime = argv[2], *folder = argv[3], *probe = argv[4];
        bool guarded = strcmp(where, "guarded") == 0, virtiofsd = guarded || strcmp(where, "virtiofsd") == 0;
        bool qemu = strcmp(where, "qemu") == 0, is_file = false;
        int tree = -1, other = -1;
        char id[16];
        struct share *share = NULL;
        if (virtiofsd && share_open_tree(folder, &tree, &is_file, &err) < 0)
                give_up(&err);
        bool plain = strcmp(where, "plain") == 0;
        if (plain && geteuid() == 0 && unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0)
                return 125;
        if (!plain && userns_enter(CLONE_NEWNS | CLONE_NEWUTS | (guarded ? CLONE_NEWIPC : 0), &err) < 0)
                give_up(&err);
        if ((!plain || geteuid() == 0) && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return 125;
        if (!virtiofsd && !qemu)
                return control(where, probe, argv + 5);
        if (virtiofsd) { /* the share tree goes on a folder that exists everywhere; only this namespace sees it there */
                if (share_new("/mnt", &share, &err) < 0 || share_attach(share, tree, is_file, true, id, &err) < 0)
                        give_up(&err);
        }
        struct jail_plan *plan = virtiofsd ? plan_virtiofsd(share, runtime, &other) : plan_qemu(runtime, probe);
        int status = run(plan, probe, argv + 5, guarded ? other : -1);
        share_free(share);
        return status;
}
