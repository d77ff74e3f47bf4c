/* nixbox run: one command in the box, as if it ran here. Boots the box if it is not up. */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "base/mem.h"
#include "box/control.h"
#include "box/session.h"
#include "cli/cli.h"
#include "cli/session_cli.h"

enum { OPT_RM = 0x100 };

struct run_options {
        struct session_spec spec;
        bool pty, no_pty, rm;
        char **env;
};

/* -e NAME=value, or -e NAME for the caller's own value: named one by one, nothing else of the environment goes in. */
static int add_env(struct run_options *o, const char *text, struct nb_error *err) {
        const char *equals = strchr(text, '=');
        if (*text == 0 || equals == text) {
                nb_fail(err, EINVAL, "-e %s: a variable needs a name", text);
                return nb_hint(err, "write -e NAME=value");
        }
        if (equals) {
                nb_strv_add(&o->env, text);
                return 0;
        }
        const char *value = getenv(text);
        if (!value) {
                nb_fail(err, ENOENT, "-e %s: the variable is not set here", text);
                return nb_hint(err, "give it a value: -e %s=value", text);
        }
        nb_strv_addf(&o->env, "%s=%s", text, value);
        return 0;
}

static int take_options(struct cli *cli, int argc, char **argv, struct run_options *o, struct nb_error *err) {
        static const struct option longs[] = {
                { "tty", no_argument, NULL, 't' },           { "no-tty", no_argument, NULL, 'T' },
                { "interactive", no_argument, NULL, 'i' },   { "env", required_argument, NULL, 'e' },
                { "workdir", required_argument, NULL, 'w' }, { "user", required_argument, NULL, 'u' },
                { "rm", no_argument, NULL, OPT_RM },         { 0 }
        };
        for (int opt; (opt = cli_getopt(cli, argc, argv, "+tTie:w:u:", longs)) != -1;) {
                switch (opt) {
                case 't': o->pty = true; break;
                case 'T': o->no_pty = true; break;
                case 'i': break; /* stdin is always passed on; docker's users type it */
                case 'e':
                        if (add_env(o, optarg, err) < 0)
                                return -err->code;
                        break;
                case 'w': o->spec.cwd = optarg; break;
                case 'u': o->spec.user = optarg; break;
                case OPT_RM: o->rm = true; break;
                default: return -EINVAL; /* reported */
                }
        }
        if (o->spec.cwd && o->spec.cwd[0] != '/') {
                nb_fail(err, EINVAL, "-w %s: the folder in the box must be an absolute path", o->spec.cwd);
                return nb_hint(err, "begin it with /, or cd to it in the command");
        }
        if (o->pty && o->no_pty) {
                nb_fail(err, EINVAL, "-t and -T exclude each other");
                return nb_hint(err, "leave both away: a terminal is used where stdin and stdout are one");
        }
        if (optind >= argc) {
                nb_fail(err, EINVAL, "which command?");
                return nb_hint(err, "nixbox run \"make test\", or nixbox run -- make test; nixbox shell is interactive");
        }
        return 0;
}

static int take_down(struct cli *cli, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = -1;
        int r = cli_connect(cli, &fd, err);
        if (r < 0)
                return r;
        json_t *request = json_pack("{s:s}", "op", "down");
        r = control_call(fd, request, NULL, 0, NULL, err);
        json_decref(request);
        return r;
}

int verb_run(struct cli *cli, int argc, char **argv) {
        NB_AUTO_ERROR err = { 0 };
        struct run_options o = { 0 };
        int r = take_options(cli, argc, argv, &o, &err);
        if (r < 0) {
                nb_strv_free(o.env);
                return err.what ? cli_fail(&err) : CLI_FAILED;
        }
        NB_AUTO_STRV char **env = o.env;
        bool ours = false;
        /* one argument is a line for the login shell; "--", or more than one, is the argument vector itself */
        o.spec.shell = argc - optind == 1 && strcmp(argv[optind - 1], "--") != 0;
        o.spec.argv = argv + optind;
        o.spec.env = env;
        o.spec.pty = o.pty || (!o.no_pty && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
        r = cli_session(cli, &o.spec, &ours, &err);
        NB_AUTO_ERROR late = { 0 };
        if (ours && o.rm && r != -ECONNRESET && take_down(cli, &late) < 0)
                (void)cli_fail(&late);
        return r < 0 ? cli_fail(&err) : r;
}
