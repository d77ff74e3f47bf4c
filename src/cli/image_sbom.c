/* nixbox image sbom: what the config's image is made of, from its lock. */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "cli/image_parts.h"
#include "cli/progress.h"
#include "image/licences.h"
#include "image/lock.h"
#include "image/sbom.h"

#define AUTO_LOCK __attribute__((cleanup(lock_freep))) struct lock

/* The lock beside the config; it must belong to it. */
static int read_lock(struct cli *cli, struct lock **ret, struct nb_error *err) {
        NB_AUTO_FREE char *file = NULL;
        __attribute__((cleanup(config_freep))) struct config *config = NULL;
        int r = cli_config_file(cli, &file, err);
        if (r == 0)
                r = config_load(file, false, &config, err);
        if (!config) /* set on success only */
                return r;
        const struct config_file *f = &config->lock;
        if (!f->path) {
                nb_fail(err, ENOENT, "there is no %s in %s", LOCK_FILE, config->dir);
                return nb_hint(err, "nixbox image build makes one");
        }
        AUTO_LOCK *l = NULL;
        r = lock_parse(f->bytes, f->len, f->path, &l, err);
        if (r == 0)
                r = lock_matches(l, &config->image, f->path, err);
        if (r == 0)
                *ret = nb_steal(&l);
        return r;
}

static int print(const struct lock *l, json_t *licences, bool table, struct nb_error *err) {
        if (table) {
                NB_AUTO_FREE char *text = sbom_licences(l, licences_of, licences);
                (void)fputs(text, stdout);
                return 0;
        }
        json_t *doc = NULL;
        int r = sbom_document(l, licences_of, licences, &doc, err);
        return r < 0 ? r : image_print_json(doc);
}

static void on_step(void *user, const char *step, const char *detail, unsigned long long done, unsigned long long total) {
        progress_step(user, step, detail, done, total);
}

static int sbom(struct cli *cli, char **args, bool table) {
        NB_AUTO_ERROR err = { 0 };
        AUTO_LOCK *l = NULL;
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        if (args[0]) {
                nb_fail(&err, EINVAL, "image sbom takes no '%s'", args[0]);
                nb_hint(&err, "it describes the image of nixbox.yaml; nixbox -f FILE image sbom takes another file");
                return cli_fail(&err);
        }
        if (read_lock(cli, &l, &err) < 0 || sbom_check(l, &err) < 0 || store_open(&s, &err) < 0)
                return cli_fail(&err);
        json_t *licences = NULL;
        struct progress *p = progress_new(cli->quiet, cli->color);
        const struct image_progress progress = { on_step, p };
        int r = licences_read(s, l, &progress, &licences, &err);
        progress_end(p);
        progress_free(p);
        if (r == 0)
                r = print(l, licences, table, &err);
        json_decref(licences);
        return r < 0 ? cli_fail(&err) : r;
}

int image_part_sbom(struct cli *cli, char **args, bool force) {
        (void)force;
        return sbom(cli, args, false);
}

int image_part_licences(struct cli *cli, char **args, bool force) {
        (void)force;
        return sbom(cli, args, true);
}
