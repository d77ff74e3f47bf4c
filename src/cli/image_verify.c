/* nixbox image verify: builds what the lock names once more, and says whether that gives the same bits. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/image_parts.h"
#include "cli/progress.h"
#include "image/verify.h"

#define VERIFY_DIFFERS 1

static void on_step(void *user, const char *step, const char *detail, unsigned long long done, unsigned long long total) {
        progress_step(user, step, detail, done, total);
}

static int print_json(const struct verify *v, bool same) {
        json_t *parts = json_object();
        for (size_t i = 0; i < v->n; i++)
                (void)json_object_set_new(parts, v->parts[i].name,
                                          json_pack("{s:s, s:s}", "was", v->parts[i].was, "is", v->parts[i].is));
        return image_print_json(json_pack("{s:b, s:o, s:s?}", "same", same, "parts", parts, "first", v->first));
}

static void print(const struct verify *v) {
        for (size_t i = 0; i < v->n; i++) {
                bool same = strcmp(v->parts[i].was, v->parts[i].is) == 0;
                printf("%-10s %s  %s\n", v->parts[i].name, same ? "the same" : "DIFFERS ", v->parts[i].was);
                if (!same)
                        printf("%-10s built now %s\n", "", v->parts[i].is);
        }
        NB_AUTO_FREE char *clean = v->first ? nb_text_clean(v->first, 0) : NULL;
        if (clean)
                printf("first difference: %s\n", clean);
}

int image_verify(struct cli *cli, char **args, bool force) {
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(config_freep))) struct config *config = NULL;
        __attribute__((cleanup(verify_clear))) struct verify v = { 0 };
        bool same = false;
        (void)force;
        if (args[0]) {
                nb_fail(&err, EINVAL, "image verify takes no '%s'", args[0]);
                nb_hint(&err, "it builds what nixbox.yaml and nixbox.lock name");
                return cli_fail(&err);
        }
        if (image_load_config(cli, &config, &err) < 0)
                return cli_fail(&err);
        struct progress *p = progress_new(cli->quiet, cli->color);
        struct image_progress progress = { on_step, p };
        int r = image_verify_again(config, &progress, &v, &same, &err);
        progress_end(p);
        progress_free(p);
        if (r < 0)
                return cli_fail(&err);
        if (cli->json)
                (void)print_json(&v, same);
        else
                print(&v);
        return same ? 0 : VERIFY_DIFFERS;
}
