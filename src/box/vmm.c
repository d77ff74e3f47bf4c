/* QEMU as a plan: its arguments and its jail (see vmm.h). Everything that the machine is made of arrives as a descriptor;
 * only the kernel, the initramfs and QEMU's own files are opened by name, inside the jail. What depends on the accelerator
 * is in accel.c, the running machine's monitor in vmm_monitor.c. */
#include "box/vmm.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/accel.h"
#include "box/memory.h"
#include "gateway/gateway.h"

#define VMM_CPUS_MAX 255u
#define VMM_MEMORY_MIN (128ull << 20)
#define VMM_MEMORY_MAX (4ull << 40)
#define VMM_MEMORY_ALIGN (2ull << 20) /* the block in which free pages are reported and given back */
#define VMM_NOFILE 512u               /* three descriptors a queue and the drives; a machine with everything holds about 60 */
#define VMM_THREADS 128u              /* besides those of the CPUs: 64 for the drives, and a few */
#define VMM_STATUS_MAX 16384u
#define VMM_NET_RX_QUEUE 1024u /* the most QEMU has: a burst of segments while the guest is busy */
#define VMM_NET_TX_QUEUE 256u  /* likewise, without vhost */
#define VMM_FIRST_FD 3

/* Where the jail shows the two files that QEMU opens by name. */
#define KERNEL_PATH "/boot/vmlinux"
#define INITRD_PATH "/boot/initrd"

/* The kernel command line, the same under every accelerator.
 *  panic=-1: a panic resets at once, which ends QEMU.
 *  8250.nr_uarts=0: there is no serial port to look for.
 *  cryptomgr.notests: no self-tests of ciphers that nobody will use (a fifth of the boot under emulation).
 *  ipv6.disable=1: a box has no IPv6, with or without a network; so there is no second family to filter.
 *  initcall_blacklist: no statistical test of timer jitter, since the host gives a seed; no parsing of the certificates that
 *  signed modules: the host has put the modules into the initramfs itself. Each saves a twentieth. */
static const char kernel_words[] = "console=hvc0 quiet panic=-1 8250.nr_uarts=0 cryptomgr.notests ipv6.disable=1 "
                                   "initcall_blacklist=jent_mod_init,load_system_certificate_list";

/* A descriptor's number in the jail is its place in this list; the fdsets are numbered the same. */
struct build {
        const struct vmm_spec *spec;
        struct jail_plan *plan;
        int next_fd;
};

/* The descriptor's number in the jail. */
static int pass_fd(struct build *b, int fd) {
        jail_plan_fd(b->plan, fd, b->next_fd);
        return b->next_fd++;
}

/* The same as an fdset, for what QEMU wants to open by name. Returns the set's number. */
static int pass_fdset(struct build *b, int fd) {
        int n = pass_fd(b, fd);
        nb_strv_add(&b->plan->argv, "-add-fd");
        nb_strv_addf(&b->plan->argv, "fd=%d,set=%d", n, n);
        return n;
}

#define ARG(b, ...) nb_strv_addf(&(b)->plan->argv, __VA_ARGS__)

