/* The checks behind `nixbox doctor` (see prereq.h). Each is a function that adds one line; nothing here starts a box. */
#include "box/prereq.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <pwd.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "base/host.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/userns.h"
#include "box/vmm.h"

#define SUBID_MIN 65536u               /* ids that an image build as an ordinary user needs */
#define SUBID_FILE_MAX (1024u * 1024u) /* bytes of /etc/subuid that are read */
#define DISK_MIN (256ull << 20)        /* below this not even a box's logs and disk fit */
#define DISK_BUILD (3ull << 30)        /* for building the runtime, a kernel and an image */
#define MEMORY_MIN (512ull << 20)
#define MEMORY_GOOD (2ull << 30)
#define MESSAGE_MAX 2048
#define KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"

struct checks {
        struct prereq *list;
        size_t count;
};

static struct prereq *add(struct checks *c, const char *name, enum prereq_state state, char *detail) {
        c->list = nb_realloc(c->list, c->count + 1, sizeof *c->list);
        c->list[c->count] = (struct prereq){ .name = name, .state = state, .detail = detail };
        return &c->list[c->count++];
}

/* Calls with descriptors that cannot exist: only a kernel that lacks the call says ENOSYS. */
static void check_kernel(struct checks *c) {
        static const struct {
                long number;
                const char *name;
        } calls[] = {
                { SYS_open_tree, "open_tree" },   { SYS_move_mount, "move_mount" }, { SYS_mount_setattr, "mount_setattr" },
                { SYS_pidfd_open, "pidfd_open" }, { SYS_openat2, "openat2" },       { SYS_memfd_create, "memfd_create" },
        };
        struct utsname u;
        (void)uname(&u);
        for (size_t i = 0; i < NB_ARRAY_LEN(calls); i++) {
                if (syscall(calls[i].number, -1, NULL, -1, NULL, 0) >= 0 || errno != ENOSYS)
                        continue;
                struct prereq *p =
                    add(c, "kernel", PREREQ_MISSING, nb_asprintf("Linux %s has no %s", u.release, calls[i].name));
                p->fix = nb_strdup("boot a kernel of 5.12 or later (Debian 12 has 6.1); in a container, let its seccomp "
                                   "profile pass the call");
                return;
        }
        (void)add(c, "kernel", PREREQ_OK, nb_asprintf("Linux %s has every call that is needed", u.release));
}

/* In a child, with exactly the namespaces a box uses. The message comes back over a pipe: "" when it worked. */
static void try_namespaces(int out) {
        NB_AUTO_ERROR err = { 0 };
        if (userns_enter(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, &err) < 0) {
                NB_AUTO_FREE char *text = nb_asprintf("%s\n%s", err.what, err.hint ? err.hint : "");
                (void)nb_write_all(out, text, strlen(text));
        }
        _exit(0);
}

static void check_namespaces(struct checks *c) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return;
        pid_t pid = fork();
        if (pid == 0)
                try_namespaces(ends[1]);
        nb_close(ends[1]);
        char message[MESSAGE_MAX] = { 0 };
        ssize_t n = nb_read_full(ends[0], message, sizeof message - 1);
        nb_close(ends[0]);
        int status = -1;
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (n == 0 && pid > 0 && status == 0) {
                (void)add(c, "namespaces", PREREQ_OK, nb_strdup("user, mount, process and network namespaces can be made"));
                return;
        }
        char *hint = strchr(message, '\n');
        if (hint)
                *hint++ = 0;
        struct prereq *p =
            add(c, "namespaces", PREREQ_MISSING, nb_strdup(message[0] ? message : "the attempt to make namespaces died"));
        p->fix = nb_strdup(hint && *hint ? hint : "allow user namespaces: sysctl -w user.max_user_namespaces=15000");
}

static bool have_program(const char *name) {
        const char *path = getenv("PATH");
        return nb_have_program(path ? path : "/usr/sbin:/usr/bin:/sbin:/bin", name);
}

/* True once images were built: what only building needs is then no reason not to start. */
static bool have_images(void) {
        NB_AUTO_FREE char *data = nb_data_dir();
        NB_AUTO_FREE char *runtime = nb_path_join(data, "runtime");
        NB_AUTO_FREE char *images = nb_path_join(data, "images");
        return access(runtime, F_OK) == 0 && access(images, F_OK) == 0;
}

