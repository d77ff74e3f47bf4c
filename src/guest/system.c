/* Making the system the caller's (see system.h). */
#include "system.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "guest/accounts.h"
#include "guest/network.h"
#include "guest/procfs.h"

#define ETC_FILE_MAX (1024u * 1024u)
#define SKEL_DEPTH_MAX 8u
#define START_SECONDS_MAX 120
#define INTERRUPTS_MAX (256u * 1024u)
#define OWN_PROGRAM "/run/nixbox/agent"

/* On a disk that was kept most files are as they should be. */
static bool is_written(const char *path, const char *text, mode_t mode) {
        NB_AUTO_FREE char *there = NULL;
        struct stat st;
        size_t len = 0;
        return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == mode &&
               nb_read_file(path, ETC_FILE_MAX, &there, &len) == 0 && len == strlen(text) && memcmp(there, text, len) == 0;
}

/* Files of /etc are written over: no other process runs yet, and a new file in place of one of the image's would take the
 * overlay more than twice the time. A symbolic link, or a folder, is replaced. What is right already is left alone, so that a
 * machine that ends at this moment leaves no half of it. */
int system_write_etc(const char *path, const char *text, mode_t mode) {
        const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
        struct stat st;
        if (is_written(path, text, mode))
                return 0;
        NB_AUTO_CLOSE int fd = open(path, flags, mode);
        if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
                (void)close(nb_steal_fd(&fd));
                errno = EEXIST;
        }
        if (fd < 0 && errno != ENOENT && nb_remove_tree(AT_FDCWD, path) == 0)
                fd = open(path, flags, mode);
        if (fd < 0)
                return -errno;
        int r = nb_write_all(fd, text, strlen(text));
        return r < 0 ? r : fchmod(fd, mode) < 0 ? -errno : 0;
}

static char *read_etc(const char *path) {
        char *text = NULL;
        return nb_read_file(path, ETC_FILE_MAX, &text, NULL) < 0 ? NULL : text;
}

int system_check_timers(struct nb_error *err) {
        NB_AUTO_FREE char *text = NULL;
        (void)nb_read_file("/proc/interrupts", INTERRUPTS_MAX, &text, NULL);
        if (interrupts_sum(text, "LOC") != 0)
                return 0;
        return nb_fail(err, ETIME, "the processors' timers stand still; the host was too busy while they were calibrated");
}

void system_seed(const struct setup *s) {
        /* SETUP may have waited for the kernel to start: a clock that is a little ahead of it has come from the machine's
         * own and is the better one */
        struct timespec told = { .tv_sec = (time_t)(s->time_ns / 1000000000u), .tv_nsec = (long)(s->time_ns % 1000000000u) },
                        now;
        clock_gettime(CLOCK_REALTIME, &now);
        if (now.tv_sec <= told.tv_sec || now.tv_sec > told.tv_sec + START_SECONDS_MAX)
                (void)clock_settime(CLOCK_REALTIME, &told);
        if (s->seed_len == 0)
                return;
        union {
                struct rand_pool_info info;
                uint8_t space[sizeof(struct rand_pool_info) + SETUP_SEED_MAX];
        } pool = { .info = { .entropy_count = (int)s->seed_len * 8, .buf_size = (int)s->seed_len } };
        memcpy(pool.space + sizeof(struct rand_pool_info), s->seed, s->seed_len);
        NB_AUTO_CLOSE int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
        if (fd >= 0)
                (void)ioctl(fd, RNDADDENTROPY, &pool);
        explicit_bzero(&pool, sizeof pool);
}

static void set_hostname(const struct setup *s) {
        (void)sethostname(s->hostname, strlen(s->hostname));
        NB_AUTO_FREE char *line = nb_asprintf("%s\n", s->hostname);
        (void)system_write_etc("/etc/hostname", line, 0644);
        NB_AUTO_FREE char *hosts = read_etc("/etc/hosts");
        NB_AUTO_FREE char *changed = hosts_with(hosts, s->hostname);
        (void)system_write_etc("/etc/hosts", changed, 0644);
}

