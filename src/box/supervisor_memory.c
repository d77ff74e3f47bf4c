/* The guest's memory, watched: asks the guest for its figures now and then, adds what the host sees, and carries out what
 * memory.c decides. Figures from the guest are hints; the worst a lie can do is keep the guest's memory within its limit. */
#include <errno.h>

#include "base/io.h"
#include "base/log.h"
#include "box/memory.h"
#include "box/supervisor_impl.h"

static void on_figures(struct supervisor *s, void *user, int code, const char *text) {
        (void)user;
        (void)code;
        (void)text;
        s->memory_asked = false; /* answered, refused, or never to be answered: next time again */
}

void memory_tick(struct supervisor *s) {
        uint64_t now = nb_now_ms();
        if (s->memory_asked || now - s->memory_ms < MEMORY_EVERY_MS)
                return;
        s->memory_ms = now;
        s->memory_asked = guest_request(s, WIRE_STATS, NULL, 0, on_figures, NULL) == 0;
}

static int read_frame(const struct wire_frame *f, struct memory_figures *ret) {
        struct wire_reader r;
        struct wire_field field;
        int more;
        wire_reader_init(&r, f->payload, f->len);
        while ((more = wire_next(&r, &field)) > 0) {
                uint64_t value;
                if (wire_field_u64(&field, &value) < 0)
                        return -EPROTO;
                switch (field.tag) {
                case WIRE_T_MEM_TOTAL: ret->total = value; break;
                case WIRE_T_MEM_FREE: ret->free = value; break;
                case WIRE_T_MEM_CACHED: ret->cached = value; break;
                default: break;
                }
        }
        return more;
}

int memory_stats(struct supervisor *s, const struct wire_frame *f) {
        struct memory_figures now = { .now_ms = nb_now_ms() };
        uint64_t own;
        pid_t qemu = s->child[CHILD_QEMU].proc.pid;
        if (read_frame(f, &now) < 0)
                return -EPROTO;
        if (qemu <= 0 || s->phase != SUPER_UP || vmm_memory_use(qemu, &now.host, &own) < 0 ||
            vmm_cpu_time(qemu, &now.cpu_ms) < 0)
                return 0;
        if (now.host > s->memory_peak)
                s->memory_peak = now.host;
        struct memory_wish wish = memory_decide(&s->memory, &now);
        nb_debug("memory: host %llu MiB, guest free %llu of %llu MiB, cache %llu MiB; asking for %llu MiB%s",
                 (unsigned long long)now.host >> 20, (unsigned long long)now.free >> 20, (unsigned long long)now.total >> 20,
                 (unsigned long long)now.cached >> 20, (unsigned long long)wish.cache >> 20, wish.compact ? " and order" : "");
        if (wish.cache > 0 || wish.compact)
                watch_reclaim(s, (wish.cache >> 20) << WIRE_RECLAIM_MIB_SHIFT | (wish.cache > 0 ? WIRE_RECLAIM_PAGES : 0) |
                                     (wish.compact ? WIRE_RECLAIM_COMPACT : 0));
        return 0;
}
