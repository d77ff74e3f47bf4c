/* Sessions for verbs (see session_cli.h). A running box costs one connection; everything else is tried only without it. */
#include "cli/session_cli.h"

#include <errno.h>
#include <unistd.h>

#include "base/mem.h"

#define BOOT_TRIES 2 /* a box may end between the boot and the session */

static bool is_not_up(int r) {
        return r == -ENOENT || r == -EAGAIN || r == -ESHUTDOWN;
}

int cli_session(struct cli *cli, struct session_spec *spec, bool *ret_booted, struct nb_error *err) {
        NB_AUTO_FREE char *here = getcwd(NULL, 0);
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        spec->in = STDIN_FILENO;
        spec->out = STDOUT_FILENO;
        spec->err = STDERR_FILENO;
        spec->host_cwd = here;
        int r = cli_box(cli, &paths, err);
        for (unsigned boots = 0; r == 0; boots++) {
                int fd = -1;
                r = box_connect(paths, &fd, err);
                if (r == 0)
                        r = session_run(fd, spec, err);
                if (!is_not_up(r) || boots == BOOT_TRIES)
                        return r;
                nb_error_clear(err);
                bool absent = r == -ENOENT;
                r = cli_ensure_up(cli, err);
                if (r == 0 && absent && ret_booted)
                        *ret_booted = true;
        }
        return r;
}
