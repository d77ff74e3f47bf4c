/* The inside of bench/formats.py: as process 1 of a guest, mounts the same tree from three file systems, reads the same files
 * from each with cold caches, and prints a JSON object a line: {"path", "measure", "value"}; then powers off.
 *
 * /disks names the file systems in the order of the disks, /files the files to read, a line each. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 7
#define DISKS_MAX 8
#define FILES_MAX 4096

static double now_ms(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static void fail(const char *what) {
        printf("{\"failed\": \"%s\", \"why\": \"%s\"}\n", what, strerror(errno));
        fflush(stdout);
        reboot(RB_POWER_OFF);
}

static size_t lines(const char *path, char **ret, size_t max) {
        static char text[512 * 1024];
        static size_t used;
        int fd = open(path, O_RDONLY);
        ssize_t n = read(fd, text + used, sizeof text - used - 1);
        size_t count = 0;
        close(fd);
        if (n < 0)
                fail(path);
        text[used + (size_t)n] = 0;
        char *save = NULL;
        for (char *line = strtok_r(text + used, "\n", &save); line && count < max; line = strtok_r(NULL, "\n", &save))
                ret[count++] = line;
        used += (size_t)n + 1;
        return count;
}

static void load_modules(void) {
        char *names[64];
        size_t n = lines("/modules.list", names, 64);
        for (size_t i = 0; i < n; i++) {
                char path[256];
                snprintf(path, sizeof path, "/modules/%s", names[i]);
                int fd = open(path, O_RDONLY);
                if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
                        fail(names[i]);
                close(fd);
        }
}

static void forget(void) {
        sync();
        int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
        if (fd < 0 || write(fd, "3", 1) != 1)
                fail("drop_caches");
        close(fd);
}

static double read_all(const char *top, char **files, size_t n) {
        static char block[256 * 1024];
        double began = now_ms();
        for (size_t i = 0; i < n; i++) {
                char path[512];
                snprintf(path, sizeof path, "%s/%s", top, files[i]);
                int fd = open(path, O_RDONLY);
                ssize_t got;
                if (fd < 0)
                        fail(path);
                while ((got = read(fd, block, sizeof block)) > 0)
                        ;
                if (got < 0)
                        fail(path);
                close(fd);
        }
        return now_ms() - began;
}

int main(void) {
        static char *files[FILES_MAX];
        char *disks[DISKS_MAX];
        mount("dev", "/dev", "devtmpfs", 0, NULL);
        mount("proc", "/proc", "proc", 0, NULL);
        load_modules();
        if (!freopen("/dev/hvc0", "w", stdout))
                reboot(RB_POWER_OFF);
        size_t n_disks = lines("/disks", disks, DISKS_MAX), n_files = lines("/files", files, FILES_MAX);
        for (size_t i = 0; i < n_disks; i++) {
                char disk[] = "/dev/vda", top[] = "/m0";
                disk[7] += (char)i;
                top[2] += (char)i;
                for (int wait = 0; access(disk, F_OK) != 0 && wait < 500; wait++)
                        usleep(10000);
                mkdir(top, 0755);
                if (mount(disk, top, disks[i], MS_RDONLY, NULL) < 0)
                        fail(disks[i]);
        }
        for (size_t round = 0; round < ROUNDS; round++)
                for (size_t i = 0; i < n_disks; i++) {
                        size_t k = (i + round) % n_disks; /* nobody is always first */
                        char top[] = "/m0";
                        top[2] += (char)k;
                        forget();
                        printf("{\"path\": \"%s\", \"measure\": \"read\", \"value\": %.2f}\n", disks[k],
                               read_all(top, files, n_files));
                        fflush(stdout);
                }
        printf("{\"measure\": \"done\"}\n");
        fflush(stdout);
        sleep(1); /* for the console */
        reboot(RB_POWER_OFF);
        return 1;
}
