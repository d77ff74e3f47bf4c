/* Records of owners, kept on the inodes themselves. Files and folders have an attribute in the "user" namespace. Symbolic links
 * and special files cannot, but they can have a file capability, which the kernel stores unseen and which has an effect only
 * on what is executed; its four words hold the two ids and a mark that no real capability has. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/paths.h"
#include "image/fakeown_internal.h"

#define TEXT_MAX 32 /* "4294967295:4294967295" */

#define SPECIAL_MARK 0x6f6e786eU /* no capability above 40 exists, so no real set of them looks like this */

/* An inode by a path: a name of its own, or a link of /proc to it. */
struct place {
        const char *path;
        bool follow;
        mode_t mode;
};

static bool has_user_attributes(const struct place *p) {
        return S_ISREG(p->mode) || S_ISDIR(p->mode);
}

static ssize_t get_attribute(const struct place *p, const char *name, void *value, size_t size) {
        ssize_t n = p->follow ? getxattr(p->path, name, value, size) : lgetxattr(p->path, name, value, size);
        return n < 0 ? -errno : n;
}

static int set_attribute(const struct place *p, const char *name, const void *value, size_t size) {
        int r = p->follow ? setxattr(p->path, name, value, size, 0) : lsetxattr(p->path, name, value, size, 0);
        return r < 0 ? -errno : 0;
}

static int get_text(const struct place *p, uid_t *ret_uid, gid_t *ret_gid) {
        char text[TEXT_MAX], end;
        unsigned uid, gid;
        ssize_t n = get_attribute(p, FAKEOWN_XATTR, text, sizeof text - 1);
        if (n < 0)
                return n == -ERANGE ? -EBADMSG : (int)n;
        text[n] = 0;
        if (sscanf(text, "%10u:%10u%c", &uid, &gid, &end) != 2)
                return -EBADMSG;
        *ret_uid = uid;
        *ret_gid = gid;
        return 0;
}

/* The kernel hands out the form without a root id (20 bytes) inside the namespace, the longer one outside. */
static int get_special(const struct place *p, uid_t *ret_uid, gid_t *ret_gid) {
        struct vfs_ns_cap_data d;
        ssize_t n = get_attribute(p, FAKEOWN_XATTR_SPECIAL, &d, sizeof d);
        if (n < 0)
                return (int)n;
        if (n < (ssize_t)XATTR_CAPS_SZ_2 || le32toh(d.data[1].permitted) != SPECIAL_MARK)
                return -ENODATA;
        *ret_uid = le32toh(d.data[0].permitted);
        *ret_gid = le32toh(d.data[0].inheritable);
        return 0;
}

static int get(const struct place *p, uid_t *ret_uid, gid_t *ret_gid, bool *ret_found) {
        *ret_uid = 0;
        *ret_gid = 0;
        int r = has_user_attributes(p) ? get_text(p, ret_uid, ret_gid) : get_special(p, ret_uid, ret_gid);
        *ret_found = r == 0;
        return r == -ENODATA || r == -EOPNOTSUPP ? 0 : r; /* where none can be, none is */
}

static int set_text(const struct place *p, uid_t uid, gid_t gid) {
        char text[TEXT_MAX];
        int n = snprintf(text, sizeof text, "%u:%u", uid, gid);
        return set_attribute(p, FAKEOWN_XATTR, text, (size_t)n);
}

static int set_special(const struct place *p, uid_t uid, gid_t gid) {
        struct vfs_cap_data d = { .magic_etc = htole32(VFS_CAP_REVISION_2),
                                  .data = { { .permitted = htole32(uid), .inheritable = htole32(gid) },
                                            { .permitted = htole32(SPECIAL_MARK) } } };
        return set_attribute(p, FAKEOWN_XATTR_SPECIAL, &d, XATTR_CAPS_SZ_2);
}

static int set(const struct place *p, uid_t uid, gid_t gid) {
        if (uid != 0 || gid != 0)
                return has_user_attributes(p) ? set_text(p, uid, gid) : set_special(p, uid, gid);
        const char *name = has_user_attributes(p) ? FAKEOWN_XATTR : FAKEOWN_XATTR_SPECIAL;
        int r = (p->follow ? removexattr(p->path, name) : lremovexattr(p->path, name)) < 0 ? -errno : 0;
        return r == -ENODATA || r == -EOPNOTSUPP ? 0 : r;
}

/* Attributes of an O_PATH descriptor are reached only through its name. */
int fakeown_record_get(int fd, mode_t mode, uid_t *ret_uid, gid_t *ret_gid, bool *ret_found) {
        char name[FAKEOWN_FD_NAME];
        (void)snprintf(name, sizeof name, "%d", fd);
        return get(&(struct place){ name, true, mode }, ret_uid, ret_gid, ret_found);
}

int fakeown_record_set(int fd, mode_t mode, uid_t uid, gid_t gid) {
        char name[FAKEOWN_FD_NAME];
        (void)snprintf(name, sizeof name, "%d", fd);
        return set(&(struct place){ name, true, mode }, uid, gid);
}

/* There are no attributes by name in an open folder; from the working folder it takes no /proc. New string. */
static char *path_of(int dirfd, const char *name) {
        if (!*name)
                name = ".";
        return dirfd == AT_FDCWD ? nb_strdup(name) : nb_asprintf("/proc/self/fd/%d/%s", dirfd, name);
}

int fakeown_owner(int dirfd, const char *name, uid_t *ret_uid, gid_t *ret_gid) {
        NB_AUTO_FREE char *path = path_of(dirfd, name);
        struct stat st;
        bool found;
        if (lstat(path, &st) < 0)
                return -errno;
        return get(&(struct place){ path, false, st.st_mode }, ret_uid, ret_gid, &found);
}

int fakeown_record(int dirfd, const char *name, uid_t uid, gid_t gid) {
        NB_AUTO_FREE char *path = path_of(dirfd, name);
        struct stat st;
        return lstat(path, &st) < 0 ? -errno : set(&(struct place){ path, false, st.st_mode }, uid, gid);
}

int fakeown_probe(const char *dir, struct nb_error *err) {
        NB_AUTO_FREE char *file = nb_path_join(dir, "owner-probe"), *link = nb_path_join(dir, "owner-probe-link");
        int made = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        int r = made < 0 || symlink("x", link) < 0 ? -errno : 0;
        nb_close(made);
        if (r == 0)
                r = fakeown_record(AT_FDCWD, file, 1, 1);
        if (r == 0)
                r = fakeown_record(AT_FDCWD, link, 1, 1);
        (void)unlink(link);
        if (made >= 0)
                (void)unlink(file);
        if (r == 0)
                return 0;
        nb_fail_errno(err, -r, "cannot keep owners of files in %s", dir);
        if (r != -EOPNOTSUPP && r != -EPERM)
                return r;
        return nb_hint(err,
                       "its file system has no extended attributes for users: put XDG_DATA_HOME on ext4, XFS or btrfs, or as "
                       "root give yourself subordinate ids: usermod --add-subuids 100000-165535 "
                       "--add-subgids 100000-165535 $USER");
}
