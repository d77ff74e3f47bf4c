/* The bzImage reader: any bytes, and none may be read beyond their end. */
#include <stdint.h>
#include <stdlib.h>

#include "image/bzimage.h"

#define VMLINUX_MAX (1024u * 1024u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint8_t *vmlinux = NULL;
        size_t len = 0;
        if (bzimage_vmlinux(data, size, VMLINUX_MAX, &vmlinux, &len) == 0 && (!vmlinux || len > VMLINUX_MAX))
                abort();
        free(vmlinux);
        return 0;
}
