/* Guest memory seen from the host: what it takes now, and when to ask the guest for some of it back. Pure code: figures in,
 * decision out; the supervisor reads the figures and carries the decision out (supervisor_memory.c).
 *
 * Theory of operation. Memory that the guest frees comes back by itself: the balloon device reports free blocks and QEMU
 * gives them to the host. Two things do not. Page cache is never free, so a box that once read a large tree would keep it for
 * ever. And free memory in pieces smaller than a reported block stays. So the guest is asked, as gently as the situation
 * allows, to give up the page cache that it has not used for longest, and to move free memory together. The guest does
 * this itself, by its own knowledge of what is cold; inflating a balloon instead would first take all the free memory
 * and leave the guest without any while it lasts. A guest that does not cooperate only keeps what its limit allows it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/** Figures out of the text of /proc/PID/status of QEMU: `ret_guest` shared memory (guest RAM is a memfd), `ret_own` the
 *  rest, also where it is swapped out. Returns 0 or -EINVAL. */
int memory_parse_status(const char *text, uint64_t *ret_guest, uint64_t *ret_own);
/** Processor time so far, in clock ticks, out of the text of /proc/PID/stat. Returns 0 or -EINVAL. */
int memory_parse_stat(const char *text, uint64_t *ret_ticks);

struct memory_figures {
        uint64_t now_ms;
        uint64_t cpu_ms;              /* processor time that QEMU has used so far */
        uint64_t host;                /* bytes that the guest's memory takes on the host */
        uint64_t total, free, cached; /* as the guest says; not to be trusted, and nothing depends on its truth */
};
/* What is remembered between two decisions; starts zeroed. */
struct memory_policy {
        uint64_t last_ms, last_cpu_ms;
        uint64_t calm_ms;      /* since when the guest has done next to nothing; 0: it works */
        uint64_t asked_ms;     /* when it was last asked for cache */
        uint64_t asked_cached; /* the cache it had then, and what it was asked for */
        uint64_t asked_for;
        uint64_t pause_ms;      /* before it is asked again; grows while asking does not help */
        uint64_t compacted_ms;  /* when it was last asked to move free memory together */
        uint64_t compact_pause; /* before it is asked for that again; grows while it does not help */
        uint64_t compact_excess;
};
struct memory_wish {
        uint64_t cache; /* bytes of page cache, the coldest; 0: none */
        bool compact;
};
/** To be called every MEMORY_EVERY_MS or so with fresh figures. */
#define MEMORY_EVERY_MS 5000u
struct memory_wish memory_decide(struct memory_policy *p, const struct memory_figures *f);
