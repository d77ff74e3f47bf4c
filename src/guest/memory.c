/* Memory (see memory.h). */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "guest/procfs.h"
#include "wire/wire.h"

#define GROUP "/sys/fs/cgroup/sessions"
#define PROC_TEXT_MAX 65536u
#define PIDS_KEPT 256u /* process ids that sessions cannot use up: for the kernel and for us */

void memory_stats(struct nb_buf *payload) {
        NB_AUTO_FREE char *text = NULL;
        (void)nb_read_file("/proc/meminfo", PROC_TEXT_MAX, &text, NULL);
        wire_tlv_u64(payload, WIRE_T_MEM_TOTAL, meminfo_value(text, "MemTotal"));
        wire_tlv_u64(payload, WIRE_T_MEM_FREE, meminfo_value(text, "MemFree"));
        wire_tlv_u64(payload, WIRE_T_MEM_AVAILABLE, meminfo_value(text, "MemAvailable"));
        /* what belongs to files and could be read again; "Cached" would count memory file systems too */
        wire_tlv_u64(payload, WIRE_T_MEM_CACHED, meminfo_value(text, "Active(file)") + meminfo_value(text, "Inactive(file)"));
}

/* The kernel logs each use, until it has once been told not to. */
static int drop_caches(const char *what) {
        static const char path[] = "/proc/sys/vm/drop_caches";
        (void)nb_write_string_at(AT_FDCWD, path, "4");
        return nb_write_string_at(AT_FDCWD, path, what);
}

int memory_drop_dentries(void) {
        return drop_caches("2");
}

/* Through the group, the kernel takes the pages that have not been used for longest, and may stop early. */
static int reclaim_group(int cgroup, uint64_t wanted) {
        NB_AUTO_FREE char *stat = NULL;
        int r = nb_read_file_at(cgroup, "memory.stat", PROC_TEXT_MAX, &stat, NULL);
        if (r < 0)
                return r;
        uint64_t bytes = stat_value(stat, "inactive_file") + stat_value(stat, "active_file");
        if (wanted > 0 && wanted < bytes)
                bytes = wanted;
        if (bytes == 0)
                return 0;
        NB_AUTO_FREE char *text = nb_asprintf("%llu", (unsigned long long)bytes);
        r = nb_write_string_at(cgroup, "memory.reclaim", text);
        return r == -EAGAIN ? 0 : r;
}

int memory_reclaim(uint64_t flags, int cgroup, struct nb_error *err) {
        int r = 0;
        if (flags & WIRE_RECLAIM_PAGES) {
                r = cgroup >= 0 ? reclaim_group(cgroup, (flags >> WIRE_RECLAIM_MIB_SHIFT) << 20) : -ENOENT;
                if (r < 0)
                        r = drop_caches("1");
        }
        if (flags & WIRE_RECLAIM_COMPACT)
                (void)nb_write_string_at(AT_FDCWD, "/proc/sys/vm/compact_memory", "1");
        if (r == 0 && flags & WIRE_RECLAIM_DENTRIES)
                r = memory_drop_dentries();
        return r < 0 ? nb_fail_errno(err, -r, "giving memory back") : 0;
}

int memory_make_group(void) {
        if (mkdir(GROUP, 0755) < 0 && errno != EEXIST)
                return -1;
        return open(GROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void memory_limit_group(int cgroup) {
        NB_AUTO_FREE char *threads = NULL, *pids = NULL;
        if (cgroup < 0 || nb_write_string_at(AT_FDCWD, "/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids") < 0 ||
            nb_read_file("/proc/sys/kernel/threads-max", 64, &threads, NULL) < 0 ||
            nb_read_file("/proc/sys/kernel/pid_max", 64, &pids, NULL) < 0)
                return;
        unsigned long a = strtoul(threads, NULL, 10), b = strtoul(pids, NULL, 10), most = a < b ? a : b;
        if (most <= 2ul * PIDS_KEPT)
                return;
        NB_AUTO_FREE char *text = nb_asprintf("%lu", most - PIDS_KEPT);
        (void)nb_write_string_at(cgroup, "pids.max", text);
}
