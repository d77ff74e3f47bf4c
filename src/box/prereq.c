/* The checks behind `nixbox doctor` (see prereq.h). Each is a function that adds one line; nothing here starts a box. */
#include "box/prereq_internal.h"

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
#include "box/vmm.h"
#include "gateway/gateway.h"
#include "jail/userns.h"

#define SUBID_MIN USERNS_SUBIDS_WANTED /* below these an image build records the owners of files instead */
#define SUBID_FILE_MAX (1024u * 1024u) /* bytes of /etc/subuid that are read */
#define DISK_MIN (256ull << 20)        /* below this not even a box's logs and disk fit */
#define DISK_BUILD (3ull << 30)        /* for building the runtime, a kernel and an image */
#define MEMORY_MIN (512ull << 20)
#define MEMORY_GOOD (2ull << 30)
#define KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"

struct prereq *prereq_add(struct checks *c, const char *name, enum prereq_state state, char *detail) {
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
                    prereq_add(c, "kernel", PREREQ_MISSING, nb_asprintf("Linux %s has no %s", u.release, calls[i].name));
                p->fix = nb_strdup("boot a kernel of 5.14 or later (Debian 12 has 6.1); in a container, let its seccomp "
                                   "profile pass the call");
                return;
        }
        (void)prereq_add(c, "kernel", PREREQ_OK, nb_asprintf("Linux %s has every call that is needed", u.release));
}

bool prereq_try(int (*attempt)(struct nb_error *err), char message[static PREREQ_MESSAGE_MAX]) {
        memset(message, 0, PREREQ_MESSAGE_MAX);
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return false;
        pid_t pid = fork();
        if (pid == 0) {
                NB_AUTO_ERROR err = { 0 };
                if (attempt(&err) < 0) {
                        NB_AUTO_FREE char *text =
                            nb_asprintf("%s\n%s", err.what ? err.what : "failed", err.hint ? err.hint : "");
                        (void)nb_write_all(ends[1], text, strlen(text));
                }
                _exit(0);
        }
        nb_close(ends[1]);
        ssize_t n = nb_read_full(ends[0], message, PREREQ_MESSAGE_MAX - 1);
        nb_close(ends[0]);
        int status = -1;
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        return n == 0 && pid > 0 && status == 0;
}

/* Exactly the namespaces a box uses. */
static int try_namespaces(struct nb_error *err) {
        return userns_enter(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, err);
}

