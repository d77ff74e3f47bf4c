/* Probes of a writable mount: what must not come to be there, and what must not be reached from there. The host looks at what
 * was made; names begin with what the probe is called. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "attack/guest/files.h"
#include "base/io.h"
#include "base/mem.h"

#define SYS_OPENAT2 437
#define WORD "nixbox attack"
#define FORGED 0x0badc0de12345678ull

/* Makes `name` in the current folder. */
typedef long make_op(const char *name);

/* In a folder of our own, where root can make anything, and then in the mount. */
static void make_both(struct outcome *o, make_op *op, const char *word, const char *name) {
        NB_AUTO_FREE char *folder = decode(word);
        (void)umask(0);
        controlled(o, chdir(guest.folder) == 0 && op(name) >= 0);
        if (chdir(folder) < 0)
                tried(o, TRIED_NOTHING, "the folder cannot be entered: %s", strerror(errno));
        else
                tried_call(o, op(name), name);
}

static long make_file(const char *name, mode_t mode) {
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        nb_close(fd);
        return fd < 0 ? -1 : 0;
}

/* At once, and if that is refused in two steps. */
static long with_mode(const char *name, mode_t mode) {
        struct stat st;
        (void)make_file(name, mode);
        if (lstat(name, &st) == 0 && st.st_mode & 06000)
                return 0;
        (void)make_file(name, mode & 0777);
        return chmod(name, mode);
}

static long op_setuid(const char *name) {
        return with_mode(name, 04755);
}

static long op_setgid(const char *name) {
        return with_mode(name, 02755);
}

static long op_setuid_mknod(const char *name) {
        return mknod(name, S_IFREG | 06755, 0);
}

static long op_setuid_openat2(const char *name) {
        const uint64_t how[3] = { O_WRONLY | O_CREAT, 06755, 0 };
        int fd = (int)syscall(SYS_OPENAT2, AT_FDCWD, name, how, sizeof how);
        nb_close(fd);
        return fd < 0 ? -1 : 0;
}

static long op_setuid_fchmod(const char *name) {
        NB_AUTO_CLOSE int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0755);
        return fd < 0 ? -1 : fchmod(fd, 06755);
}

static long op_char(const char *name) {
        return mknod(name, S_IFCHR | 0666, 0x103 /* /dev/null */);
}

static long op_block(const char *name) {
        return mknod(name, S_IFBLK | 0666, 0x700 /* /dev/loop0 */);
}

static long op_whiteout(const char *name) {
        return mknod(name, S_IFCHR, 0);
}

static long op_attribute(const char *name, const char *attribute, const void *value, size_t len) {
        (void)make_file(name, 0755);
        return setxattr(name, attribute, value, len, 0);
}

static long op_capability(const char *name) {
        static const uint8_t value[20] = { 1, 0, 0, 2, 0, 4 };
        return op_attribute(name, "security.capability", value, sizeof value);
}

static long op_trusted(const char *name) {
        return op_attribute(name, "trusted.nixbox", WORD, sizeof WORD);
}

static long op_owner(const char *name) {
        (void)make_file(name, 0644);
        return chown(name, 12345, 12345);
}

static long op_xattr(const char *name) {
        return op_attribute(name, "user.nixbox", WORD, sizeof WORD);
}

void guest_setuid(char *const *words, struct outcome *o) {
        make_both(o, op_setuid, words[0], "setuid.file");
}

void guest_setgid(char *const *words, struct outcome *o) {
        make_both(o, op_setgid, words[0], "setgid.file");
}

void guest_setuid_mknod(char *const *words, struct outcome *o) {
        make_both(o, op_setuid_mknod, words[0], "setuid-mknod.file");
}

void guest_setuid_openat2(char *const *words, struct outcome *o) {
        make_both(o, op_setuid_openat2, words[0], "setuid-openat2.file");
}

void guest_setuid_fchmod(char *const *words, struct outcome *o) {
        make_both(o, op_setuid_fchmod, words[0], "setuid-fchmod.file");
}

void guest_char_device(char *const *words, struct outcome *o) {
        make_both(o, op_char, words[0], "char-device.node");
}

void guest_block_device(char *const *words, struct outcome *o) {
        make_both(o, op_block, words[0], "block-device.node");
}

void guest_whiteout(char *const *words, struct outcome *o) {
        make_both(o, op_whiteout, words[0], "whiteout.node");
}

void guest_capability(char *const *words, struct outcome *o) {
        make_both(o, op_capability, words[0], "capability.file");
}

void guest_xattr(char *const *words, struct outcome *o) {
        make_both(o, op_xattr, words[0], "xattr.file");
}

void guest_trusted_xattr(char *const *words, struct outcome *o) {
        make_both(o, op_trusted, words[0], "trusted-xattr.file");
}

void guest_owner(char *const *words, struct outcome *o) {
        make_both(o, op_owner, words[0], "owner.file");
}

/* ---- what stands there already, and is a process of the host's */

static long write_fifo(const char *path) {
        NB_AUTO_CLOSE int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        return fd < 0 ? -1 : write(fd, WORD, sizeof WORD);
}

void guest_meets_fifo(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *folder = decode(words[0]), *own = nb_asprintf("%s/fifo", guest.folder);
        NB_AUTO_FREE char *path = nb_asprintf("%s/meets-fifo.host", folder);
        controlled(o, mkfifo(own, 0600) == 0 && write_fifo(own) > 0);
        tried_call(o, write_fifo(path), "write into it");
}

