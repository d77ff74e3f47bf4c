/* Looking for texts of the host's where they must not be: in files, trees of files and devices. What is found is told by its
 * name, never by its value. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attack/guest/guest.h"
#include "base/mem.h"

#define CHUNK 65536u
#define OVERLAP 512u     /* longer than any text that is looked for */
#define FILE_MAX 262144u /* of each file of a tree */
#define ENTRIES_MAX 4000u

const char *find_needle(const void *bytes, size_t len) {
        for (size_t i = 0; i < guest.n_needles; i++)
                if (memmem(bytes, len, guest.needles[i].text, strlen(guest.needles[i].text)))
                        return guest.needles[i].name;
        return NULL;
}

const char *scan_file(const char *path, off_t offset, size_t max, const char *known, bool *ret_known) {
        static char buf[CHUNK + OVERLAP];
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        size_t kept = 0;
        if (fd < 0 || (offset > 0 && lseek(fd, offset, SEEK_SET) < 0))
                return NULL;
        for (size_t got = 0; got < max;) {
                ssize_t n = read(fd, buf + kept, CHUNK);
                if (n <= 0)
                        return NULL;
                size_t have = kept + (size_t)n;
                const char *name = find_needle(buf, have);
                if (known && ret_known && memmem(buf, have, known, strlen(known)))
                        *ret_known = true;
                if (name)
                        return name;
                got += (size_t)n;
                kept = have < OVERLAP ? have : OVERLAP;
                memmove(buf, buf + have - kept, kept);
        }
        return NULL;
}

static const char *scan_at(const char *path, unsigned depth, const char *known, bool *ret_known, unsigned *left,
                           char *ret_where, size_t where_size) {
        struct stat st;
        if (*left == 0 || lstat(path, &st) < 0)
                return NULL;
        --*left;
        if (S_ISREG(st.st_mode)) {
                const char *name = scan_file(path, 0, FILE_MAX, known, ret_known);
                if (name)
                        (void)snprintf(ret_where, where_size, "%s", path);
                return name;
        }
        DIR *d = S_ISDIR(st.st_mode) && depth > 0 ? opendir(path) : NULL;
        const char *name = NULL;
        for (const struct dirent *e; d && !name && (e = readdir(d));) {
                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                NB_AUTO_FREE char *below = nb_asprintf("%s/%s", path, e->d_name);
                if (strcmp(below, guest.folder) != 0)
                        name = scan_at(below, depth - 1, known, ret_known, left, ret_where, where_size);
        }
        if (d)
                closedir(d);
        return name;
}

const char *scan_tree(const char *path, unsigned depth, const char *known, bool *ret_known, char *ret_where,
                      size_t where_size) {
        unsigned left = ENTRIES_MAX;
        return scan_at(path, depth, known, ret_known, &left, ret_where, where_size);
}
