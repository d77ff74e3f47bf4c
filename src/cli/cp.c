/* nixbox cp: files and folders between here and a box, as tar streams through sessions that run the guest's tar. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/cp_path.h"
#include "cli/cp_tar.h"
#include "cli/progress.h"
#include "cli/remote.h"

#define ANSWER_MAX 16u

/* What a destination in the box is: a folder, something else, or nothing yet. */
#define PROBE "if [ -d \"$1\" ]; then echo d; elif [ -e \"$1\" ] || [ -L \"$1\" ]; then echo f; else echo n; fi"

struct cp {
        struct cli *cli;
        struct cp_arg from, to;
        struct progress *progress;
        uint64_t bytes;
};

/* Waits for the command and turns a failure into an error with its own words. */
static int remote_end(struct remote *remote, const char *path, struct nb_error *err) {
        NB_AUTO_FREE char *words = NULL;
        int code = remote_wait(remote, &words);
        if (code == 0)
                return 0;
        if (code == CLI_FAILED && !*words)
                return nb_fail(err, EIO, "the copy was not completed"); /* why was said already */
        if (code == 127) {
                nb_fail(err, ENOENT, "the box has no tar, which copying needs");
                return nb_hint(err, "add tar to image.packages, or copy through a mount");
        }
        return nb_fail(err, EIO, "%s in the box: %s", path, *words ? words : "tar failed");
}

static void on_bytes(void *user, const char *name, uint64_t bytes) {
        struct cp *cp = user;
        cp->bytes += bytes;
        progress_step(cp->progress, "copying", name, cp->bytes, 0);
}

/* ---- out of the box */

/* The stream itself goes to stdout. */
static int pass_on(struct cp *cp, int fd, uint64_t *ret_blocks, struct nb_error *err) {
        char block[65536];
        ssize_t n;
        while ((n = read(fd, block, sizeof block)) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                int r = n < 0 ? -errno : nb_write_all(STDOUT_FILENO, block, (size_t)n);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot write to stdout");
                ++*ret_blocks;
                on_bytes(cp, "to stdout", (uint64_t)n);
        }
        return 0;
}

static int copy_out(struct cp *cp, struct nb_error *err) {
        NB_AUTO_FREE char *folder = NULL;
        NB_AUTO_FREE char *root = NULL;
        cp_split(&cp->from, &folder, &root);
        bool through_link = cp->from.as_folder && strcmp(root, ".") != 0;
        NB_AUTO_FREE char *member = nb_asprintf("./%s%s", root, through_link ? "/" : "");
        char *argv[] = { "tar", "-C", folder, "-cf", "-", member, NULL };
        struct remote remote = { .words = -1 };
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return nb_fail_errno(err, errno, "cannot make a pipe");
        int r = remote_start(cp->cli, argv, NULL, -1, ends[1], ends[0], &remote, err);
        if (r < 0) {
                nb_close(ends[0]);
                return r;
        }
        const struct cp_progress progress = { on_bytes, cp };
        uint64_t members = 0;
        NB_AUTO_ERROR here = { 0 };
        if (cp->to.stream)
                r = pass_on(cp, ends[0], &members, &here);
        else
                r = cp_unpack(ends[0], root, cp->to.path, cp->to.as_folder, &progress, &members, &here);
        nb_close(ends[0]);
        int there = remote_end(&remote, cp->from.path, err);
        if (r < 0 && (there == 0 || members > 0)) { /* ours came first; theirs is that we stopped reading */
                nb_error_clear(err);
                *err = here;
                here = (struct nb_error){ 0 };
                return r;
        }
        return there;
}

/* ---- into the box */

/* Asks what the destination is: 'd', 'f' or 'n'. */
static int probe(struct cp *cp, char *ret, struct nb_error *err) {
        char *argv[] = { "sh", "-c", PROBE, "sh", cp->to.path, NULL };
        struct remote remote = { .words = -1 };
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return nb_fail_errno(err, errno, "cannot make a pipe");
        int r = remote_start(cp->cli, argv, NULL, -1, ends[1], ends[0], &remote, err);
        char answer[ANSWER_MAX] = { 0 };
        if (r == 0) {
                (void)nb_read_full(ends[0], answer, sizeof answer - 1);
                nb_close(ends[0]);
                r = remote_end(&remote, cp->to.path, err);
        } else {
                nb_close(ends[0]);
        }
        if (r == 0 && (strlen(answer) != 2 || !strchr("dfn", answer[0])))
                r = nb_fail(err, EPROTO, "the box did not say what %s is", cp->to.path);
        *ret = answer[0];
        return r;
}

