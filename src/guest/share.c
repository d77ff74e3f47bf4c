/* Mounts of the share (see share.h). */
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "guest/memory.h"
#include "guest/procfs.h"
#include "guest/system.h"
#include "wire/wire.h"

#define SHARE_TAG "nixbox"
#define SHARE "share" /* in the initramfs, which is the current folder while its paths are used */

/* Paths below the initramfs can only be reached from a folder in it. The caller goes back to "/". */
static int enter_share(int old_root, struct nb_error *err) {
        if (old_root < 0 || fchdir(old_root) < 0)
                return nb_fail(err, EIO, "the initramfs cannot be reached");
        if (mkdir(SHARE, 0700) < 0) {
                if (errno == EEXIST)
                        return 0; /* mounted before */
                return nb_fail_errno(err, errno, "making the folder of the share");
        }
        if (mount(SHARE_TAG, SHARE, "virtiofs", MS_NOSUID | MS_NODEV, NULL) == 0)
                return 0;
        int code = errno;
        (void)rmdir(SHARE);
        return nb_fail_errno(err, code, "mounting the host's share");
}

/* What a mount goes on must be of its kind; it is made where that is possible. */
static int make_mountpoint(const struct setup *setup, const struct mount_request *m, struct nb_error *err) {
        struct stat st;
        bool file = m->flags & WIRE_MOUNT_FILE;
        if (stat(m->target, &st) == 0) {
                if (S_ISDIR(st.st_mode) == !file)
                        return 0;
                return nb_fail(err, file ? EISDIR : ENOTDIR, "the mount target %s is %s in the box", m->target,
                               file ? "a folder, and the source a file," : "not a folder");
        }
        NB_AUTO_FREE char *parent = nb_strndup(m->target, (size_t)(strrchr(m->target, '/') - m->target));
        int r = parent[0] ? system_mkdirs(parent, setup) : 0;
        if (r == 0 && !file)
                r = system_mkdirs(m->target, setup);
        if (r == 0 && file) {
                NB_AUTO_CLOSE int fd = open(m->target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
                r = fd < 0 ? -errno : 0;
        }
        if (r == 0)
                return 0;
        nb_fail_errno(err, -r, "making the mount target %s", m->target);
        if (r == -EROFS || r == -EACCES || r == -EPERM)
                return nb_hint(
                    err,
                    "it lies in another mount that is read-only: make %s in that mount's source, or choose a target outside it",
                    file ? "an empty file there" : "the folder");
        return r;
}

static int bind(int old_root, const struct mount_request *m, struct nb_error *err) {
        int r = enter_share(old_root, err);
        if (r < 0)
                return r;
        NB_AUTO_FREE char *entry = nb_asprintf(SHARE "/%s", m->id);
        if (mount(entry, m->target, NULL, MS_BIND, NULL) < 0)
                return nb_fail_errno(err, errno, "mounting on %s", m->target);
        /* an entry that is a mount of the host's became one here when it was looked at: the bound one is enough */
        (void)umount2(entry, MNT_DETACH | UMOUNT_NOFOLLOW);
        unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV;
        if (!(m->flags & WIRE_MOUNT_WRITE))
                flags |= MS_RDONLY; /* the host enforces it; here it gives programs the right answer at once */
        (void)mount(NULL, m->target, NULL, flags, NULL);
        return 0;
}

int share_mount(int old_root, const struct setup *setup, const struct mount_request *m, struct nb_error *err) {
        int r = make_mountpoint(setup, m, err);
        if (r < 0)
                return r;
        r = bind(old_root, m, err);
        (void)!chdir("/");
        return r;
}

int share_unmount(int old_root, const struct mount_request *m, struct nb_error *err) {
        NB_AUTO_FREE char *users = procfs_foreign_mounts(m->target);
        if (users)
                return nb_fail(err, EBUSY, "in use by the mount namespace of %s", users);
        if (umount2(m->target, UMOUNT_NOFOLLOW) < 0) {
                int code = errno;
                if (code == EBUSY) {
                        users = procfs_users(m->target);
                        return nb_fail(err, EBUSY, "in use by %s",
                                       users ? users : "a process that has ended by now: try again");
                }
                /* root in the box has unmounted or moved it already: whether it is free is for the host to find out */
                if (code != EINVAL && code != ENOENT)
                        return nb_fail_errno(err, code, "unmounting %s", m->target);
        }
        /* the host can let go of its folder once nothing here remembers its files */
        sync();
        if (fchdir(old_root) == 0) {
                NB_AUTO_FREE char *entry = nb_asprintf(SHARE "/%s", m->id);
                (void)umount2(entry, MNT_DETACH | UMOUNT_NOFOLLOW);
                (void)!chdir("/");
        }
        (void)memory_drop_dentries();
        return 0;
}