static void base_args(struct build *b) {
        ARG(b, "/usr/bin/qemu-system-x86_64");
        ARG(b, "-nodefaults");
        ARG(b, "-no-user-config");
        ARG(b, "-no-reboot"); /* a guest that resets, or panics, ends QEMU and with it this boot */
        ARG(b, "-display");
        ARG(b, "none");
        ARG(b, "-sandbox");
        ARG(b, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        /* devices that speak virtio 1 only; vhost-user needs it */
        ARG(b, "-global");
        ARG(b, "virtio-mmio.force-legacy=false");
}

static void memory_args(struct build *b, uint64_t memory) {
        ARG(b, "-m");
        ARG(b, "size=%lluM", (unsigned long long)(memory >> 20));
        ARG(b, "-object");
        /* a plain memfd: virtiofsd maps it too, and what the guest never touches takes no memory */
        ARG(b, "memory-backend-memfd,id=ram,size=%lluM,share=on,prealloc=off,merge=off,dump=off",
            (unsigned long long)(memory >> 20));
}

static void kernel_args(struct build *b) {
        NB_AUTO_FREE char *accel = accel_kernel_args(b->spec->accel);
        ARG(b, "-kernel");
        ARG(b, KERNEL_PATH);
        ARG(b, "-initrd");
        ARG(b, INITRD_PATH);
        ARG(b, "-append");
        ARG(b, "%s%s%s", kernel_words, accel[0] ? " " : "", accel);
}

static void block_args(struct build *b, const char *node, int fd, bool write, bool flush) {
        int set = pass_fdset(b, fd);
        ARG(b, "-blockdev");
        /* Two boxes read one image: no locks. A scratch disk lives for one boot of the host: no flushing. A disk that is kept
         * is flushed when the guest says so; nobody else has it open while the box holds its lock. */
        ARG(b, "driver=file,node-name=%s,filename=/dev/fdset/%d,locking=off,read-only=%s,discard=%s,cache.no-flush=%s", node,
            set, write ? "off" : "on", write ? "unmap" : "ignore", flush ? "off" : "on");
        ARG(b, "-device");
        /* A full host disk is the guest's I/O error; the machine does not stop for it. */
        ARG(b, "virtio-blk-device,drive=%s,rerror=report,werror=report", node);
}

/* Character device on a descriptor: a socket in both directions, or the write side of a pipe. */
static void chardev_args(struct build *b, const char *id, int fd) {
        struct stat st;
        bool is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
        int n = is_socket ? pass_fd(b, fd) : pass_fdset(b, fd);
        ARG(b, "-chardev");
        if (is_socket)
                ARG(b, "socket,id=%s,fd=%d", id, n);
        else
                ARG(b, "file,id=%s,path=/dev/fdset/%d,append=on", id, n);
}

/* A TAP that the supervisor made; QEMU moves frames between it and the guest, whole segments at a time (the device carries the
 * header of virtio-net). vhost would take QEMU out of that path, but needs a device of the host's that ordinary users lack. */
static void net_args(struct build *b) {
        if (b->spec->tap_fd < 0)
                return;
        int n = pass_fd(b, b->spec->tap_fd);
        ARG(b, "-netdev");
        ARG(b, "tap,id=net,fd=%d,vhost=off", n);
        ARG(b, "-device");
        ARG(b, "virtio-net-device,netdev=net,mac=" NET_GUEST_MAC ",mrg_rxbuf=on,rx_queue_size=%u,tx_queue_size=%u",
            VMM_NET_RX_QUEUE, VMM_NET_TX_QUEUE);
}

static void device_args(struct build *b) {
        const struct vmm_spec *spec = b->spec;
        chardev_args(b, "console", spec->console_fd);
        chardev_args(b, "agent", spec->agent_fd);
        ARG(b, "-device");
        ARG(b, "virtio-serial-device,id=serial,max_ports=2");
        ARG(b, "-device");
        ARG(b, "virtconsole,bus=serial.0,nr=0,chardev=console");
        ARG(b, "-device");
        ARG(b, "virtserialport,bus=serial.0,nr=1,chardev=agent,name=nixbox.0");
        /* the guest knows them by their order: vda, vdb, vdc */
        block_args(b, "root", spec->rootfs_fd, false, false);
        block_args(b, "modules", spec->modules_fd, false, false);
        if (spec->disk_fd >= 0)
                block_args(b, "disk", spec->disk_fd, true, spec->disk_flush);
        if (spec->vhost_fd >= 0) {
                chardev_args(b, "share", spec->vhost_fd);
                ARG(b, "-device");
                ARG(b, "vhost-user-fs-device,chardev=share,tag=nixbox,queue-size=1024,num-request-queues=1");
        }
        net_args(b);
        ARG(b, "-device");
        ARG(b, "virtio-balloon-device,id=balloon,deflate-on-oom=on,free-page-reporting=on");
        chardev_args(b, "qmp", spec->qmp_fd);
        ARG(b, "-mon");
        ARG(b, "chardev=qmp,mode=control");
}

static void jail_parts(struct build *b, uint64_t memory) {
        const struct vmm_spec *spec = b->spec;
        struct jail_plan *plan = b->plan;
        plan->ids = JAIL_IDS_UNUSED;
        plan->unused_id = spec->unused_id;
        plan->seccomp = JAIL_SECCOMP_QEMU;
        plan->landlock = (struct landlock_plan){ .on = true, .read = true };
        plan->oom_score_adj = JAIL_OOM_FIRST;
        plan->cgroup_fd = spec->cgroup_fd;
        jail_plan_runtime(plan, spec->image->runtime);
        const struct image *i = spec->image;
        jail_plan_mount(
            plan, &(struct jail_mount){ JAIL_BIND, .source = i->vmlinux, .target = KERNEL_PATH, .seal = i->vmlinux_seal });
        jail_plan_mount(plan,
                        &(struct jail_mount){ JAIL_BIND, .source = i->initrd, .target = INITRD_PATH, .seal = i->initrd_seal });
        for (int fd = 0; fd < VMM_FIRST_FD; fd++) /* stdin too: QEMU reads nothing there, but the number must be taken */
                jail_plan_fd(plan, spec->log_fd, fd);
        struct stat st;
        uint64_t disk = spec->disk_fd >= 0 && fstat(spec->disk_fd, &st) == 0 ? (uint64_t)st.st_size : 0;
        jail_plan_limit(plan, RLIMIT_MEMLOCK, 0);
        jail_plan_limit(plan, RLIMIT_MSGQUEUE, 0);
        jail_plan_limit(plan, RLIMIT_NOFILE, VMM_NOFILE);
        jail_plan_limit(plan, RLIMIT_NPROC, spec->cpus + VMM_THREADS);
        /* no file may grow beyond the guest's memory (a memfd) or the scratch disk */
        jail_plan_limit(plan, RLIMIT_FSIZE, disk > memory ? disk : memory);
}

static int check_spec(const struct vmm_spec *spec, struct nb_error *err) {
        if (spec->memory < VMM_MEMORY_MIN || spec->memory > VMM_MEMORY_MAX) {
                nb_fail(err, EINVAL, "a machine with %llu MiB of memory cannot be made",
                        (unsigned long long)(spec->memory >> 20));
                return nb_hint(err, "set machine.memory to something between 128M and 4T");
        }
        if (spec->cpus < 1 || spec->cpus > VMM_CPUS_MAX) {
                nb_fail(err, EINVAL, "a machine with %u CPUs cannot be made", spec->cpus);
                return nb_hint(err, "set machine.cpus to something between 1 and %u", VMM_CPUS_MAX);
        }
        if (spec->accel->kind == ACCEL_KVM && spec->kvm_fd < 0)
                return nb_fail(err, EINVAL, "KVM was chosen but /dev/kvm was not opened");
        return 0;
}

int vmm_plan(const struct vmm_spec *spec, struct jail_plan **ret, struct nb_error *err) {
        int r = check_spec(spec, err);
        if (r < 0)
                return r;
        struct build b = { .spec = spec, .plan = jail_plan_new("qemu"), .next_fd = VMM_FIRST_FD };
        uint64_t memory = spec->memory / VMM_MEMORY_ALIGN * VMM_MEMORY_ALIGN;
        jail_parts(&b, memory);
        base_args(&b);
        int kvm_set = spec->accel->kind == ACCEL_KVM ? pass_fdset(&b, spec->kvm_fd) : -1;
        accel_machine_args(spec->accel, spec->cpus, kvm_set, &b.plan->argv);
        memory_args(&b, memory);
        kernel_args(&b);
        device_args(&b);
        *ret = b.plan;
        return 0;
}

int vmm_memory_use(pid_t qemu, uint64_t *ret_guest, uint64_t *ret_own) {
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/status", (int)qemu);
        NB_AUTO_FREE char *text = NULL;
        int r = nb_read_file(path, VMM_STATUS_MAX, &text, NULL);
        return r < 0 ? r : memory_parse_status(text, ret_guest, ret_own);
}

int vmm_cpu_time(pid_t qemu, uint64_t *ret_ms) {
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/stat", (int)qemu);
        NB_AUTO_FREE char *text = NULL;
        uint64_t ticks;
        int r = nb_read_file(path, VMM_STATUS_MAX, &text, NULL);
        if (r == 0)
                r = memory_parse_stat(text, &ticks);
        if (r == 0)
                *ret_ms = ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
        return r;
}
