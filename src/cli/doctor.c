/* nixbox doctor: what this host can and cannot do, and the command that fixes each point. Exits 0 if a box can start, 1 if
 * something it cannot do without is missing. */
#include <jansson.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/text.h"
#include "box/prereq.h"
#include "cli/cli.h"

static const struct {
        const char *word, *color;
} states[] = {
        [PREREQ_OK] = { "ok", "\x1b[32m" },
        [PREREQ_NOTE] = { "note", "\x1b[33m" },
        [PREREQ_MISSING] = { "missing", "\x1b[31m" },
};

static void print_text(const struct prereq *list, size_t count, bool color, bool quiet) {
        for (size_t i = 0; i < count; i++) {
                const struct prereq *p = &list[i];
                if (quiet && p->state == PREREQ_OK)
                        continue;
                NB_AUTO_FREE char *detail = nb_text_clean(p->detail, 0);
                printf("%s%-8s%s %-16s %s\n", color ? states[p->state].color : "", states[p->state].word,
                       color ? "\x1b[0m" : "", p->name, detail);
                if (p->fix)
                        printf("%-25s fix: %s\n", "", p->fix);
        }
}

static int print_json(const struct prereq *list, size_t count, bool can_start) {
        json_t *checks = json_array();
        for (size_t i = 0; i < count; i++) {
                NB_AUTO_FREE char *detail = nb_text_clean(list[i].detail, 0);
                json_array_append_new(checks, json_pack("{ss, ss, ss, ss?}", "name", list[i].name, "state",
                                                        states[list[i].state].word, "detail", detail, "fix", list[i].fix));
        }
        json_t *all = json_pack("{sb, so}", "can_start", can_start, "checks", checks);
        int r = json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
        return r;
}

int verb_doctor(struct cli *cli, int argc, char **argv) {
        if (cli_getopt(cli, argc, argv, "", NULL) != -1)
                return CLI_FAILED;
        size_t count = 0;
        struct prereq *list = prereq_check(&count);
        bool can_start = true;
        for (size_t i = 0; i < count; i++)
                can_start = can_start && list[i].state != PREREQ_MISSING;
        if (cli->json) {
                (void)print_json(list, count, can_start);
        } else {
                print_text(list, count, cli->color && isatty(STDOUT_FILENO), cli->quiet);
                if (!cli->quiet)
                        printf("\n%s\n", can_start ? "A box can start here."
                                                   : "No box can start here before the missing points are fixed.");
        }
        prereq_free(list, count);
        return can_start ? 0 : 1;
}
