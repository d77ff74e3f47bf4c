/* nixbox up: from a config to a box in which a command can run. Also the part of it that `run` needs. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/control.h"
#include "box/session.h"
#include "box/supervisor.h"
#include "cli/cli.h"
#include "cli/hooks.h"
#include "cli/image_parts.h"
#include "cli/progress.h"
#include "config/approval.h"

struct up_options {
        bool accept, recreate, dry_run;
};

struct up {
        struct cli *cli;
        struct config *config;
        struct box_paths *paths;
        struct image *image;
        struct accel accel;
        struct progress *progress;
};

static void up_clear(struct up *u) {
        config_free(u->config);
        box_paths_free(u->paths);
        image_free(u->image);
        accel_clear(&u->accel);
        if (u->progress) {
                progress_end(u->progress);
                progress_free(u->progress);
        }
}

static void on_image_step(void *user, const char *step, const char *detail, unsigned long long done, unsigned long long total) {
        struct up *u = user;
        progress_step(u->progress, step, detail, done, total);
}

static void on_phase(void *user, const char *name, unsigned long ms) {
        struct up *u = user;
        if (u->cli->verbose) {
                progress_end(u->progress);
                fprintf(stderr, "nixbox: %s: %lu ms\n", name, ms);
        }
        if (strcmp(name, "qemu") == 0)
                progress_step(u->progress, "starting", "waiting for the guest", 0, 0);
}

static int on_owned(void *user, struct nb_error *err) {
        struct up *u = user;
        if (u->config->n_pre_up > 0)
                progress_end(u->progress);
        return hooks_run(u->config, "pre-up", u->config->pre_up, u->config->n_pre_up, err);
}

/* Where the config's own folder is inside, if it is mounted: relative paths in setup commands mean that. New string. */
static char *folder_inside(const struct config *c) {
        for (size_t i = 0; i < c->n_mounts; i++) {
                const struct config_mount *m = &c->mounts[i];
                if (!m->is_file && nb_path_below(c->dir, m->source))
                        return nb_asprintf("%s%s", m->target, c->dir + (strcmp(m->source, "/") == 0 ? 0 : strlen(m->source)));
        }
        return NULL;
}

static int run_setup(struct up *u, const struct config_hook *setup, const char *dir, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = -1;
        int r = box_connect(u->paths, &fd, err);
        if (r < 0)
                return r;
        char *const argv[] = { setup->command, NULL };
        const struct session_spec spec = {
                .argv = argv, .shell = true, .cwd = dir, .in = -1, .out = STDERR_FILENO, .err = STDERR_FILENO
        };
        r = session_run(nb_steal_fd(&fd), &spec, err);
        if (r > 0) {
                nb_fail(err, ECHILD, "%s:%u:%u: the setup command '%s' failed with status %d", setup->pos.file, setup->pos.line,
                        setup->pos.column, setup->command, r);
                return nb_hint(err, "its output is above; the box was taken down again");
        }
        return r;
}

static int on_ready(void *user, struct nb_error *err) {
        struct up *u = user;
        const struct config *c = u->config;
        NB_AUTO_FREE char *dir = folder_inside(c);
        if (c->n_setup > 0 || c->n_post_up > 0)
                progress_end(u->progress);
        int r = 0;
        for (size_t i = 0; r == 0 && i < c->n_setup; i++)
                r = run_setup(u, &c->setup[i], dir, err);
        return r < 0 ? r : hooks_run(c, "post-up", c->post_up, c->n_post_up, err);
}

/* The box was there already: says so, and whether it was started from another config than the one in force. */
static void note_running(const struct up *u) {
        int fd = -1;
        if (!u->paths || u->cli->quiet)
                return;
        fprintf(stderr, "nixbox: the box '%s' is running already\n", u->paths->name);
        char hash[65];
        json_t *answer = NULL, *request = json_pack("{s:s}", "op", "status");
        config_hash(u->config, hash);
        if (box_connect(u->paths, &fd, NULL) == 0 && control_call(fd, request, NULL, 0, &answer, NULL) == 0) {
                const char *running = json_string_value(json_object_get(answer, "config_hash"));
                if (running && strcmp(running, hash) != 0)
                        fprintf(stderr,
                                "nixbox: the config has changed since the box '%s' was started\n"
                                "  nixbox up --recreate starts it anew with the changes\n",
                                u->paths->name);
        }
        json_decref(answer);
        json_decref(request);
        nb_close(fd);
}

