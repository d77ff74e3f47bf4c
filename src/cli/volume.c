/* nixbox volume: the folders that boxes share and keep. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "box/volume.h"
#include "cli/cli.h"

static void print_line(const json_t *one) {
        const json_t *boxes = json_object_get(one, "boxes"), *box;
        NB_AUTO_FREE char *size = nb_format_size((uint64_t)json_integer_value(json_object_get(one, "size")));
        printf("%-20s %8s  ", json_string_value(json_object_get(one, "name")), size);
        size_t i;
        json_array_foreach((json_t *)boxes, i, box) {
                printf("%s%s", i ? ", " : "used by ", json_string_value(box));
        }
        puts(json_array_size(boxes) == 0 ? "not in use" : "");
}

static int list(struct cli *cli, char **args) {
        NB_AUTO_ERROR err = { 0 };
        json_t *volumes = NULL;
        if (args[0]) {
                nb_fail(&err, EINVAL, "volume ls takes no '%s'", args[0]);
                nb_hint(&err, "nixbox volume ls lists all of them");
                return cli_fail(&err);
        }
        if (volume_list(&volumes, &err) < 0)
                return cli_fail(&err);
        if (cli->json)
                return cli_print_json(volumes, &err) < 0 ? cli_fail(&err) : 0;
        size_t i;
        json_t *one;
        json_array_foreach(volumes, i, one) {
                print_line(one);
        }
        json_decref(volumes);
        return 0;
}

/* All that can be removed are, each that cannot is told. */
static int rm(struct cli *cli, char **args) {
        NB_AUTO_ERROR err = { 0 };
        int worst = 0;
        (void)cli;
        if (!args[0]) {
                nb_fail(&err, EINVAL, "volume rm needs the volume to remove");
                nb_hint(&err, "nixbox volume ls lists them");
                return cli_fail(&err);
        }
        for (; *args; args++)
                if (volume_remove(*args, &err) < 0)
                        worst = cli_fail(&err);
        return worst;
}

int verb_volume(struct cli *cli, int argc, char **argv) {
        if (cli_getopt(cli, argc, argv, "", NULL) != -1)
                return CLI_FAILED;
        const char *part = optind < argc ? argv[optind] : "";
        if (strcmp(part, "ls") == 0)
                return list(cli, argv + optind + 1);
        if (strcmp(part, "rm") == 0)
                return rm(cli, argv + optind + 1);
        NB_AUTO_ERROR err = { 0 };
        nb_fail(&err, EINVAL, *part ? "there is no 'volume %s'" : "volume needs to be told what to do", part);
        nb_hint(&err, "nixbox volume --help shows how");
        return cli_fail(&err);
}
