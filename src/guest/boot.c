/* Starting up (see boot.h). */
#include "boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#define DEVICE_WAIT_MS 10000u
#define MODULES_LIST_MAX 65536u
#define DEVICE_ID_MAX 4096u /* a file of sysfs */
#define PORT_NAME "nixbox.0"
#define PORTS_MAX 32u
#define ONLY_WITH_DISK "?disk "
#define ONLY_WITH_NET "?net "
/* The host attaches the drives in this order. */
#define IMAGE "/dev/vda"
#define MODULES "/dev/vdb" /* of the kernel, below usr/lib/modules */
#define DISK "/dev/vdc"
#define LAYERS "lowerdir=/lower:/kernel,upperdir=/upper/root,workdir=/upper/work,redirect_dir=on,metacopy=on,index=off"
#define VIRTIO_DEVICES "/sys/bus/virtio/devices"
#define VIRTIO_ID_NET "0x0001\n"

struct mount_step {
        const char *source, *target, *type, *options;
        unsigned long flags;
        mode_t mode; /* of the folder when it has to be made */
};

static int mount_one(const struct mount_step *s) {
        if (mount(s->source, s->target, s->type, s->flags, s->options) == 0)
                return 0;
        if (errno != ENOENT || mkdir(s->target, s->mode) < 0)
                return -errno;
        return mount(s->source, s->target, s->type, s->flags, s->options) < 0 ? -errno : 0;
}

/* Without /dev/console in the initramfs the kernel starts us with no descriptors at all. */
static void open_console(void) {
        if (fcntl(STDERR_FILENO, F_GETFD) >= 0)
                return;
        int fd = open("/dev/console", O_RDWR | O_NOCTTY);
        if (fd < 0)
                fd = open("/dev/null", O_RDWR);
        while (fd >= 0 && fd < STDERR_FILENO)
                fd = dup(fd);
}

static void load_module(const char *name) {
        NB_AUTO_FREE char *path = nb_asprintf("/modules/%s", name);
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
                nb_warn("module %s: %s", name, strerror(errno));
}

static bool disk_attached(void) {
        return access("/sys/block/vdc", F_OK) == 0;
}

static bool net_attached(void) {
        DIR *dir = opendir(VIRTIO_DEVICES);
        if (!dir)
                return false;
        bool found = false;
        for (struct dirent *e; !found && (e = readdir(dir));) {
                NB_AUTO_FREE char *path = nb_asprintf(VIRTIO_DEVICES "/%s/device", e->d_name), *id = NULL;
                found = nb_read_file(path, DEVICE_ID_MAX, &id, NULL) == 0 && strcmp(id, VIRTIO_ID_NET) == 0;
        }
        closedir(dir);
        return found;
}

/* The module that a line of the list names, NULL if it is for a device we do not have. */
static const char *wanted_module(const char *line) {
        if (nb_starts_with(line, ONLY_WITH_DISK))
                return disk_attached() ? line + strlen(ONLY_WITH_DISK) : NULL;
        if (nb_starts_with(line, ONLY_WITH_NET))
                return net_attached() ? line + strlen(ONLY_WITH_NET) : NULL;
        return line;
}

