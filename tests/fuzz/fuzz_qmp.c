/* Fuzz target: what QEMU says on its monitor, in two pieces, as it may arrive. Every message that is taken must keep its
 * promises: terminated clean text, and no more lines than there are newlines. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "box/vmm_qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_all(struct nb_buf *in) {
        struct qmp_message m;
        size_t before = in->len;
        while (qmp_next(in, &m) > 0) {
                if (!memchr(m.detail, 0, sizeof m.detail) || in->len >= before)
                        abort();
                for (const char *c = m.detail; *c; c++)
                        if ((unsigned char)*c < ' ')
                                abort();
                before = in->len;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        NB_AUTO_BUF in = { 0 };
        size_t first = size ? data[0] % size : 0;
        nb_buf_add(&in, data, first);
        take_all(&in);
        nb_buf_add(&in, data + first, size - first);
        take_all(&in);
        return 0;
}
