/* Starting commands (see spawn.h). After clone_process() the child touches only its own copy of memory and system calls. */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#define OPEN_FILES_SOFT 1024u
#define OPEN_FILES_HARD 524288u

/* One thread only, so the bare system call is as good as fork(); it puts the child into its group at birth. */
static int clone_process(int cgroup) {
        struct clone_args args = { .exit_signal = SIGCHLD };
        if (cgroup >= 0) {
                args.flags = CLONE_INTO_CGROUP;
                args.cgroup = (uint64_t)cgroup;
        }
        long pid = syscall(SYS_clone3, &args, sizeof args);
        return pid < 0 ? -errno : (int)pid;
}

int spawn_helper(void) {
        return clone_process(-1);
}

static _Noreturn void give_up(int status, const char *what, const char *name, int code) {
        dprintf(STDERR_FILENO, "nixbox: %s%s%s%s: %s\n", what, name ? " '" : "", name ? name : "", name ? "'" : "",
                strerror(code));
        _exit(status);
}

static const char *env_value(char *const *env, const char *name) {
        size_t len = strlen(name);
        for (; env && *env; env++)
                if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
                        return *env + len + 1;
        return NULL;
}

/* execve(), and for a script without "#!" the shell, as execvp() has always done. */
static int execute(const char *path, char *const *argv, char *const *env) {
        execve(path, argv, env);
        if (errno != ENOEXEC)
                return errno;
        char **with_shell = NULL;
        nb_strv_add(&with_shell, "sh");
        nb_strv_add(&with_shell, path);
        for (char *const *a = argv + 1; argv[0] && *a; a++)
                nb_strv_add(&with_shell, *a);
        execve("/bin/sh", with_shell, env);
        return ENOEXEC;
}

static int execute_by_path(const struct spawn_spec *s) {
        if (strchr(s->file, '/'))
                return execute(s->file, s->argv, s->env);
        const char *path = env_value(s->env, "PATH");
        int result = ENOENT;
        for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
                size_t len = strcspn(p, ":");
                NB_AUTO_FREE char *full = nb_asprintf("%.*s%s%s", (int)len, p, len ? "/" : "./", s->file);
                int e = execute(full, s->argv, s->env);
                struct stat st;
                if (e == EACCES && stat(full, &st) == 0 && !S_ISDIR(st.st_mode))
                        result = EACCES; /* a later folder may still have one that can be run */
                else if (e != ENOENT && e != ENOTDIR && e != EACCES)
                        return e;
                p += len + (p[len] == ':');
        }
        return result;
}

static void reset_process(void) {
        sigset_t none;
        sigemptyset(&none);
        signal(SIGPIPE, SIG_DFL); /* the only one that the agent ignores */
        sigprocmask(SIG_SETMASK, &none, NULL);
        struct rlimit files = { .rlim_cur = OPEN_FILES_SOFT, .rlim_max = OPEN_FILES_HARD };
        (void)setrlimit(RLIMIT_NOFILE, &files);
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
                (void)!write(fd, "0", 1);
        umask(022);
}

static void take_descriptors(const struct spawn_spec *s) {
        setsid();
        if (s->pty)
                (void)ioctl(s->fd[0], TIOCSCTTY, 0);
        /* ours are never 0 to 2: those are the console's */
        for (int i = 0; i < 3; i++) {
                (void)fchown(s->fd[i], s->who->uid, (gid_t)-1); /* so that the user can open /dev/stderr and the like */
                if (dup2(s->fd[i], i) < 0)
                        _exit(SPAWN_NOT_STARTED);
        }
}

static void become(const struct account *who) {
        if (syscall(SYS_setgroups, who->n_groups, who->groups) < 0 ||
            syscall(SYS_setresgid, who->gid, who->gid, who->gid) < 0 ||
            syscall(SYS_setresuid, who->uid, who->uid, who->uid) < 0)
                give_up(SPAWN_NOT_STARTED, "becoming the user", who->name, errno);
}

static _Noreturn void child(const struct spawn_spec *s) {
        take_descriptors(s);
        reset_process();
        become(s->who);
        if ((!s->cwd || chdir(s->cwd) < 0) && chdir(s->who->home) < 0 && chdir("/") < 0)
                give_up(SPAWN_NOT_STARTED, "entering the working folder", NULL, errno);
        int code = execute_by_path(s);
        give_up(code == ENOENT || code == ENOTDIR ? SPAWN_NOT_FOUND : SPAWN_NOT_EXECUTABLE, "cannot execute", s->file, code);
}

int spawn(const struct spawn_spec *spec) {
        int pid = clone_process(spec->cgroup);
        if (pid == -ENOENT || pid == -EBADF || pid == -ENODEV || pid == -EOPNOTSUPP || pid == -EBUSY)
                pid = clone_process(-1); /* someone inside has taken the group apart: run all the same */
        if (pid == 0)
                child(spec);
        return pid;
}
