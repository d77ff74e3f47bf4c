/* nixbox shell: an interactive login shell in the box. */
#include <errno.h>
#include <getopt.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/session_cli.h"

int verb_shell(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "user", required_argument, NULL, 'u' }, { 0 } };
        NB_AUTO_ERROR err = { 0 };
        struct session_spec spec = { .shell = true, .pty = true };
        for (int opt; (opt = cli_getopt(cli, argc, argv, "u:", longs)) != -1;) {
                if (opt != 'u')
                        return CLI_FAILED;
                spec.user = optarg;
        }
        if (optind < argc) {
                nb_fail(&err, EINVAL, "shell takes no '%s'", argv[optind]);
                nb_hint(&err, "nixbox run runs a command");
                return cli_fail(&err);
        }
        if (!isatty(STDIN_FILENO)) {
                nb_fail(&err, ENOTTY, "shell needs a terminal on stdin");
                nb_hint(&err, "nixbox run -- sh reads commands from stdin without one");
                return cli_fail(&err);
        }
        int r = cli_session(cli, &spec, NULL, &err);
        return r < 0 ? cli_fail(&err) : r;
}
