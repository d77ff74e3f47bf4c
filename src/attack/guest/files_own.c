/* Names and places for the probes of mounts (see files.h). */
#include "attack/guest/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#define OWN_BYTES 8192u

/* The device numbers differ, since each mount gets its own; what is behind them does not. Of a folder in which others make
 * files just now the times may differ, too. */
static bool is_same(const struct stat *a, const struct stat *b, bool times) {
        return a->st_ino == b->st_ino && a->st_mode == b->st_mode &&
               (!times || (a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec));
}

/* The entry of the shared folders' root that is mounted on `target`. New string or NULL. */
static char *find_entry(const char *target, bool times) {
        struct stat want, st;
        DIR *d = guest.share && stat(target, &want) == 0 ? opendir(guest.share) : NULL;
        char *found = NULL;
        for (const struct dirent *e; d && !found && (e = readdir(d));) {
                char *path = nb_asprintf("%s/%s", guest.share, e->d_name);
                if (e->d_name[0] != '.' && stat(path, &st) == 0 && is_same(&st, &want, times))
                        found = path;
                else
                        free(path);
        }
        if (d)
                closedir(d);
        return found;
}

static char *entry_of(const char *target) {
        char *found = find_entry(target, true);
        return found ? found : find_entry(target, false);
}

char *raw_of(const char *path) {
        for (char **m = guest.mounts; m && *m; m++) {
                size_t len = strlen(*m);
                if (strncmp(path, *m, len) != 0 || (path[len] != '/' && path[len] != 0))
                        continue;
                NB_AUTO_FREE char *entry = entry_of(*m);
                if (entry)
                        return nb_asprintf("%s%s", entry, path + len);
        }
        return nb_strdup(path);
}

bool is_mounted_again(const char *target, const char *place) {
        struct stat want, st;
        NB_AUTO_FREE char *entry = entry_of(target); /* the kernel takes the instance that was looked at last */
        return mount("nixbox", place, "virtiofs", 0, NULL) == 0 && stat(place, &st) == 0 && stat(target, &want) == 0 &&
               is_same(&st, &want, false);
}

char *own_name(const char *folder, const char *suffix) {
        return nb_asprintf("%s/.%s.%s", folder, strrchr(guest.folder, '/') + 1, suffix);
}

char *own_folder(const char *suffix) {
        NB_AUTO_FREE char *folder = nb_asprintf("%s/own-%s", guest.folder, suffix);
        NB_AUTO_FREE char *file = nb_asprintf("%s/file", folder);
        NB_AUTO_FREE char *bytes = nb_calloc(OWN_BYTES, 1);
        if (mkdir(folder, 0755) < 0)
                return NULL;
        NB_AUTO_CLOSE int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        return fd >= 0 && nb_write_all(fd, bytes, OWN_BYTES) == 0 ? nb_steal(&folder) : NULL;
}

long open_with(const char *path, int flags) {
        int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd >= 0)
                nb_close(fd);
        return fd < 0 ? -1 : 0;
}
