/* The share tree: making it, attaching detached trees to it. (Taking them off is in share_detach.c.) The tmpfs under it can be
 * written only through a mount that is attached nowhere; what can be seen of it, here and by virtiofsd, is read-only. */
#include "box/share.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "box/share_internal.h"
#include "jail/jail_internal.h"

#define SHARE_MOUNTS_MAX "4096" /* inodes of the tmpfs: one a mount */

/* Two mounts of one tmpfs: the attached one becomes the view, its detached copy stays writable. */
static int make_tree(struct share *s, struct nb_error *err) {
        static const char *const options[] = { "size", "64k", "nr_inodes", SHARE_MOUNTS_MAX, "mode", "0755", NULL };
        s->view_fd = jail_tmpfs(options, err);
        if (s->view_fd < 0)
                return s->view_fd;
        if (move_mount(s->view_fd, "", AT_FDCWD, s->dir, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return nb_fail_errno(err, errno, "cannot mount the share tree on %s", s->dir);
        s->attached = true;
        int r = jail_restrict_mount(s->view_fd, false, 0, MS_PRIVATE);
        if (r == 0 && (s->write_fd = open_tree(s->view_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)) < 0)
                r = -errno;
        if (r == 0)
                r = jail_restrict_mount(s->view_fd, false, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, MS_SHARED);
        return r < 0 ? nb_fail_errno(err, -r, "cannot set up the share tree on %s", s->dir) : 0;
}

int share_new(const char *dir, struct share **ret, struct nb_error *err) {
        struct share *s = nb_calloc(1, sizeof *s);
        s->dir = nb_strdup(dir);
        s->view_fd = s->write_fd = -1;
        int r = make_tree(s, err);
        if (r < 0) {
                share_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

void share_free(struct share *s) {
        if (!s)
                return;
        nb_close(s->write_fd);
        nb_close(s->view_fd);
        if (s->attached)
                (void)umount2(s->dir, MNT_DETACH);
        free(s->stale);
        free(s->dir);
        free(s);
}

static int make_place(struct share *s, const char *id, bool is_file, struct nb_error *err) {
        if (!is_file)
                return mkdirat(s->write_fd, id, 0755) < 0 ? nb_fail_errno(err, errno, "cannot make room for a mount") : 0;
        NB_AUTO_CLOSE int fd = openat(s->write_fd, id, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        return fd < 0 ? nb_fail_errno(err, errno, "cannot make room for a mount") : 0;
}

int share_open(const struct share *s, const char *id) {
        int fd = openat(s->view_fd, id, O_PATH | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

void share_remove_place(struct share *s, const char *id) {
        if (unlinkat(s->write_fd, id, AT_REMOVEDIR) < 0 && errno == ENOTDIR)
                (void)unlinkat(s->write_fd, id, 0);
}

void share_next_id(const struct share *s, char ret_id[16]) {
        (void)snprintf(ret_id, 16, "m%u", s->next);
}

int share_attach(struct share *s, int tree_fd, bool is_file, bool write, char ret_id[16], struct nb_error *err) {
        NB_AUTO_CLOSE int tree = tree_fd;
        uint64_t set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (write ? 0 : MOUNT_ATTR_RDONLY);
        struct stat st;
        if (fstat(tree, &st) < 0 || S_ISDIR(st.st_mode) == is_file)
                return nb_fail(err, EINVAL, "the mount's source is not what it was said to be");
        /* private first: a file system that the host mounts below the source later must not come in, without these flags.
         * Flags that a mount has already, such as read-only, stay: nothing is cleared. */
        int r = jail_restrict_mount(tree, true, set, MS_PRIVATE);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot restrict the mount");
        char id[16];
        share_next_id(s, id);
        if ((r = make_place(s, id, is_file, err)) < 0)
                return r;
        if (move_mount(tree, "", s->view_fd, id, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
                r = nb_fail_errno(err, errno, "cannot attach the mount");
                share_remove_place(s, id);
                return r;
        }
        s->next++;
        memcpy(ret_id, id, sizeof id);
        return 0;
}