static int load(struct up *u, const struct up_options *o, struct nb_error *err) {
        NB_AUTO_FREE char *file = NULL;
        int r = cli_config_file(u->cli, &file, err);
        if (r == 0)
                r = config_load(file, true, &u->config, err);
        if (r == 0)
                r = box_paths_new(u->cli->name ? u->cli->name : u->config->name, &u->paths, err);
        if (r < 0 || o->dry_run)
                return r;
        return approval_check(u->config, o->accept ? APPROVAL_ACCEPT : APPROVAL_ASK_TERMINAL, err);
}

static int prepare(struct up *u, struct nb_error *err) {
        u->progress = progress_new(u->cli->quiet, u->cli->color);
        struct image_progress progress = { on_image_step, u };
        int r = image_ensure_approved(u->config, false, &progress, &u->image, err);
        if (r == 0) {
                progress_step(u->progress, "starting", "trying the accelerator", 0, 0);
                r = accel_probe(&u->accel, err);
        }
        if (r == 0 && u->accel.why && !u->cli->quiet) {
                progress_end(u->progress);
                fprintf(stderr, "nixbox: %s\n", u->accel.why);
        }
        return r;
}

/* What is not protected is said each time; what is, with -v. */
static void note_protected(const struct up *u) {
        const struct config *c = u->config;
        bool writable = false;
        if (!c)
                return;
        for (size_t i = 0; i < c->n_mounts; i++)
                writable = writable || c->mounts[i].write;
        if (!c->protect && writable && !u->cli->quiet)
                fprintf(stderr, "nixbox: nothing is protected: the box may write files that programs of this host run\n"
                                "  take protect: [] out of the config to protect git hooks, editor settings and the like\n");
        if (c->protect && u->cli->verbose)
                fprintf(stderr, "nixbox: %zu patterns of files that this host runs are protected\n", nb_strv_len(c->protect));
}

/* 0: started, 1: was running already. */
static int bring_up(struct up *u, const struct up_options *o, struct nb_error *err) {
        enum box_state state = BOX_NONE;
        int r = load(u, o, err);
        if (r == 0)
                r = box_probe(u->paths, &state, err);
        if (r < 0)
                return r;
        if (state == BOX_STARTING && !o->recreate) {
                r = box_wait(u->paths, err);
                return r < 0 ? r : 1;
        }
        if (state == BOX_RUNNING && !o->recreate)
                return 1;
        note_protected(u);
        r = prepare(u, err);
        if (r < 0)
                return r;
        const struct box_start start = { .config = u->config,
                                         .image = u->image,
                                         .accel = &u->accel,
                                         .paths = u->paths,
                                         .recreate = o->recreate,
                                         .phase = on_phase,
                                         .owned = on_owned,
                                         .ready = on_ready,
                                         .user = u };
        r = box_start(&start, err);
        progress_end(u->progress);
        if (r == -EALREADY) {
                nb_error_clear(err);
                return 1;
        }
        return r;
}

static int describe(struct up *u, const struct up_options *o, struct nb_error *err) {
        int r = load(u, o, err);
        if (r == 0)
                r = prepare(u, err);
        if (r < 0)
                return r;
        progress_end(u->progress);
        const struct box_start start = { .config = u->config, .image = u->image, .accel = &u->accel, .paths = u->paths };
        NB_AUTO_FREE char *text = NULL;
        r = box_describe(&start, &text, err);
        if (r == 0)
                (void)fputs(text, stdout);
        return r;
}

int cli_ensure_up(struct cli *cli, struct nb_error *err) {
        enum box_state state = BOX_NONE;
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        int r = cli_box(cli, &paths, err);
        if (r == 0)
                r = box_probe(paths, &state, err);
        if (r < 0 || state == BOX_RUNNING)
                return r;
        __attribute__((cleanup(up_clear))) struct up u = { .cli = cli };
        r = bring_up(&u, &(struct up_options){ 0 }, err);
        return r < 0 ? r : 0;
}

int verb_up(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "accept", no_argument, NULL, 'A' },
                                               { "recreate", no_argument, NULL, 'R' },
                                               { "dry-run", no_argument, NULL, 'D' },
                                               { 0 } };
        struct up_options o = { 0 };
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                switch (opt) {
                case 'A': o.accept = true; break;
                case 'R': o.recreate = true; break;
                case 'D': o.dry_run = true; break;
                default: return CLI_FAILED;
                }
        }
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(up_clear))) struct up u = { .cli = cli };
        if (optind < argc) {
                nb_fail(&err, EINVAL, "up takes no '%s'", argv[optind]);
                nb_hint(&err, "nixbox up --help shows how");
                return cli_fail(&err);
        }
        int r = o.dry_run ? describe(&u, &o, &err) : bring_up(&u, &o, &err);
        if (u.progress)
                progress_end(u.progress);
        if (r < 0)
                return cli_fail(&err);
        if (r == 1)
                note_running(&u);
        return 0;
}
