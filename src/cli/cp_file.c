/* A file that takes the place of another only when all of it is there (see cp_tar.h): until then it has no name, or, where the
 * file system cannot do without, one of its own. So what breaks off leaves the old file, and a kill leaves nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "cli/cp_tar.h"

static void make_name(char ret[CP_NAME_MAX]) {
        uint64_t number = 0;
        if (getrandom(&number, sizeof number, 0) < 0)
                number = (uint64_t)getpid(); /* O_EXCL decides in any case */
        (void)snprintf(ret, CP_NAME_MAX, ".nixbox-cp-%016llx", (unsigned long long)number);
}

int cp_file_open(int parent, struct cp_file *ret) {
        *ret = (struct cp_file){ .parent = parent };
        ret->fd = openat(parent, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
        if (ret->fd >= 0)
                return 0;
        if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)
                return -errno;
        make_name(ret->name);
        ret->fd = openat(parent, ret->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        return ret->fd < 0 ? -errno : 0;
}

/* A file without a name gets one, the wanted one where nothing has it yet. */
static int give_name(struct cp_file *f, const char *wanted, bool *ret_there) {
        char self[32];
        (void)snprintf(self, sizeof self, "/proc/self/fd/%d", f->fd);
        *ret_there = linkat(AT_FDCWD, self, f->parent, wanted, AT_SYMLINK_FOLLOW) == 0;
        if (*ret_there)
                return 0;
        if (errno != EEXIST)
                return -errno;
        make_name(f->name);
        if (linkat(AT_FDCWD, self, f->parent, f->name, AT_SYMLINK_FOLLOW) == 0)
                return 0;
        f->name[0] = 0;
        return -errno;
}

int cp_file_keep(struct cp_file *f, const char *wanted) {
        bool there = false;
        int r = f->name[0] ? 0 : give_name(f, wanted, &there);
        if (r < 0 || there)
                return r;
        if (renameat(f->parent, f->name, f->parent, wanted) < 0)
                return -errno;
        f->name[0] = 0;
        return 0;
}

void cp_file_close(struct cp_file *f) {
        if (f->name[0])
                (void)unlinkat(f->parent, f->name, 0);
        f->fd = nb_close(f->fd);
}
