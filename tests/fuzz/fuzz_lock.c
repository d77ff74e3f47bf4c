/* nixbox.lock, which a guest may have written: what is read must be written as something that reads the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/lock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        __attribute__((cleanup(lock_freep))) struct lock *l = NULL, *again = NULL;
        NB_AUTO_ERROR err = { 0 };
        if (lock_parse((const char *)data, size, "nixbox.lock", &l, &err) < 0) {
                if (!err.what || !err.hint)
                        abort();
                return 0;
        }
        NB_AUTO_FREE char *text = lock_format(l), *changes = NULL, *second = NULL;
        if (lock_parse(text, strlen(text), "nixbox.lock", &again, &err) < 0)
                abort();
        changes = lock_changes(l, again);
        second = lock_format(again);
        if (*changes || strcmp(text, second) != 0)
                abort();
        for (size_t i = 0; i < l->base.n; i++)
                if (strstr(l->base.packages[i].path, "..") == l->base.packages[i].path || l->base.packages[i].path[0] == '/')
                        abort();
        return 0;
}