static enum prereq_state only_for_building(void) {
        return have_images() ? PREREQ_NOTE : PREREQ_MISSING;
}

static void check_subordinate_ids(struct checks *c) {
        if (geteuid() == 0) {
                (void)add(c, "subordinate ids", PREREQ_OK, nb_strdup("not needed as root"));
                return;
        }
        struct prereq *p;
        if (!have_program("newuidmap") || !have_program("newgidmap")) {
                p = add(c, "subordinate ids", only_for_building(), nb_strdup("newuidmap and newgidmap are not installed"));
                p->fix = nb_strdup("sudo apt-get install uidmap");
                return;
        }
        const struct passwd *pw = getpwuid(geteuid());
        const char *user = pw ? pw->pw_name : "";
        NB_AUTO_FREE char *uids = NULL;
        NB_AUTO_FREE char *gids = NULL;
        (void)nb_read_file("/etc/subuid", SUBID_FILE_MAX, &uids, NULL);
        (void)nb_read_file("/etc/subgid", SUBID_FILE_MAX, &gids, NULL);
        unsigned long n_uids = uids ? nb_subordinate_ids(uids, user, geteuid()) : 0;
        unsigned long n_gids = gids ? nb_subordinate_ids(gids, user, geteuid()) : 0;
        if (n_uids < SUBID_MIN || n_gids < SUBID_MIN) {
                p = add(c, "subordinate ids", only_for_building(),
                        nb_asprintf("%s has %lu user and %lu group ids, building an image needs %u", *user ? user : "this user",
                                    n_uids, n_gids, SUBID_MIN));
                p->fix = nb_asprintf("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", user);
                return;
        }
        (void)add(c, "subordinate ids", PREREQ_OK, nb_asprintf("%lu user and %lu group ids for %s", n_uids, n_gids, user));
}

static void check_builder(struct checks *c) {
        bool tool = have_program("mmdebstrap"), keys = access(KEYRING, R_OK) == 0;
        if (tool && keys) {
                (void)add(c, "image builder", PREREQ_OK, nb_strdup("mmdebstrap and Debian's archive keys are installed"));
                return;
        }
        struct prereq *p = add(c, "image builder", only_for_building(),
                               nb_asprintf("%s not installed", tool ? "Debian's archive keys are" : "mmdebstrap is"));
        p->fix = nb_strdup("sudo apt-get install mmdebstrap debian-archive-keyring");
}

static void check_kvm(struct checks *c) {
        struct accel a = { 0 };
        NB_AUTO_ERROR err = { 0 };
        if (accel_probe(&a, &err) < 0) {
                struct prereq *p = add(c, "kvm", PREREQ_MISSING, nb_strdup(err.what));
                p->fix = nb_strdup(err.hint);
        } else if (a.kind == ACCEL_KVM) {
                (void)add(c, "kvm", PREREQ_OK, nb_strdup("a small timed guest ran at full speed in /dev/kvm"));
        } else {
                struct prereq *p = add(c, "kvm", PREREQ_NOTE, nb_strdup(a.why));
                if (access("/dev/kvm", F_OK) < 0)
                        p->fix = nb_strdup("sudo modprobe kvm_intel || sudo modprobe kvm_amd; in a virtual machine, enable "
                                           "nested virtualisation on its host");
                else if (access("/dev/kvm", R_OK | W_OK) < 0)
                        p->fix = nb_strdup("sudo usermod -aG kvm \"$USER\", then log in again");
        }
        accel_clear(&a);
}

static void check_tun(struct checks *c) {
        if (access("/dev/net/tun", R_OK | W_OK) == 0) {
                (void)add(c, "tun", PREREQ_OK, nb_strdup("/dev/net/tun can be opened"));
                return;
        }
        bool there = access("/dev/net/tun", F_OK) == 0;
        struct prereq *p = add(c, "tun", PREREQ_NOTE,
                               nb_asprintf("/dev/net/tun %s; a box with network.mode off does not need it",
                                           there ? "is not open to this user" : "does not exist"));
        p->fix = nb_strdup(there ? "sudo chmod 0666 /dev/net/tun (what udev sets by default)" : "sudo modprobe tun");
}

