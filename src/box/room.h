/* How much of the host a box may take: the room that it leaves on the file systems behind its mounts, and what QEMU may use
 * beyond the guest's memory. Pure code: figures in, decision out; supervisor_room.c reads the figures and acts. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "box/cgroup.h"

#define ROOM_FLOOR_USUAL UINT64_MAX /* none was asked for (CONFIG_FLOOR_USUAL) */

/** What must stay free on a file system of `total` bytes: `wanted` (machine.disk-floor), or usually a gibibyte or a twentieth
 *  of it, whichever is less. */
uint64_t room_floor(uint64_t total, uint64_t wanted);
/** Is there too little? A box that was `paused` for it goes on only with a quarter more than the floor, not at every block. */
bool room_low(uint64_t left, uint64_t floor, bool paused);
/** File systems that are asked over a network, by the type that statfs() tells: not looked at, because a server that does not
 *  answer would stop the process that asks. */
bool room_remote(unsigned long type);

/** The most host memory that QEMU and virtiofsd together may use for a guest with `memory` bytes. What is above the guest's own
 *  is for translated code (under emulation), page tables, buffers, and virtiofsd's table of files. */
uint64_t room_memory(uint64_t memory, bool emulated);
/** The limits of the box's cgroup. */
struct cgroup_limits room_limits(uint64_t memory, unsigned cpus, bool emulated);
/** What holds the box's use of the host: its cgroup below `parent`, or why there is none. For people; new string. */
char *room_describe(const struct cgroup_limits *l, const char *parent, const char *why);
