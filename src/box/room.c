/* See room.h. No descriptor and no clock here. */
#include "box/room.h"

#include <stddef.h>

#include "base/mem.h"
#include "base/text.h"

#define MIB (1ull << 20)
#define FLOOR_MOST (1024 * MIB)
#define FLOOR_PART 20u
#define OVERHEAD (1536 * MIB)
#define OVERHEAD_CODE (1024 * MIB) /* QEMU's buffer for translated code */
#define TASKS 256u                 /* besides the guest's processors */
#define WEIGHT 50u                 /* half of what the owner's other programs get, where all want the processors */
#define OVERHEAD_PART 64u          /* page tables and the like grow with the guest */

uint64_t room_floor(uint64_t total, uint64_t wanted) {
        uint64_t usual = total / FLOOR_PART < FLOOR_MOST ? total / FLOOR_PART : FLOOR_MOST;
        return wanted == ROOM_FLOOR_USUAL ? usual : wanted;
}

bool room_low(uint64_t left, uint64_t floor, bool paused) {
        return left < floor || (paused && left - floor < floor / 4);
}

bool room_remote(unsigned long type) {
        static const unsigned long types[] = {
                0x6969 /* NFS */,    0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */, 0x517b /* SMB */,      0x65735546 /* FUSE */,
                0x01021997 /* 9P */, 0x00c36400 /* Ceph */, 0x5346414f /* AFS */,  0x73757245 /* Coda */,
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(types); i++)
                if (types[i] == (type & 0xffffffff))
                        return true;
        return false;
}

uint64_t room_memory(uint64_t memory, bool emulated) {
        return memory + memory / OVERHEAD_PART + OVERHEAD + (emulated ? OVERHEAD_CODE : 0);
}

struct cgroup_limits room_limits(uint64_t memory, unsigned cpus, bool emulated) {
        /* the guest's memory may be swapped out; more swap than that is for a QEMU that is not what it was */
        return (struct cgroup_limits){
                .memory = room_memory(memory, emulated), .swap = memory, .tasks = cpus + TASKS, .weight = WEIGHT
        };
}

char *room_describe(const struct cgroup_limits *l, const char *parent, const char *why) {
        NB_AUTO_FREE char *memory = nb_format_size(l->memory);
        NB_AUTO_FREE char *swap = nb_format_size(l->swap);
        if (!parent)
                return nb_asprintf("none (%s); the supervisor ends the box when QEMU and virtiofsd take more than %s", why,
                                   memory);
        return nb_asprintf("below %s: memory %s, swap %s, %u tasks, processor weight %u", parent, memory, swap, l->tasks,
                           l->weight);
}
