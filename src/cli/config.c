/* nixbox config: the resolved config, each value with where it came from. */
#include <stdio.h>

#include "base/mem.h"
#include "cli/cli.h"

int verb_config(struct cli *cli, int argc, char **argv) {
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *file = NULL;
        __attribute__((cleanup(config_freep))) struct config *c = NULL;
        if (cli_getopt(cli, argc, argv, "", NULL) != -1)
                return CLI_FAILED;
        if (optind < argc) {
                nb_fail(&err, 22, "config takes no '%s'", argv[optind]);
                nb_hint(&err, "nixbox -f FILE config shows another file");
                return cli_fail(&err);
        }
        if (cli_config_file(cli, &file, &err) < 0 || config_load(file, false, &c, &err) < 0)
                return cli_fail(&err);
        NB_AUTO_FREE char *text = config_to_text(c, cli->json);
        if (fputs(text, stdout) < 0 || fflush(stdout) != 0) {
                nb_fail(&err, 5, "cannot write the config to stdout");
                return cli_fail(&err);
        }
        return 0;
}
