/* Fuzz target: a line of the event log, read and described. What is shown holds no control character. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "box/events.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        json_t *event = events_parse((const char *)data, size);
        if (!event)
                return 0;
        char *text = events_describe(event);
        for (const char *c = text; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        abort();
        free(text);
        json_decref(event);
        return 0;
}
