/* Fuzz target: lines from the gateway. What is taken must keep its promises: a canonical name, an address of the box's own
 * range, text without control characters. */
#include <stdlib.h>
#include <string.h>

#include "box/gateway_line.h"
#include "gateway/gateway.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text) {
        for (; *text; text++)
                if ((unsigned char)*text < ' ' && *text != '\n' && *text != '\t')
                        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct gateway_line l;
        char name[NAME_MAX_LEN + 1];
        if (gateway_line_parse((const char *)data, size, &l) < 0)
                return 0;
        check_text(l.name);
        check_text(l.rule);
        if (l.kind == GATEWAY_LINE_NAME &&
            (name_canonical(l.name, strlen(l.name), name) < 0 || strcmp(name, l.name) != 0 ||
             (l.address != 0 && l.address >> (32 - NET_SYNTHETIC_BITS) != NET_SYNTHETIC >> (32 - NET_SYNTHETIC_BITS))))
                abort();
        const char *key;
        json_t *value;
        json_object_foreach(l.fields, key, value) {
                if (json_is_string(value))
                        check_text(json_string_value(value));
        }
        json_decref(l.fields);
        return 0;
}
