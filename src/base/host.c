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

/* The next range that a table gives to a user, from `*rest` on; false at its end. */
static bool next_range(char **rest, const char *user, const char *number, uint64_t *ret_first, uint64_t *ret_count) {
        for (char *line; (line = strsep(rest, "\n"));) {
                char *first = strchr(line, ':');
                char *count = first ? strchr(first + 1, ':') : NULL;
                if (!count || nb_parse_uint(count + 1, UINT32_MAX, ret_count) < 0)
                        continue;
                *first = *count = 0;
                if ((strcmp(line, user) == 0 || strcmp(line, number) == 0) &&
                    nb_parse_uint(first + 1, UINT32_MAX, ret_first) == 0)
                        return true;
        }
        return false;
}

unsigned long nb_subordinate_ids(const char *table, const char *user, uid_t uid) {
        NB_AUTO_FREE char *copy = nb_strdup(table), *number = nb_asprintf("%u", uid);
        unsigned long total = 0;
        char *rest = copy;
        for (uint64_t first, count; next_range(&rest, user, number, &first, &count);)
                total += (unsigned long)count;
        return total;
}

char **nb_subordinate_map(const char *table, const char *user, uid_t uid, unsigned long want) {
        NB_AUTO_FREE char *copy = nb_strdup(table), *number = nb_asprintf("%u", uid);
        NB_AUTO_STRV char **map = NULL;
        char *rest = copy;
        unsigned long have = 0;
        for (uint64_t first, count; have < want && next_range(&rest, user, number, &first, &count);) {
                unsigned long n = (unsigned long)count < want - have ? (unsigned long)count : want - have;
                if (n == 0)
                        continue;
                nb_strv_addf(&map, "%lu", have + 1);
                nb_strv_addf(&map, "%lu", (unsigned long)first);
                nb_strv_addf(&map, "%lu", n);
                have += n;
        }
        return have == want ? nb_steal(&map) : NULL;
}
