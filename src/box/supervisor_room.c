/* The box's use of its host, watched: the file systems behind its writable mounts and its disk, which it must not fill, and
 * the memory of QEMU and virtiofsd. While there is too little room on one of them the machine stands still; more memory
 * than a machine of its size can need means that QEMU is not what it was, and ends the box. What is decided is in room.c. */
#include <errno.h>
#include <fcntl.h>
#include <sys/statfs.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "box/room.h"
#include "box/supervisor_impl.h"

#define OVER_TICKS 4 /* for so many looks in a row; a child's figures are not taken at one instant */

/* What stands in the way, for people; NULL if there is room, or if it cannot be told. New string. */
static char *too_little(int fd, const char *what, uint64_t wanted, bool paused) {
        struct statfs fs;
        if (fstatfs(fd, &fs) < 0 || fs.f_blocks == 0)
                return NULL;
        uint64_t block = (uint64_t)fs.f_bsize, left = (uint64_t)fs.f_bavail * block;
        uint64_t floor = room_floor((uint64_t)fs.f_blocks * block, wanted);
        if (!room_low(left, floor, paused))
                return NULL;
        NB_AUTO_FREE char *have = nb_format_size(left);
        NB_AUTO_FREE char *need = nb_format_size(floor);
        return nb_asprintf("the file system of %s has %s left, and %s must stay free", what, have, need);
}

static bool is_remote(int fd) {
        struct statfs fs;
        return fstatfs(fd, &fs) < 0 || room_remote((unsigned long)fs.f_type);
}

static char *look_at_mount(const struct supervisor *s, const struct start_mount *m) {
        NB_AUTO_CLOSE int fd = m->write && !m->remote ? share_open(s->share, m->id) : -1;
        return fd < 0 ? NULL : too_little(fd, m->source, s->m.disk_floor, s->paused != NULL);
}

/* The first of them that has too little. New string. */
static char *look(const struct supervisor *s) {
        char *found = NULL;
        for (size_t i = 0; !found && i < s->m.n_mounts; i++)
                found = look_at_mount(s, &s->m.mounts[i]);
        if (found || !s->m.disk_file)
                return found;
        NB_AUTO_CLOSE int fd = open(s->m.state, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 || is_remote(fd) ? NULL : too_little(fd, s->m.state, s->m.disk_floor, s->paused != NULL);
}

int room_begin(struct supervisor *s, struct start_mount *m, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = m->write ? share_open(s->share, m->id) : -1;
        if (fd < 0)
                return 0;
        m->remote = is_remote(fd);
        NB_AUTO_FREE char *why = look_at_mount(s, m);
        if (!why)
                return 0;
        nb_fail(err, ENOSPC, "%s", why);
        return nb_hint(err, "make room there, or set machine.disk-floor to less");
}

int room_cgroup(struct supervisor *s, struct nb_error *err) {
        NB_AUTO_FREE char *why = NULL;
        NB_AUTO_FREE char *parent = cgroup_find(&why);
        const struct cgroup_limits limits = room_limits(s->m.memory, s->m.cpus, s->m.accel.kind == ACCEL_TCG);
        NB_AUTO_FREE char *text = room_describe(&limits, parent, why);
        nb_info("cgroup: %s", text);
        NB_AUTO_FREE char *name = nb_asprintf("%s-%d", s->m.name, (int)getpid());
        return parent ? cgroup_make(parent, name, &limits, &s->cgroup, err) : 0;
}

static void set_paused(struct supervisor *s, char *why) {
        events_add(s->events, why ? "box.pause" : "box.resume",
                   json_pack("{s:s}", "reason", why ? why : "there is room again"));
        nb_info("the box %s: %s", why ? "stands still" : "goes on", why ? why : "there is room again");
        vmm_monitor_run(s->monitor, !why);
        if (!why)
                watch_send_time(s);
        free(s->paused);
        s->paused = why;
}

static void watch_disks(struct supervisor *s) {
        NB_AUTO_FREE char *why = look(s);
        if ((why != NULL) != (s->paused != NULL))
                set_paused(s, nb_steal(&why));
}

static void watch_memory(struct supervisor *s) {
        static const enum child_role users[] = { CHILD_QEMU, CHILD_VIRTIOFSD };
        uint64_t use = 0, most = room_memory(s->m.memory, s->m.accel.kind == ACCEL_TCG);
        for (size_t i = 0; i < NB_ARRAY_LEN(users); i++) {
                uint64_t guest = 0, own = 0;
                pid_t pid = s->child[users[i]].proc.pid;
                /* guest memory is mapped by both of them, and counts once */
                if (pid > 0 && vmm_memory_use(pid, &guest, &own) == 0)
                        use += own + (users[i] == CHILD_QEMU ? guest : 0);
        }
        s->over_ticks = use > most ? s->over_ticks + 1 : 0;
        if (s->over_ticks < OVER_TICKS)
                return;
        NB_AUTO_FREE char *used = nb_format_size(use);
        NB_AUTO_FREE char *limit = nb_format_size(most);
        super_end(s, ENOMEM, "QEMU and virtiofsd use %s of memory, and a machine of this size can need no more than %s", used,
                  limit);
        super_kill(s);
}

void room_tick(struct supervisor *s) {
        watch_disks(s);
        watch_memory(s);
}

void room_end(struct supervisor *s) {
        if (s->paused)
                vmm_monitor_run(s->monitor, true); /* to end in order; what it still writes is little */
        free(s->paused);
        s->paused = NULL;
}
