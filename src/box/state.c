/* A box's folders, its locks and its control socket's address (see state.h). What the box does while it runs is not known
 * here; the supervisor publishes one word about it in the lock file. */
#include "box/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/events.h"

#define CLAIM_TRIES 500     /* times a lock is tried while others clear the same folder */
#define RETRY_US 10000      /* between two tries */
#define STATE_LOCK_MS 15000 /* how long to wait for a box that is ending without its runtime folder */
#define CONNECT_TRIES 500   /* a box that is starting makes its socket within a moment */
#define BOX_NAME_HINT "a name has up to 40 of a-z, 0-9 and -, and begins and ends with a letter or digit"

static const char *const state_names[] = { "none", "starting", "running", "stopping" };

const char *box_state_name(enum box_state state) {
        return state_names[state];
}

int box_paths_new(const char *name, struct box_paths **ret, struct nb_error *err) {
        if (!nb_valid_box_name(name)) {
                nb_fail(err, EINVAL, "'%s' cannot be the name of a box", name);
                return nb_hint(err, BOX_NAME_HINT);
        }
        NB_AUTO_FREE char *runtime = nb_runtime_dir();
        NB_AUTO_FREE char *state = nb_state_dir();
        struct box_paths *p = nb_calloc(1, sizeof *p);
        p->name = nb_strdup(name);
        p->runtime = nb_path_join(runtime, name);
        p->state = nb_path_join(state, name);
        p->control = nb_path_join(p->runtime, "control.sock");
        *ret = p;
        return 0;
}

void box_paths_free(struct box_paths *p) {
        if (!p)
                return;
        free(p->name);
        free(p->runtime);
        free(p->state);
        free(p->control);
        free(p);
}

/* What must not be there at the next boot. The lock itself goes last, by the caller. */
static void clear_remains(const struct box_paths *p, int runtime_fd) {
        int copy = openat(runtime_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        for (struct dirent *e; dir && (e = readdir(dir));)
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strcmp(e->d_name, "lock") != 0)
                        (void)nb_remove_tree(runtime_fd, e->d_name);
        if (dir)
                closedir(dir);
        NB_AUTO_CLOSE int state = open(p->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (state < 0)
                return;
        (void)unlinkat(state, "disk.raw", 0);
        (void)unlinkat(state, "share", AT_REMOVEDIR);
}

static void record_stale(const struct box_paths *p, const char *word) {
        struct events *events = NULL;
        NB_AUTO_ERROR err = { 0 };
        if (events_open(p->state, p->name, &events, &err) < 0)
                return;
        NB_AUTO_FREE char *reason =
            nb_asprintf("the supervisor was killed while the box was %s; its remains were cleared", word);
        events_add(events, "box.down", json_pack("{s:s}", "reason", reason));
        events_close(events);
}

/* The word in the lock file; empty while somebody clears the folder. */
static void read_word(int lock, char ret[16]) {
        ssize_t n = pread(lock, ret, 15, 0);
        ret[n > 0 ? n : 0] = 0;
        ret[strcspn(ret, "\n")] = 0;
}

/* 0: the lock is ours. 1: somebody holds it, and `word` says what for. 2: the folder changed meanwhile, look again.
 * -ENOENT: there is no such folder. */
static int try_lock(const struct box_paths *p, int *ret_dir, int *ret_lock, char word[16], struct nb_error *err) {
        NB_AUTO_CLOSE int dir = open(p->runtime, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir < 0)
                return errno == ENOENT ? -ENOENT : nb_fail_errno(err, errno, "cannot open the folder %s", p->runtime);
        struct stat st, now;
        if (fstat(dir, &st) < 0 || st.st_uid != getuid())
                return nb_fail(err, EPERM, "the folder %s belongs to somebody else", p->runtime);
        NB_AUTO_CLOSE int lock = openat(dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (lock < 0)
                return errno == ENOENT ? 2 : nb_fail_errno(err, errno, "cannot open %s/lock", p->runtime);
        if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK)
                        return nb_fail_errno(err, errno, "cannot lock %s/lock", p->runtime);
                read_word(lock, word);
                return word[0] ? 1 : 2;
        }
        NB_AUTO_FREE char *path = nb_path_join(p->runtime, "lock");
        if (fstat(lock, &st) < 0 || stat(path, &now) < 0 || st.st_ino != now.st_ino || st.st_dev != now.st_dev)
                return 2;
        read_word(lock, word);
        *ret_dir = nb_steal_fd(&dir);
        *ret_lock = nb_steal_fd(&lock);
        return 0;
}