static void load_modules(void) {
        NB_AUTO_FREE char *list = NULL;
        if (nb_read_file("/modules.list", MODULES_LIST_MAX, &list, NULL) < 0)
                return;
        char *save = NULL;
        for (char *line = strtok_r(list, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                const char *name = wanted_module(line);
                if (name && *name && *name != '#')
                        load_module(name);
        }
}

void boot_kernel(void) {
        static const struct mount_step steps[] = {
                { "dev", "/dev", "devtmpfs", "mode=0755", MS_NOSUID, 0755 },
                { "proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, 0555 },
                { "sys", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, 0555 },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(steps); i++)
                (void)mount_one(&steps[i]);
        open_console();
        load_modules();
}

/* Waits until `there` says yes; every event of the kernel's device model is a reason to ask again. */
static bool wait_for(bool (*there)(void *), void *user) {
        if (there(user))
                return true;
        NB_AUTO_CLOSE int events = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
        struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
        if (events < 0 || bind(events, (struct sockaddr *)&address, sizeof address) < 0)
                return false;
        for (uint64_t now = nb_now_ms(), end = now + DEVICE_WAIT_MS;; now = nb_now_ms()) {
                if (there(user))
                        return true;
                if (now >= end)
                        return false;
                struct pollfd wait = { .fd = events, .events = POLLIN };
                (void)poll(&wait, 1, (int)(end - now));
                char event[4096];
                while (recv(events, event, sizeof event, 0) > 0)
                        ;
        }
}

static bool port_there(void *user) {
        int *number = user;
        for (unsigned device = 0; device < PORTS_MAX; device++) {
                bool any = false;
                for (unsigned port = 0; port < PORTS_MAX; port++) {
                        char path[64], name[sizeof PORT_NAME + 1];
                        snprintf(path, sizeof path, "/sys/class/virtio-ports/vport%up%u/name", device, port);
                        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
                        if (fd < 0)
                                continue; /* not there, or not named yet */
                        any = true;
                        ssize_t n = read(fd, name, sizeof name);
                        if (n == sizeof PORT_NAME && memcmp(name, PORT_NAME "\n", sizeof PORT_NAME) == 0) {
                                *number = (int)(device * PORTS_MAX + port);
                                return true;
                        }
                }
                if (!any && device > 0)
                        break;
        }
        return false;
}

int boot_open_port(int *ret_fd, struct nb_error *err) {
        int number = 0;
        if (!wait_for(port_there, &number))
                return nb_fail(err, ENODEV, "no port named " PORT_NAME " appeared");
        char path[64];
        snprintf(path, sizeof path, "/dev/vport%dp%d", number / (int)PORTS_MAX, number % (int)PORTS_MAX);
        int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return nb_fail_errno(err, errno, "opening %s", path);
        *ret_fd = fd;
        return 0;
}

static bool file_there(void *user) {
        return access(user, F_OK) == 0;
}

/* What is written goes to memory, or to the disk. */
static int mount_writable(bool disk, struct nb_error *err) {
        if (!disk) {
                static const struct mount_step memory = {
                        "root", "/upper", "tmpfs", "mode=0755,size=75%,nr_inodes=0", 0, 0700
                };
                int r = mount_one(&memory);
                return r < 0 ? nb_fail_errno(err, -r, "mounting memory for the root file system") : 0;
        }
        static const struct mount_step scratch = { DISK, "/upper", "ext4", NULL, MS_NOATIME, 0700 };
        if (!wait_for(file_there, (void *)DISK))
                return nb_fail(err, ENODEV, "the disk did not appear");
        int r = mount_one(&scratch);
        if (r < 0)
                return nb_fail_errno(err, -r, "mounting the disk");
        NB_AUTO_CLOSE int upper = open("/upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void)nb_remove_tree(upper, "work"); /* the mark that "volatile" leaves there */
        return 0;
}

/* A scratch disk lives no longer than its box, so nothing is lost by leaving out fsync ("volatile"), and package managers gain
 * a lot. With a disk that is kept, fsync means what it says. */
static int mount_root(bool disk, bool keep, struct nb_error *err) {
        static const struct mount_step image = { IMAGE, "/lower", "erofs", NULL, MS_RDONLY, 0700 };
        static const struct mount_step modules = { MODULES, "/kernel", "erofs", NULL, MS_RDONLY, 0700 };
        const struct mount_step root = { .source = "root",
                                         .target = "/newroot",
                                         .type = "overlay",
                                         .options = keep ? LAYERS : LAYERS ",volatile",
                                         .mode = 0700 };
        if (!wait_for(file_there, (void *)IMAGE))
                return nb_fail(err, ENODEV, "the disk with the image did not appear");
        int r = mount_one(&image);
        if (r < 0)
                return nb_fail_errno(err, -r, "mounting the image");
        /* Two layers, so that the modules are where modprobe, depmod and packages of headers look for them, whatever image it
         * is. */
        if (!wait_for(file_there, (void *)MODULES))
                return nb_fail(err, ENODEV, "the disk with the kernel's modules did not appear");
        r = mount_one(&modules);
        if (r < 0)
                return nb_fail_errno(err, -r, "mounting the kernel's modules");
        r = mount_writable(disk, err);
        if (r < 0)
                return r;
        if ((mkdir("/upper/root", 0755) < 0 && errno != EEXIST) || (mkdir("/upper/work", 0700) < 0 && errno != EEXIST))
                return nb_fail_errno(err, errno, "preparing the writable layer");
        r = mount_one(&root);
        return r < 0 ? nb_fail_errno(err, -r, "mounting the root file system") : 0;
}

/* In the new root. Folders that an image lacks are made. */
static void mount_temporary(bool disk) {
        static const struct mount_step steps[] = {
                { "devpts", "/dev/pts", "devpts", "ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC, 0755 },
                { "shm", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, 01777 },
                { "run", "/run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV, 0755 },
                { "cgroup", "/sys/fs/cgroup", "cgroup2", "nsdelegate", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0755 },
                { "tmp", "/tmp", "tmpfs", "mode=1777,nr_inodes=0", MS_NOSUID | MS_NODEV, 01777 },
        };
        /* with a scratch disk, large temporary files belong there */
        for (size_t i = 0; i < NB_ARRAY_LEN(steps) - disk; i++) {
                int r = mount_one(&steps[i]);
                if (r < 0)
                        nb_warn("mounting %s: %s", steps[i].target, strerror(-r));
        }
        if (disk && mkdir("/tmp", 01777) < 0)
                (void)chmod("/tmp", 01777);
        static const char *const links[][2] = {
                { "/proc/self/fd", "/dev/fd" },         { "/proc/self/fd/0", "/dev/stdin" },
                { "/proc/self/fd/1", "/dev/stdout" },   { "/proc/self/fd/2", "/dev/stderr" },
                { "../proc/self/mounts", "/etc/mtab" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(links); i++)
                (void)symlink(links[i][0], links[i][1]);
        (void)mkdir("/run/lock", 01777);
}

/* An image whose /lib is a folder of its own has them nowhere that its modprobe looks. */
static void link_modules(void) {
        struct utsname kernel;
        if (uname(&kernel) < 0)
                return;
        NB_AUTO_FREE char *there = nb_asprintf("/lib/modules/%s", kernel.release);
        NB_AUTO_FREE char *real = nb_asprintf("/usr/lib/modules/%s", kernel.release);
        if (access(there, F_OK) == 0)
                return;
        (void)mkdir("/lib", 0755);
        (void)mkdir("/lib/modules", 0755);
        if (symlink(real, there) < 0)
                nb_warn("linking %s: %s", there, strerror(errno));
}

int boot_root(bool disk, bool keep, int *ret_old_root, struct nb_error *err) {
        int r = mount_root(disk, keep, err);
        if (r < 0)
                return r;
        NB_AUTO_CLOSE int old_root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        static const char *const moved[] = { "dev", "proc", "sys" };
        for (size_t i = 0; i < NB_ARRAY_LEN(moved); i++) {
                char from[16], to[32];
                snprintf(from, sizeof from, "/%s", moved[i]);
                snprintf(to, sizeof to, "/newroot/%s", moved[i]);
                if (mount(from, to, NULL, MS_MOVE, NULL) == 0)
                        continue;
                if (mkdir(to, 0755) < 0 || mount(from, to, NULL, MS_MOVE, NULL) < 0)
                        return nb_fail_errno(err, errno, "moving /%s to the new root", moved[i]);
        }
        if (chdir("/newroot") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
                return nb_fail_errno(err, errno, "switching to the new root");
        mount_temporary(disk);
        link_modules();
        *ret_old_root = nb_steal_fd(&old_root);
        return 0;
}

void boot_forget_initramfs(int old_root) {
        (void)nb_remove_tree(old_root, "modules");
        (void)unlinkat(old_root, "modules.list", 0);
        (void)unlinkat(old_root, "init", 0);
}
