/* Probes of a read-only mount. Names that they would make are the run's own, and what they would change in a file of the
 * owner's is set to what it is already: where one of them succeeds, no harm is done. Most go through a second mount of the
 * shared folders, which has none of the flags that the guest itself sets: only the host is left to refuse. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "attack/guest/files.h"
#include "base/mem.h"

#define SYS_MOUNT_SETATTR 442
#define SETATTR_RDONLY 1u

typedef long file_op(const char *path);

/* The operation on the target, and on something of our own, where it must succeed. */
static void both(struct outcome *o, file_op *op, const char *target, const char *own, const char *what) {
        controlled(o, own && op(own) >= 0);
        tried_call(o, op(target), what);
}

static void on_folder(struct outcome *o, file_op *op, const char *word, bool raw, const char *what) {
        NB_AUTO_FREE char *target = decode(word), *own = own_folder(what);
        NB_AUTO_FREE char *there = raw ? raw_of(target) : nb_strdup(target);
        both(o, op, there, own, what);
}

static void on_file(struct outcome *o, file_op *op, const char *word, const char *what) {
        NB_AUTO_FREE char *target = decode(word), *own = own_folder(what);
        NB_AUTO_FREE char *there = raw_of(target), *file = own ? nb_asprintf("%s/file", own) : NULL;
        both(o, op, there, file, what);
}

/* ---- in the folder */

static long make_in(const char *folder, const char *suffix) {
        NB_AUTO_FREE char *name = own_name(folder, suffix);
        return open_with(name, O_WRONLY | O_CREAT | O_EXCL);
}

static long create(const char *folder) {
        return make_in(folder, "create");
}

static long remount(const char *folder) {
        if (mount(NULL, folder, NULL, MS_REMOUNT | MS_BIND, NULL) < 0)
                return -1;
        (void)mount(NULL, folder, NULL, MS_REMOUNT, NULL); /* the file system's own flag as well */
        return make_in(folder, "remount-rw");
}

static long bind_elsewhere(const char *folder) {
        NB_AUTO_FREE char *elsewhere = nb_asprintf("%s/bound", guest.folder);
        (void)mkdir(elsewhere, 0700);
        if (mount(folder, elsewhere, NULL, MS_BIND, NULL) < 0 || mount(NULL, elsewhere, NULL, MS_REMOUNT | MS_BIND, NULL) < 0)
                return -1;
        long r = make_in(elsewhere, "bind-rw");
        int code = errno;
        (void)umount2(elsewhere, MNT_DETACH);
        errno = code;
        return r;
}

static long clear_flag(const char *folder) {
        uint64_t attr[4] = { 0, SETATTR_RDONLY, 0, 0 };
        if (syscall(SYS_MOUNT_SETATTR, AT_FDCWD, folder, 0, attr, sizeof attr) < 0)
                return -1;
        return make_in(folder, "mount-setattr");
}

static long second(const char *folder) {
        return make_in(folder, "second-instance");
}

/* For what changes mounts: in a mount namespace of its own, with a read-only mount of our own for the control. */
static void on_mount(struct outcome *o, file_op *op, const char *word, const char *what) {
        NB_AUTO_FREE char *target = decode(word), *own = own_folder(what);
        if (unshare(CLONE_NEWNS) < 0 || !own || mount("own", own, "tmpfs", 0, NULL) < 0 ||
            mount(NULL, own, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0) {
                tried(o, TRIED_NOTHING, "cannot make a mount: %s", strerror(errno));
                controlled(o, false);
                return;
        }
        both(o, op, target, own, what);
}

void guest_create(char *const *words, struct outcome *o) {
        on_folder(o, create, words[0], false, "create");
}

void guest_remount(char *const *words, struct outcome *o) {
        on_mount(o, remount, words[0], "remount and create");
}

void guest_bind(char *const *words, struct outcome *o) {
        on_mount(o, bind_elsewhere, words[0], "bind and create");
}

void guest_setattr(char *const *words, struct outcome *o) {
        on_mount(o, clear_flag, words[0], "mount_setattr and create");
}

void guest_second(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *target = decode(words[0]), *own = own_folder("second"),
                          *place = nb_asprintf("%s/again", guest.folder);
        controlled(o, own && second(own) == 0);
        (void)mkdir(place, 0700);
        if (unshare(CLONE_NEWNS) < 0 || !is_mounted_again(target, place))
                tried(o, TRIED_REFUSED, "it could not be mounted again: %s", strerror(errno));
        else
                tried_call(o, second(place), "mount again and create");
}

static long make_folder(const char *folder) {
        NB_AUTO_FREE char *name = own_name(folder, "mkdir");
        return mkdir(name, 0755);
}

static long make_link(const char *folder) {
        NB_AUTO_FREE char *name = own_name(folder, "symlink");
        return symlink("/nowhere", name);
}

static long make_device(const char *folder) {
        NB_AUTO_FREE char *name = own_name(folder, "device");
        return mknod(name, S_IFCHR | 0600, 0x103);
}

void guest_raw_mkdir(char *const *words, struct outcome *o) {
        on_folder(o, make_folder, words[0], true, "mkdir");
}

void guest_raw_symlink(char *const *words, struct outcome *o) {
        on_folder(o, make_link, words[0], true, "symlink");
}

void guest_raw_mknod(char *const *words, struct outcome *o) {
        on_folder(o, make_device, words[0], true, "mknod");
}

/* ---- between the two mounts */

static void across(struct outcome *o, const char *from, const char *to_folder, const char *suffix,
                   int (*op)(const char *, const char *), const char *what) {
        NB_AUTO_FREE char *own = own_folder(suffix);
        NB_AUTO_FREE char *to = own_name(to_folder, suffix);
        NB_AUTO_FREE char *own_from = own ? nb_asprintf("%s/file", own) : NULL, *own_to = own ? own_name(own, suffix) : NULL;
        controlled(o, own && op(own_from, own_to) == 0);
        tried_call(o, op(from, to), what);
}

/* A file of ours in the writable mount. New string. */
static char *file_in_rw(const char *word, const char *name) {
        NB_AUTO_FREE char *folder = decode(word);
        NB_AUTO_FREE char *path = nb_asprintf("%s/%s", folder, name);
        (void)open_with(path, O_WRONLY | O_CREAT);
        return raw_of(path);
}

void guest_raw_rename(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *target = decode(words[0]), *from = file_in_rw(words[1], "rename.from");
        NB_AUTO_FREE char *there = raw_of(target);
        across(o, from, there, "rename", rename, "rename");
}

void guest_raw_link(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *target = decode(words[0]), *from = file_in_rw(words[1], "hard-link.from");
        NB_AUTO_FREE char *there = raw_of(target);
        across(o, from, there, "hard-link", link, "link");
}

void guest_raw_link_out(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *file = decode(words[0]), *folder = decode(words[1]);
        NB_AUTO_FREE char *from = raw_of(file), *to = raw_of(folder);
        across(o, from, to, "link-out", link, "link");
}

/* ---- on the file */

static long open_write(const char *path) {
        return open_with(path, O_RDWR);
}

static long open_direct(const char *path) {
        return open_with(path, O_RDWR | O_DIRECT);
}

static long open_append(const char *path) {
        return open_with(path, O_WRONLY | O_APPEND);
}

static long truncate_same(const char *path) {
        struct stat st;
        return stat(path, &st) < 0 ? -1 : truncate(path, st.st_size);
}

/* A file that is open for reading, if the operation needs one for writing and gets it: well. */
static long with_file(const char *path, long (*op)(int fd)) {
        int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        long r = fd < 0 ? -1 : op(fd);
        int code = errno;
        nb_close(fd);
        errno = code;
        return r;
}

static long allocate(int fd) {
        return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1);
}

