/* The timed guest: a few pages of 64-bit supervisor code run straight through /dev/kvm, without QEMU. It counts in a tight
 * loop and, as any kernel does, reloads CR3, changes a page table entry and flushes it, and writes an MSR. Hardware needs
 * less than a millisecond; a KVM that emulates supervisor code instruction by instruction needs about a second, and a Linux
 * guest would never finish booting in it. Nothing here knows about boxes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/accel.h"

#define PROBE_CPU_MS 40    /* processor time for the guest; hardware needs about 1 */
#define PROBE_WALL_MS 2000 /* backstop on a machine too busy to give us our processor time */
#define PROBE_ROUNDS 32
#define PROBE_SPINS 16384 /* iterations of two instructions in each round: a million instructions in all */
#define PROBE_PORT 0x10
#define PROBE_MEMORY 0x8000u

/* Guest memory, one page each. The three tables map the first 2 MiB (as 4 kB pages) onto themselves. */
enum { AT_PML4 = 0x0000, AT_PDPT = 0x1000, AT_PD = 0x2000, AT_PT = 0x3000, AT_CODE = 0x4000, AT_ONE = 0x5000, AT_TWO = 0x6000 };
enum { WINDOW = 0x7000 }; /* mapped in turn to AT_ONE and AT_TWO */

#define PTE_FLAGS 0x63u /* present, writable, accessed, dirty */
#define VALUE_ONE 3u
#define VALUE_TWO 0x100u
/* What the guest must have added up: each round reads one of the two pages through the window, in turn. */
#define PROBE_SUM (PROBE_ROUNDS / 2 * (VALUE_ONE + VALUE_TWO))

enum probe_exit { PROBE_OK = 0, PROBE_UNUSABLE = 10, PROBE_WRONG = 11 };

/* clang-format off */
static const uint8_t probe_code[] = {
        /* ebx: rounds left; edi: sum; esi: PTE of the window; set up by the host in registers */
        /* round: */
        0xb9, PROBE_SPINS & 0xff, PROBE_SPINS >> 8 & 0xff, 0, 0, /* mov ecx, SPINS */
        0xff, 0xc9,                                              /* spin: dec ecx */
        0x75, 0xfc,                                              /* jnz spin */
        0x0f, 0x20, 0xd8,                                        /* mov rax, cr3 */
        0x0f, 0x22, 0xd8,                                        /* mov cr3, rax */
        0x81, 0xf6, 0x00, 0x30, 0x00, 0x00,                      /* xor esi, AT_ONE ^ AT_TWO */
        0x89, 0x34, 0x25, 0x38, 0x30, 0x00, 0x00,                /* mov [AT_PT + 7 * 8], esi */
        0x0f, 0x01, 0x3c, 0x25, 0x00, 0x70, 0x00, 0x00,          /* invlpg [WINDOW] */
        0x03, 0x3c, 0x25, 0x00, 0x70, 0x00, 0x00,                /* add edi, [WINDOW] */
        0xb9, 0x02, 0x01, 0x00, 0xc0,                            /* mov ecx, MSR_KERNEL_GS_BASE */
        0x89, 0xd8,                                              /* mov eax, ebx */
        0x31, 0xd2,                                              /* xor edx, edx */
        0x0f, 0x30,                                              /* wrmsr */
        0x0f, 0x01, 0xf8,                                        /* swapgs */
        0xff, 0xcb,                                              /* dec ebx */
        0x75, 0xc3,                                              /* jnz round */
        0x89, 0xf8,                                              /* mov eax, edi */
        0xe7, PROBE_PORT,                                        /* out PORT, eax */
        0xf4,                                                    /* hlt */
};
/* clang-format on */
_Static_assert((AT_ONE ^ AT_TWO) == 0x3000 && AT_PT + 8 * (WINDOW >> 12) == 0x3038, "addresses in probe_code");
_Static_assert(PROBE_ROUNDS % 2 == 0, "both pages are read equally often");

static void fill_memory(uint8_t *memory) {
        uint64_t *pml4 = (uint64_t *)(memory + AT_PML4), *pdpt = (uint64_t *)(memory + AT_PDPT);
        uint64_t *pd = (uint64_t *)(memory + AT_PD), *pt = (uint64_t *)(memory + AT_PT);
        pml4[0] = AT_PDPT | PTE_FLAGS;
        pdpt[0] = AT_PD | PTE_FLAGS;
        pd[0] = AT_PT | PTE_FLAGS;
        for (uint64_t page = 0; page < PROBE_MEMORY >> 12; page++)
                pt[page] = page << 12 | PTE_FLAGS;
        memcpy(memory + AT_CODE, probe_code, sizeof probe_code);
        memcpy(memory + AT_ONE, &(uint32_t){ VALUE_ONE }, sizeof(uint32_t));
        memcpy(memory + AT_TWO, &(uint32_t){ VALUE_TWO }, sizeof(uint32_t));
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool code) {
        return (struct kvm_segment){
                .selector = selector, .limit = 0xffffffff, .type = type, .present = 1, .s = 1, .g = 1, .l = code, .db = !code
        };
}

