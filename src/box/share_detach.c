/* Taking a mount off the share tree, or leaving it exactly as it was. The kernel answers "busy" by itself for a plain mount.
 * A mount with others below it (file systems that the host has mounted under the source) cannot be taken off in one plain
 * step, so it is taken off whole and put back if virtiofsd turns out to hold anything in it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "box/share_internal.h"
#include "jail/jail_internal.h"

#define MOUNTINFO_MAX (4u << 20)
#define FDINFO_MAX 8192u
#define FREEZE_MS 2000u /* a daemon that does not stop within this is taken to be using the mount */

size_t share_parse_mounts(const char *mountinfo, const char *place, int **ret_ids) {
        size_t n = 0, len = strlen(place);
        for (const char *line = mountinfo; *line; line += strcspn(line, "\n"), line += *line == '\n') {
                int id, at = 0;
                if (*line == '\n' || sscanf(line, "%d %*d %*s %*s %n", &id, &at) != 1 || at == 0)
                        continue;
                if (strncmp(line + at, place, len) != 0 || (line[at + len] != ' ' && line[at + len] != '/'))
                        continue;
                *ret_ids = nb_realloc(*ret_ids, n + 1, sizeof **ret_ids);
                (*ret_ids)[n++] = id;
        }
        return n;
}

static int list_mounts(int proc_pid, const char *place, int **ret_ids, size_t *ret_n) {
        NB_AUTO_FREE char *text = NULL;
        int r = nb_read_file_at(proc_pid, "mountinfo", MOUNTINFO_MAX, &text, NULL);
        if (r == 0)
                *ret_n = share_parse_mounts(text, place, ret_ids);
        return r;
}

static void add_id(int **ids, size_t *n, int id) {
        for (size_t i = 0; i < *n; i++)
                if ((*ids)[i] == id)
                        return;
        *ids = nb_realloc(*ids, *n + 1, sizeof **ids);
        (*ids)[(*n)++] = id;
}

/* The mount that this descriptor of the daemon lies in; -1 if it is gone, -errno - 1 if that cannot be read. */
static int mount_of(int fdinfo, const char *name) {
        NB_AUTO_FREE char *text = NULL;
        int r = nb_read_file_at(fdinfo, name, FDINFO_MAX, &text, NULL);
        const char *at = r == 0 ? strstr(text, "mnt_id:") : NULL;
        int id;
        if (r == -ENOENT)
                return -1;
        return at && sscanf(at, "mnt_id: %d", &id) == 1 ? id : -EIO - 1;
}

/* Which of the mounts the daemon has descriptors in. */
static int find_held(int proc_pid, const int *ids, size_t n, int **ret_held, size_t *ret_n) {
        int fd = openat(proc_pid, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                int r = -errno;
                nb_close(fd);
                return r;
        }
        int r = 0;
        for (struct dirent *e; r == 0 && (e = readdir(dir));) {
                int id = e->d_name[0] != '.' ? mount_of(fd, e->d_name) : -1;
                for (size_t i = 0; i < n; i++)
                        if (ids[i] == id)
                                add_id(ret_held, ret_n, id);
                if (id < -1)
                        r = id + 1;
        }
        closedir(dir);
        return r;
}

/* With every thread stopped no lookup is under way whose descriptor is not yet to be seen. */
static int freeze(const struct share *s) {
        if (s->daemon <= 0)
                return -ESRCH;
        if (kill(s->daemon, SIGSTOP) < 0)
                return -errno;
        for (uint64_t until = nb_now_ms() + FREEZE_MS; nb_now_ms() < until;) {
                siginfo_t info = { 0 };
                if (waitid(P_PID, (id_t)s->daemon, &info, WSTOPPED | WNOHANG) < 0)
                        return -errno;
                if (info.si_pid == s->daemon)
                        return 0;
                (void)usleep(1000);
        }
        return -ETIMEDOUT;
}

/* Mounts of earlier attempts at this id that were put back: the daemon's old handles are still in the copies that were
 * taken off then. Replaced by what is held now. */
static void remember(struct share *s, unsigned number, const int *held, size_t n_held) {
        size_t kept = 0;
        for (size_t i = 0; i < s->n_stale; i++)
                if (s->stale[i].number != number)
                        s->stale[kept++] = s->stale[i];
        s->stale = nb_realloc(s->stale, kept + n_held + 1, sizeof *s->stale);
        for (size_t i = 0; i < n_held; i++)
                s->stale[kept++] = (struct share_stale){ .number = number, .mount_id = held[i] };
        s->n_stale = kept;
}

/* A second copy of the tree, to put back. */
static int copy_tree(const struct share *s, const char *id) {
        int spare = open_tree(s->view_fd, id, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (spare >= 0 && jail_restrict_mount(spare, true, 0, MS_PRIVATE) < 0)
                return nb_close(spare);
        return spare;
}

static int take_off(struct share *s, unsigned number, const char *path, int proc_pid) {
        NB_AUTO_FREE char *id = nb_asprintf("m%u", number);
        NB_AUTO_FREE char *place = nb_asprintf("/%s", id);
        NB_AUTO_FREE int *ids = NULL;
        NB_AUTO_FREE int *held = NULL;
        size_t n = 0, n_held = 0;
        NB_AUTO_CLOSE int spare = copy_tree(s, id);
        int r = spare < 0 ? -errno : list_mounts(proc_pid, place, &ids, &n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < s->n_stale; i++)
                if (s->stale[i].number == number)
                        add_id(&ids, &n, s->stale[i].mount_id);
        if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
                return -errno;
        r = find_held(proc_pid, ids, n, &held, &n_held);
        if (r < 0) /* not known: all of them */
                remember(s, number, ids, n);
        else
                remember(s, number, held, n_held);
        if (r == 0 && n_held == 0)
                return 0;
        return move_mount(spare, "", s->view_fd, id, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : -EBUSY;
}

static bool has_mounts_below(const char *path) {
        NB_AUTO_FREE int *ids = NULL;
        NB_AUTO_FREE char *text = NULL;
        return nb_read_file("/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL) == 0 &&
               share_parse_mounts(text, path, &ids) > 1;
}

static int detach_tree(struct share *s, unsigned number, const char *path) {
        NB_AUTO_FREE char *proc = nb_asprintf("/proc/%d", (int)s->daemon);
        NB_AUTO_CLOSE int proc_pid = open(proc, O_PATH | O_DIRECTORY | O_CLOEXEC);
        int r = proc_pid < 0 ? -EBUSY : freeze(s);
        if (r == 0)
                r = take_off(s, number, path, proc_pid);
        if (s->daemon > 0)
                (void)kill(s->daemon, SIGCONT);
        return r;
}

int share_detach(struct share *s, const char *id, struct nb_error *err) {
        uint64_t number;
        if (id[0] != 'm' || nb_parse_uint(id + 1, UINT32_MAX, &number) < 0 || number >= s->next)
                return nb_fail(err, ENOENT, "there is no mount %s", id);
        NB_AUTO_FREE char *path = nb_asprintf("%s/%s", s->dir, id);
        int r = umount2(path, UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
        if (r == -EBUSY && has_mounts_below(path))
                r = detach_tree(s, (unsigned)number, path);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot take the mount off");
        share_remove_place(s, id);
        return 0;
}

void share_serves(struct share *s, pid_t virtiofsd) {
        s->daemon = virtiofsd;
}
