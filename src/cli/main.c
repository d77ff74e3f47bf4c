/* Entry point: global options, the table of verbs, and the hidden names under which the program re-executes itself for the
 * long-lived duties of a box. Nothing else lives here. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "box/conduit.h"
#include "cli/cli.h"

/* clang-format off */
const struct cli_verb cli_verbs[] = {
        { "image", "build [--force] | ls | rm IMAGE... | prune", "build, list and remove images", "", verb_image, false },
        { "doctor", "[--json]", "what this host can and cannot do, and how to fix it",
          "Exits 0 if a box can start here, 1 if not.\n\n"
          "example:  nixbox doctor", verb_doctor, false },
        { "version", "", "print the version", "", verb_version, false },
        { 0 },
};
/* clang-format on */

static void print_help(void) {
        printf("nixbox: a machine for a coding agent that cannot reach anything it was not given\n\n"
               "usage: nixbox [-n BOX] [-f FILE] [-q] [-v] [--json] VERB …\n\n");
        for (const struct cli_verb *v = cli_verbs; v->name; v++)
                if (!v->hidden)
                        printf("  %-8s %s\n", v->name, v->summary);
        printf("\nexample:  nixbox init && nixbox run \"uname -a\"\nnixbox VERB --help shows a verb's options.\n");
}

int cli_main(int argc, char **argv) {
        struct cli cli = { .color = isatty(STDERR_FILENO) && !getenv("NO_COLOR") };
        (void)signal(SIGPIPE, SIG_IGN);
        int first = cli_global(&cli, argc, argv);
        if (first < 0)
                return CLI_FAILED;
        if (first >= argc || strcmp(argv[first], "help") == 0) {
                print_help();
                return 0;
        }
        for (const struct cli_verb *v = cli_verbs; v->name; v++)
                if (strcmp(v->name, argv[first]) == 0)
                        return v->run(&cli, argc - first, argv + first);
        NB_AUTO_ERROR err = { 0 };
        nb_fail(&err, 22, "there is no verb '%s'", argv[first]);
        nb_hint(&err, "nixbox --help lists the verbs");
        return cli_fail(&err);
}

int main(int argc, char **argv) {
        if (argc > 1 && strcmp(argv[1], "@conduit") == 0)
                return conduit_main(argc - 1, argv + 1);
        return cli_main(argc, argv);
}
