/* Makes the cgroup of a box below a folder and shows that its limits hold, for a kernel that hands them on: that of a box will
 * do. cgroup FOLDER Says what a process got: "memory inside 9" is the signal that ended it, "tasks outside 20" how many it
 * could start. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/cgroup.h"

#define MIB (1ull << 20)
#define HOG (160 * MIB)
#define TASKS 20

static int take_memory(void) {
        volatile char *bytes = malloc(HOG);
        for (size_t i = 0; bytes && i < HOG; i += 4096)
                bytes[i] = 1;
        return bytes ? 0 : 1;
}

static int start_tasks(void) {
        pid_t made[TASKS];
        int n = 0;
        while (n < TASKS && (made[n] = fork()) > 0)
                n++;
        if (n < TASKS && made[n] == 0)
                for (;;)
                        pause();
        for (int i = 0; i < n; i++)
                (void)kill(made[i], SIGKILL);
        while (wait(NULL) > 0)
                ;
        return n;
}

/* How a child ends that does this in the group, or outside any (fd -1). */
static int outcome(int fd, int (*what)(void)) {
        int go[2], status = 0;
        if (pipe(go) < 0)
                exit(1);
        pid_t pid = fork();
        if (pid == 0) {
                char byte;
                close(go[1]);
                (void)!read(go[0], &byte, 1);
                _exit(what());
        }
        NB_AUTO_FREE char *text = nb_asprintf("%d", (int)pid);
        if (fd >= 0 && nb_write_string_at(fd, "cgroup.procs", text) < 0)
                exit(1);
        close(go[0]);
        close(go[1]);
        (void)waitpid(pid, &status, 0);
        return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv) {
        NB_AUTO_ERROR err = { 0 };
        const struct cgroup_limits limits = { .memory = 64 * MIB, .swap = 0, .tasks = 8, .weight = 50 };
        struct cgroup c;
        if (argc != 2)
                return 2;
        if (cgroup_make(argv[1], "test", &limits, &c, &err) < 0) {
                nb_error_print(&err, stderr);
                return 1;
        }
        printf("memory outside %d\n", outcome(-1, take_memory));
        printf("memory inside %d\n", outcome(c.fd, take_memory));
        printf("tasks outside %d\n", outcome(-1, start_tasks));
        printf("tasks inside %d\n", outcome(c.fd, start_tasks));
        NB_AUTO_FREE char *path = nb_strdup(c.path);
        cgroup_remove(&c);
        printf("left behind %d\n", access(path, F_OK) == 0);
        return 0;
}
