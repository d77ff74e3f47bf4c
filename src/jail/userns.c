/* Entering a user namespace (see userns.h). What the namespaces are for is the callers' business. */
#include "jail/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"

#define MAP_MAX 65536 /* bytes of an id map in /proc */

char *userns_identity_map(const char *path) {
        NB_AUTO_FREE char *text = NULL;
        if (nb_read_file(path, MAP_MAX, &text, NULL) < 0)
                return NULL;
        NB_AUTO_STRV char **lines = NULL;
        char *save = NULL;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                unsigned long inside, outside, count;
                if (sscanf(line, "%lu %lu %lu", &inside, &outside, &count) == 3)
                        nb_strv_addf(&lines, "%lu %lu %lu\n", inside, inside, count);
        }
        char *map = nb_strdup("");
        for (size_t i = 0; lines && lines[i]; i++) {
                char *longer = nb_asprintf("%s%s", map, lines[i]);
                free(map);
                map = longer;
        }
        return map;
}

/* A map of many ids can be written only from outside the new namespace: a helper does it, told by a byte when. */
static pid_t start_map_writer(int *ret_tell, int *ret_answer) {
        int tell[2], answer[2];
        if (pipe2(tell, O_CLOEXEC) < 0)
                return -1;
        if (pipe2(answer, O_CLOEXEC) < 0) {
                nb_close(tell[0]);
                nb_close(tell[1]);
                return -1;
        }
        NB_AUTO_FREE char *uids = userns_identity_map("/proc/self/uid_map");
        NB_AUTO_FREE char *gids = userns_identity_map("/proc/self/gid_map");
        NB_AUTO_FREE char *uid_path = nb_asprintf("/proc/%d/uid_map", getpid());
        NB_AUTO_FREE char *gid_path = nb_asprintf("/proc/%d/gid_map", getpid());
        pid_t pid = fork();
        if (pid == 0) {
                char go = 0;
                nb_close(tell[1]);
                int r = -EPIPE;
                if (read(tell[0], &go, 1) == 1)
                        r = uids && gids ? nb_write_string_at(AT_FDCWD, uid_path, uids) : -EIO;
                if (r == 0)
                        r = nb_write_string_at(AT_FDCWD, gid_path, gids);
                (void)!write(answer[1], &r, sizeof r);
                _exit(0);
        }
        nb_close(tell[0]);
        nb_close(answer[1]);
        *ret_tell = tell[1];
        *ret_answer = answer[0];
        return pid;
}

static int enter_all(int flags) {
        NB_AUTO_CLOSE int tell = -1;
        NB_AUTO_CLOSE int answer = -1;
        pid_t pid = start_map_writer(&tell, &answer);
        if (pid < 0)
                return -errno;
        int r = unshare(CLONE_NEWUSER | flags) < 0 ? -errno : 0, written = -EPIPE;
        if (r == 0) {
                (void)!write(tell, "", 1);
                if (nb_read_full(answer, &written, sizeof written) != sizeof written || written < 0)
                        r = written < 0 ? written : -EPIPE;
        }
        tell = nb_close(tell);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return r;
}

static int enter_caller(int flags) {
        NB_AUTO_FREE char *uids = nb_asprintf("0 %u 1\n", geteuid());
        NB_AUTO_FREE char *gids = nb_asprintf("0 %u 1\n", getegid());
        if (unshare(CLONE_NEWUSER | flags) < 0)
                return -errno;
        int r = nb_write_string_at(AT_FDCWD, "/proc/self/setgroups", "deny");
        if (r == 0)
                r = nb_write_string_at(AT_FDCWD, "/proc/self/uid_map", uids);
        if (r == 0)
                r = nb_write_string_at(AT_FDCWD, "/proc/self/gid_map", gids);
        return r;
}

int userns_enter(int flags, struct nb_error *err) {
        int r = geteuid() == 0 ? enter_all(flags) : enter_caller(flags);
        if (r < 0) {
                nb_fail_errno(err, -r, "cannot make a user namespace");
                return userns_hint(err);
        }
        return 0;
}

static bool sysctl_is(const char *path, char value) {
        NB_AUTO_FREE char *text = NULL;
        return nb_read_file(path, 64, &text, NULL) == 0 && text[0] == value && (text[1] == '\n' || text[1] == 0);
}

int userns_hint(struct nb_error *err) {
        if (!err)
                return -EPERM;
        if (sysctl_is("/proc/sys/user/max_user_namespaces", '0'))
                return nb_hint(err, "this host allows no user namespaces; as root: sysctl -w user.max_user_namespaces=15000");
        if (sysctl_is("/proc/sys/kernel/unprivileged_userns_clone", '0'))
                return nb_hint(err, "this host allows no user namespaces to users; as root: "
                                    "sysctl -w kernel.unprivileged_userns_clone=1");
        if (sysctl_is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", '1'))
                return nb_hint(
                    err, "AppArmor denies user namespaces to nixbox; as root: "
                         "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give nixbox a profile with userns");
        return nb_hint(err, "this host, or the container or chroot around nixbox, forbids user namespaces: run it outside");
}
