/* Fuzz target: a tar stream from a box, unpacked. Nothing may appear beside the folder that was named. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cp_tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_only(const char *dir, const char *name) {
        DIR *d = opendir(dir);
        for (const struct dirent *e; d && (e = readdir(d));)
                if (e->d_name[0] != '.' && e->d_name[0] != name[0])
                        abort();
        if (d)
                closedir(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char dir[] = "/tmp/nixbox-fuzz-cp-XXXXXX";
        nb_log_set_level(NB_LOG_ERROR);
        if (!mkdtemp(dir))
                return 0;
        NB_AUTO_FREE char *out = nb_asprintf("%s/out", dir);
        int fd = memfd_create("tar", MFD_CLOEXEC);
        if (fd >= 0 && nb_write_all(fd, data, size) == 0) {
                uint64_t members;
                NB_AUTO_ERROR err = { 0 };
                (void)lseek(fd, 0, SEEK_SET);
                (void)cp_unpack(fd, "d", out, false, NULL, &members, &err);
        }
        nb_close(fd);
        check_only(dir, "out");
        (void)nb_remove_tree(AT_FDCWD, dir);
        return 0;
}