static long map(int fd) {
        void *at = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED)
                return -1;
        (void)munmap(at, 1);
        return 0;
}

static long reopen(int fd) {
        NB_AUTO_FREE char *path = nb_asprintf("/proc/self/fd/%d", fd);
        int again = open(path, O_RDWR | O_CLOEXEC);
        nb_close(again);
        return again < 0 ? -1 : 0;
}

static long set_flags(int fd) {
        int flags = 0;
        (void)ioctl(fd, FS_IOC_GETFLAGS, &flags);
        return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static long do_allocate(const char *path) {
        return with_file(path, allocate);
}

static long do_map(const char *path) {
        return with_file(path, map);
}

static long do_reopen(const char *path) {
        return with_file(path, reopen);
}

static long do_set_flags(const char *path) {
        return with_file(path, set_flags);
}

static long same_mode(const char *path) {
        struct stat st;
        return stat(path, &st) < 0 ? -1 : chmod(path, st.st_mode & 0777);
}

static long same_owner(const char *path) {
        struct stat st;
        return stat(path, &st) < 0 ? -1 : lchown(path, st.st_uid, st.st_gid);
}

static long same_times(const char *path) {
        struct stat st;
        if (stat(path, &st) < 0)
                return -1;
        const struct timespec times[2] = { st.st_atim, st.st_mtim };
        return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

static long give_attribute(const char *path) {
        long r = setxattr(path, "trusted.nixbox-attack", "x", 1, 0);
        if (r == 0)
                (void)removexattr(path, "trusted.nixbox-attack");
        return r;
}

void guest_raw_open(char *const *words, struct outcome *o) {
        on_file(o, open_write, words[0], "open");
}

void guest_raw_direct(char *const *words, struct outcome *o) {
        on_file(o, open_direct, words[0], "open with O_DIRECT");
}

void guest_raw_append(char *const *words, struct outcome *o) {
        on_file(o, open_append, words[0], "open to append");
}

void guest_raw_truncate(char *const *words, struct outcome *o) {
        on_file(o, truncate_same, words[0], "truncate");
}

void guest_raw_fallocate(char *const *words, struct outcome *o) {
        on_file(o, do_allocate, words[0], "fallocate");
}

void guest_raw_mmap(char *const *words, struct outcome *o) {
        on_file(o, do_map, words[0], "mmap");
}

void guest_raw_reopen(char *const *words, struct outcome *o) {
        on_file(o, do_reopen, words[0], "open again");
}

void guest_raw_chmod(char *const *words, struct outcome *o) {
        on_file(o, same_mode, words[0], "chmod");
}

void guest_raw_chown(char *const *words, struct outcome *o) {
        on_file(o, same_owner, words[0], "chown");
}

void guest_raw_utimes(char *const *words, struct outcome *o) {
        on_file(o, same_times, words[0], "utimensat");
}

void guest_raw_setflags(char *const *words, struct outcome *o) {
        on_file(o, do_set_flags, words[0], "FS_IOC_SETFLAGS");
}

void guest_raw_xattr(char *const *words, struct outcome *o) {
        on_file(o, give_attribute, words[0], "setxattr");
}

/* Beside the mounts themselves, where nothing of an owner's is. */
void guest_above(char *const *words, struct outcome *o) {
        (void)words;
        NB_AUTO_FREE char *own = own_folder("above");
        controlled(o, own && make_in(own, "above") == 0);
        if (!guest.share) {
                tried(o, TRIED_REFUSED, "the folder that they are in cannot be reached");
                return;
        }
        NB_AUTO_FREE char *name = own_name(guest.share, "above");
        tried_call(o, make_in(guest.share, "above"), "create");
        (void)unlink(name);
}
