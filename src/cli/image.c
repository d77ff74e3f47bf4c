/* nixbox image: build, list and remove images. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "image/image.h"

static void on_step(void *user, const char *step, const char *detail, unsigned long long done, unsigned long long total) {
        progress_step(user, step, detail, done, total);
}

static int build(struct cli *cli, bool force) {
        NB_AUTO_ERROR err = { 0 };
        static char base[] = "debian-13";
        const struct config standard = { .image = { .kind = CONFIG_BASE_DEBIAN, .base = base } };
        __attribute__((cleanup(image_freep))) struct image *image = NULL;
        struct progress *p = progress_new(cli->quiet, cli->color);
        struct image_progress progress = { on_step, p };
        int r = image_ensure(&standard, force, &progress, &image, &err);
        progress_end(p);
        progress_free(p);
        if (r < 0)
                return cli_fail(&err);
        printf("image    %s\n         %s\nruntime  %s\n         %s\nkernel   %s\n         %s\ninitrd   %s\n", image->digest,
               image->rootfs, image->runtime_digest, image->runtime, image->kernel_digest, image->vmlinux, image->initrd);
        return 0;
}

int verb_image(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "force", no_argument, NULL, 'F' }, { 0 } };
        bool force = false;
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                if (opt != 'F')
                        return CLI_FAILED;
                force = true;
        }
        if (optind < argc && strcmp(argv[optind], "build") == 0)
                return build(cli, force);
        return CLI_FAILED;
}