static void clear_stale(const struct box_paths *p, int dir, int lock, const char *word) {
        (void)!ftruncate(lock, 0); /* others who look now see that this is no box */
        clear_remains(p, dir);
        if (word[0])
                record_stale(p, word);
}

int box_probe(const struct box_paths *p, enum box_state *ret, struct nb_error *err) {
        for (int i = 0; i < CLAIM_TRIES; i++) {
                NB_AUTO_CLOSE int dir = -1;
                NB_AUTO_CLOSE int lock = -1;
                char word[16] = "";
                int r = try_lock(p, &dir, &lock, word, err);
                if (r == 1) {
                        *ret = strcmp(word, state_names[BOX_RUNNING]) == 0    ? BOX_RUNNING
                               : strcmp(word, state_names[BOX_STOPPING]) == 0 ? BOX_STOPPING
                                                                              : BOX_STARTING;
                        return 0;
                }
                if (r == 0) {
                        clear_stale(p, dir, lock, word);
                        (void)unlinkat(dir, "lock", 0);
                        (void)rmdir(p->runtime);
                }
                if (r == 0 || r == -ENOENT) {
                        *ret = BOX_NONE;
                        return 0;
                }
                if (r < 0)
                        return r;
                (void)usleep(RETRY_US);
        }
        *ret = BOX_STARTING;
        return 0;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

int box_list(char ***ret, struct nb_error *err) {
        NB_AUTO_FREE char *base = nb_runtime_dir();
        NB_AUTO_STRV char **names = nb_calloc(1, sizeof *names);
        DIR *dir = opendir(base);
        if (!dir && errno != ENOENT)
                return nb_fail_errno(err, errno, "cannot read the folder %s", base);
        for (struct dirent *e; dir && (e = readdir(dir));) {
                __attribute__((cleanup(box_paths_freep))) struct box_paths *p = NULL;
                enum box_state state;
                if (nb_valid_box_name(e->d_name) && box_paths_new(e->d_name, &p, NULL) == 0 && p &&
                    box_probe(p, &state, NULL) == 0 && state != BOX_NONE)
                        nb_strv_add(&names, e->d_name);
        }
        if (dir)
                closedir(dir);
        qsort(names, nb_strv_len(names), sizeof *names, compare_names);
        *ret = nb_steal(&names);
        return 0;
}

/* An address that is short however long the folder's path is. */
static int control_address(const struct box_paths *p, int *ret_dir, struct sockaddr_un *ret) {
        int dir = open(p->runtime, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir < 0)
                return -errno;
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/control.sock", dir);
        *ret_dir = dir;
        return 0;
}

static int try_connect(const struct box_paths *p, int *ret_fd) {
        NB_AUTO_CLOSE int dir = -1;
        struct sockaddr_un address;
        int r = control_address(p, &dir, &address);
        if (r < 0)
                return r;
        NB_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
                return -errno;
        *ret_fd = nb_steal_fd(&fd);
        return 0;
}

int box_connect(const struct box_paths *p, int *ret_fd, struct nb_error *err) {
        int r = 0;
        for (int i = 0; i < CONNECT_TRIES; i++) {
                enum box_state state;
                r = box_probe(p, &state, err);
                if (r < 0)
                        return r;
                if (state == BOX_NONE) {
                        nb_fail(err, ENOENT, "the box '%s' is not running", p->name);
                        return nb_hint(err, "nixbox up starts it");
                }
                r = try_connect(p, ret_fd);
                if (r == 0)
                        return 0;
                if (r != -ENOENT && r != -ECONNREFUSED)
                        break;
                (void)usleep(RETRY_US);
        }
        return nb_fail_errno(err, -r, "cannot reach the box '%s' at %s", p->name, p->control);
}

static int lock_state_folder(const struct box_paths *p, int *ret, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(p->state, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return nb_fail_errno(err, errno, "cannot open the folder %s", p->state);
        uint64_t start = nb_now_ms();
        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK)
                        return nb_fail_errno(err, errno, "cannot lock the folder %s", p->state);
                if (nb_now_ms() - start > STATE_LOCK_MS) {
                        nb_fail(err, EBUSY, "a box '%s' still runs, although its runtime folder is gone", p->name);
                        return nb_hint(err, "end its process: fuser -k %s, then try again", p->state);
                }
                (void)usleep(RETRY_US);
        }
        *ret = nb_steal_fd(&fd);
        return 0;
}

