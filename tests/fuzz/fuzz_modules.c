/* What is read from kernel modules: their dependencies and where their signature begins. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/modules.h"

/* A module that needs what is written in the bytes from its number on: also itself, round and round. */
struct graph {
        const uint8_t *data;
        size_t size;
};

static int need(void *user, const char *name, char ***ret) {
        const struct graph *g = user;
        size_t at = (size_t)(name[0] - 'a');
        if (at >= g->size)
                return 0;
        nb_strv_addf(ret, "%c", 'a' + (g->data[at] & 15));
        if (g->data[at] & 16)
                nb_strv_addf(ret, "%c", 'a' + (g->data[at] >> 5));
        return 1;
}

static void order(const uint8_t *data, size_t size) {
        static const char *const wanted[] = { "a", "b", NULL };
        struct graph g = { data, size };
        NB_AUTO_STRV char **found = NULL;
        if (modules_order(wanted, need, &g, &found) < 0)
                return;
        for (size_t i = 0; found && found[i]; i++) /* each once */
                for (size_t k = i + 1; found[k]; k++)
                        if (strcmp(found[i], found[k]) == 0)
                                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        order(data, size);
        NB_AUTO_STRV char **needs = NULL;
        NB_AUTO_FREE char *path = nb_strndup((const char *)data, size), *name = modules_name(path);
        (void)modules_depends(data, size, &needs);
        if (name && strpbrk(name, "-/. "))
                abort();
        if (modules_unsigned_length(data, size) > size)
                abort();
        return 0;
}
