/* What is read from kernel modules: their dependencies and where their signature begins. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/modules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        NB_AUTO_STRV char **needs = NULL;
        NB_AUTO_FREE char *path = nb_strndup((const char *)data, size), *name = modules_name(path);
        (void)modules_depends(data, size, &needs);
        if (name && strpbrk(name, "-/. "))
                abort();
        if (modules_unsigned_length(data, size) > size)
                abort();
        return 0;
}
