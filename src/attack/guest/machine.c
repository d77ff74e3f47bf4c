/* Probes of the machine: its devices, its firmware, its disks, what it knows of the host it runs on, and its ways to it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack/guest/files.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#define FW_SELECT 0x510
#define FW_DATA 0x511
#define FW_SIGNATURE 0
#define FW_DIRECTORY 0x19
#define FW_FILES_MAX 64u
#define FW_READ_MAX 2048u
#define SECTOR 512u
#define VSOCK_PORT 1024u
#define HVC_ESCAPES "\033]52;c;%s\007\033]0;%s\007 nixbox-attack-%s\n"

/* A file of sysfs and the like, its text without the newline. New string, "" where there is none. */
static char *text_of(const char *folder, const char *name, const char *file) {
        NB_AUTO_FREE char *path = nb_asprintf("%s/%s/%s", folder, name, file);
        char *text = NULL;
        size_t len = 0;
        if (nb_read_file(path, 4096, &text, &len) < 0)
                return nb_strdup("");
        text[strcspn(text, "\n")] = 0;
        return text;
}

/* ---- firmware */

static void fw_read(unsigned item, uint8_t *ret, size_t len) {
        outw((unsigned short)item, FW_SELECT);
        for (size_t i = 0; i < len; i++)
                ret[i] = inb(FW_DATA);
}

/* Looks through the files that the firmware interface has. Names for ourselves ("opt/…") nobody should have put there. */
static const char *fw_files(char *ret_name, size_t name_size, unsigned *ret_n) {
        static uint8_t list[4 + FW_FILES_MAX * 64], bytes[FW_READ_MAX];
        fw_read(FW_DIRECTORY, list, sizeof list);
        unsigned n = (unsigned)list[2] << 8 | list[3];
        *ret_n = n;
        for (unsigned i = 0; i < n && i < FW_FILES_MAX; i++) {
                const uint8_t *e = list + 4 + (size_t)i * 64;
                uint32_t size = (uint32_t)e[0] << 24 | (uint32_t)e[1] << 16 | (uint32_t)e[2] << 8 | e[3];
                (void)snprintf(ret_name, name_size, "%.55s", (const char *)e + 8);
                if (nb_starts_with(ret_name, "opt/"))
                        return "a file of somebody's own";
                fw_read((unsigned)e[4] << 8 | e[5], bytes, size < sizeof bytes ? size : sizeof bytes);
                const char *needle = find_needle(bytes, size < sizeof bytes ? size : sizeof bytes);
                if (needle)
                        return needle;
        }
        return NULL;
}

void guest_fw_cfg(char *const *words, struct outcome *o) {
        (void)words;
        uint8_t signature[4] = { 0 };
        char name[64] = "";
        unsigned n = 0;
        if (ioperm(FW_SELECT, 2, 1) == 0)
                fw_read(FW_SIGNATURE, signature, sizeof signature);
        if (memcmp(signature, "QEMU", 4) != 0) {
                tried(o, TRIED_REFUSED, "there is no firmware interface");
                return;
        }
        controlled(o, true);
        const char *needle = fw_files(name, sizeof name, &n);
        if (needle)
                tried(o, TRIED_DONE, "%s in %s", needle, name);
        else
                tried(o, TRIED_REFUSED, "nothing of the host's in %u files", n);
}

void guest_dmi(char *const *words, struct outcome *o) {
        (void)words;
        char where[128] = "";
        bool known = false;
        const char *needle = scan_tree("/sys/firmware", 5, "BXPC", &known, where, sizeof where);
        if (!needle)
                needle = scan_tree("/sys/class/dmi/id/", 1, NULL, NULL, where, sizeof where);
        controlled(o, known);
        if (needle)
                tried(o, TRIED_DONE, "%s is in %s", needle, where);
        else
                tried(o, TRIED_REFUSED, "not found");
}

/* ---- devices */

