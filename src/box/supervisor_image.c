/* What the box boots from, seen from the supervisor: kept in the store for as long as the box runs, and the same that the
 * starting command has checked. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/mem.h"
#include "base/seal.h"
#include "box/supervisor_impl.h"

int image_mark(struct supervisor *s, struct nb_error *err) {
        const struct image *i = &s->m.image;
        const char *slash = strrchr(i->vmlinux, '/');
        NB_AUTO_FREE char *kernel = nb_strndup(i->vmlinux, slash ? (size_t)(slash - i->vmlinux) : 0);
        const char *const paths[SUPER_MARKS] = { i->runtime, kernel, i->initrd, i->rootfs };
        for (size_t k = 0; k < SUPER_MARKS; k++) {
                int r = nb_use_open(paths[k], &s->marks[k]);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot open %s", paths[k]);
        }
        return 0;
}

int image_open(const struct supervisor *s, const char *path, const char *seal, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
        if (fd < 0)
                return nb_fail_errno(err, errno, "cannot open %s", path);
        NB_AUTO_FREE char *now = nb_seal_fd(fd);
        if (!now || (seal && strcmp(now, seal) != 0))
                return nb_fail(err, EBADMSG, "%s of the image %s was changed since it was checked", path, s->m.image.digest);
        return nb_steal_fd(&fd);
}
