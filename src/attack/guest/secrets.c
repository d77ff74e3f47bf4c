/* Probes for what the host must not have let in: a variable that only its caller has, this host's name and id. The control of
 * each is a text that does stand where they look. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack/guest/guest.h"
#include "base/mem.h"

#define KNOWN "NIXBOX_ATTACK_CONTROL"
#define KNOWN_TRIES 200
#define KNOWN_PAUSE_US 20000
#define LOG_MAX (1u << 20)
#define DISK_PART (4u << 20)

static void told_needle(struct outcome *o, const char *needle, const char *where) {
        if (needle)
                tried(o, TRIED_DONE, "%s is in %s", needle, where);
        else
                tried(o, TRIED_REFUSED, "not found");
}

/* Until the process has become what it is there for. */
static void wait_for_known(pid_t pid, const char *file) {
        bool known = false;
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/%s", (int)pid, file);
        for (int i = 0; i < KNOWN_TRIES && !known; i++) {
                (void)scan_file(path, 0, 1u << 20, KNOWN, &known);
                (void)usleep(KNOWN_PAUSE_US);
        }
}

/* One file of each process. A process of ours has what the control looks for, in its environment and on its command line. */
static void scan_processes(const char *file, struct outcome *o) {
        pid_t pid = fork();
        if (pid == 0) {
                char *argv[] = { "/proc/self/exe", "pause", NULL }, *env[] = { KNOWN "=1", NULL };
                char *named[] = { KNOWN, "pause", NULL };
                (void)execve(argv[0], strcmp(file, "cmdline") == 0 ? named : argv, env);
                _exit(1);
        }
        wait_for_known(pid, file);
        DIR *d = opendir("/proc");
        const char *needle = NULL;
        bool known = false;
        char where[64] = "";
        for (const struct dirent *e; d && !needle && (e = readdir(d));) {
                if (e->d_name[0] < '0' || e->d_name[0] > '9')
                        continue;
                (void)snprintf(where, sizeof where, "/proc/%.20s/%s", e->d_name, file);
                needle = scan_file(where, 0, 1u << 20, KNOWN, &known);
        }
        if (d)
                closedir(d);
        controlled(o, known);
        told_needle(o, needle, where);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
}

void guest_scan_environ(char *const *words, struct outcome *o) {
        (void)words;
        scan_processes("environ", o);
}

void guest_scan_cmdline(char *const *words, struct outcome *o) {
        (void)words;
        scan_processes("cmdline", o);
}

void guest_scan_kernel(char *const *words, struct outcome *o) {
        (void)words;
        bool known = false;
        const char *needle = scan_file("/proc/cmdline", 0, 65536, "console=", &known);
        controlled(o, known);
        told_needle(o, needle, "/proc/cmdline");
}

void guest_scan_log(char *const *words, struct outcome *o) {
        (void)words;
        char *log = nb_calloc(LOG_MAX, 1);
        int n = klogctl(3 /* read all */, log, LOG_MAX);
        controlled(o, n > 0 && memmem(log, (size_t)n, "Linux version", 13));
        told_needle(o, n > 0 ? find_needle(log, (size_t)n) : NULL, "the kernel's messages");
        free(log);
}

void guest_scan_disks(char *const *words, struct outcome *o) {
        (void)words;
        const char *needle = NULL;
        char path[32] = "";
        unsigned disks = 0;
        for (char name = 'a'; name <= 'h' && !needle; name++) {
                (void)snprintf(path, sizeof path, "/dev/vd%c", name);
                FILE *f = fopen(path, "re");
                if (!f)
                        continue;
                disks++;
                (void)fseeko(f, 0, SEEK_END);
                off_t size = ftello(f);
                fclose(f);
                needle = scan_file(path, 0, DISK_PART, NULL, NULL);
                if (!needle && size > (off_t)DISK_PART)
                        needle = scan_file(path, size - (off_t)DISK_PART, DISK_PART, NULL, NULL);
        }
        bool known = false;
        (void)scan_file("/dev/vda", 1024, 4, "\xe2\xe1\xf5\xe0", &known); /* where EROFS begins */
        controlled(o, known);
        if (needle || disks > 0)
                told_needle(o, needle, path);
        else
                tried(o, TRIED_NOTHING, "no disk");
}

void guest_scan_files(char *const *words, struct outcome *o) {
        (void)words;
        static const char *const trees[] = { "/etc", "/run" };
        char where[128] = "";
        const char *needle = NULL;
        bool known = false;
        for (size_t i = 0; i < NB_ARRAY_LEN(trees) && !needle; i++)
                needle = scan_tree(trees[i], 5, "root:", &known, where, sizeof where);
        controlled(o, known);
        told_needle(o, needle, where);
}
