/* The choice between KVM and software emulation, and every argument that depends on it (see vmm.h and accel.h). The timed
 * guest itself is in accel_kvm.c. The verdict about this host's KVM is remembered in the runtime folder until the host
 * boots again; a wrong memo costs speed, never safety. */
#include "box/accel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <x86intrin.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"

#define TSC_PAIRS 5
#define TSC_WINDOW_NS 5000000L /* 5 ms between two readings: agrees with the kernel's own value to one in a million */
#define TSC_TRIES 25           /* for each reading the tightest of these */
#define TSC_KHZ_MIN 100000ul   /* anything outside is not a time stamp counter that a guest could use */
#define TSC_KHZ_MAX 20000000ul
#define MEMO_MAX 1024u
#define MEMO_MAGIC "nixbox-accel 1"
#define KERNEL_HZ 250ul /* CONFIG_HZ of Debian's cloud kernel */

/* --- time stamp counter --- */

static struct accel_tick read_tick(void) {
        struct accel_tick best = { 0 };
        uint64_t width = UINT64_MAX;
        for (int i = 0; i < TSC_TRIES; i++) {
                unsigned aux;
                struct timespec t;
                uint64_t before = __rdtscp(&aux);
                (void)clock_gettime(CLOCK_MONOTONIC_RAW, &t);
                uint64_t after = __rdtscp(&aux);
                if (after - before >= width) /* an interrupt in between, or no better than before */
                        continue;
                width = after - before;
                best.tsc = before + width / 2;
                best.ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
        }
        return best;
}

static int compare_khz(const void *a, const void *b) {
        unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;
        return x < y ? -1 : x > y;
}

unsigned long accel_tsc_khz(const struct accel_tick (*pairs)[2], size_t n) {
        unsigned long good[TSC_PAIRS];
        size_t count = 0;
        for (size_t i = 0; i < n && count < TSC_PAIRS; i++) {
                const struct accel_tick *begin = &pairs[i][0], *end = &pairs[i][1];
                if (end->tsc <= begin->tsc || end->ns <= begin->ns)
                        continue;
                __extension__ unsigned __int128 ticks = (unsigned __int128)(end->tsc - begin->tsc) * 1000000u;
                uint64_t ns = end->ns - begin->ns, khz = (uint64_t)((ticks + ns / 2) / ns);
                if (khz >= TSC_KHZ_MIN && khz <= TSC_KHZ_MAX)
                        good[count++] = khz;
        }
        if (count == 0)
                return 0;
        qsort(good, count, sizeof good[0], compare_khz);
        return good[count / 2];
}

static unsigned long measure_tsc(void) {
        struct accel_tick pairs[TSC_PAIRS][2];
        struct accel_tick now = read_tick();
        for (size_t i = 0; i < TSC_PAIRS; i++) {
                pairs[i][0] = now;
                (void)nanosleep(&(struct timespec){ .tv_nsec = TSC_WINDOW_NS }, NULL);
                now = pairs[i][1] = read_tick();
        }
        return accel_tsc_khz((const struct accel_tick(*)[2])pairs, TSC_PAIRS);
}

/* --- the memo --- */

char *accel_memo_format(const struct accel_memo *m) {
        return nb_asprintf(MEMO_MAGIC "\n%s\n%u\n%s\n", m->key, (unsigned)m->verdict, m->detail);
}

/* Takes the line at *at, which must end with a newline and be clean text, into room[size]. */
static int take_line(const char **at, char *room, size_t size) {
        const char *end = strchr(*at, '\n');
        if (!end || (size_t)(end - *at) >= size)
                return -EINVAL;
        memcpy(room, *at, (size_t)(end - *at));
        room[end - *at] = 0;
        *at = end + 1;
        NB_AUTO_FREE char *clean = nb_text_clean(room, 0);
        return strcmp(clean, room) == 0 ? 0 : -EINVAL;
}

int accel_memo_parse(const char *text, const char *key, struct accel_memo *ret) {
        struct accel_memo m;
        char magic[sizeof MEMO_MAGIC], digit[2];
        if (take_line(&text, magic, sizeof magic) < 0 || strcmp(magic, MEMO_MAGIC) != 0 ||
            take_line(&text, m.key, sizeof m.key) < 0 || strcmp(m.key, key) != 0 || take_line(&text, digit, sizeof digit) < 0 ||
            take_line(&text, m.detail, sizeof m.detail) < 0 || *text)
                return -EINVAL;
        if (digit[0] != '0' + ACCEL_RUNS && digit[0] != '0' + ACCEL_EMULATES)
                return -EINVAL;
        m.verdict = (enum accel_verdict)(digit[0] - '0');
        *ret = m;
        return 0;
}

/* What the verdict depends on: this boot of the host and this device. Returns false where it cannot be told. */
static bool memo_key(char *key, size_t size) {
        NB_AUTO_FREE char *boot = NULL;
        struct stat st;
        size_t len;
        if (nb_read_file("/proc/sys/kernel/random/boot_id", 64, &boot, &len) < 0 || stat("/dev/kvm", &st) < 0)
                return false;
        boot[strcspn(boot, "\n")] = 0;
        int n = snprintf(key, size, "%s %u:%u %lu.%lu", boot, major(st.st_rdev), minor(st.st_rdev), (unsigned long)st.st_dev,
                         (unsigned long)st.st_ino);
        return n > 0 && (size_t)n < size;
}