void guest_devices(char *const *words, struct outcome *o) {
        (void)words;
        static const unsigned
            usual[] = { 1 /* net */, 2 /* block */, 3 /* console */, 4 /* rng */, 5 /* balloon */, 26 /* fs */ };
        static const char buses[] = "/sys/bus/virtio/devices", pci[] = "/sys/bus/pci/devices";
        DIR *d = opendir(buses);
        unsigned n = 0, odd = 0, disks = 0;
        for (const struct dirent *e; d && (e = readdir(d));) {
                if (e->d_name[0] == '.')
                        continue;
                NB_AUTO_FREE char *text = text_of(buses, e->d_name, "device");
                unsigned id = (unsigned)strtoul(text, NULL, 16);
                bool known = false;
                for (size_t i = 0; i < NB_ARRAY_LEN(usual); i++)
                        known = known || usual[i] == id;
                n++;
                disks += id == 2;
                odd += !known;
        }
        if (d)
                closedir(d);
        d = opendir(pci);
        for (const struct dirent *e; d && (e = readdir(d));)
                odd += e->d_name[0] != '.';
        if (d)
                closedir(d);
        controlled(o, disks > 0);
        tried(o, odd ? TRIED_DONE : TRIED_REFUSED, "%u virtio devices, %u others", n - (odd < n ? odd : 0), odd);
}

static void run_modprobe(const char *module) {
        pid_t pid = fork();
        if (pid == 0) {
                int null = open("/dev/null", O_RDWR);
                (void)dup2(null, STDOUT_FILENO);
                (void)dup2(null, STDERR_FILENO);
                (void)execl("/sbin/modprobe", "modprobe", "-q", module, (char *)NULL);
                _exit(127);
        }
        while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
}

static int connect_vsock(unsigned cid) {
        struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_port = VSOCK_PORT, .svm_cid = cid };
        NB_AUTO_CLOSE int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to);
}

/* The control: to a listener of its own, by the kernel's vsock that leads back into the box. */
void guest_vsock(char *const *words, struct outcome *o) {
        (void)words;
        run_modprobe("vmw_vsock_virtio_transport");
        tried_call(o, connect_vsock(VMADDR_CID_HOST), "connect");
        run_modprobe("vsock_loopback");
        struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_port = VSOCK_PORT, .svm_cid = VMADDR_CID_LOCAL };
        NB_AUTO_CLOSE int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool listens = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 1) == 0;
        controlled(o, listens && connect_vsock(VMADDR_CID_LOCAL) == 0);
}

/* The port with this name, as "vportXpY"; and how many there are that should not be. New string or NULL. */
static char *find_port(const char *name, unsigned *ret_others) {
        static const char folder[] = "/sys/class/virtio-ports";
        DIR *d = opendir(folder);
        char *found = NULL;
        *ret_others = 0;
        for (const struct dirent *e; d && (e = readdir(d));) {
                if (e->d_name[0] == '.')
                        continue;
                NB_AUTO_FREE char *text = text_of(folder, e->d_name, "name");
                if (strcmp(text, name) == 0 && !found)
                        found = nb_strdup(e->d_name);
                else if (text[0]) /* the console has no name */
                        ++*ret_others;
        }
        if (d)
                closedir(d);
        return found;
}

void guest_ports(char *const *words, struct outcome *o) {
        (void)words;
        unsigned others;
        NB_AUTO_FREE char *port = find_port("nixbox.0", &others);
        controlled(o, port != NULL);
        tried(o, others ? TRIED_DONE : TRIED_REFUSED, "%u other ports", others);
}

void guest_control_port(char *const *words, struct outcome *o) {
        (void)words;
        unsigned others;
        NB_AUTO_FREE char *port = find_port("nixbox.0", &others), *node = nb_asprintf("/dev/%s", port ? port : "");
        struct stat st;
        controlled(o, open_with("/dev/null", O_RDWR | O_NONBLOCK) == 0 && stat(node, &st) == 0 && S_ISCHR(st.st_mode));
        tried_call(o, open_with(node, O_RDWR | O_NONBLOCK), "open");
}

