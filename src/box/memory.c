/* See memory.h. No descriptor and no clock here. */
#include "box/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define MIB (1ull << 20)
#define KEEP_CACHE (48 * MIB) /* page cache that is never asked for: the commands in use, more or less */
#define LEAST_WISH (32 * MIB) /* less is not worth the guest's time */
#define CALM_PERCENT 25u      /* of one processor: below, the guest counts as idle (its own ticks take 2 to 5) */
#define CALM_BEFORE_MS 10000u /* idle for so long before its cache is taken in large steps */
#define CALM_STEP (256 * MIB) /* at least; or half of what there is */
#define BUSY_EVERY_MS 30000u  /* a guest that works gives an eighth now and then, the coldest, */
#define BUSY_PART 8u          /* so that one busy process does not keep an old cache for ever */
#define ASK_PAUSE_MS 10000u
#define ASK_PAUSE_MAX_MS 300000u
#define EXCESS (96 * MIB) /* memory that the guest does not use and the host does not get back */
#define COMPACT_PAUSE_MS 15000u
#define COMPACT_PAUSE_MAX_MS 900000u

/* Value in bytes of a line "Name:   123 kB". */
static int status_line(const char *text, const char *name, uint64_t *ret) {
        for (const char *at = text; (at = strstr(at, name)); at++) {
                if (at != text && at[-1] != '\n')
                        continue;
                char *end;
                errno = 0;
                unsigned long long kb = strtoull(at + strlen(name), &end, 10);
                if (errno != 0 || !nb_starts_with(end, " kB\n") || kb > UINT64_MAX / 1024)
                        return -EINVAL;
                *ret = kb * 1024;
                return 0;
        }
        return -EINVAL;
}

int memory_parse_status(const char *text, uint64_t *ret_guest, uint64_t *ret_own) {
        uint64_t anon, file, shmem, swap = 0;
        if (status_line(text, "RssAnon:", &anon) < 0 || status_line(text, "RssFile:", &file) < 0 ||
            status_line(text, "RssShmem:", &shmem) < 0)
                return -EINVAL;
        (void)status_line(text, "VmSwap:", &swap); /* of the rest only; a kernel without swap does not say it */
        *ret_guest = shmem;
        *ret_own = anon + file + swap;
        return 0;
}

int memory_parse_stat(const char *text, uint64_t *ret_ticks) {
        /* "PID (name) S …": the name may hold anything, so count from its end; utime and stime are the 12th and 13th there */
        const char *at = strrchr(text, ')');
        uint64_t sum = 0;
        for (int field = 0; at && field < 13; field++) {
                at = strchr(at + 1, ' ');
                if (!at || field < 11)
                        continue;
                char *end;
                errno = 0;
                unsigned long long value = strtoull(at + 1, &end, 10);
                if (errno != 0 || end == at + 1 || *end != ' ' || value > INT64_MAX)
                        return -EINVAL;
                sum += value;
        }
        if (!at)
                return -EINVAL;
        *ret_ticks = sum;
        return 0;
}

static void note_calm(struct memory_policy *p, const struct memory_figures *f) {
        uint64_t passed = f->now_ms - p->last_ms, worked = f->cpu_ms - p->last_cpu_ms;
        bool first = p->last_ms == 0;
        bool calm = !first && f->now_ms > p->last_ms && f->cpu_ms >= p->last_cpu_ms && worked * 100 < passed * CALM_PERCENT;
        if (!calm)
                p->calm_ms = 0;
        else if (p->calm_ms == 0)
                p->calm_ms = p->last_ms;
        p->last_ms = f->now_ms;
        p->last_cpu_ms = f->cpu_ms;
}

/* Asking that did not help doubles the time to the next: the cache is in use, or the guest has hidden it. */
static bool may_ask(struct memory_policy *p, const struct memory_figures *f, uint64_t every) {
        if (p->asked_for && f->cached + p->asked_for / 4 > p->asked_cached)
                p->pause_ms = p->pause_ms ? p->pause_ms : ASK_PAUSE_MS;
        else
                p->pause_ms = 0;
        return f->now_ms - p->asked_ms >= (p->pause_ms > every ? p->pause_ms : every);
}

static uint64_t wish_for_cache(struct memory_policy *p, const struct memory_figures *f) {
        uint64_t surplus = f->cached > KEEP_CACHE ? f->cached - KEEP_CACHE : 0, wish;
        if (f->cached > f->total || surplus < LEAST_WISH)
                return 0;
        bool calm = p->calm_ms && f->now_ms - p->calm_ms >= CALM_BEFORE_MS;
        if (!may_ask(p, f, calm ? 0 : BUSY_EVERY_MS))
                return 0;
        if (calm)
                wish = surplus / 2 > CALM_STEP ? surplus / 2 : CALM_STEP;
        else
                wish = surplus / BUSY_PART > LEAST_WISH ? surplus / BUSY_PART : LEAST_WISH;
        p->pause_ms = p->pause_ms * 2 < ASK_PAUSE_MAX_MS ? p->pause_ms * 2 : ASK_PAUSE_MAX_MS;
        p->asked_ms = f->now_ms;
        p->asked_cached = f->cached;
        p->asked_for = wish < surplus ? wish : surplus;
        return p->asked_for;
}

/* True if the guest leaves much memory unused that the host does not get back. Each attempt that does not help doubles the
 * time to the next. */
static bool wish_for_compaction(struct memory_policy *p, const struct memory_figures *f) {
        uint64_t in_use = f->free < f->total ? f->total - f->free : 0;
        uint64_t excess = f->host > in_use ? f->host - in_use : 0;
        if (excess < EXCESS) {
                p->compact_pause = 0;
                return false;
        }
        if (p->calm_ms == 0 || (p->compact_pause && f->now_ms - p->compacted_ms < p->compact_pause))
                return false;
        bool helped = p->compact_pause == 0 || excess + EXCESS / 2 < p->compact_excess;
        p->compact_pause = helped ? COMPACT_PAUSE_MS : p->compact_pause * 2;
        if (p->compact_pause > COMPACT_PAUSE_MAX_MS)
                p->compact_pause = COMPACT_PAUSE_MAX_MS;
        p->compacted_ms = f->now_ms;
        p->compact_excess = excess;
        return true;
}

struct memory_wish memory_decide(struct memory_policy *p, const struct memory_figures *f) {
        if (p->last_ms == 0)
                p->asked_ms = f->now_ms;
        note_calm(p, f);
        struct memory_wish wish = { .cache = wish_for_cache(p, f) };
        /* what is given back now is not free yet; look at the excess when the cache is in order */
        wish.compact = wish.cache == 0 && wish_for_compaction(p, f);
        return wish;
}
