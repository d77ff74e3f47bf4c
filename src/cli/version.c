/* nixbox version. */
#include <stdio.h>

#include "cli/cli.h"

#ifndef NB_VERSION
#define NB_VERSION "0.1.0"
#endif

int verb_version(struct cli *cli, int argc, char **argv) {
        if (cli_getopt(cli, argc, argv, "", NULL) != -1)
                return CLI_FAILED;
        printf(cli->json ? "{\"version\": \"%s\"}\n" : "nixbox %s\n", NB_VERSION);
        return 0;
}