static void check_disk(struct checks *c) {
        NB_AUTO_FREE char *data = nb_data_dir();
        NB_AUTO_FREE char *at = nb_strdup(data);
        struct statvfs vfs;
        while (statvfs(at, &vfs) < 0) { /* the nearest folder that exists */
                char *slash = strrchr(at, '/');
                if (!slash || slash == at)
                        return;
                *slash = 0;
        }
        unsigned long long left = (unsigned long long)vfs.f_bavail * vfs.f_frsize;
        NB_AUTO_FREE char *size = nb_format_size(left);
        enum prereq_state state = left < DISK_MIN ? PREREQ_MISSING : left < DISK_BUILD ? PREREQ_NOTE : PREREQ_OK;
        struct prereq *p = add(c, "disk", state, nb_asprintf("%s free for %s", size, data));
        if (state != PREREQ_OK)
                p->fix = nb_strdup("building images takes about 3G: nixbox image prune, or set XDG_DATA_HOME to a larger disk");
}

static void check_runtime_folder(struct checks *c) {
        const char *xdg = getenv("XDG_RUNTIME_DIR");
        NB_AUTO_FREE char *dir = nb_runtime_dir();
        struct stat st;
        struct prereq *p;
        if (lstat(dir, &st) == 0 && (st.st_uid != geteuid() || !S_ISDIR(st.st_mode))) {
                p = add(c, "runtime folder", PREREQ_MISSING, nb_asprintf("%s is not a folder of this user's", dir));
                p->fix = nb_strdup("remove it, or set XDG_RUNTIME_DIR to a private folder");
        } else if (!xdg || strncmp(dir, xdg, strlen(xdg)) != 0) {
                p = add(c, "runtime folder", PREREQ_NOTE, nb_asprintf("no XDG_RUNTIME_DIR of this user's, so %s is used", dir));
                p->fix = nb_strdup("log in through systemd-logind (ssh, console), or set XDG_RUNTIME_DIR");
        } else {
                (void)add(c, "runtime folder", PREREQ_OK, nb_strdup(dir));
        }
}

static void check_memory(struct checks *c) {
        NB_AUTO_FREE char *text = NULL;
        uint64_t kib = 0;
        if (nb_read_file("/proc/meminfo", 65536, &text, NULL) == 0) {
                const char *line = strstr(text, "MemAvailable:");
                kib = line ? strtoull(line + strlen("MemAvailable:"), NULL, 10) : 0;
        }
        uint64_t left = kib << 10;
        NB_AUTO_FREE char *size = nb_format_size(left);
        enum prereq_state state = left < MEMORY_MIN ? PREREQ_MISSING : left < MEMORY_GOOD ? PREREQ_NOTE : PREREQ_OK;
        struct prereq *p = add(c, "memory", state, nb_asprintf("%s available", size));
        if (state != PREREQ_OK)
                p->fix = nb_strdup("end other programs or boxes (nixbox ps), and set machine.memory below what is free");
}

static void check_installation(struct checks *c) {
        NB_AUTO_FREE char *agent = nb_installed_file("nixbox-agent");
        if (access(agent, R_OK) == 0) {
                (void)add(c, "installation", PREREQ_OK, nb_asprintf("guest agent at %s", agent));
                return;
        }
        struct prereq *p = add(c, "installation", PREREQ_MISSING, nb_asprintf("there is no guest agent at %s", agent));
        p->fix = nb_strdup("install nixbox whole: make install");
}

struct prereq *prereq_check(size_t *ret_count) {
        static void (*const all[])(struct checks *) = {
                check_kernel,  check_namespaces,      check_kvm,          check_memory, check_disk, check_runtime_folder,
                check_builder, check_subordinate_ids, check_installation, check_tun,
        };
        struct checks c = { 0 };
        for (size_t i = 0; i < NB_ARRAY_LEN(all); i++)
                all[i](&c);
        *ret_count = c.count;
        return c.list;
}

void prereq_free(struct prereq *list, size_t count) {
        for (size_t i = 0; i < count; i++) {
                free(list[i].detail);
                free(list[i].fix);
        }
        free(list);
}