static void set_timezone(const struct setup *s) {
        if (!s->timezone)
                return;
        NB_AUTO_FREE char *zone = nb_asprintf("/usr/share/zoneinfo/%s", s->timezone);
        if (access(zone, R_OK) < 0)
                return;
        (void)unlink("/etc/localtime");
        (void)symlink(zone, "/etc/localtime");
        NB_AUTO_FREE char *line = nb_asprintf("%s\n", s->timezone);
        (void)system_write_etc("/etc/timezone", line, 0644);
}

/* An image that many boxes boot from must not give them all one identity. */
static void set_machine_id(void) {
        NB_AUTO_FREE char *id = read_etc("/etc/machine-id");
        if (id && strspn(id, "0123456789abcdef") == 32)
                return;
        uint8_t random[16];
        char text[34];
        if (getrandom(random, sizeof random, 0) != sizeof random)
                return;
        for (size_t i = 0; i < sizeof random; i++)
                snprintf(text + 2 * i, 3, "%02x", random[i]);
        text[32] = '\n';
        text[33] = 0;
        (void)system_write_etc("/etc/machine-id", text, 0444);
}

static bool below(const char *path, const char *dir) {
        size_t len = strlen(dir);
        return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == 0);
}

int system_mkdirs(const char *path, const struct setup *s) {
        NB_AUTO_FREE char *copy = nb_strdup(path);
        for (char *p = copy + 1;; p++) {
                if (*p && *p != '/')
                        continue;
                char was = *p;
                *p = 0;
                if (mkdir(copy, 0755) == 0) {
                        if (below(copy, s->home))
                                (void)chown(copy, s->uid, s->gid);
                } else if (errno != EEXIST) {
                        struct stat st;
                        int code = errno;
                        /* some file systems look at their own state before they look for the name */
                        if (stat(copy, &st) < 0)
                                return -code;
                }
                *p = was;
                if (!was)
                        break;
        }
        struct stat st;
        if (stat(path, &st) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static void copy_file(int from, int to, const char *name, mode_t mode, const struct setup *s) {
        NB_AUTO_FREE char *bytes = NULL;
        size_t len = 0;
        if (nb_read_file_at(from, name, ETC_FILE_MAX, &bytes, &len) < 0)
                return;
        NB_AUTO_CLOSE int fd = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777);
        if (fd < 0)
                return;
        (void)nb_write_all(fd, bytes, len);
        (void)fchown(fd, s->uid, s->gid);
}

/* The files a new home starts with; what cannot be copied is left out. */
static void copy_skeleton(int from, int to, const struct setup *s, unsigned depth) {
        DIR *dir = depth < SKEL_DEPTH_MAX ? fdopendir(dup(from)) : NULL;
        if (!dir)
                return;
        for (struct dirent *e; (e = readdir(dir));) {
                struct stat st;
                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                    fstatat(from, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                char target[4096];
                if (S_ISREG(st.st_mode)) {
                        copy_file(from, to, e->d_name, st.st_mode, s);
                } else if (S_ISDIR(st.st_mode) && mkdirat(to, e->d_name, st.st_mode & 0777) == 0) {
                        (void)fchownat(to, e->d_name, s->uid, s->gid, AT_SYMLINK_NOFOLLOW);
                        NB_AUTO_CLOSE int sub_from = openat(from, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                        NB_AUTO_CLOSE int sub_to = openat(to, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                        if (sub_from >= 0 && sub_to >= 0)
                                copy_skeleton(sub_from, sub_to, s, depth + 1);
                } else if (S_ISLNK(st.st_mode)) {
                        ssize_t n = readlinkat(from, e->d_name, target, sizeof target - 1);
                        if (n > 0) {
                                target[n] = 0;
                                (void)symlinkat(target, to, e->d_name);
                                (void)fchownat(to, e->d_name, s->uid, s->gid, AT_SYMLINK_NOFOLLOW);
                        }
                }
        }
        closedir(dir);
}

static int make_home(const struct setup *s, struct nb_error *err) {
        struct stat st;
        if (strcmp(s->home, "/") == 0)
                return 0;
        if (stat(s->home, &st) == 0 && S_ISDIR(st.st_mode)) {
                if (st.st_uid != s->uid)
                        (void)chown(s->home, s->uid, s->gid);
                return 0;
        }
        int r = system_mkdirs(s->home, s);
        if (r < 0)
                return nb_fail_errno(err, -r, "making the home folder %s", s->home);
        NB_AUTO_CLOSE int home = open(s->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        NB_AUTO_CLOSE int skel = open("/etc/skel", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (home >= 0 && skel >= 0)
                copy_skeleton(skel, home, s, 0);
        return 0;
}

static int make_account(const struct setup *s, struct nb_error *err) {
        struct account a = { .name = s->user, .home = s->home, .uid = s->uid, .gid = s->gid };
        a.shell = access("/bin/bash", X_OK) == 0 ? (char *)"/bin/bash" : (char *)"/bin/sh";
        NB_AUTO_FREE char *old_passwd = read_etc("/etc/passwd"), *old_group = read_etc("/etc/group");
        NB_AUTO_FREE char *old_shadow = read_etc("/etc/shadow");
        NB_AUTO_FREE char *passwd = passwd_with(old_passwd, &a);
        NB_AUTO_FREE char *group = group_with(old_group, s->user, s->gid);
        NB_AUTO_FREE char *shadow = shadow_with(old_shadow, s->user);
        int r = system_write_etc("/etc/passwd", passwd, 0644);
        if (r == 0)
                r = system_write_etc("/etc/group", group, 0644);
        if (r == 0)
                r = system_write_etc("/etc/shadow", shadow, 0600);
        return r < 0 ? nb_fail_errno(err, -r, "making the user %s", s->user) : make_home(s, err);
}

/* By number, so that no character of a name can mean anything to sudo. */
static void allow_sudo(const struct setup *s) {
        if (s->uid == 0 || access("/etc/sudoers.d", F_OK) < 0)
                return;
        NB_AUTO_FREE char *line = nb_asprintf("#%u ALL=(ALL:ALL) NOPASSWD: ALL\n", s->uid);
        (void)system_write_etc("/etc/sudoers.d/nixbox", line, 0440);
}

static bool works_here(const char *path) {
        char target[256];
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        return !strstr(target, "systemctl") && access(path, X_OK) == 0;
}

/* Our own program under the names of the commands that end a machine, where the image has none that could work here:
 * systemctl needs systemd. */
static void provide_power_commands(int old_root) {
        (void)mkdir("/run/nixbox", 0755);
        NB_AUTO_FREE char *program = NULL;
        size_t len = 0;
        if (nb_read_file_at(old_root, "init", 16 * ETC_FILE_MAX, &program, &len) < 0)
                return;
        NB_AUTO_CLOSE int fd = open(OWN_PROGRAM, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
        if (fd < 0 || nb_write_all(fd, program, len) < 0)
                return;
        static const char *const names[] = { "poweroff", "reboot", "halt", "shutdown" };
        (void)mkdir("/usr/sbin", 0755);
        struct stat st;
        bool merged = lstat("/sbin", &st) < 0 || S_ISLNK(st.st_mode);
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++) {
                char path[64];
                snprintf(path, sizeof path, "/sbin/%s", names[i]);
                if (!merged && works_here(path))
                        continue;
                snprintf(path, sizeof path, "/usr/sbin/%s", names[i]);
                if (symlink(OWN_PROGRAM, path) < 0 && !works_here(path)) {
                        (void)unlink(path);
                        (void)symlink(OWN_PROGRAM, path);
                }
        }
}

int system_apply(const struct setup *s, int old_root, struct nb_error *err) {
        (void)mkdir("/etc", 0755);
        set_hostname(s);
        network_write_resolver(s);
        set_timezone(s);
        set_machine_id();
        provide_power_commands(old_root);
        int r = make_account(s, err);
        if (r == 0)
                allow_sudo(s);
        return r;
}