static int send_tree(struct cp *cp, const char *folder, const char *name, struct nb_error *err) {
        char *argv[] = { "tar", "-C", (char *)folder, "-xof", "-", NULL };
        struct remote remote = { .words = -1 };
        int ends[2] = { STDIN_FILENO, -1 };
        if (!cp->from.stream && pipe2(ends, O_CLOEXEC) < 0)
                return nb_fail_errno(err, errno, "cannot make a pipe");
        NB_AUTO_CLOSE int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        int r = remote_start(cp->cli, argv, NULL, ends[0], nb_steal_fd(&null), ends[1], &remote, err);
        if (r < 0 || cp->from.stream) {
                nb_close(ends[1]);
                return r < 0 ? r : remote_end(&remote, cp->to.path, err);
        }
        const struct cp_progress progress = { on_bytes, cp };
        NB_AUTO_FREE char *member = nb_asprintf("./%s", name);
        NB_AUTO_ERROR here = { 0 };
        r = cp_pack(cp->from.path, member, ends[1], &progress, &here);
        nb_close(ends[1]);
        int there = remote_end(&remote, cp->to.path, err);
        if (r < 0 && (there == 0 || r != -EPIPE)) {
                nb_error_clear(err);
                *err = here;
                here = (struct nb_error){ 0 };
                return r;
        }
        return there;
}

static int copy_in(struct cp *cp, struct nb_error *err) {
        struct stat st = { 0 };
        char kind = 0;
        if (!cp->from.stream && lstat(cp->from.path, &st) < 0)
                return nb_fail_errno(err, errno, "cannot read %s", cp->from.path);
        int r = probe(cp, &kind, err);
        if (r < 0)
                return r;
        if (cp->from.stream)
                return kind == 'd' ? send_tree(cp, cp->to.path, ".", err)
                                   : nb_fail(err, ENOTDIR, "%s in the box is not a folder", cp->to.path);
        bool is_folder = S_ISDIR(st.st_mode) || cp->from.as_folder;
        NB_AUTO_FREE char *from_folder = NULL;
        NB_AUTO_FREE char *from_name = NULL;
        NB_AUTO_FREE char *to_folder = NULL;
        NB_AUTO_FREE char *to_name = NULL;
        cp_split(&cp->from, &from_folder, &from_name);
        cp_split(&cp->to, &to_folder, &to_name);
        if (kind == 'd')
                return send_tree(cp, cp->to.path, from_name, err);
        if (kind == 'f' && is_folder)
                return nb_fail(err, ENOTDIR, "%s in the box is a file; a folder cannot replace it", cp->to.path);
        if (kind == 'n' && !is_folder && cp->to.as_folder)
                return nb_fail(err, ENOTDIR, "there is no folder %s in the box", cp->to.path);
        return send_tree(cp, to_folder, to_name, err);
}

static int run(struct cp *cp, struct nb_error *err) {
        if (cp->from.in_box == cp->to.in_box) {
                nb_fail(err, EINVAL, "one side of cp must be in a box, the other here");
                return nb_hint(err, "nixbox cp file :path copies into the box, nixbox cp :path . out of it");
        }
        const char *box = cp->from.in_box ? cp->from.box : cp->to.box;
        if (box)
                cp->cli->name = box;
        cp->progress = progress_new(cp->cli->quiet, cp->cli->color);
        int r = cp->from.in_box ? copy_out(cp, err) : copy_in(cp, err);
        progress_free(cp->progress);
        return r;
}

int verb_cp(struct cli *cli, int argc, char **argv) {
        NB_AUTO_ERROR err = { 0 };
        struct cp cp = { .cli = cli };
        if (cli_getopt(cli, argc, argv, "", NULL) != -1)
                return CLI_FAILED;
        if (argc - optind != 2) {
                nb_fail(&err, EINVAL, "cp needs a source and a destination");
                nb_hint(&err, "nixbox cp --help shows how");
                return cli_fail(&err);
        }
        (void)setlocale(LC_CTYPE, "C.UTF-8"); /* libarchive converts names by it */
        cp_parse(argv[optind], &cp.from);
        cp_parse(argv[optind + 1], &cp.to);
        int r = run(&cp, &err);
        cp_arg_clear(&cp.from);
        cp_arg_clear(&cp.to);
        return r < 0 ? cli_fail(&err) : 0;
}
