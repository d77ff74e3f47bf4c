/* The accelerator's share of the machine: everything that differs between KVM and software emulation (TCG) is decided in
 * accel.c, and the small timed guest behind the choice is in accel_kvm.c. Used by vmm.c only; others see vmm.h. */
#pragma once
#include "base/error.h"
#include "box/vmm.h"

/** Appends -M, -accel, -cpu and -smp for this accelerator. `kvm_fdset` is the fdset that holds /dev/kvm (KVM only). */
void accel_machine_args(const struct accel *a, unsigned cpus, int kvm_fdset, char ***argv);
/** The accelerator's words of the kernel command line. New string. */
char *accel_kernel_args(const struct accel *a);

/* One reading of the time stamp counter and the clock at the same moment. */
struct accel_tick {
        uint64_t tsc;
        uint64_t ns;
};
/** Frequency from pairs of readings (begin, end): the median, in kHz; 0 if there is none to be had. Pure. */
unsigned long accel_tsc_khz(const struct accel_tick (*pairs)[2], size_t n);

enum accel_verdict {
        ACCEL_RUNS,      /* the guest finished in time and computed the right thing */
        ACCEL_EMULATES,  /* too slow by orders of magnitude */
        ACCEL_ABSENT,    /* no /dev/kvm */
        ACCEL_FORBIDDEN, /* no permission for it */
        ACCEL_BROKEN,    /* opens, but does not do what KVM does */
};
/** Runs the timed guest in a child process. `ret_detail` (new string) says for people what was seen if it does not run. */
enum accel_verdict accel_kvm_try(char **ret_detail);

/* The remembered verdict: valid for one boot of the host and one /dev/kvm. */
struct accel_memo {
        char key[128];
        enum accel_verdict verdict;
        char detail[200];
};
/** The memo as a file's text (new string), and back: -EINVAL if it is not one or has another key. Pure. */
char *accel_memo_format(const struct accel_memo *m);
int accel_memo_parse(const char *text, const char *key, struct accel_memo *ret);
