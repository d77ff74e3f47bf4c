/* A child as root of a user namespace of its own (see userns.h): the child unshares and waits, its parent gives it the ids,
 * with the help of newuidmap and newgidmap where those of an ordinary user's own are not all. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/host.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/proc.h"
#include "jail/jail_internal.h"
#include "jail/userns.h"

#define TABLE_MAX (1024u * 1024u) /* bytes of /etc/subuid that are read */
#define TOOL_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Arguments that map the subordinate ids in a table after the caller's own; NULL if there are not enough. */
static char **map_of(const char *table) {
        NB_AUTO_FREE char *text = NULL;
        const struct passwd *pw = getpwuid(getuid());
        if (nb_read_file(table, TABLE_MAX, &text, NULL) < 0)
                return NULL;
        return nb_subordinate_map(text, pw ? pw->pw_name : "", getuid(), USERNS_SUBIDS_WANTED);
}

enum userns_ids userns_best(void) {
        if (jail_real_root())
                return USERNS_ALL;
        NB_AUTO_STRV char **uids = map_of("/etc/subuid"), **gids = map_of("/etc/subgid");
        bool tools = nb_have_program(TOOL_PATH, "newuidmap") && nb_have_program(TOOL_PATH, "newgidmap");
        return geteuid() != 0 && uids && gids && tools ? USERNS_SUBIDS : USERNS_ONE;
}

static int run_map_tool(const char *tool, const char *table, unsigned own, pid_t pid, struct nb_error *err) {
        NB_AUTO_STRV char **argv = NULL, **map = map_of(table);
        nb_strv_add(&argv, tool);
        nb_strv_addf(&argv, "%d", (int)pid);
        nb_strv_add(&argv, "0");
        nb_strv_addf(&argv, "%u", own);
        nb_strv_add(&argv, "1");
        for (size_t i = 0; map && map[i]; i++)
                nb_strv_add(&argv, map[i]);
        struct proc_spec spec = { .argv = argv, .stdout_fd = -1, .stderr_fd = -1 };
        return proc_run(&spec, NULL, NULL, err);
}

static int give_ids(enum userns_ids ids, pid_t pid, struct nb_error *err) {
        NB_AUTO_FREE char *proc_pid = nb_asprintf("/proc/%d", (int)pid);
        bool groups;
        if (ids != USERNS_SUBIDS)
                return jail_write_maps(proc_pid, ids == USERNS_ALL, geteuid(), getegid(), ids == USERNS_ALL, &groups, err);
        int r = run_map_tool("newuidmap", "/etc/subuid", getuid(), pid, err);
        return r == 0 ? run_map_tool("newgidmap", "/etc/subgid", getgid(), pid, err) : r;
}

/* Says how unsharing went, and waits for the ids. */
static int child_enter(const struct userns_child *what, int sock) {
        struct nb_error err = { 0 };
        char go = 0;
        int r = unshare(CLONE_NEWUSER | what->flags) < 0 ? -errno : 0;
        if (write(sock, &r, sizeof r) != sizeof r || r < 0 || read(sock, &go, 1) != 1)
                return -EPIPE;
        if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
                return -errno;
        if (what->ids != USERNS_ONE && setgroups(0, NULL) < 0)
                return -errno;
        r = jail_tether(&err);
        return r == 0 && write(sock, &go, 1) == 1 ? 0 : -EPIPE; /* a parent that is gone already hears nothing */
}

static _Noreturn void child_main(const struct userns_child *what, int sock) {
        int r = child_enter(what, sock);
        nb_close(sock);
        _exit(r < 0 ? 127 : what->body(what->user));
}

/* The parent's side of child_enter(). */
static int admit(const struct userns_child *what, pid_t pid, int sock, struct nb_error *err) {
        int unshared = -EPIPE;
        char go = 1;
        if (nb_read_full(sock, &unshared, sizeof unshared) != sizeof unshared || unshared < 0) {
                nb_fail_errno(err, unshared < 0 ? -unshared : EPIPE, "cannot make a user namespace");
                return userns_hint(err);
        }
        int r = give_ids(what->ids, pid, err);
        if (r < 0)
                return r;
        if (nb_write_all(sock, &go, 1) < 0 || nb_read_full(sock, &go, 1) != 1)
                return nb_fail(err, EPERM, "cannot become root of a user namespace");
        return 0;
}

int userns_wait(pid_t pid) {
        int status = 0;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int userns_start(const struct userns_child *what, pid_t *ret_pid, struct nb_error *err) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
                return nb_fail_errno(err, errno, "cannot make a socket");
        NB_AUTO_CLOSE int mine = ends[0];
        pid_t pid = fork();
        if (pid == 0) {
                nb_close(mine);
                child_main(what, ends[1]);
        }
        int code = errno;
        nb_close(ends[1]);
        if (pid < 0)
                return nb_fail_errno(err, code, "cannot make a child");
        int r = admit(what, pid, mine, err);
        if (r < 0) {
                (void)kill(pid, SIGKILL);
                (void)userns_wait(pid);
                return r;
        }
        *ret_pid = pid;
        return 0;
}