/* 64-bit mode at the first instruction. Returns 0 or -errno. */
static int set_registers(int vcpu) {
        struct kvm_sregs s;
        if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
                return -errno;
        s.cs = flat_segment(0x08, 0xb, true);
        s.ds = s.es = s.fs = s.gs = s.ss = flat_segment(0x10, 0x3, false);
        s.cr0 = 0x80000011; /* PG, ET, PE */
        s.cr3 = AT_PML4;
        s.cr4 = 0x20;   /* PAE */
        s.efer = 0x500; /* LME, LMA */
        struct kvm_regs r = { .rip = AT_CODE, .rflags = 2, .rsp = WINDOW, .rbx = PROBE_ROUNDS, .rsi = AT_TWO | PTE_FLAGS };
        return ioctl(vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(vcpu, KVM_SET_REGS, &r) < 0 ? -errno : 0;
}

/* The child: builds the guest and runs it to its `out`. Whatever it leaves open ends with it. */
static enum probe_exit run_guest(int kvm) {
        if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
                return PROBE_UNUSABLE;
        int vm = ioctl(kvm, KVM_CREATE_VM, 0);
        int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
        uint8_t *memory = mmap(NULL, PROBE_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (vm < 0 || run_size < (int)sizeof(struct kvm_run) || memory == MAP_FAILED)
                return PROBE_UNUSABLE;
        fill_memory(memory);
        struct kvm_userspace_memory_region region = { .memory_size = PROBE_MEMORY, .userspace_addr = (uintptr_t)memory };
        /* Intel without unrestricted guest mode wants a place for these even if they stay unused */
        (void)ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
        (void)ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &(uint64_t){ 0xfffbc000ul });
        int vcpu = ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
        if (vcpu < 0 || set_registers(vcpu) < 0)
                return PROBE_UNUSABLE;
        struct kvm_run *run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
        if (run == MAP_FAILED)
                return PROBE_UNUSABLE;
        int r;
        do
                r = ioctl(vcpu, KVM_RUN, 0);
        while (r < 0 && (errno == EINTR || errno == EAGAIN));
        if (r < 0 || run->exit_reason != KVM_EXIT_IO || run->io.port != PROBE_PORT || run->io.size != sizeof(uint32_t))
                return PROBE_WRONG;
        uint32_t sum;
        memcpy(&sum, (const uint8_t *)run + run->io.data_offset, sizeof sum);
        return sum == PROBE_SUM ? PROBE_OK : PROBE_WRONG;
}

/* SIGALRM, which nobody catches here, ends the child when its processor time is used up: a busy host is not a slow KVM. */
static void limit_cpu_time(void) {
        struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
        struct itimerspec at = { .it_value.tv_nsec = PROBE_CPU_MS * 1000000l };
        timer_t timer;
        sigset_t alarm_only;
        sigemptyset(&alarm_only);
        sigaddset(&alarm_only, SIGALRM);
        (void)signal(SIGALRM, SIG_DFL);
        (void)sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
        if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &timer) < 0 || timer_settime(timer, 0, &at, NULL) < 0)
                _exit(PROBE_UNUSABLE);
}

/* The child's wait status, or -1 if it had to be killed at the backstop. */
static int run_child(int kvm) {
        int done[2]; /* closed by the child's end, however it comes */
        if (pipe2(done, O_CLOEXEC) < 0)
                return -1;
        pid_t pid = fork();
        if (pid == 0) {
                limit_cpu_time();
                _exit(run_guest(kvm));
        }
        nb_close(done[1]);
        struct pollfd p = { .fd = done[0], .events = POLLIN };
        uint64_t end = nb_now_ms() + PROBE_WALL_MS, now;
        bool late = pid > 0;
        while (late && (now = nb_now_ms()) < end)
                late = poll(&p, 1, (int)(end - now)) <= 0;
        nb_close(done[0]);
        int status = -1;
        if (pid > 0) {
                if (late)
                        (void)kill(pid, SIGKILL);
                while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                        ;
        }
        return late ? -1 : status;
}

enum accel_verdict accel_kvm_try(char **ret_detail) {
        NB_AUTO_CLOSE int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
        if (kvm < 0) {
                bool absent = errno == ENOENT || errno == ENODEV || errno == ENXIO;
                *ret_detail =
                    absent ? nb_strdup("there is no /dev/kvm") : nb_asprintf("cannot open /dev/kvm: %s", strerror(errno));
                return absent ? ACCEL_ABSENT : ACCEL_FORBIDDEN;
        }
        uint64_t began = nb_now_ms();
        int status = run_child(kvm);
        uint64_t took = nb_now_ms() - began;
        if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == PROBE_OK)
                return ACCEL_RUNS;
        if (status < 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)) {
                *ret_detail = nb_asprintf("/dev/kvm is there but only emulates: a test guest that takes 1 ms on hardware was "
                                          "not done after %llu ms",
                                          (unsigned long long)took);
                return ACCEL_EMULATES;
        }
        *ret_detail = nb_strdup(WIFEXITED(status) && WEXITSTATUS(status) == PROBE_WRONG
                                    ? "/dev/kvm is there but a test guest went wrong in it"
                                    : "/dev/kvm is there but no virtual machine can be made with it");
        return ACCEL_BROKEN;
}
