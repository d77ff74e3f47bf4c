/* What a start would do, as text: the plan that would be carried out, printed instead. Nothing is started; the share tree
 * exists for a moment in a namespace of a helper process that ends at once. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "box/supervisor_impl.h"
#include "box/userns.h"

#define DESCRIBE_MAX 1048576

static void say(int fd, const char *fmt, ...) NB_PRINTF(2, 3);
static void say(int fd, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *text = nb_vasprintf(fmt, ap);
        va_end(ap);
        (void)nb_write_all(fd, text, strlen(text));
}

static void say_plan(int fd, const struct jail_plan *plan) {
        NB_AUTO_FREE char *text = jail_describe(plan);
        say(fd, "\n%s", text);
}

static void describe_box(const struct box_start *start, int fd) {
        const struct config *c = start->config;
        NB_AUTO_FREE char *memory = nb_format_size(c->memory);
        NB_AUTO_FREE char *disk = nb_format_size(c->disk);
        say(fd, "box %s\n", start->paths->name);
        say(fd, "  config        %s\n  image         %s\n", c->file, start->image->digest);
        say(fd, "  accelerator   %s%s%s\n", start->accel->kind == ACCEL_KVM ? "kvm" : "tcg", start->accel->why ? ": " : "",
            start->accel->why ? start->accel->why : "");
        say(fd, "  machine       %u CPUs, at most %s of memory, %s%s\n", c->cpus, memory,
            c->disk ? "scratch disk of " : "scratch space in memory", c->disk ? disk : "");
        say(fd, "  network       off: no network device\n");
        for (size_t i = 0; i < c->n_mounts; i++)
                say(fd, "  mount         %s on %s, %s, nosuid, nodev\n", c->mounts[i].source, c->mounts[i].target,
                    c->mounts[i].write ? "writable" : "read-only");
        for (size_t i = 0; i < c->n_secrets; i++)
                say(fd, "  secret        %s\n", c->secrets[i].name);
}

static int describe_virtiofsd(const struct box_start *start, int fd, struct nb_error *err) {
        struct share *share = NULL;
        struct jail_plan *plan = NULL;
        int r = userns_enter(CLONE_NEWNS, err);
        if (r == 0)
                r = share_new("/tmp", &share, err);
        struct share_daemon d = {
                .runtime = start->image->runtime, .listen_fd = fd, .guest_uid = getuid(), .guest_gid = getgid(), .log_fd = fd
        };
        if (r == 0)
                r = share_daemon_plan(share, &d, &plan, err);
        if (r == 0)
                say_plan(fd, plan);
        return r;
}

static int describe_qemu(const struct box_start *start, int fd, struct nb_error *err) {
        int sock[2];
        NB_AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) < 0)
                return nb_fail_errno(err, errno, "cannot describe QEMU");
        /* of a descriptor only its kind is looked at */
        struct vmm_spec spec = {
                .accel = start->accel,
                .image = start->image,
                .cpus = start->config->cpus,
                .memory = start->config->memory,
                .rootfs_fd = null,
                .disk_fd = start->config->disk ? null : -1,
                .agent_fd = sock[0],
                .console_fd = null,
                .qmp_fd = sock[0],
                .vhost_fd = sock[0],
                .kvm_fd = start->accel->kind == ACCEL_KVM ? null : -1,
                .log_fd = null,
                .unused_id = 0,
        };
        struct jail_plan *plan = NULL;
        int r = vmm_plan(&spec, &plan, err);
        if (r == 0)
                say_plan(fd, plan);
        jail_plan_free(plan);
        nb_close(sock[0]);
        nb_close(sock[1]);
        return r;
}

int box_describe(const struct box_start *start, char **ret, struct nb_error *err) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return nb_fail_errno(err, errno, "cannot make a pipe");
        pid_t pid = fork();
        if (pid == 0) {
                NB_AUTO_ERROR why = { 0 };
                nb_close(ends[0]);
                describe_box(start, ends[1]);
                if (describe_qemu(start, ends[1], &why) < 0 || describe_virtiofsd(start, ends[1], &why) < 0)
                        say(ends[1], "\n%s\n", why.what);
                _exit(why.what ? 1 : 0);
        }
        nb_close(ends[1]);
        int r = pid < 0 ? -EAGAIN : nb_read_fd(ends[0], DESCRIBE_MAX, ret, NULL), status = 1;
        nb_close(ends[0]);
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot describe the box");
        return 0;
}
