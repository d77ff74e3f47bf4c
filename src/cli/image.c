/* nixbox image: the table of its parts, and those that build and prune; the others have files of their own (image_parts.h). */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/image_parts.h"
#include "cli/progress.h"
#include "image/image.h"

static void on_step(void *user, const char *step, const char *detail, unsigned long long done, unsigned long long total) {
        progress_step(user, step, detail, done, total);
}

int image_print_json(json_t *value) {
        int r = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
        json_decref(value);
        return r == 0 && putchar('\n') != EOF ? 0 : CLI_FAILED;
}

static int print_image(const struct cli *cli, const struct image *i) {
        if (cli->json)
                return image_print_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "digest", i->digest, "rootfs",
                                                  i->rootfs, "runtime", i->runtime, "runtime_digest", i->runtime_digest,
                                                  "kernel_digest", i->kernel_digest, "vmlinux", i->vmlinux, "initrd",
                                                  i->initrd));
        printf("image    %s\n         %s\nruntime  %s\n         %s\nkernel   %s\n         %s\ninitrd   %s\n", i->digest,
               i->rootfs, i->runtime_digest, i->runtime, i->kernel_digest, i->vmlinux, i->initrd);
        return 0;
}

int image_load_config(struct cli *cli, struct config **ret, struct nb_error *err) {
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
        if (image_load_config(cli, &config, &err) < 0)
                return cli_fail(&err);
        struct progress *p = progress_new(cli->quiet, cli->color);
        struct image_progress progress = { on_step, p };
        int r = image_ensure_approved(config, force, &progress, &image, &err);
        progress_end(p);
        progress_free(p);
        return r < 0 ? cli_fail(&err) : print_image(cli, image);
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
                return image_print_json(json_pack("{s:I}", "freed", (json_int_t)freed));
        printf("freed %s\n", size);
        return 0;
}

static const struct {
        const char *name;
        int (*run)(struct cli *cli, char **args, bool force);
} parts[] = {
        { "build", build },         { "ls", image_ls },          { "rm", image_rm },
        { "prune", prune },         { "lock", image_part_lock }, { "update", image_part_update },
        { "verify", image_verify }, { "sbom", image_part_sbom },
};

int verb_image(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "force", no_argument, NULL, 'F' },
                                               { "licenses", no_argument, NULL, 'L' },
                                               { 0 } };
        bool force = false, licences = false;
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                if (opt != 'F' && opt != 'L')
                        return CLI_FAILED;
                force = force || opt == 'F';
                licences = licences || opt == 'L';
        }
        if (licences && optind < argc && strcmp(argv[optind], "sbom") == 0)
                return image_part_licences(cli, argv + optind + 1, force);
        for (size_t i = 0; optind < argc && i < NB_ARRAY_LEN(parts); i++)
                if (strcmp(parts[i].name, argv[optind]) == 0)
                        return parts[i].run(cli, argv + optind + 1, force);
        NB_AUTO_ERROR err = { 0 };
        nb_fail(&err, EINVAL, optind < argc ? "there is no 'image %s'" : "image needs to be told what to do", argv[optind]);
        nb_hint(&err, "nixbox image --help shows how");
        return cli_fail(&err);
}
