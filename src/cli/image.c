/* nixbox image: build, list and remove images. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "image/image.h"

#define DIGEST_SHOWN 19 /* "sha256:" and 12 digits */

static void on_step(void *user, const char *step, const char *detail, unsigned long long done, unsigned long long total) {
        progress_step(user, step, detail, done, total);
}

static int print_json(json_t *value) {
        int r = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
        json_decref(value);
        return r == 0 && putchar('\n') != EOF ? 0 : CLI_FAILED;
}

static int print_image(const struct cli *cli, const struct image *i) {
        if (cli->json)
                return print_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "digest", i->digest, "rootfs", i->rootfs,
                                            "runtime", i->runtime, "runtime_digest", i->runtime_digest, "kernel_digest",
                                            i->kernel_digest, "vmlinux", i->vmlinux, "initrd", i->initrd));
        printf("image    %s\n         %s\nruntime  %s\n         %s\nkernel   %s\n         %s\ninitrd   %s\n", i->digest,
               i->rootfs, i->runtime_digest, i->runtime, i->kernel_digest, i->vmlinux, i->initrd);
        return 0;
}

/* The config in force; where there is none, one that asks for the default image. */
static int load_config(struct cli *cli, struct config **ret, struct nb_error *err) {
        NB_AUTO_FREE char *file = NULL;
        int r = cli_config_file(cli, &file, err);
        if (r == -ENOENT && !cli->file) {
                nb_error_clear(err);
                *ret = nb_calloc(1, sizeof **ret);
                (*ret)->image.base = nb_strdup("debian-13");
                return 0;
        }
        return r < 0 ? r : config_load(file, false, ret, err);
}

static int build(struct cli *cli, char **args, bool force) {
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(config_freep))) struct config *config = NULL;
        __attribute__((cleanup(image_freep))) struct image *image = NULL;
        if (args[0]) {
                nb_fail(&err, EINVAL, "image build takes no '%s'", args[0]);
                nb_hint(&err, "it builds what nixbox.yaml asks for; nixbox -f FILE image build takes another file");
                return cli_fail(&err);
        }
        if (load_config(cli, &config, &err) < 0)
                return cli_fail(&err);
        struct progress *p = progress_new(cli->quiet, cli->color);
        struct image_progress progress = { on_step, p };
        int r = image_ensure(config, force, &progress, &image, &err);
        progress_end(p);
        progress_free(p);
        return r < 0 ? cli_fail(&err) : print_image(cli, image);
}

static void print_line(json_t *one) {
        const char *digest = json_string_value(json_object_get(one, "digest"));
        const char *base = json_string_value(json_object_get(one, "base")),
                   *built = json_string_value(json_object_get(one, "built"));
        NB_AUTO_FREE char *size = nb_format_size((uint64_t)json_integer_value(json_object_get(one, "size")));
        printf("%.*s  %-10s %8s  %s ", DIGEST_SHOWN, digest, base ? base : "", size, built ? built : "");
        size_t i;
        json_t *name;
        json_array_foreach(json_object_get(one, "packages"), i, name) {
                printf(" %s", json_string_value(name));
        }
        putchar('\n');
}

static int list(struct cli *cli, char **args, bool force) {
        NB_AUTO_ERROR err = { 0 };
        json_t *images = NULL;
        (void)args;
        (void)force;
        if (image_list(&images, &err) < 0)
                return cli_fail(&err);
        if (cli->json)
                return print_json(images);
        size_t i;
        json_t *one;
        json_array_foreach(images, i, one) {
                print_line(one);
        }
        json_decref(images);
        return 0;
}

static int rm(struct cli *cli, char **args, bool force) {
        NB_AUTO_ERROR err = { 0 };
        (void)cli;
        (void)force;
        if (!args[0]) {
                nb_fail(&err, EINVAL, "image rm needs the image to remove");
                nb_hint(&err, "nixbox image ls lists the images");
                return cli_fail(&err);
        }
        return image_remove(args, &err) < 0 ? cli_fail(&err) : 0;
}

static int prune(struct cli *cli, char **args, bool force) {
        NB_AUTO_ERROR err = { 0 };
        unsigned long long freed = 0;
        (void)args;
        (void)force;
        if (image_prune(&freed, &err) < 0)
                return cli_fail(&err);
        NB_AUTO_FREE char *size = nb_format_size(freed);
        if (cli->json)
                return print_json(json_pack("{s:I}", "freed", (json_int_t)freed));
        printf("freed %s\n", size);
        return 0;
}

static int later(struct cli *cli, char **args, bool force) {
        NB_AUTO_ERROR err = { 0 };
        (void)cli;
        (void)args;
        (void)force;
        nb_fail(&err, ENOTSUP, "this part of nixbox image is not supported yet");
        nb_hint(&err, "build, ls, rm and prune are");
        return cli_fail(&err);
}

static const struct {
        const char *name;
        int (*run)(struct cli *cli, char **args, bool force);
} parts[] = { { "build", build }, { "ls", list },      { "rm", rm },        { "prune", prune },
              { "lock", later },  { "update", later }, { "verify", later }, { "sbom", later } };

int verb_image(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "force", no_argument, NULL, 'F' }, { 0 } };
        bool force = false;
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                if (opt != 'F')
                        return CLI_FAILED;
                force = true;
        }
        for (size_t i = 0; optind < argc && i < NB_ARRAY_LEN(parts); i++)
                if (strcmp(parts[i].name, argv[optind]) == 0)
                        return parts[i].run(cli, argv + optind + 1, force);
        NB_AUTO_ERROR err = { 0 };
        nb_fail(&err, EINVAL, optind < argc ? "there is no 'image %s'" : "image needs to be told what to do", argv[optind]);
        nb_hint(&err, "nixbox image --help shows how");
        return cli_fail(&err);
}
