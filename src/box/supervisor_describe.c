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
#include "base/paths.h"
#include "base/text.h"
#include "box/conduit.h"
#include "box/guard.h"
#include "box/netns.h"
#include "box/room.h"
#include "box/supervisor_gateway.h"
#include "box/supervisor_impl.h"
#include "gateway/gateway.h"
#include "jail/userns.h"

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

static void describe_network(const struct config *c, int fd) {
        const struct policy *p = c->policy;
        if (p->mode == POLICY_OFF)
                say(fd, "  network       off: no network device\n");
        else
                say(fd, "  network       %s: a device in a namespace without a way out, and a gateway beside it\n",
                    policy_mode_name(p->mode));
        for (size_t i = 0; i < p->n_rules; i++) {
                NB_AUTO_FREE char *text = policy_rule_text(&p->rules[i]);
                say(fd, "  %-13s %s (%s)\n", p->rules[i].deny ? "deny" : "allow", text,
                    p->rules[i].origin ? p->rules[i].origin : "");
        }
        for (size_t i = 0; i < c->n_ports; i++)
                say(fd, "  port          %s port %u leads to port %u of the box\n", c->ports[i].address, c->ports[i].host_port,
                    c->ports[i].guest_port);
}

static void say_helper(int fd, const char *name, const char *runs, const char *duty, const struct helper_limits *limits,
                       const struct landlock_plan *plan) {
        NB_AUTO_FREE char *limit = helper_describe(limits);
        NB_AUTO_FREE char *landlock = landlock_describe(plan, landlock_abi());
        say(fd, "process %s: %s; %s\n  limits        %s\n  landlock      %s\n", name, runs, duty, limit, landlock);
}

/* The kernel's part and the processes of the box's way out. */
static void describe_egress(const struct config *c, int fd) {
        if (c->policy->mode == POLICY_OFF)
                return;
        NB_AUTO_FREE char *links = netns_ip(c->policy->mode);
        NB_AUTO_FREE char *rules = netns_nft(c->policy);
        NB_AUTO_FREE char *program = nb_installed_program(GATEWAY_PROGRAM);
        say(fd, "\nnetwork links (ip -batch)\n%s\nnetwork rules (nft -f)\n%s\n", links, rules);
        NB_AUTO_FREE char *gateway = nb_asprintf("%s gateway", program);
        NB_AUTO_FREE char *resolver = nb_asprintf("%s resolver", program);
        NB_AUTO_FREE char *portal = nb_asprintf("%s portal", program);
        const struct landlock_plan tcp = { .on = true, .tcp = true };
        const struct landlock_plan reader = { .on = true, .read = true, .tcp = true, .abstract = true };
        struct helper_limits limits[] = { egress_limits(CHILD_GATEWAY), egress_limits(CHILD_RESOLVER),
                                          egress_limits(CHILD_PORTAL) };
        say_helper(fd, "gateway", gateway, "no files, IP sockets of the host, the box's sockets, nothing else", &limits[0],
                   &tcp);
        say_helper(fd, "resolver", resolver, "asks the host's resolver for canonical names", &limits[1], &reader);
        if (c->n_ports > 0)
                say_helper(fd, "portal", portal, "connects to published ports, inside the box's network", &limits[2], &tcp);
}

static void describe_conduit(int fd) {
        const struct landlock_plan nothing = { .on = true };
        say_helper(fd, "conduit", "nixbox @conduit", "parses what the guest says; four descriptors, no files, no network",
                   &conduit_limits, &nothing);
}

static void describe_guard(int fd) {
        const struct landlock_plan none = { .on = false };
        say_helper(fd, "guard", "nixbox @guard",
                   "is asked before virtiofsd changes files; virtiofsd's descriptors, no files of its own, no network",
                   &guard_limits, &none);
        say(fd, "  processes     virtiofsd's, and no others\n");
}

static void describe_room(const struct box_start *start, int fd) {
        const struct config *c = start->config;
        const struct cgroup_limits limits = room_limits(c->memory, c->cpus, start->accel->kind == ACCEL_TCG);
        NB_AUTO_FREE char *why = NULL;
        NB_AUTO_FREE char *parent = cgroup_find(&why);
        NB_AUTO_FREE char *cgroup = room_describe(&limits, parent, why);
        NB_AUTO_FREE char *floor =
            c->disk_floor == CONFIG_FLOOR_USUAL ? nb_strdup("1.0G, or a twentieth") : nb_format_size(c->disk_floor);
        say(fd,
            "  cgroup        %s\n  disk floor    %s of each file system that is written to; below it the machine stands "
            "still\n",
            cgroup, floor);
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
        describe_room(start, fd);
        describe_network(c, fd);
        for (size_t i = 0; i < c->n_mounts; i++)
                say(fd, "  mount         %s on %s, %s, nosuid, nodev\n", c->mounts[i].source, c->mounts[i].target,
                    c->mounts[i].write ? "writable" : "read-only");
        for (size_t i = 0; i < c->n_volumes; i++)
                say(fd, "  volume        %s on %s, writable, nosuid, nodev\n", c->volumes[i].name, c->volumes[i].target);
        for (char **p = c->protect; p && *p; p++)
                say(fd, "  protected     %s\n", *p);
        if (!c->protect)
                say(fd, "  protected     nothing: the box may change files that programs of this host run\n");
        for (size_t i = 0; i < c->n_secrets; i++)
                say(fd, "  secret        %s\n", c->secrets[i].name);
}

/* Only where the disk has no file system yet. */
static void describe_disk(const struct box_start *start, int fd) {
        if (start->config->disk == 0)
                return;
        struct jail_plan *plan = disk_plan(start->image->runtime, "the disk", fd);
        say_plan(fd, plan);
        jail_plan_free(plan);
}

static int describe_virtiofsd(const struct box_start *start, int fd, struct nb_error *err) {
        struct share *share = NULL;
        struct jail_plan *plan = NULL;
        int r = userns_enter(CLONE_NEWNS, err);
        if (r == 0)
                r = share_new("/tmp", &share, err);
        struct share_daemon d = { .runtime = start->image->runtime,
                                  .listen_fd = fd,
                                  .guest_uid = getuid(),
                                  .guest_gid = getgid(),
                                  .log_fd = fd,
                                  .listener_sock = start->config->protect ? fd : -1,
                                  .cgroup_fd = -1 };
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
                .modules_fd = null,
                .disk_fd = start->config->disk ? null : -1,
                .disk_flush = start->config->keep_disk,
                .agent_fd = sock[0],
                .console_fd = null,
                .qmp_fd = sock[0],
                .vhost_fd = sock[0],
                .kvm_fd = start->accel->kind == ACCEL_KVM ? null : -1,
                .tap_fd = start->config->policy->mode == POLICY_OFF ? -1 : null,
                .log_fd = null,
                .cgroup_fd = -1,
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
                say(ends[1], "\n");
                describe_conduit(ends[1]);
                if (start->config->protect)
                        describe_guard(ends[1]);
                describe_egress(start->config, ends[1]);
                describe_disk(start, ends[1]);
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