static enum accel_verdict remembered_or_try(char **ret_detail) {
        struct accel_memo memo = { 0 }, old;
        NB_AUTO_FREE char *dir = nb_runtime_dir();
        NB_AUTO_FREE char *file = nb_path_join(dir, ".accel"); /* no box can have this name */
        NB_AUTO_FREE char *text = NULL;
        bool keyed = access("/dev/kvm", R_OK | W_OK) == 0 && memo_key(memo.key, sizeof memo.key);
        if (keyed && nb_read_file(file, MEMO_MAX, &text, NULL) == 0 && accel_memo_parse(text, memo.key, &old) == 0) {
                *ret_detail = old.detail[0] ? nb_strdup(old.detail) : NULL;
                return old.verdict;
        }
        memo.verdict = accel_kvm_try(ret_detail);
        if (keyed && (memo.verdict == ACCEL_RUNS || memo.verdict == ACCEL_EMULATES) && nb_private_dir(dir, NULL) == 0) {
                (void)snprintf(memo.detail, sizeof memo.detail, "%s", *ret_detail ? *ret_detail : "");
                NB_AUTO_FREE char *now = accel_memo_format(&memo);
                if (nb_write_file_atomic(file, now, strlen(now), 0600) < 0)
                        nb_debug("the verdict on /dev/kvm could not be kept in %s", file);
        }
        return memo.verdict;
}

/* --- the choice --- */

static const char *way_to_kvm(enum accel_verdict v) {
        switch (v) {
        case ACCEL_FORBIDDEN: return "sudo usermod -aG kvm $USER, then log in again";
        case ACCEL_ABSENT:
                return "load the module (sudo modprobe kvm_intel or kvm_amd) and enable virtualisation in the firmware";
        default: return "unset NIXBOX_ACCEL to let nixbox fall back to software emulation";
        }
}

int accel_probe(struct accel *ret, struct nb_error *err) {
        const char *forced = getenv("NIXBOX_ACCEL");
        bool want_kvm = forced && strcmp(forced, "kvm") == 0, want_tcg = forced && strcmp(forced, "tcg") == 0;
        struct accel a = { .kind = ACCEL_TCG };
        if (forced && *forced && !want_kvm && !want_tcg) {
                NB_AUTO_FREE char *shown = nb_text_clean(forced, 0);
                nb_fail(err, EINVAL, "NIXBOX_ACCEL is '%s', which is no accelerator", shown);
                return nb_hint(err, "set it to kvm or tcg, or unset it to let nixbox choose");
        }
        if (want_tcg) {
                a.why = nb_strdup("software emulation (TCG) because NIXBOX_ACCEL=tcg asks for it");
        } else {
                NB_AUTO_FREE char *detail = NULL;
                enum accel_verdict v = remembered_or_try(&detail);
                if (v == ACCEL_RUNS) {
                        *ret = (struct accel){ .kind = ACCEL_KVM };
                        return 0;
                }
                if (want_kvm) {
                        nb_fail(err, ENODEV, "KVM cannot be used though NIXBOX_ACCEL=kvm asks for it: %s", detail);
                        return nb_hint(err, "%s", way_to_kvm(v));
                }
                a.why = nb_asprintf("software emulation (TCG), 10 to 20 times slower: %s", detail);
        }
        a.tsc_khz = measure_tsc();
        *ret = a;
        return 0;
}

void accel_clear(struct accel *a) {
        free(a->why);
        *a = (struct accel){ 0 };
}

/* --- what depends on it --- */

void accel_machine_args(const struct accel *a, unsigned cpus, int kvm_fdset, char ***argv) {
        bool kvm = a->kind == ACCEL_KVM;
        nb_strv_add(argv, "-M");
        /* Under KVM the guest has kvmclock and the local timer and needs none of the PC's old chips. Under TCG Linux compares
         * its counter with the old timer, and needs the clock chip for the date. The old interrupt controller is never there:
         * on a machine with hardware-reduced ACPI Linux leaves it as it is after a reset, where the timer's line arrives as
         * vector 0, a division by zero, if it happens to be high at the moment the kernel first allows interrupts. */
        nb_strv_addf(argv, "microvm,memory-backend=ram,acpi=on,isa-serial=off,auto-kernel-cmdline=off,pit=%s,pic=off,rtc=%s",
                     kvm ? "off" : "on", kvm ? "off" : "on");
        nb_strv_add(argv, "-accel");
        if (kvm)
                nb_strv_addf(argv, "kvm,device=/dev/fdset/%d", kvm_fdset);
        else
                nb_strv_add(argv, "tcg,thread=multi");
        nb_strv_add(argv, "-cpu");
        nb_strv_add(argv, kvm ? "host" : "max");
        nb_strv_add(argv, "-smp");
        nb_strv_addf(argv, "%u", cpus);
}

char *accel_kernel_args(const struct accel *a) {
        if (a->kind == ACCEL_KVM)
                return nb_strdup("");
        /* Under TCG the guest sees the host's counter. Linux would calibrate it against the emulated timer chip, which is too
         * uneven for that: it hangs or gets the time wrong. So it is told the frequency, and (tsc=reliable) not to compare the
         * counter with the ticks it happens to get, which made it fall back to counting ticks. Emulated code does not
         * speculate, so the guest need not defend its kernel from that either. */
        NB_AUTO_FREE char *hints =
            a->tsc_khz ? nb_asprintf(" tsc=reliable tsc_early_khz=%lu lpj=%lu", a->tsc_khz, a->tsc_khz * 1000 / KERNEL_HZ)
                       : nb_strdup("");
        return nb_asprintf("no_timer_check mitigations=off%s", hints);
}
