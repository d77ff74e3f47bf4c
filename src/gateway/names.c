/* The table of synthetic addresses (see names.h). Names are found through the C library's search tree, which the guest cannot
 * slow down by choosing names, as it could with a hash; addresses by index. What may be taken back hangs in a list in the order
 * of last use. */
#include "gateway/names.h"

#include <errno.h>
#include <search.h>
#include <string.h>

#include "base/mem.h"

#define PINNED_SHARE 16u /* one in so many is kept for names that are pinned: POLICY_RULES_MAX of 65536 */
#define NONE 0u          /* as an index: the first address is never used, its entry is the list's two ends */

struct slot {
        char *name; /* NULL: free */
        uint64_t used_ms;
        uint32_t older, newer; /* in the list */
        uint32_t holds;
        bool pinned, listed;
};
struct names {
        uint32_t base, size;
        struct slot *entries; /* by address; the kernel provides the memory page by page as it is used */
        void *tree;           /* of entries, by name */
        uint32_t fresh;       /* below it no entry is free */
        size_t count;
};

static int compare(const void *a, const void *b) {
        return strcmp(((const struct slot *)a)->name, ((const struct slot *)b)->name);
}

struct names *names_new(uint32_t base, uint32_t size) {
        struct names *n = nb_calloc(1, sizeof *n);
        n->base = base;
        n->size = size;
        n->entries = nb_calloc(size, sizeof *n->entries);
        n->fresh = 1;
        return n;
}

static void keep(void *entry) {
        (void)entry;
}

void names_free(struct names *n) {
        if (!n)
                return;
        tdestroy(n->tree, keep);
        for (uint32_t i = 1; n->count > 0; i++)
                if (n->entries[i].name) {
                        free(n->entries[i].name);
                        n->count--;
                }
        free(n->entries);
        free(n);
}

static void unlist(struct names *n, struct slot *e) {
        if (!e->listed)
                return;
        n->entries[e->older].newer = e->newer;
        n->entries[e->newer].older = e->older;
        e->listed = false;
}

/* Counts as a use: to the end of the list, if it may be taken back at all. */
static void touch(struct names *n, struct slot *e, uint64_t now_ms) {
        unlist(n, e);
        e->used_ms = now_ms;
        if (e->pinned || e->holds > 0)
                return;
        uint32_t at = (uint32_t)(e - n->entries);
        e->older = n->entries[NONE].older;
        e->newer = NONE;
        n->entries[e->older].newer = at;
        n->entries[NONE].older = at;
        e->listed = true;
}

static struct slot *find_name(struct names *n, const char *name) {
        struct slot key = { .name = (char *)name };
        struct slot *const *found = tfind(&key, &n->tree, compare);
        return found ? *found : NULL;
}

static struct slot *find_address(const struct names *n, uint32_t address) {
        uint32_t at = address - n->base; /* wraps below base */
        return at != NONE && at < n->size && n->entries[at].name ? &n->entries[at] : NULL;
}

static void put(struct names *n, struct slot *e, const char *name, bool pinned, uint64_t now_ms) {
        *e = (struct slot){ .name = nb_strdup(name), .pinned = pinned };
        if (!tsearch(e, &n->tree, compare))
                abort(); /* out of memory, like everywhere */
        n->count++;
        touch(n, e, now_ms);
}

/* A free entry, or the one not used for longest, if that was long enough ago. Names under patterns, of which the guest can make
 * up any number, leave some free ones to those that are to be pinned. */
static struct slot *take(struct names *n, bool pinned, uint64_t now_ms, char *ret_lost) {
        while (n->fresh < n->size && n->entries[n->fresh].name)
                n->fresh++;
        if (n->fresh < n->size - (pinned ? 0 : n->size / PINNED_SHARE))
                return &n->entries[n->fresh];
        uint32_t at = n->entries[NONE].newer;
        struct slot *e = &n->entries[at];
        if (at == NONE || now_ms < e->used_ms || now_ms - e->used_ms < NAMES_HOLD_MS)
                return NULL;
        unlist(n, e);
        tdelete(e, &n->tree, compare);
        memcpy(ret_lost, e->name, strlen(e->name) + 1); /* it came in as at most NAME_MAX_LEN long */
        free(e->name);
        e->name = NULL;
        n->count--;
        return e;
}

int names_give(struct names *n, const char *name, bool pinned, uint64_t now_ms, uint32_t *ret, bool *ret_new, char *ret_lost) {
        *ret = 0;
        *ret_new = false;
        ret_lost[0] = 0;
        if (strnlen(name, NAME_MAX_LEN + 1) > NAME_MAX_LEN)
                return -EINVAL;
        struct slot *e = find_name(n, name);
        if (e) {
                e->pinned |= pinned;
                touch(n, e, now_ms);
        } else {
                e = take(n, pinned, now_ms, ret_lost);
                if (!e)
                        return -ENOSPC;
                put(n, e, name, pinned, now_ms);
                *ret_new = true;
        }
        *ret = n->base + (uint32_t)(e - n->entries);
        return 0;
}

int names_restore(struct names *n, const char *name, uint32_t address, uint64_t now_ms) {
        char canonical[NAME_MAX_LEN + 1];
        uint32_t at = address - n->base;
        if (name_canonical(name, strlen(name), canonical) < 0 || strcmp(canonical, name) != 0)
                return -EINVAL;
        if (at == NONE || at >= n->size)
                return -ERANGE;
        if (n->entries[at].name || find_name(n, name))
                return -EEXIST;
        put(n, &n->entries[at], name, false, now_ms);
        return 0;
}

const char *names_find(struct names *n, uint32_t address, uint64_t now_ms) {
        struct slot *e = find_address(n, address);
        if (!e)
                return NULL;
        touch(n, e, now_ms);
        return e->name;
}

void names_hold(struct names *n, uint32_t address, int change, uint64_t now_ms) {
        struct slot *e = find_address(n, address);
        if (!e)
                return;
        e->holds = change < 0 && e->holds < (uint32_t)-change ? 0 : e->holds + (uint32_t)change;
        touch(n, e, now_ms);
}

void names_unpin(struct names *n, uint64_t now_ms) {
        for (uint32_t i = 1; i < n->size && n->count > 0; i++)
                if (n->entries[i].pinned) {
                        n->entries[i].pinned = false;
                        touch(n, &n->entries[i], now_ms);
                }
}

size_t names_count(const struct names *n) {
        return n->count;
}
