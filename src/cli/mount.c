/* nixbox mount and unmount: folders and files given to a running box, and taken back. The source is opened here, with the
 * caller's view of the file system; what the box may do with it is decided by the supervisor's share tree. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/control.h"
#include "box/share.h"
#include "cli/cli.h"
#include "config/approval.h"

/* Sends the request and prints what came of it. */
static int ask(struct cli *cli, json_t *request, const int *fds, size_t n_fds, const char *done, struct nb_error *err) {
        NB_AUTO_CLOSE int control = -1;
        json_t *answer = NULL;
        int r = cli_connect(cli, &control, err);
        if (r == 0)
                r = control_call(control, request, fds, n_fds, &answer, err);
        if (r == 0 && cli->json) {
                (void)json_object_del(request, "op");
                r = json_dumpf(request, stdout, 0) < 0 ? nb_fail(err, EIO, "cannot write the result") : 0;
                putchar('\n');
        } else if (r == 0 && !cli->quiet) {
                NB_AUTO_FREE char *text = nb_text_clean(done, 0);
                fprintf(stderr, "%s\n", text);
        }
        json_decref(answer);
        return r;
}

/* What the box can write from now on is remembered first, so that changes to configs and hooks there are asked about. */
static int note_writable(struct cli *cli, const char *source, struct nb_error *err) {
        NB_AUTO_CLOSE int control = -1;
        json_t *answer = NULL, *request = json_pack("{s:s}", "op", "status");
        int r = cli_connect(cli, &control, err);
        if (r == 0)
                r = control_call(control, request, NULL, 0, &answer, err);
        const char *file = json_string_value(json_object_get(answer, "config"));
        if (r == 0)
                r = file ? approval_note_writable(file, source, err)
                         : nb_fail(err, EPROTO, "the box does not say which config it is of");
        json_decref(answer);
        json_decref(request);
        return r;
}

static int mount_one(struct cli *cli, const char *spec, struct nb_error *err) {
        NB_AUTO_FREE char *here = getcwd(NULL, 0);
        if (!here)
                return nb_fail_errno(err, errno, "cannot tell the current folder");
        __attribute__((cleanup(config_mount_clear))) struct config_mount m = { 0 };
        NB_AUTO_CLOSE int tree = -1;
        bool is_file = false;
        int r = config_parse_mount(spec, here, &m, err);
        if (r == 0)
                r = share_open_tree(m.source, &tree, &is_file, err);
        if (r == 0 && m.write)
                r = note_writable(cli, m.source, err);
        if (r < 0)
                return r;
        json_t *request =
            json_pack("{s:s, s:s, s:s, s:b}", "op", "mount", "source", m.source, "target", m.target, "write", m.write);
        if (!request)
                return nb_fail(err, EINVAL, "the path %s is not UTF-8, which the box needs", m.source);
        NB_AUTO_FREE char *done =
            nb_asprintf("%s is mounted on %s, %s", m.source, m.target, m.write ? "writable" : "read-only");
        r = ask(cli, request, &tree, 1, done, err);
        json_decref(request);
        return r;
}

int verb_mount(struct cli *cli, int argc, char **argv) {
        if (cli_getopt(cli, argc, argv, "", NULL) != -1)
                return CLI_FAILED;
        NB_AUTO_ERROR err = { 0 };
        if (optind + 1 != argc) {
                nb_fail(&err, EINVAL, "nixbox mount takes one SOURCE[:TARGET][:rw|:ro]");
                nb_hint(&err, "nixbox mount --help shows how");
                return cli_fail(&err);
        }
        return mount_one(cli, argv[optind], &err) < 0 ? cli_fail(&err) : 0;
}

/* As in a mount's SPEC: ~ is the caller's home, and a relative path means the same path inside. */
static char *target_path(const char *given) {
        NB_AUTO_FREE char *base = given[0] == '~' ? nb_home_dir() : getcwd(NULL, 0);
        if (given[0] == '~' && (given[1] == '/' || given[1] == 0))
                given += given[1] == '/' ? 2 : 1;
        NB_AUTO_FREE char *joined = nb_path_join(base ? base : "/", given);
        return nb_path_normalize(joined);
}

int verb_unmount(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "force", no_argument, NULL, 'F' }, { 0 } };
        bool force = false;
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                if (opt != 'F')
                        return CLI_FAILED;
                force = true;
        }
        NB_AUTO_ERROR err = { 0 };
        if (optind + 1 != argc) {
                nb_fail(&err, EINVAL, "nixbox unmount takes one TARGET");
                nb_hint(&err, "nixbox status lists the mounts");
                return cli_fail(&err);
        }
        NB_AUTO_FREE char *target = target_path(argv[optind]);
        json_t *request = json_pack("{s:s, s:s, s:b}", "op", "unmount", "target", target, "force", force);
        if (!request) {
                nb_fail(&err, EINVAL, "the path %s is not UTF-8", target);
                return cli_fail(&err);
        }
        NB_AUTO_FREE char *done = nb_asprintf("%s is not mounted any more", target);
        int r = ask(cli, request, NULL, 0, done, &err);
        json_decref(request);
        return r < 0 ? cli_fail(&err) : 0;
}