static long speak(const char *folder, const char *name) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        (void)snprintf(a.sun_path, sizeof a.sun_path, "%s", name);
        NB_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return chdir(folder) < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0 ? -1 : write(fd, WORD, sizeof WORD);
}

void guest_meets_socket(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *folder = decode(words[0]);
        struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "socket" };
        NB_AUTO_CLOSE int own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        controlled(o, chdir(guest.folder) == 0 && bind(own, (struct sockaddr *)&a, sizeof a) == 0 && listen(own, 1) == 0 &&
                          speak(guest.folder, "socket") > 0);
        tried_call(o, speak(folder, "meets-socket.host"), "connect");
}

/* ---- a file of the host's, by its path there */

/* A file of ours that has what the canary has: the way must lead to it where it leads inside. New string. */
static char *own_canary(const char *name) {
        char *path = nb_asprintf("%s/%s", guest.folder, name);
        NB_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0 && guest.n_needles > 0)
                (void)nb_write_all(fd, guest.needles[0].text, strlen(guest.needles[0].text));
        return path;
}

static bool is_canary(const char *path) {
        return scan_file(path, 0, 4096, NULL, NULL) != NULL;
}

static void told_canary(struct outcome *o, const char *path) {
        struct stat st;
        if (is_canary(path))
                tried(o, TRIED_DONE, "it was read");
        else
                tried(o, TRIED_REFUSED, stat(path, &st) == 0 ? "another file is there" : "%s", strerror(errno));
}

void guest_dotdot(char *const *words, struct outcome *o) {
        static const char up[] = "../../../../../../../../../../../../../../../..";
        NB_AUTO_FREE char *folder = decode(words[0]), *canary = decode(words[1]), *own = own_canary("dotdot");
        NB_AUTO_FREE char *raw = raw_of(folder);
        NB_AUTO_FREE char *to_own = nb_asprintf("%s/%s%s", folder, up, own), *path = nb_asprintf("%s/%s%s", raw, up, canary);
        controlled(o, is_canary(to_own));
        told_canary(o, path);
}

/* Through a link in the mount, by both ways in. */
static void through_link(struct outcome *o, const char *folder, const char *name, const char *before, const char *canary) {
        NB_AUTO_FREE char *own = own_canary(name), *to_own = nb_asprintf("%s%s", before, own),
                          *to = nb_asprintf("%s%s", before, canary);
        NB_AUTO_FREE char *own_link = nb_asprintf("%s/%s.own", folder, name), *link = nb_asprintf("%s/%s.link", folder, name);
        NB_AUTO_FREE char *raw = raw_of(link);
        controlled(o, symlink(to_own, own_link) == 0 && is_canary(own_link));
        if (symlink(to, link) < 0) {
                tried(o, TRIED_NOTHING, "symlink: %s", strerror(errno));
                return;
        }
        told_canary(o, link);
        if (o->attempt != TRIED_DONE)
                told_canary(o, raw);
}

void guest_absolute_link(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *folder = decode(words[0]), *canary = decode(words[1]);
        through_link(o, folder, "absolute-link", "", canary);
}

void guest_relative_link(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *folder = decode(words[0]), *canary = decode(words[1]);
        through_link(o, folder, "relative-link", "../../../../../../../../../../../../../../../..", canary);
}

void guest_proc_root(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *canary = decode(words[0]), *own = own_canary("proc-root");
        NB_AUTO_FREE char *to_own = nb_asprintf("/proc/self/root%s", own);
        DIR *d = opendir("/proc");
        unsigned n = 0;
        bool found = false;
        for (const struct dirent *e; d && !found && (e = readdir(d));) {
                if (e->d_name[0] < '0' || e->d_name[0] > '9')
                        continue;
                NB_AUTO_FREE char *path = nb_asprintf("/proc/%s/root%s", e->d_name, canary);
                found = is_canary(path);
                n++;
        }
        if (d)
                closedir(d);
        controlled(o, is_canary(to_own));
        tried(o, found ? TRIED_DONE : TRIED_REFUSED, found ? "it was read" : "not in the root of any of %u processes", n);
}

void guest_handle(char *const *words, struct outcome *o) {
        NB_AUTO_FREE char *folder = decode(words[0]);
        NB_AUTO_FREE struct file_handle *h = nb_calloc(1, sizeof *h + MAX_HANDLE_SZ);
        NB_AUTO_CLOSE int mount = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int id;
        h->handle_bytes = MAX_HANDLE_SZ;
        if (name_to_handle_at(AT_FDCWD, folder, h, &id, 0) < 0) {
                tried(o, TRIED_REFUSED, "handles: %s", strerror(errno));
                return;
        }
        int fd = open_by_handle_at(mount, h, O_RDONLY | O_CLOEXEC);
        controlled(o, fd >= 0);
        nb_close(fd);
        const uint64_t forged = FORGED;
        memcpy(h->f_handle, &forged, h->handle_bytes < sizeof forged ? h->handle_bytes : sizeof forged);
        fd = open_by_handle_at(mount, h, O_RDONLY | O_CLOEXEC);
        tried_call(o, fd, "open");
        nb_close(fd);
}
