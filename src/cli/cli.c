/* Option parsing and the small things all verbs share (see cli.h). */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"

enum { OPT_JSON = 0x4000, OPT_COLOR, OPT_HELP, OPT_FILE };
#define LONGS_MAX 32

static const struct option global_longs[] = {
        { "name", required_argument, NULL, 'n' }, { "file", required_argument, NULL, OPT_FILE },
        { "quiet", no_argument, NULL, 'q' },      { "verbose", no_argument, NULL, 'v' },
        { "json", no_argument, NULL, OPT_JSON },  { "color", optional_argument, NULL, OPT_COLOR },
        { "help", no_argument, NULL, OPT_HELP },
};

static const struct cli_verb *find_verb(const char *name) {
        for (const struct cli_verb *v = cli_verbs; v->name; v++)
                if (strcmp(v->name, name) == 0)
                        return v;
        return NULL;
}

static void print_verb_help(const char *name) {
        const struct cli_verb *v = find_verb(name);
        if (!v) { /* before the verb: the program's own help */
                char *argv[] = { "nixbox", "help", NULL };
                exit(cli_main(2, argv));
        }
        printf("usage: nixbox %s %s\n%s\n", v->name, v->args, v->summary);
        if (v->help[0])
                printf("\n%s\n", v->help);
        printf("\nglobal options: -n/--name BOX, -f/--file FILE, -q, -v, --json, --color[=auto|always|never], --help\n");
}

/* Returns true if `opt` was a global one. */
static bool take_global(struct cli *cli, int opt, const char *verb) {
        switch (opt) {
        case 'n': cli->name = optarg; return true;
        case 'f':
        case OPT_FILE: cli->file = optarg; return true;
        case 'q': cli->quiet = true; return true;
        case 'v':
                cli->verbose++;
                nb_log_set_level(cli->verbose > 1 ? NB_LOG_DEBUG : NB_LOG_INFO);
                return true;
        case OPT_JSON: cli->json = true; return true;
        case OPT_COLOR:
                cli->color = !optarg || strcmp(optarg, "always") == 0 || (strcmp(optarg, "auto") == 0 && cli->color);
                return true;
        case OPT_HELP: print_verb_help(verb); exit(0);
        default: return false;
        }
}

int cli_getopt(struct cli *cli, int argc, char **argv, const char *own, const struct option *longs) {
        struct option all[LONGS_MAX] = { 0 };
        size_t n = NB_ARRAY_LEN(global_longs);
        memcpy(all, global_longs, sizeof global_longs);
        for (size_t i = 0; longs && longs[i].name && n < LONGS_MAX - 1; i++)
                all[n++] = longs[i];
        bool stop = own[0] == '+';
        /* getopt takes the first that matches: a verb's own -f comes before the global one */
        NB_AUTO_FREE char *shorts = nb_asprintf("%s:%sn:f:qv", stop ? "+" : "", own + (stop ? 1 : 0));
        opterr = 0;
        for (;;) {
                int at = optind ? optind : 1;
                int opt = getopt_long(argc, argv, shorts, all, NULL);
                if (opt == '?' || opt == ':') {
                        const char *bad = at < argc ? argv[at] : "";
                        const struct cli_verb *verb = find_verb(argv[0]);
                        NB_AUTO_ERROR err = { 0 };
                        nb_fail(&err, EINVAL, opt == ':' ? "the option %s needs a value" : "there is no option %s", bad);
                        nb_hint(&err, "nixbox %s%s--help shows the options", verb ? argv[0] : "", verb ? " " : "");
                        (void)cli_fail(&err);
                        return '?';
                }
                bool is_own = opt > 0 && opt < 0x80 && strchr(own, opt);
                if (opt == -1 || is_own || !take_global(cli, opt, argv[0]))
                        return opt;
        }
}

int cli_global(struct cli *cli, int argc, char **argv) {
        optind = 1;
        if (cli_getopt(cli, argc, argv, "+", NULL) != -1)
                return -1;
        int first = optind;
        optind = 0; /* glibc: start again, for the verb's own options */
        return first;
}

int cli_fail(struct nb_error *err) {
        nb_error_print(err, stderr);
        nb_error_clear(err);
        return CLI_FAILED;
}

int cli_usage(const struct cli_verb *verb, const char *fmt, ...) {
        NB_AUTO_ERROR err = { 0 };
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *text = nb_vasprintf(fmt, ap);
        va_end(ap);
        nb_fail(&err, EINVAL, "%s", text);
        nb_hint(&err, "nixbox %s --help shows how", verb->name);
        return cli_fail(&err);
}
