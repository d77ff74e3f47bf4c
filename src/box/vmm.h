/* QEMU: which accelerator, which arguments, its jail, and QMP. Everything that differs between KVM and TCG is in accel.c. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "image/image.h"
#include "jail/jail.h"

enum accel_kind { ACCEL_KVM, ACCEL_TCG };
struct accel {
        enum accel_kind kind;
        char *why;             /* one line for people when it is not KVM: what was tried and seen; else NULL */
        unsigned long tsc_khz; /* measured host TSC frequency, 0 if unknown */
};
/** Chooses by running a small timed guest in KVM (NIXBOX_ACCEL=kvm|tcg forces; anything else there is an error). */
int accel_probe(struct accel *ret, struct nb_error *err);
void accel_clear(struct accel *a);

/* What a box's machine is made of. Descriptors are borrowed; -1 where absent. */
struct vmm_spec {
        const struct accel *accel;
        const struct image *image;
        unsigned cpus;
        uint64_t memory;
        int rootfs_fd;   /* EROFS, read-only */
        int modules_fd;  /* the kernel's modules: EROFS, read-only */
        int disk_fd;     /* disk, read-write, or -1 */
        bool disk_flush; /* what the guest flushes reaches the host's disk: it outlives the box */
        int agent_fd;    /* our QEMU-side end of the control channel (stream socket) */
        int console_fd;  /* guest console output goes here (pipe or socket, write side) */
        int qmp_fd;      /* QEMU-side end of the monitor's socketpair */
        int vhost_fd;    /* connected to virtiofsd */
        int kvm_fd;      /* /dev/kvm, or -1 */
        int tap_fd;      /* the guest's network device, or -1: it has none */
        int log_fd;      /* QEMU's stderr */
        int cgroup_fd;   /* of the box, or -1 */
        unsigned unused_id;
};
/** The jail and argument vector for this machine. The plan borrows from the spec and its image. Free with jail_plan_free(). */
int vmm_plan(const struct vmm_spec *spec, struct jail_plan **ret, struct nb_error *err);

/* The monitor. Answers are parsed as hostile input: bounded size, rate and depth, checked types. Driven by the owner's event
 * loop. It owns `fd` from a successful vmm_monitor_new() on. After CLOSED or PROTOCOL nothing more comes. The owner may free
 * it inside the callback. SHUTDOWN's detail is QEMU's word: guest-shutdown, guest-reset, host-qmp-quit, … */
struct vmm_monitor;
struct event_base;
enum vmm_event { VMM_EVENT_READY, VMM_EVENT_SHUTDOWN, VMM_EVENT_RESET, VMM_EVENT_PANIC, VMM_EVENT_CLOSED, VMM_EVENT_PROTOCOL };
struct vmm_monitor_ops {
        void (*event)(void *user, enum vmm_event event, const char *detail);
        void *user;
};
int vmm_monitor_new(struct event_base *base, int fd, const struct vmm_monitor_ops *ops, struct vmm_monitor **ret,
                    struct nb_error *err);
void vmm_monitor_free(struct vmm_monitor *m);
void vmm_monitor_quit(struct vmm_monitor *m);                          /* ends QEMU */
void vmm_monitor_run(struct vmm_monitor *m, bool run);                 /* stops the machine, or lets it go on */
void vmm_monitor_balloon(struct vmm_monitor *m, uint64_t guest_bytes); /* sets the memory the guest may use */
/** Host memory the guest's RAM takes now (from /proc of QEMU), and QEMU's own on top of it. Returns 0 or -errno. */
int vmm_memory_use(pid_t qemu, uint64_t *ret_guest, uint64_t *ret_own);
/** Processor time that QEMU has used so far. Returns 0 or -errno. */
int vmm_cpu_time(pid_t qemu, uint64_t *ret_ms);