int box_claim(const struct box_paths *p, struct box_lock *ret, struct nb_error *err) {
        NB_AUTO_FREE char *runtime = nb_runtime_dir();
        NB_AUTO_FREE char *state = nb_state_dir();
        int r = nb_private_dir(runtime, err);
        if (r == 0)
                r = nb_private_dir(state, err);
        if (r == 0)
                r = nb_private_dir(p->state, err);
        for (int i = 0; r == 0 && i < CLAIM_TRIES; i++) {
                NB_AUTO_CLOSE int dir = -1;
                NB_AUTO_CLOSE int lock = -1;
                NB_AUTO_CLOSE int state_fd = -1;
                char word[16] = "";
                r = nb_private_dir(p->runtime, err);
                if (r < 0)
                        return r;
                r = try_lock(p, &dir, &lock, word, err);
                if (r == 1)
                        return nb_fail(err, EALREADY, "the box '%s' is %s already", p->name, word);
                if (r == 0) {
                        (void)!ftruncate(lock, 0);
                        r = lock_state_folder(p, &state_fd, err);
                        if (r < 0)
                                return r;
                        clear_stale(p, dir, lock, word);
                        ret->runtime = nb_steal_fd(&lock);
                        ret->state = nb_steal_fd(&state_fd);
                        box_mark(p, ret, BOX_STARTING);
                        return 0;
                }
                if (r < 0 && r != -ENOENT)
                        return r;
                r = 0;
                (void)usleep(RETRY_US);
        }
        return r < 0 ? r : nb_fail(err, EBUSY, "the folder %s is being cleared by somebody else", p->runtime);
}

void box_mark(const struct box_paths *p, const struct box_lock *lock, enum box_state state) {
        char word[16] = { 0 };
        int n = snprintf(word, sizeof word, "%-14s\n", state_names[state]);
        word[strcspn(word, " ")] = '\n';
        /* one write of fixed size: a reader sees the old word or the new one */
        (void)!pwrite(lock->runtime, word, (size_t)n, 0);
        NB_AUTO_FREE char *path = nb_path_join(p->runtime, "pid");
        NB_AUTO_FREE char *pid = nb_asprintf("%d\n", getpid());
        if (box_in_place(p, lock))
                (void)nb_write_file_atomic(path, pid, strlen(pid), 0600);
}

int box_listen(const struct box_paths *p, int *ret_fd, struct nb_error *err) {
        NB_AUTO_CLOSE int dir = -1;
        struct sockaddr_un address;
        int r = control_address(p, &dir, &address);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot open the folder %s", p->runtime);
        NB_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return nb_fail_errno(err, errno, "cannot make the control socket");
        /* the mode must be right from the first moment: fchmod before bind is what a socket file inherits */
        if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
            fchmodat(dir, "control.sock", 0600, 0) < 0 || listen(fd, BOX_BACKLOG) < 0)
                return nb_fail_errno(err, errno, "cannot make the control socket %s", p->control);
        *ret_fd = nb_steal_fd(&fd);
        return 0;
}

bool box_in_place(const struct box_paths *p, const struct box_lock *lock) {
        NB_AUTO_FREE char *path = nb_path_join(p->runtime, "lock");
        struct stat held, there;
        return fstat(lock->runtime, &held) == 0 && lstat(path, &there) == 0 && held.st_ino == there.st_ino &&
               held.st_dev == there.st_dev;
}

void box_release(const struct box_paths *p, struct box_lock *lock) {
        NB_AUTO_CLOSE int dir = -1;
        if (box_in_place(p, lock))
                dir = open(p->runtime, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir >= 0) {
                (void)!ftruncate(lock->runtime, 0);
                clear_remains(p, dir);
                (void)unlinkat(dir, "lock", 0);
                (void)rmdir(p->runtime);
        } else {
                NB_AUTO_FREE char *disk = nb_path_join(p->state, "disk.raw");
                NB_AUTO_FREE char *share = nb_path_join(p->state, "share");
                (void)unlink(disk);
                (void)rmdir(share);
        }
        lock->runtime = nb_close(lock->runtime);
        lock->state = nb_close(lock->state);
}
