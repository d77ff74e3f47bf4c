/* See memory.h. */
#include "box/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

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
        uint64_t anon, file, shmem;
        if (status_line(text, "RssAnon:", &anon) < 0 || status_line(text, "RssFile:", &file) < 0 ||
            status_line(text, "RssShmem:", &shmem) < 0)
                return -EINVAL;
        *ret_guest = shmem;
        *ret_own = anon + file;
        return 0;
}
