/* The end of the machine (see power.h). */
#include "power.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "guest/spawn.h"

#define SYNC_MS 10000u
#define REBOOT "reboot"

/* The signals by which the init programs in use know these wishes. */
static const struct {
        const char *reason;
        int signal;
} wishes[] = { { "poweroff", SIGUSR2 }, { "halt", SIGUSR1 }, { REBOOT, SIGTERM }, { REBOOT, SIGINT } };

const char *power_reason(int signal) {
        for (size_t i = 0; i < NB_ARRAY_LEN(wishes); i++)
                if (wishes[i].signal == signal)
                        return wishes[i].reason;
        return NULL;
}

int power_command(int argc, char **argv) {
        const char *slash = strrchr(argv[0], '/');
        const char *name = slash ? slash + 1 : argv[0];
        if (strcmp(name, "shutdown") == 0) {
                name = "poweroff";
                for (int i = 1; i < argc; i++) {
                        if (strcmp(argv[i], "-r") == 0)
                                name = REBOOT;
                        else if (strcmp(argv[i], "-c") == 0)
                                return 0; /* nothing is ever scheduled */
                }
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(wishes); i++)
                if (strcmp(name, wishes[i].reason) == 0) {
                        if (kill(1, wishes[i].signal) == 0)
                                return 0;
                        fprintf(stderr, "%s: %s\n", name, strerror(errno));
                        return 1;
                }
        return -1;
}

/* In a process of its own: a file system that does not answer must not keep the machine on. */
void power_sync(void) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        int pid = spawn_helper();
        if (pid == 0) {
                sync();
                _exit(0);
        }
        for (uint64_t end = nb_now_ms() + SYNC_MS, now; pid > 0 && waitpid(pid, NULL, WNOHANG) == 0;) {
                now = nb_now_ms();
                if (now >= end)
                        return;
                struct timespec wait = { .tv_sec = (time_t)((end - now) / 1000),
                                         .tv_nsec = (long)((end - now) % 1000) * 1000000 };
                (void)sigtimedwait(&set, NULL, &wait); /* SIGCHLD is blocked, so it is kept for us */
        }
}

void power_off(const char *reason) {
        (void)reboot(strcmp(reason, REBOOT) == 0 ? RB_AUTOBOOT : RB_POWER_OFF);
        for (;;)
                (void)reboot(RB_HALT_SYSTEM);
}
