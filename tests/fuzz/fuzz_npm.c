/* What npm resolved: whatever the registry says, the list that comes out is one that a lock can hold. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "image/npm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *npm[] = { "a", "@s/b@^1", NULL };
        static struct config_npm_script scripts[] = { { .package = "a", .pos = { .file = "f" } } };
        static struct config_npm_bin bin[] = { { .command = "t", .package = "a", .file = "x/t", .pos = { .file = "f" } } };
        const struct config_image asked = { .npm = npm,
                                            .npm_scripts = scripts,
                                            .n_npm_scripts = NB_ARRAY_LEN(scripts),
                                            .npm_bin = bin,
                                            .n_npm_bin = NB_ARRAY_LEN(bin) };
        const struct config_image nothing = { 0 }, *const configs[] = { &asked, &nothing };
        for (size_t i = 0; i < NB_ARRAY_LEN(configs); i++) {
                struct lock_npm *list = NULL;
                const char *before = "";
                if (npm_parse((const char *)data, size, configs[i], &list, NULL) < 0)
                        continue;
                for (const struct lock_npm *p = list; p; before = p->path, p = p->next) {
                        NB_AUTO_FREE char *hash = npm_hash(p->integrity);
                        if (!hash || strcmp(before, p->path) >= 0 || strstr(p->path, "..") || strncmp(p->url, "http", 4) != 0 ||
                            !nb_starts_with(p->path, "node_modules/"))
                                abort();
                        for (size_t k = 0; p->bin && p->bin[k]; k++)
                                if (!strchr(p->bin[k], '=') || strstr(p->bin[k], "/../") || strstr(p->bin[k], "=/"))
                                        abort();
                }
                lock_npm_free(list);
        }
        NB_AUTO_FREE char *text = nb_strndup((const char *)data, size), *said = npm_complaint(text);
        if (said && strchr(said, '\n'))
                abort();
        return 0;
}
