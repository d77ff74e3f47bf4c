/* nixbox image lock and nixbox image update: making nixbox.lock, moving it on, and saying what changed. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/image_parts.h"
#include "cli/progress.h"
#include "config/approval.h"
#include "image/image.h"
#include "image/pin.h"
#include "image/resolve.h"
#include "image/store.h"

struct locking {
        struct cli *cli;
        struct config *config;
        struct store *store;
        struct lock *old, *now; /* `old` is NULL where there is none, or none that can be read */
        bool written;
};

static void locking_clear(struct locking *l) {
        config_free(l->config);
        store_free(l->store);
        lock_free(l->old);
        lock_free(l->now);
}

static void on_step(void *user, const char *step, const char *detail, unsigned long long done, unsigned long long total) {
        progress_step(user, step, detail, done, total);
}

static int load(struct locking *l, struct nb_error *err) {
        NB_AUTO_FREE char *file = NULL;
        int r = cli_config_file(l->cli, &file, err);
        if (r == 0)
                r = config_load(file, false, &l->config, err);
        return r < 0 ? r : store_open(&l->store, err);
}

static int read_old(struct locking *l, struct nb_error *err) {
        const struct config_file *f = &l->config->lock;
        if (f->path)
                return lock_parse(f->bytes, f->len, f->path, &l->old, err);
        nb_fail(err, ENOENT, "there is no %s in %s", LOCK_FILE, l->config->dir);
        return nb_hint(err, "nixbox image lock makes one");
}

/* Writes the new lock; an approval of the config goes on for it. */
static int keep(struct locking *l, struct nb_error *err) {
        char before[65];
        config_hash(l->config, before);
        int r = pin_keep(l->store, l->config, l->now, &l->written, err);
        return r == 0 && l->written ? approval_follow_lock(l->config, before, err) : r;
}

int image_ensure_approved(struct config *c, bool force, const struct image_progress *progress, struct image **ret,
                          struct nb_error *err) {
        if (!c->tree) /* no nixbox.yaml, so nobody's approval */
                return image_ensure(c, force, progress, ret, err);
        char before[NB_SHA256_HEX], after[NB_SHA256_HEX];
        config_hash(c, before);
        int r = image_ensure(c, force, progress, ret, err);
        config_hash(c, after);
        return r == 0 && strcmp(before, after) != 0 ? approval_follow_lock(c, before, err) : r;
}

static int resolve(struct locking *l, char *const *names, struct nb_error *err) {
        struct progress *p = progress_new(l->cli->quiet, l->cli->color);
        const struct image_progress progress = { on_step, p };
        int r = names && names[0] ? resolve_some(l->store, &l->config->image, l->old, names, &progress, &l->now, err)
                                  : pin_renew(l->store, l->config, &progress, &l->now, err);
        progress_end(p);
        progress_free(p);
        return r;
}

static int print_json(const struct locking *l, const char *changes) {
        NB_AUTO_FREE char *copy = nb_strdup(changes);
        NB_AUTO_ERROR err = { 0 };
        json_t *list = json_array();
        char *save = NULL;
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                json_array_append_new(list, json_string(line));
        json_t *doc = json_pack("{s:s, s:b, s:i, s:o}", "file", l->config->lock.path, "written", l->written, "packages",
                                (int)(l->now->base.n + l->now->packages.n), "changes", list);
        return cli_print_json(doc, &err) < 0 ? cli_fail(&err) : 0;
}

/* What the verb has to say: `none` where nothing changed. */
static int report(const struct locking *l, const char *none) {
        const struct lock nothing = { 0 };
        NB_AUTO_FREE char *changes = lock_changes(l->old ? l->old : &nothing, l->now);
        if (l->cli->json)
                return print_json(l, l->old ? changes : "");
        if (!l->old)
                printf("%s: %zu packages\n", l->config->lock.path, l->now->base.n + l->now->packages.n);
        else
                (void)fputs(*changes ? changes : none, stdout);
        return 0;
}

int image_part_lock(struct cli *cli, char **args, bool force) {
        __attribute__((cleanup(locking_clear))) struct locking l = { .cli = cli };
        NB_AUTO_ERROR err = { 0 };
        (void)force;
        if (args[0]) {
                nb_fail(&err, EINVAL, "image lock takes no '%s'", args[0]);
                nb_hint(&err, "it resolves all; nixbox image update PACKAGE moves one package on");
                return cli_fail(&err);
        }
        if (load(&l, &err) < 0)
                return cli_fail(&err);
        if (read_old(&l, &err) < 0) /* it is replaced in any case */
                nb_error_clear(&err);
        if (resolve(&l, NULL, &err) < 0 || keep(&l, &err) < 0)
                return cli_fail(&err);
        return report(&l, "nothing has changed\n");
}

int image_part_update(struct cli *cli, char **args, bool force) {
        __attribute__((cleanup(locking_clear))) struct locking l = { .cli = cli };
        NB_AUTO_ERROR err = { 0 };
        (void)force;
        int r = load(&l, &err);
        if (r == 0)
                r = read_old(&l, &err);
        if (r == 0)
                r = lock_matches(l.old, &l.config->image, l.config->lock.path, &err);
        if (r == 0)
                r = resolve(&l, args, &err);
        if (r < 0)
                return cli_fail(&err);
        NB_AUTO_FREE char *changes = lock_changes(l.old, l.now);
        if (*changes && keep(&l, &err) < 0)
                return cli_fail(&err);
        return report(&l, "nothing to update\n");
}
