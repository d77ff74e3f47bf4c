/* git's config: vetted instead of refused, so that clone, remote and push -u work inside. git writes the whole new config to
 * config.lock and renames that over config. The guest may still have the lock open, or know it by another name; so its bytes
 * are read once, looked at, and written into a fresh file, and that becomes the config. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/guard_impl.h"
#include "policy/gitconfig.h"

static const char not_ours[] = "git's lock was not made in the box";

/* Its number in the table, -1 for one that is not ours. */
static int find_lock(const struct guard *g, const struct guard_place *lock) {
        struct stat st;
        if (guard_place_stat(g, lock, &st) < 0)
                return -1;
        for (int i = 0; i < GUARD_LOCKS_MAX; i++)
                if (g->locks[i].fd >= 0 && g->locks[i].dev == st.st_dev && g->locks[i].ino == st.st_ino)
                        return i;
        return -1;
}

bool guard_lock_is_ours(const struct guard *g, const struct guard_place *lock) {
        return find_lock(g, lock) >= 0;
}

static void forget(struct guard *g, int number) {
        g->locks[number].fd = nb_close(g->locks[number].fd);
}

/* A place for one more: a free one, or that of the oldest, which the box can then neither use nor remove. */
static struct guard_lock *take_place(struct guard *g) {
        for (size_t i = 0; i < GUARD_LOCKS_MAX; i++)
                if (g->locks[i].fd < 0)
                        return &g->locks[i];
        size_t number = g->next_lock++ % GUARD_LOCKS_MAX;
        forget(g, (int)number);
        return &g->locks[number];
}

static int remember(struct guard *g, int fd) {
        char own[GUARD_OWN_FD];
        struct stat st;
        guard_own_fd(fd, own);
        int again = openat(g->notify.proc_fd, own, O_RDONLY | O_CLOEXEC);
        if (again < 0 || fstat(again, &st) < 0) {
                int r = -errno;
                nb_close(again);
                return r;
        }
        *take_place(g) = (struct guard_lock){ .fd = again, .dev = st.st_dev, .ino = st.st_ino };
        return 0;
}

int guard_lock_open(struct guard *g, struct notify_call *c, const struct guard_place *lock, int flags, mode_t mode,
                    const char **ret_why) {
        if (!lock->name && guard_lock_is_ours(g, lock)) /* the file itself, whatever has its name by then */
                return NOTIFY_CONTINUE;
        if (!lock->name || !(flags & O_CREAT) || !(flags & O_EXCL)) {
                *ret_why = not_ours;
                return -EPERM;
        }
        NB_AUTO_CLOSE int fd = openat(lock->fd, lock->name, flags | O_NOFOLLOW | O_CLOEXEC, mode & 0777);
        if (fd < 0)
                return -errno;
        int r = remember(g, fd);
        if (r == 0)
                r = notify_hand_over(c, fd, flags & O_CLOEXEC);
        if (r < 0)
                (void)unlinkat(lock->fd, lock->name, 0);
        return r;
}

/* Done here, so that no removal that was let through earlier can meet a lock made later. */
int guard_lock_remove(struct guard *g, const struct guard_place *lock, const char **ret_why) {
        int number = find_lock(g, lock);
        if (number < 0) {
                struct stat st;
                int r = guard_place_stat(g, lock, &st);
                *ret_why = r < 0 ? NULL : not_ours;
                return r < 0 ? r : -EPERM;
        }
        if (unlinkat(lock->fd, lock->name, 0) < 0)
                return -errno;
        forget(g, number);
        return 0;
}

/* A config that is not there is an empty one. */
static int read_config(const struct guard_place *config, char **ret, size_t *ret_len) {
        struct stat st;
        NB_AUTO_CLOSE int fd = openat(config->fd, config->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
                *ret = nb_strdup("");
                *ret_len = 0;
                return 0;
        }
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) ? nb_read_fd(fd, GITCONFIG_MAX, ret, ret_len) : -EINVAL;
}

bool guard_config_removable(const struct guard_place *config) {
        NB_AUTO_FREE char *text = NULL;
        size_t len = 0;
        return config->name && read_config(config, &text, &len) == 0 && gitconfig_harmless(text, len);
}

/* Under the lock's own name: where this ends half-way, git finds what it would have left itself. */
static int put_in_place(const struct guard_place *lock, const struct guard_place *config, const char *bytes, size_t len,
                        mode_t mode) {
        if (unlinkat(lock->fd, lock->name, 0) < 0)
                return -errno;
        NB_AUTO_CLOSE int fd = openat(lock->fd, lock->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777);
        if (fd < 0)
                return -errno;
        int r = nb_write_all(fd, bytes, len);
        if (r == 0 && renameat(lock->fd, lock->name, config->fd, config->name) < 0)
                r = -errno;
        if (r < 0)
                (void)unlinkat(lock->fd, lock->name, 0);
        return r;
}

static bool same_folder(const struct guard_place *lock, const struct guard_place *config) {
        size_t len = strlen(config->path);
        return config->mount == lock->mount && strncmp(lock->path, config->path, len) == 0 &&
               strcasecmp(lock->path + len, ".lock") == 0;
}

int guard_config_replace(struct guard *g, const struct guard_place *lock, const struct guard_place *config, char **ret_why) {
        NB_AUTO_FREE char *was = NULL;
        NB_AUTO_FREE char *now = NULL;
        size_t was_len = 0, now_len = 0;
        struct stat st;
        int number = same_folder(lock, config) ? find_lock(g, lock) : -1;
        if (number < 0) {
                *ret_why = nb_strdup("git's config changes only through a lock of its own, made in the box");
                return -EPERM;
        }
        int fd = g->locks[number].fd;
        if (lseek(fd, 0, SEEK_SET) < 0 || fstat(fd, &st) < 0 || nb_read_fd(fd, GITCONFIG_MAX, &now, &now_len) < 0) {
                *ret_why = nb_strdup("the new config cannot be read, or is too long");
                return -EPERM;
        }
        if (read_config(config, &was, &was_len) < 0) {
                *ret_why = nb_strdup("the config as it is cannot be read, or is too long, or no file");
                return -EPERM;
        }
        if (!gitconfig_may_replace(was, was_len, now, now_len, ret_why))
                return -EPERM;
        int r = put_in_place(lock, config, now, now_len, st.st_mode);
        if (r == 0)
                forget(g, number);
        return r;
}
