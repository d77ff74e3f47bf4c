/* nixbox down: ends boxes. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "box/control.h"
#include "box/disk.h"
#include "box/supervisor.h"
#include "cli/cli.h"
#include "cli/hooks.h"
#include "cli/progress.h"
#include "config/approval.h"

struct down_options {
        bool keep_disk, delete_disk;
};

/* The config a running box was started from, if it has hooks for its end and they are approved; else NULL. A config that
 * cannot be read any more must not keep a box from being taken down. */
static struct config *config_of(const struct box_paths *paths) {
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_CLOSE int fd = -1;
        struct config *c = NULL;
        enum box_state state;
        if (box_probe(paths, &state, NULL) < 0 || state != BOX_RUNNING || box_connect(paths, &fd, NULL) < 0)
                return NULL;
        json_t *answer = NULL, *request = json_pack("{s:s}", "op", "status");
        int r = control_call(fd, request, NULL, 0, &answer, &err);
        const char *file = json_string_value(json_object_get(answer, "config"));
        if (r == 0 && file)
                r = config_load(file, false, &c, &err);
        json_decref(answer);
        json_decref(request);
        if (r == 0 && c && c->n_pre_down + c->n_post_down > 0)
                r = approval_check(c, APPROVAL_REFUSE, &err);
        if (r < 0) {
                fprintf(stderr, "nixbox: the hooks of the box '%s' do not run\n", paths->name);
                (void)cli_fail(&err);
                config_free(c);
                return NULL;
        }
        return c;
}

static int delete_disk(const struct cli *cli, const struct box_paths *paths, struct nb_error *err) {
        bool removed = false;
        int r = disk_delete(paths, &removed, err);
        if (r == 0 && !cli->quiet)
                fprintf(stderr,
                        removed ? "nixbox: removed the disk of the box '%s'\n" : "nixbox: the box '%s' has no disk to remove\n",
                        paths->name);
        return r;
}

static int take_down(struct cli *cli, const struct box_paths *paths, const struct down_options *o, struct nb_error *err) {
        __attribute__((cleanup(config_freep))) struct config *c = config_of(paths);
        if (c) {
                int r = hooks_run(c, "pre-down", c->pre_down, c->n_pre_down, err);
                if (r < 0)
                        return nb_hint(err, "the box still runs; correct the hook, or remove it from the config");
        }
        struct progress *p = progress_new(cli->quiet, cli->color);
        progress_step(p, "ending", paths->name, 0, 0);
        int r = box_stop(paths, o->keep_disk, err);
        progress_end(p);
        progress_free(p);
        bool was_up = r != -ENOENT;
        if (!was_up) {
                nb_error_clear(err);
                r = 0;
                if (!cli->quiet)
                        fprintf(stderr, "nixbox: the box '%s' is not running\n", paths->name);
        }
        if (r == 0 && o->delete_disk)
                r = delete_disk(cli, paths, err);
        else if (r == 0 && !cli->quiet && disk_is_kept(paths))
                fprintf(stderr, "nixbox: the disk of the box '%s' is kept\n  nixbox -n %s down --delete-disk removes it\n",
                        paths->name, paths->name);
        return r < 0 || !c || !was_up ? r : hooks_run(c, "post-down", c->post_down, c->n_post_down, err);
}

static int take_all_down(struct cli *cli, const struct down_options *o) {
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_STRV char **names = NULL;
        int worst = 0;
        if (box_list(&names, &err) < 0)
                return cli_fail(&err);
        for (size_t i = 0; names[i]; i++) {
                __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
                if (box_paths_new(names[i], &paths, &err) < 0 || take_down(cli, paths, o, &err) < 0)
                        worst = cli_fail(&err);
        }
        return worst;
}

int verb_down(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "all", no_argument, NULL, 'A' },
                                               { "keep-disk", no_argument, NULL, 'K' },
                                               { "delete-disk", no_argument, NULL, 'D' },
                                               { 0 } };
        bool all = false;
        struct down_options o = { 0 };
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                switch (opt) {
                case 'A': all = true; break;
                case 'K': o.keep_disk = true; break;
                case 'D': o.delete_disk = true; break;
                default: return CLI_FAILED;
                }
        }
        NB_AUTO_ERROR err = { 0 };
        if (optind < argc) {
                nb_fail(&err, EINVAL, "down takes no '%s'", argv[optind]);
                nb_hint(&err, "nixbox -n BOX down ends a box by its name");
                return cli_fail(&err);
        }
        if (o.keep_disk && o.delete_disk) {
                nb_fail(&err, EINVAL, "down cannot both keep and delete the disk");
                nb_hint(&err, "give one of --keep-disk and --delete-disk");
                return cli_fail(&err);
        }
        if (all)
                return take_all_down(cli, &o);
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        int r = cli_box(cli, &paths, &err);
        if (r == 0)
                r = take_down(cli, paths, &o, &err);
        return r < 0 ? cli_fail(&err) : 0;
}
