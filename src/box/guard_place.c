/* Where a call of virtiofsd leads, as a path on the host. virtiofsd names things in two ways: as an entry of a folder that it
 * has open, and as one of its own descriptors through /proc/self/fd. A descriptor is taken over first and then looked at, so
 * that what was looked at is what is changed. Anything else is refused. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "box/guard_impl.h"

#define SHARE "/share/"     /* of share_daemon.c, as the kernel tells paths to a process outside of virtiofsd's root */
#define PROCESS "/process/" /* likewise, its own /proc */
#define DELETED " (deleted)"
#define FD_MAX 0x7fffffffu

void guard_place_clear(struct guard_place *p) {
        nb_close(p->fd);
        free(p->name);
        free(p->path);
}

void guard_own_fd(int fd, char ret[GUARD_OWN_FD]) {
        (void)snprintf(ret, GUARD_OWN_FD, "self/fd/%d", fd);
}

static int path_of(const struct guard *g, int fd, char ret[PATH_MAX]) {
        char own[GUARD_OWN_FD];
        guard_own_fd(fd, own);
        ssize_t n = readlinkat(g->notify.proc_fd, own, ret, PATH_MAX - 1);
        if (n < 0 || n >= PATH_MAX - 1)
                return n < 0 ? -errno : -ENAMETOOLONG;
        ret[n] = 0;
        return 0;
}

static const struct guard_mount *find_mount(const struct guard *g, const char *id, size_t len) {
        for (size_t i = 0; i < g->n_mounts; i++)
                if (strlen(g->mounts[i].id) == len && memcmp(g->mounts[i].id, id, len) == 0)
                        return &g->mounts[i];
        return NULL;
}

static bool is_below(const char *path, const char *above) {
        size_t len = strlen(above);
        return strncmp(path, above, len) == 0 && (path[len] == 0 || path[len] == '/');
}

/* What the owner has let the box change is protected no more. A folder above it must not be moved, or the permission would
 * count for another place. */
static void apply_allowed(const struct guard *g, struct guard_place *p) {
        for (char **a = g->allowed; a && *a; a++) {
                size_t len = strlen(*a);
                if (is_below(p->path, *a))
                        p->is = 0;
                else if (is_below(*a, p->path))
                        p->is |= PROTECT_LEADS;
                else if (p->is & PROTECT_LOCK && strncmp(p->path, *a, len) == 0 && strcasecmp(p->path + len, ".lock") == 0)
                        p->is = 0;
        }
}

static void judge(const struct guard *g, struct guard_place *p) {
        if (!p->mount->source)
                return;
        p->is = protect_match(g->protect, p->path, &p->pattern);
        size_t len = strlen(p->path), end = strlen(DELETED);
        if (!p->name && len > end && strcmp(p->path + len - end, DELETED) == 0) {
                /* its name may end like this, or it may have been removed; an open file of either kind is refused */
                NB_AUTO_FREE char *shorter = nb_strndup(p->path, len - end);
                const char *pattern = NULL;
                unsigned is = protect_match(g->protect, shorter, &pattern);
                p->pattern = is & PROTECT_IS && !p->pattern ? pattern : p->pattern;
                p->is |= is;
        }
        apply_allowed(g, p);
}

/* `seen` is the kernel's path of the folder or file that p->fd is. */
static int locate(const struct guard *g, const char *seen, struct guard_place *p) {
        if (!nb_starts_with(seen, SHARE))
                return -EPERM;
        const char *id = seen + strlen(SHARE), *below = strchrnul(id, '/');
        p->mount = find_mount(g, id, (size_t)(below - id));
        if (!p->mount)
                return -EPERM;
        const char *source = p->mount->source ? p->mount->source : "";
        size_t len = strcmp(source, "/") == 0 ? 0 : strlen(source);
        p->path = nb_asprintf("%.*s%s%s%s", (int)len, source, below, p->name ? "/" : "", p->name ? p->name : "");
        p->rel = p->path + len;
        judge(g, p);
        return 0;
}

static bool is_entry(const char *name) {
        return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* The folder with the number of a descriptor in it: "/process/1/fd" and "57". */
static int take_numbered(struct guard *g, const struct notify_call *c, const char *name, struct guard_place *p) {
        uint64_t number = 0;
        if (nb_parse_uint(name, FD_MAX, &number) < 0)
                return -EPERM;
        return guard_place_fd(g, c, (int)number, p);
}

int guard_place_fd(struct guard *g, const struct notify_call *c, int fd, struct guard_place *ret) {
        char seen[PATH_MAX];
        *ret = (struct guard_place){ .fd = notify_open_fd(c, fd) };
        int r = ret->fd < 0 ? ret->fd : path_of(g, ret->fd, seen);
        if (r == 0 && !notify_alive(c))
                r = -ESRCH;
        return r < 0 ? r : locate(g, seen, ret);
}

int guard_place_at(struct guard *g, const struct notify_call *c, int dirfd, uint64_t address, struct guard_place *ret) {
        char seen[PATH_MAX];
        NB_AUTO_FREE char *name = NULL;
        *ret = (struct guard_place){ .fd = -1 };
        if (dirfd < 0)
                return -EPERM;
        int r = notify_read_path(c, address, &name);
        if (r < 0)
                return r;
        ret->fd = notify_open_fd(c, dirfd);
        r = ret->fd < 0 ? ret->fd : path_of(g, ret->fd, seen);
        if (r == 0 && !notify_alive(c))
                r = -ESRCH;
        if (r < 0)
                return r;
        if (nb_starts_with(seen, PROCESS)) {
                ret->fd = nb_close(ret->fd);
                return take_numbered(g, c, name, ret);
        }
        if (!is_entry(name))
                return -EPERM;
        ret->name = nb_steal(&name);
        return locate(g, seen, ret);
}

int guard_place_stat(const struct guard *g, const struct guard_place *p, struct stat *ret) {
        (void)g;
        if (p->name)
                return fstatat(p->fd, p->name, ret, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
        return fstat(p->fd, ret) < 0 ? -errno : 0;
}
