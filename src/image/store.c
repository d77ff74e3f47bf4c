/* The store's folders, records, locks and unfinished work (see store.h). Knows nothing of what is built. */
#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/seal.h"
#include "jail/userns.h"

#define REF_MAX (1024u * 1024u) /* bytes of one record */
#define CACHE_LOCK ".lock"      /* in the cache */
#define TEMP_LOCK "tmp.lock"    /* held while a folder is made or swept, so that no sweep meets one not yet locked */

struct store_marks {
        int *fds;
        size_t n;
};

static const char *const folders[] = { "runtime", "kernel", "images", "refs", "locks", "tmp" };

/* Held by all who may use what is in the cache, as long as they do. */
static int use_cache(struct store *s, struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_path_join(s->cache, CACHE_LOCK);
        s->cache_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        int r = s->cache_fd < 0 ? -errno : 0;
        while (r == 0 && flock(s->cache_fd, LOCK_SH) < 0)
                if (errno != EINTR)
                        r = -errno;
        return r < 0 ? nb_fail_errno(err, -r, "cannot lock %s", path) : 0;
}

bool store_cache_alone(const struct store *s) {
        return flock(s->cache_fd, LOCK_EX | LOCK_NB) == 0;
}

int store_open(struct store **ret, struct nb_error *err) {
        struct store *s = nb_calloc(1, sizeof *s);
        s->cache_fd = -1;
        s->data = nb_data_dir();
        s->cache = nb_cache_dir();
        s->marks = nb_calloc(1, sizeof *s->marks);
        int r = nb_private_dir(s->data, err);
        if (r == 0)
                r = nb_private_dir(s->cache, err);
        if (r == 0)
                r = use_cache(s, err);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(folders); i++) {
                NB_AUTO_FREE char *path = nb_path_join(s->data, folders[i]);
                if (mkdir(path, 0700) < 0 && errno != EEXIST)
                        r = nb_fail_errno(err, errno, "cannot make the folder %s", path);
        }
        if (r < 0) {
                (void)store_hint(s, err);
                store_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

void store_free(struct store *s) {
        if (!s)
                return;
        for (size_t i = 0; i < s->marks->n; i++)
                nb_close(s->marks->fds[i]);
        free(s->marks->fds);
        free(s->marks);
        nb_close(s->cache_fd);
        free(s->data);
        free(s->cache);
        free(s);
}

void store_mark(const struct store *s, const char *path) {
        int fd = -1;
        if (!s->marks || nb_use_open(path, &fd) < 0)
                return;
        s->marks->fds = nb_realloc(s->marks->fds, s->marks->n + 1, sizeof *s->marks->fds);
        s->marks->fds[s->marks->n++] = fd;
}

char *store_path(const struct store *s, const char *folder, const char *name) {
        return nb_asprintf("%s/%s/%s", s->data, folder, name);
}

static char *ref_path(const struct store *s, const char *kind, const char *key) {
        return nb_asprintf("%s/refs/%s-%s.json", s->data, kind, key);
}

json_t *store_ref_get(const struct store *s, const char *kind, const char *key) {
        NB_AUTO_FREE char *path = ref_path(s, kind, key), *text = NULL;
        size_t len = 0;
        if (nb_read_file(path, REF_MAX, &text, &len) < 0)
                return NULL;
        return json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
}

int store_ref_put(const struct store *s, const char *kind, const char *key, const json_t *ref, struct nb_error *err) {
        NB_AUTO_FREE char *path = ref_path(s, kind, key), *text = json_dumps(ref, JSON_SORT_KEYS | JSON_INDENT(1));
        if (!text)
                return nb_fail(err, EINVAL, "cannot write the record %s", path);
        int r = nb_write_file_atomic(path, text, strlen(text), 0600);
        if (r < 0) {
                nb_fail_errno(err, -r, "cannot write the record %s", path);
                return store_hint(s, err);
        }
        return 0;
}

int store_ref_remove(const struct store *s, const char *kind, const char *key) {
        NB_AUTO_FREE char *path = ref_path(s, kind, key);
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

void store_each(const char *folder, void (*fn)(void *user, const char *folder, const char *name), void *user) {
        NB_AUTO_STRV char **names = NULL; /* first all of them: `fn` may remove */
        DIR *dir = opendir(folder);
        if (!dir)
                return;
        for (struct dirent *e; (e = readdir(dir));)
                if (e->d_name[0] != '.')
                        nb_strv_add(&names, e->d_name);
        closedir(dir);
        for (size_t i = 0; names && names[i]; i++)
                fn(user, folder, names[i]);
}

static int lock_file(const struct store *s, const char *name, int operation, int *ret_fd) {
        NB_AUTO_FREE char *path = store_path(s, "locks", name);
        NB_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        while (flock(fd, operation) < 0)
                if (errno != EINTR)
                        return -errno;
        *ret_fd = nb_steal_fd(&fd);
        return 0;
}

int store_lock(const struct store *s, const char *name, const struct image_progress *progress, int *ret_fd,
               struct nb_error *err) {
        int r = lock_file(s, name, LOCK_EX | LOCK_NB, ret_fd);
        if (r == -EWOULDBLOCK) {
                store_step(progress, "waiting for another nixbox that builds the same", name, 0, 0);
                r = lock_file(s, name, LOCK_EX, ret_fd);
        }
        if (r < 0) {
                nb_fail_errno(err, -r, "cannot lock %s in %s/locks", name, s->data);
                return store_hint(s, err);
        }
        return 0;
}

int store_open_alone(struct store **ret, int *ret_lock, struct nb_error *err) {
        int r = store_open(ret, err);
        return r < 0 ? r : store_lock(*ret, STORE_LOCK_ALL, NULL, ret_lock, err);
}

int store_temp_new(const struct store *s, struct store_temp *ret, struct nb_error *err) {
        *ret = (struct store_temp){ .fd = -1 };
        NB_AUTO_FREE char *path = store_path(s, "tmp", "XXXXXX");
        NB_AUTO_CLOSE int guard = -1;
        int r = lock_file(s, TEMP_LOCK, LOCK_EX, &guard);
        if (r == 0 && !mkdtemp(path))
                r = -errno;
        if (r == 0) {
                ret->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (ret->fd < 0 || flock(ret->fd, LOCK_EX | LOCK_NB) < 0)
                        r = -errno;
        }
        if (r < 0) {
                ret->fd = nb_close(ret->fd);
                nb_fail_errno(err, -r, "cannot make a work folder in %s/tmp", s->data);
                return store_hint(s, err);
        }
        ret->path = nb_steal(&path);
        return 0;
}

static int remove_inside(void *user) {
        const char *path = user;
        return nb_remove_tree(AT_FDCWD, path) < 0 ? 1 : 0;
}

/* An ordinary user's build leaves files of subordinate ids when it is killed; only a user namespace can remove them. */
static void remove_work(const char *path) {
        if (nb_remove_tree(AT_FDCWD, path) == 0)
                return;
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *copy = nb_strdup(path);
        const struct userns_child child = { .ids = userns_best(), .body = remove_inside, .user = copy };
        pid_t pid = -1;
        if (userns_start(&child, &pid, &err) < 0)
                nb_warn("cannot remove %s: %s", path, err.what);
        else if (userns_wait(pid) != 0)
                nb_warn("cannot remove %s", path);
}

void store_temp_remove(struct store_temp *t) {
        if (t->path)
                remove_work(t->path);
        t->fd = nb_close(t->fd);
        free(t->path);
        t->path = NULL;
}

void store_sweep(const struct store *s) {
        NB_AUTO_CLOSE int guard = -1;
        if (lock_file(s, TEMP_LOCK, LOCK_EX, &guard) < 0)
                return;
        NB_AUTO_FREE char *tmp = nb_path_join(s->data, "tmp");
        DIR *dir = opendir(tmp);
        if (!dir)
                return;
        for (struct dirent *e; (e = readdir(dir));) {
                if (e->d_name[0] == '.')
                        continue;
                NB_AUTO_FREE char *path = nb_path_join(tmp, e->d_name);
                NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0)
                        remove_work(path);
        }
        closedir(dir);
}

int store_hint(const struct store *s, struct nb_error *err) {
        if (err && (err->code == ENOSPC || err->code == EDQUOT))
                return nb_hint(err, "make room on the disk that holds %s (`nixbox image prune` removes unused images)",
                               s->data);
        return err ? -err->code : -EIO;
}

void store_step(const struct image_progress *progress, const char *step, const char *detail, unsigned long long done,
                unsigned long long total) {
        if (progress && progress->step)
                progress->step(progress->user, step, detail, done, total);
}
