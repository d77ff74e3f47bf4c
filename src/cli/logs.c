/* nixbox logs: the box's log (supervisor and its children) and the guest's console; the box need not run. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/follow.h"

struct logs_options {
        bool follow, console_only;
};

static const struct { const char *name, *prefix; } files[] = { { "box.log", "" }, { "console.log", "console: " } };

static void show_all(struct follow *f, const char *prefix, const struct logs_options *o) {
        const char *line;
        size_t len;
        while (follow_line(f, !o->follow, &line, &len)) {
                if (len > 0 && line[len - 1] == '\r')
                        len--;
                NB_AUTO_FREE char *text = nb_text_clean_bytes(line, len, NB_TEXT_KEEP_NEWLINE);
                printf("%s%s\n", prefix, text);
        }
}

static int show(const char *dir, const struct logs_options *o, struct nb_error *err) {
        struct follow *follow[NB_ARRAY_LEN(files)] = { NULL };
        size_t first = o->console_only ? 1 : 0, n = NB_ARRAY_LEN(files);
        int r = 0;
        for (size_t i = first; i < n && r == 0; i++)
                r = follow_new(dir, files[i].name, &follow[i], err);
        while (r == 0) {
                for (size_t i = first; i < n; i++)
                        show_all(follow[i], o->console_only ? "" : files[i].prefix, o);
                if (fflush(stdout) != 0)
                        r = errno == EPIPE ? -EPIPE : nb_fail_errno(err, errno, "cannot write to stdout");
                if (r < 0 || !o->follow)
                        break;
                r = follow_wait(follow + first, n - first);
        }
        for (size_t i = first; i < n; i++)
                follow_free(follow[i]);
        return r == -EPIPE ? 0 : r; /* whoever read it has seen enough */
}

int verb_logs(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "follow", no_argument, NULL, 'f' },
                                               { "console", no_argument, NULL, 'C' },
                                               { 0 } };
        struct logs_options o = { 0 };
        for (int opt; (opt = cli_getopt(cli, argc, argv, "f", longs)) != -1;) {
                switch (opt) {
                case 'f': o.follow = true; break;
                case 'C': o.console_only = true; break;
                default: return CLI_FAILED;
                }
        }
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        if (optind < argc) {
                nb_fail(&err, EINVAL, "logs takes no '%s'", argv[optind]);
                nb_hint(&err, "nixbox logs --help shows how");
                return cli_fail(&err);
        }
        if (cli_box(cli, &paths, &err) < 0)
                return cli_fail(&err);
        if (access(paths->state, F_OK) < 0) {
                nb_fail(&err, ENOENT, "there are no logs of a box '%s'", paths->name);
                nb_hint(&err, "nixbox up starts it; -n names another box");
                return cli_fail(&err);
        }
        return show(paths->state, &o, &err) < 0 ? cli_fail(&err) : 0;
}
