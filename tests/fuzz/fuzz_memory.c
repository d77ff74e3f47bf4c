/* Fuzz target: figures of the kernel's that hold names which others chose (/proc/PID/stat), and figures that the guest makes
 * up: whatever they are, no more is asked of the guest than it says it has. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "box/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decide(const uint8_t *data, size_t size) {
        struct memory_policy policy = { 0 };
        struct memory_figures f = { .now_ms = 1 };
        for (; size >= 12; data += 12, size -= 12) {
                f.now_ms += (uint64_t)data[0] << (data[1] & 15);
                f.cpu_ms += (uint64_t)data[2] << (data[3] & 15);
                f.host = (uint64_t)data[4] << (20 + (data[5] & 15));
                f.total = (uint64_t)data[6] << (20 + (data[7] & 31));
                f.free = (uint64_t)data[8] << (20 + (data[9] & 31));
                f.cached = (uint64_t)data[10] << (20 + (data[11] & 31));
                struct memory_wish wish = memory_decide(&policy, &f);
                if (wish.cache > f.cached)
                        abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint64_t a, b;
        if (size == 0)
                return 0;
        NB_AUTO_FREE char *text = nb_strndup((const char *)data + 1, size - 1);
        switch (data[0] % 3) {
        case 0: (void)memory_parse_status(text, &a, &b); break;
        case 1: (void)memory_parse_stat(text, &a); break;
        default: decide(data + 1, size - 1);
        }
        return 0;
}