void guest_console(char *const *words, struct outcome *o) {
        static const char *const ways[] = { "/dev/hvc0", "/dev/console", "/dev/kmsg" };
        bool written = false;
        NB_AUTO_FREE char *text = nb_asprintf(HVC_ESCAPES, words[0], words[0], words[0]);
        for (size_t i = 0; i < NB_ARRAY_LEN(ways) && !written; i++) {
                NB_AUTO_CLOSE int fd = open(ways[i], O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
                written = fd >= 0 && write(fd, text, strlen(text)) > 0;
        }
        controlled(o, written);
        tried(o, TRIED_REFUSED, written ? "written to the console" : "the console cannot be written");
}

/* ---- disks, shares */

/* Writes what stands there already. */
static long write_same(const char *path) {
        char sector[SECTOR];
        int on = 0;
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || pread(fd, sector, sizeof sector, 0) != sizeof sector)
                return -1;
        (void)ioctl(fd, BLKROSET, &on);
        NB_AUTO_CLOSE int out = open(path, O_RDWR | O_CLOEXEC | O_SYNC);
        return out < 0 || pwrite(out, sector, sizeof sector, 0) < 0 || fsync(out) < 0 ? -1 : 0;
}

void guest_image(char *const *words, struct outcome *o) {
        (void)words;
        NB_AUTO_FREE char *own = own_folder("image"), *file = own ? nb_asprintf("%s/file", own) : nb_strdup("");
        controlled(o, write_same(file) == 0);
        tried_call(o, write_same("/dev/vda"), "write to the system's disk");
        if (o->attempt == TRIED_REFUSED && access("/dev/vdb", F_OK) == 0)
                tried_call(o, write_same("/dev/vdb"), "write to the modules' disk");
}

void guest_shares(char *const *words, struct outcome *o) {
        (void)words;
        static const char *const tags[] = { "", "root", "host", "rootfs", "myfs", "share", "nixbox0", "nixbox.0", "data" };
        NB_AUTO_FREE char *place = nb_asprintf("%s/other", guest.folder);
        (void)mkdir(place, 0700);
        controlled(o, mount("nixbox", place, "virtiofs", 0, NULL) == 0);
        (void)umount2(place, MNT_DETACH);
        run_modprobe("9pnet_virtio");
        tried(o, TRIED_REFUSED, "none of %zu names", NB_ARRAY_LEN(tags));
        for (size_t i = 0; i < NB_ARRAY_LEN(tags); i++)
                if (mount(tags[i], place, "virtiofs", 0, NULL) == 0 || mount(tags[i], place, "9p", 0, "trans=virtio") == 0) {
                        tried(o, TRIED_DONE, "there is one called '%s'", tags[i]);
                        (void)umount2(place, MNT_DETACH);
                        return;
                }
}

/* ---- who the box is, and how large */

void guest_machine_id(char *const *words, struct outcome *o) {
        (void)words;
        NB_AUTO_FREE char *place = nb_asprintf("%s/image", guest.folder), *id = text_of("", "etc", "machine-id");
        (void)mkdir(place, 0700);
        bool mounted = mount("/dev/vda", place, "erofs", MS_RDONLY, NULL) == 0;
        NB_AUTO_FREE char *of_image = text_of(place, "etc", "machine-id");
        if (mounted)
                (void)umount2(place, MNT_DETACH);
        const char *needle = find_needle(id, strlen(id));
        controlled(o, strlen(id) == 32 && mounted);
        if (needle)
                tried(o, TRIED_DONE, "it is %s", needle);
        else
                tried(o, *id && strcmp(id, of_image) == 0 ? TRIED_DONE : TRIED_REFUSED,
                      *of_image ? "the image's is %s" : "the image has none",
                      strcmp(id, of_image) == 0 ? "the same" : "another");
}

void guest_memory(char *const *words, struct outcome *o) {
        unsigned long long limit = strtoull(words[0], NULL, 10), sum = 0, from, to;
        char line[256];
        FILE *f = fopen("/proc/iomem", "re");
        while (f && fgets(line, sizeof line, f))
                if (strstr(line, "System RAM") && line[0] != ' ' && sscanf(line, "%llx-%llx", &from, &to) == 2)
                        sum += to - from + 1;
        if (f)
                fclose(f);
        controlled(o, sum > limit / 2);
        tried(o, sum > limit ? TRIED_DONE : TRIED_REFUSED, "%llu of %llu MiB", sum >> 20, limit >> 20);
}
