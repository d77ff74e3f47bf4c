/* Reading /proc (see procfs.h). */
#include "procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"

#define PROC_FILE_MAX (8u * 1024u * 1024u)
#define USERS_SHOWN 16u

/* One word up to a space, with octal escapes resolved. */
static char *next_word(const char **at, const char *end) {
        const char *p = *at;
        char *word = nb_calloc((size_t)(end - p) + 1, 1), *o = word;
        while (p < end && *p != ' ') {
                if (*p == '\\' && end - p >= 4 && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' &&
                    p[3] <= '7') {
                        *o++ = (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
                        p += 4;
                } else {
                        *o++ = *p++;
                }
        }
        *at = p + (p < end);
        return word;
}

bool mountinfo_next(const char **text, struct mountinfo *ret) {
        if (!*text || !**text)
                return false;
        const char *at = *text, *end = at + strcspn(at, "\n");
        *text = end + (*end == '\n');
        free(next_word(&at, end)); /* id */
        free(next_word(&at, end)); /* parent */
        ret->dev = next_word(&at, end);
        ret->root = next_word(&at, end);
        ret->target = next_word(&at, end);
        return true;
}

void mountinfo_clear(struct mountinfo *m) {
        free(m->dev);
        free(m->root);
        free(m->target);
        *m = (struct mountinfo){ 0 };
}

/* The number behind `name` and `mark` at the start of a line. */
static uint64_t value_of(const char *text, const char *name, char mark) {
        size_t len = strlen(name);
        for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
                if (strncmp(p, name, len) == 0 && p[len] == mark)
                        return strtoull(p + len + 1, NULL, 10);
        return 0;
}

uint64_t meminfo_value(const char *text, const char *name) {
        return value_of(text, name, ':') * 1024u;
}

uint64_t stat_value(const char *text, const char *name) {
        return value_of(text, name, ' ');
}

int64_t interrupts_sum(const char *text, const char *name) {
        size_t len = strlen(name);
        for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
                line += strspn(line, " ");
                if (strncmp(line, name, len) != 0 || line[len] != ':')
                        continue;
                int64_t sum = 0;
                for (const char *p = line + len + 1; *p == ' ';) {
                        p += strspn(p, " ");
                        if (*p < '0' || *p > '9')
                                break;
                        char *end;
                        uint64_t n = strtoull(p, &end, 10);
                        sum += n < UINT32_MAX ? (int64_t)n : UINT32_MAX;
                        p = end;
                }
                return sum;
        }
        return -1;
}

static bool below(const char *path, const char *dir) {
        size_t len = strlen(dir);
        return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == 0 || path[len] == ' ');
}

static bool link_below(int proc, const char *name, const char *path) {
        char target[4096];
        ssize_t n = readlinkat(proc, name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        return below(target, path);
}

static bool any_fd_below(int proc, const char *path) {
        int fd = openat(proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        bool found = false;
        if (!dir) {
                nb_close(fd);
                return false;
        }
        for (struct dirent *e; !found && (e = readdir(dir));)
                found = e->d_name[0] != '.' && link_below(fd, e->d_name, path);
        closedir(dir);
        return found;
}

static bool any_map_below(int proc, const char *path) {
        NB_AUTO_FREE char *maps = NULL;
        if (nb_read_file_at(proc, "maps", PROC_FILE_MAX, &maps, NULL) < 0)
                return false;
        for (char *save = NULL, *line = strtok_r(maps, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                const char *file = strchr(line, '/');
                if (file && below(file, path))
                        return true;
        }
        return false;
}

static bool uses_path(int proc, const char *path) {
        return link_below(proc, "cwd", path) || link_below(proc, "root", path) || link_below(proc, "exe", path) ||
               any_fd_below(proc, path) || any_map_below(proc, path);
}

static bool same_namespace(int proc) {
        struct stat mine, its;
        return stat("/proc/self/ns/mnt", &mine) < 0 || fstatat(proc, "ns/mnt", &its, 0) < 0 || mine.st_ino == its.st_ino;
}

/* `dev root`: what is mounted at a path in our namespace, and what to look for in others. */
static bool has_foreign_mount(int proc, const char *dev_root) {
        if (same_namespace(proc))
                return false;
        NB_AUTO_FREE char *text = NULL;
        if (nb_read_file_at(proc, "mountinfo", PROC_FILE_MAX, &text, NULL) < 0)
                return false;
        bool found = false;
        struct mountinfo m;
        for (const char *p = text; !found && mountinfo_next(&p, &m); mountinfo_clear(&m)) {
                NB_AUTO_FREE char *its = nb_asprintf("%s %s", m.dev, m.root);
                found = below(its, dev_root);
        }
        return found;
}

/* Asks about each process but ourselves; the answer as text. */
static char *each_process(bool (*uses)(int proc, const char *what), const char *what) {
        DIR *dir = opendir("/proc");
        NB_AUTO_BUF out = { 0 };
        unsigned n = 0;
        for (struct dirent *e; dir && (e = readdir(dir));) {
                char *end;
                long pid = strtol(e->d_name, &end, 10);
                if (*end || pid <= 1 || pid == getpid())
                        continue;
                NB_AUTO_CLOSE int proc = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (proc < 0 || !uses(proc, what))
                        continue;
                NB_AUTO_FREE char *comm = NULL;
                if (nb_read_file_at(proc, "comm", 4096, &comm, NULL) < 0)
                        continue;
                comm[strcspn(comm, "\n")] = 0;
                NB_AUTO_FREE char *one = n < USERS_SHOWN ? nb_asprintf("%s%ld %s", n ? ", " : "", pid, comm) : nb_strdup(", …");
                nb_buf_add(&out, one, strlen(one));
                if (++n > USERS_SHOWN)
                        break;
        }
        if (dir)
                closedir(dir);
        return n ? nb_strndup((const char *)nb_buf_bytes(&out), out.len) : NULL;
}

char *procfs_users(const char *path) {
        char *users = each_process(uses_path, path);
        if (users)
                return users;
        NB_AUTO_FREE char *text = NULL;
        if (nb_read_file("/proc/self/mountinfo", PROC_FILE_MAX, &text, NULL) < 0)
                return NULL;
        struct mountinfo m;
        for (const char *p = text; !users && mountinfo_next(&p, &m); mountinfo_clear(&m))
                if (strcmp(m.target, path) != 0 && below(m.target, path))
                        users = nb_asprintf("the mount on %s", m.target);
        return users;
}

char *procfs_foreign_mounts(const char *target) {
        NB_AUTO_FREE char *text = NULL, *dev_root = NULL;
        if (nb_read_file("/proc/self/mountinfo", PROC_FILE_MAX, &text, NULL) < 0)
                return NULL;
        struct mountinfo m;
        for (const char *p = text; mountinfo_next(&p, &m); mountinfo_clear(&m))
                if (strcmp(m.target, target) == 0) {
                        free(dev_root);
                        /* "dev /" must match any folder of the file system */
                        dev_root = strcmp(m.root, "/") == 0 ? nb_strdup(m.dev) : nb_asprintf("%s %s", m.dev, m.root);
                }
        return dev_root ? each_process(has_foreign_mount, dev_root) : NULL;
}
