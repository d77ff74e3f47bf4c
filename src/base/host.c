/* Programs and subordinate ids of the host (see host.h). */
#include "host.h"

#include <stdint.h>
#include <string.h>

#include "mem.h"
#include "paths.h"
#include "text.h"

bool nb_have_program(const char *path, const char *name) {
        NB_AUTO_FREE char *folders = nb_strdup(path);
        char *save = NULL;
        for (char *dir = strtok_r(folders, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
                NB_AUTO_FREE char *file = nb_path_join(dir, name);
                if (access(file, X_OK) == 0)
                        return true;
        }
        return false;
}

unsigned long nb_subordinate_ids(const char *table, const char *user, uid_t uid) {
        unsigned long total = 0;
        NB_AUTO_FREE char *copy = nb_strdup(table);
        NB_AUTO_FREE char *number = nb_asprintf("%u", uid);
        char *save = NULL;
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char *first = strchr(line, ':');
                char *count = first ? strchr(first + 1, ':') : NULL;
                uint64_t n;
                if (!count || nb_parse_uint(count + 1, UINT32_MAX, &n) < 0)
                        continue;
                *first = 0;
                if (strcmp(line, user) == 0 || strcmp(line, number) == 0)
                        total += (unsigned long)n;
        }
        return total;
}