static void check_namespaces(struct checks *c) {
        char message[PREREQ_MESSAGE_MAX];
        if (prereq_try(try_namespaces, message)) {
                (void)prereq_add(c, "namespaces", PREREQ_OK,
                                 nb_strdup("user, mount, process and network namespaces can be made"));
                return;
        }
        char *hint = strchr(message, '\n');
        if (hint)
                *hint++ = 0;
        struct prereq *p = prereq_add(c, "namespaces", PREREQ_MISSING,
                                      nb_strdup(message[0] ? message : "the attempt to make namespaces died"));
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

/* Without them images are built all the same, with owners recorded instead of given. */
static void check_subordinate_ids(struct checks *c) {
        if (geteuid() == 0) {
                (void)prereq_add(c, "subordinate ids", PREREQ_OK, nb_strdup("not needed as root"));
                return;
        }
        struct prereq *p;
        if (!have_program("newuidmap") || !have_program("newgidmap")) {
                p = prereq_add(c, "subordinate ids", PREREQ_NOTE,
                               nb_strdup("newuidmap and newgidmap are not installed: building an image takes a little longer"));
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
                p = prereq_add(
                    c, "subordinate ids", PREREQ_NOTE,
                    nb_asprintf("%s has %lu user and %lu group ids, fewer than %lu: building an image takes a little longer",
                                *user ? user : "this user", n_uids, n_gids, SUBID_MIN));
                p->fix = nb_asprintf("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", user);
                return;
        }
        (void)prereq_add(c, "subordinate ids", PREREQ_OK,
                         nb_asprintf("%lu user and %lu group ids for %s", n_uids, n_gids, user));
}

static void check_builder(struct checks *c) {
        bool tool = have_program("apt-get"), keys = access(KEYRING, R_OK) == 0;
        if (tool && keys) {
                (void)prereq_add(c, "image builder", PREREQ_OK, nb_strdup("apt and Debian's archive keys are installed"));
                return;
        }
        struct prereq *p = prereq_add(c, "image builder", only_for_building(),
                                      nb_asprintf("%s not installed", tool ? "Debian's archive keys are" : "apt is"));
        p->fix = nb_strdup("sudo apt-get install apt debian-archive-keyring");
}

static void check_kvm(struct checks *c) {
        struct accel a = { 0 };
        NB_AUTO_ERROR err = { 0 };
        if (accel_probe(&a, &err) < 0) {
                struct prereq *p = prereq_add(c, "kvm", PREREQ_MISSING, nb_strdup(err.what));
                p->fix = nb_strdup(err.hint);
        } else if (a.kind == ACCEL_KVM) {
                (void)prereq_add(c, "kvm", PREREQ_OK, nb_strdup("a small timed guest ran at full speed in /dev/kvm"));
        } else {
                struct prereq *p = prereq_add(c, "kvm", PREREQ_NOTE, nb_strdup(a.why));
                if (access("/dev/kvm", F_OK) < 0)
                        p->fix = nb_strdup("sudo modprobe kvm_intel || sudo modprobe kvm_amd; in a virtual machine, enable "
                                           "nested virtualisation on its host");
                else if (access("/dev/kvm", R_OK | W_OK) < 0)
                        p->fix = nb_strdup("sudo usermod -aG kvm \"$USER\", then log in again");
        }
        accel_clear(&a);
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
        struct prereq *p = prereq_add(c, "disk", state, nb_asprintf("%s free for %s", size, data));
        if (state != PREREQ_OK)
                p->fix = nb_strdup("building images takes about 3G: nixbox image prune, or set XDG_DATA_HOME to a larger disk");
}

static void check_runtime_folder(struct checks *c) {
        const char *xdg = getenv("XDG_RUNTIME_DIR");
        NB_AUTO_FREE char *dir = nb_runtime_dir();
        struct stat st;
        struct prereq *p;
        if (lstat(dir, &st) == 0 && (st.st_uid != geteuid() || !S_ISDIR(st.st_mode))) {
                p = prereq_add(c, "runtime folder", PREREQ_MISSING, nb_asprintf("%s is not a folder of this user's", dir));
                p->fix = nb_strdup("remove it, or set XDG_RUNTIME_DIR to a private folder");
        } else if (!xdg || strncmp(dir, xdg, strlen(xdg)) != 0) {
                p = prereq_add(c, "runtime folder", PREREQ_NOTE,
                               nb_asprintf("no XDG_RUNTIME_DIR of this user's, so %s is used", dir));
                p->fix = nb_strdup("log in through systemd-logind (ssh, console), or set XDG_RUNTIME_DIR");
        } else {
                (void)prereq_add(c, "runtime folder", PREREQ_OK, nb_strdup(dir));
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
        struct prereq *p = prereq_add(c, "memory", state, nb_asprintf("%s available", size));
        if (state != PREREQ_OK)
                p->fix = nb_strdup("end other programs or boxes (nixbox ps), and set machine.memory below what is free");
}

static void check_installation(struct checks *c) {
        NB_AUTO_FREE char *agent = nb_installed_file("nixbox-agent");
        NB_AUTO_FREE char *gateway = nb_installed_program(GATEWAY_PROGRAM);
        if (access(agent, R_OK) == 0 && access(gateway, X_OK) == 0) {
                (void)prereq_add(c, "installation", PREREQ_OK, nb_asprintf("guest agent at %s", agent));
                return;
        }
        struct prereq *p = prereq_add(c, "installation", PREREQ_MISSING,
                                      nb_asprintf("there is no %s at %s", access(agent, R_OK) == 0 ? "gateway" : "guest agent",
                                                  access(agent, R_OK) == 0 ? gateway : agent));
        p->fix = nb_strdup("install nixbox whole: make install");
}

struct prereq *prereq_check(size_t *ret_count) {
        static void (*const all[])(struct checks *) = {
                check_kernel,       check_namespaces,     check_kvm,           check_memory,
                check_disk,         check_runtime_folder, check_builder,       check_subordinate_ids,
                check_installation, prereq_check_network, prereq_check_limits,
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
