/* nixbox review: what the box wanted to write of the files that programs of the host run, and letting it. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "cli/cli.h"

static const char *text_of(const json_t *o, const char *key) {
        const char *text = json_string_value(json_object_get(o, key));
        return text ? text : "?";
}

static void print_attempt(const json_t *a) {
        char when[32] = "?";
        time_t last = (time_t)json_integer_value(json_object_get(a, "last"));
        struct tm tm;
        if (localtime_r(&last, &tm))
                (void)strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
        NB_AUTO_FREE char *path = nb_text_clean(text_of(a, "path"), 0);
        NB_AUTO_FREE char *what = nb_text_clean(text_of(a, "op"), 0);
        NB_AUTO_FREE char *why = nb_text_clean(text_of(a, "reason"), 0);
        json_int_t count = json_integer_value(json_object_get(a, "count"));
        printf("%s\n  %s: %s; %lld time%s, last %s\n", path, what, why, (long long)count, count == 1 ? "" : "s", when);
}

static void print_all(const json_t *answer) {
        size_t i;
        json_t *one;
        const json_t *attempts = json_object_get(answer, "attempts");
        json_array_foreach(attempts, i, one) {
                print_attempt(one);
        }
        json_array_foreach(json_object_get(answer, "allowed"), i, one) {
                NB_AUTO_FREE char *path = nb_text_clean(json_string_value(one), 0);
                printf("%s\n  allowed until the box goes down\n", path);
        }
        json_int_t missed = json_integer_value(json_object_get(answer, "missed"));
        if (missed > 0)
                printf("and %lld more refusals that were not kept\n", (long long)missed);
        if (json_array_size(json_object_get(answer, "protect")) == 0)
                fprintf(stderr, "nixbox: nothing is protected in this box\n  its config says protect: []\n");
        else if (json_array_size(attempts) == 0)
                fprintf(stderr, "nixbox: the box has tried to change no protected file\n");
        else
                fprintf(stderr, "  nixbox review --allow PATH lets the box change one until it goes down\n");
}

/* The folder is made real, as those of mounts are; the last name may be missing, or a link that is meant itself. */
static int real_path(const char *given, char **ret, struct nb_error *err) {
        NB_AUTO_FREE char *here = getcwd(NULL, 0);
        if (!here)
                return nb_fail_errno(err, errno, "cannot tell the current folder");
        NB_AUTO_FREE char *full = nb_path_join(here, given);
        NB_AUTO_FREE char *path = nb_path_normalize(full);
        char *slash = strrchr(path, '/');
        NB_AUTO_FREE char *dir = nb_strndup(path, slash == path ? 1 : (size_t)(slash - path));
        char *real = realpath(dir, NULL);
        *ret = real ? nb_path_join(real, slash + 1) : nb_strdup(path);
        free(real);
        return 0;
}

static int allow(struct cli *cli, char **paths, size_t n, struct nb_error *err) {
        json_t *list = json_array();
        int r = 0;
        for (size_t i = 0; r == 0 && i < n; i++) {
                NB_AUTO_FREE char *path = NULL;
                r = real_path(paths[i], &path, err);
                if (r == 0 && json_array_append_new(list, json_string(path)) < 0)
                        r = nb_fail(err, EINVAL, "%s is not valid UTF-8", paths[i]);
        }
        json_t *request = json_pack("{s:s, s:o}", "op", "review", "allow", list);
        if (r == 0)
                r = cli_call(cli, request, NULL, 0, NULL, err);
        size_t i;
        json_t *path;
        if (r == 0 && cli->json)
                r = cli_print_json(json_pack("{s:O}", "allowed", list), err);
        else if (r == 0 && !cli->quiet)
                json_array_foreach(list, i, path) {
                        NB_AUTO_FREE char *clean = nb_text_clean(json_string_value(path), 0);
                        fprintf(stderr, "the box may change %s until it goes down; look at it before this host uses it\n",
                                clean);
                }
        json_decref(request);
        return r;
}

static int show(struct cli *cli, struct nb_error *err) {
        json_t *answer = NULL, *request = json_pack("{s:s}", "op", "review");
        int r = cli_call(cli, request, NULL, 0, &answer, err);
        (void)json_object_del(answer, "ok");
        if (r == 0 && cli->json)
                r = cli_print_json(json_incref(answer), err);
        else if (r == 0)
                print_all(answer);
        else if (r == -ENOENT && err)
                nb_hint(err, "nixbox events --denied shows what was refused while it ran");
        json_decref(answer);
        json_decref(request);
        return r;
}

int verb_review(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "allow", no_argument, NULL, 'A' }, { 0 } };
        bool allows = false;
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                if (opt != 'A')
                        return CLI_FAILED;
                allows = true;
        }
        NB_AUTO_ERROR err = { 0 };
        int r = 0;
        if (allows != (optind < argc)) {
                r = nb_fail(&err, EINVAL, allows ? "allow which path?" : "review takes paths only with --allow");
                nb_hint(&err, "nixbox review --allow .vscode/settings.json");
        } else {
                r = allows ? allow(cli, argv + optind, (size_t)(argc - optind), &err) : show(cli, &err);
        }
        return r < 0 ? cli_fail(&err) : 0;
}
