/* Which config file and which box a verb means, and asking that box (see cli.h). */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/control.h"
#include "box/supervisor.h"
#include "cli/cli.h"

int cli_config_file(struct cli *cli, char **ret, struct nb_error *err) {
        NB_AUTO_FREE char *here = getcwd(NULL, 0);
        if (!here)
                return nb_fail_errno(err, errno, "cannot tell the current folder");
        if (!cli->file)
                return config_find(here, ret, err);
        NB_AUTO_FREE char *joined = nb_path_join(here, cli->file);
        *ret = nb_path_normalize(joined);
        return 0;
}

int cli_box(struct cli *cli, struct box_paths **ret, struct nb_error *err) {
        NB_AUTO_FREE char *name = nb_strdup(cli->name);
        if (!name) {
                NB_AUTO_FREE char *file = NULL;
                int r = cli_config_file(cli, &file, err);
                if (r == 0)
                        r = config_box_name(file, &name, err);
                if (r < 0)
                        return r;
        } else if (!nb_valid_box_name(name)) {
                nb_fail(err, EINVAL, "'%s' is not a box name", name);
                return nb_hint(err, "a name has 1 to 40 of a-z, 0-9 and '-', and neither begins nor ends with '-'");
        }
        return box_paths_new(name, ret, err);
}

int cli_connect(struct cli *cli, int *ret_fd, struct nb_error *err) {
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        int r = cli_box(cli, &paths, err);
        return r < 0 ? r : box_connect(paths, ret_fd, err);
}

int cli_call(struct cli *cli, const json_t *request, const int *fds, size_t n_fds, json_t **ret, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = -1;
        int r = cli_connect(cli, &fd, err);
        return r < 0 ? r : control_call(fd, request, fds, n_fds, ret, err);
}

int cli_running(struct cli *cli, struct box_paths **ret, bool *ret_running, struct nb_error *err) {
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        enum box_state state = BOX_NONE;
        int r = cli_box(cli, &paths, err);
        if (r == 0)
                r = box_probe(paths, &state, err);
        if (r == 0 && state == BOX_STARTING)
                r = box_wait(paths, err);
        if (r < 0)
                return r;
        *ret_running = state == BOX_RUNNING || state == BOX_STARTING;
        *ret = nb_steal(&paths);
        return 0;
}

int cli_print_json(json_t *doc, struct nb_error *err) {
        int r = json_dumpf(doc, stdout, 0);
        json_decref(doc);
        return r < 0 || putchar('\n') == EOF || fflush(stdout) != 0 ? nb_fail(err, EIO, "cannot write the result to stdout")
                                                                    : 0;
}
