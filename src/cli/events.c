/* nixbox events: what happened in a box, from its event log; the box need not run. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "box/events.h"
#include "cli/cli.h"
#include "cli/follow.h"

struct events_options {
        bool follow, denied;
};

static bool is_wanted(const json_t *event, const struct events_options *o) {
        if (!o->denied)
                return true;
        const char *decision = json_string_value(json_object_get(event, "decision"));
        return decision && strcmp(decision, "deny") == 0;
}

static void show(struct cli *cli, const json_t *event) {
        NB_AUTO_FREE char *text = cli->json ? json_dumps(event, JSON_COMPACT | JSON_ENSURE_ASCII) : events_describe(event);
        if (text)
                printf("%s\n", text);
}

/* What is in the log now. */
static void show_all(struct cli *cli, struct follow *f, const struct events_options *o) {
        const char *line;
        size_t len;
        while (follow_line(f, !o->follow, &line, &len)) {
                json_t *event = events_parse(line, len);
                if (event && is_wanted(event, o))
                        show(cli, event);
                json_decref(event);
        }
}

static int run(struct cli *cli, const struct events_options *o, struct nb_error *err) {
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        int r = cli_box(cli, &paths, err);
        if (r < 0)
                return r;
        if (access(paths->state, F_OK) < 0) {
                nb_fail(err, ENOENT, "there are no events of a box '%s'", paths->name);
                return nb_hint(err, "nixbox up starts it; -n names another box");
        }
        struct follow *f = NULL;
        r = follow_new(paths->state, EVENTS_FILE, &f, err);
        if (r < 0)
                return r;
        do {
                show_all(cli, f, o);
                if (fflush(stdout) != 0)
                        r = errno == EPIPE ? -EPIPE : nb_fail_errno(err, errno, "cannot write to stdout");
        } while (r == 0 && o->follow && (r = follow_wait(&f, 1)) == 0);
        follow_free(f);
        return r == -EPIPE ? 0 : r; /* whoever read it has seen enough */
}

int verb_events(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "follow", no_argument, NULL, 'f' },
                                               { "denied", no_argument, NULL, 'D' },
                                               { 0 } };
        struct events_options o = { 0 };
        for (int opt; (opt = cli_getopt(cli, argc, argv, "f", longs)) != -1;) {
                switch (opt) {
                case 'f': o.follow = true; break;
                case 'D': o.denied = true; break;
                default: return CLI_FAILED;
                }
        }
        NB_AUTO_ERROR err = { 0 };
        if (optind < argc) {
                nb_fail(&err, EINVAL, "events takes no '%s'", argv[optind]);
                nb_hint(&err, "nixbox events --help shows how");
        } else if (run(cli, &o, &err) == 0) {
                return 0;
        }
        return cli_fail(&err);
}
