/* Debian copyright files: whatever is in one, the result is an SPDX licence expression. */
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/copyright.h"

/* Names, AND, OR and brackets that match; no operator without its two sides. */
static bool well_formed(const char *text) {
        int depth = 0;
        bool want_name = true;
        while (*text) {
                if (*text == '(' && want_name) {
                        depth++;
                        text++;
                } else if (*text == ')' && !want_name && depth > 0) {
                        depth--;
                        text++;
                } else if (!want_name && (strncmp(text, " AND ", 5) == 0 || strncmp(text, " OR ", 4) == 0)) {
                        text += text[1] == 'A' ? 5 : 4;
                        want_name = true;
                } else if (want_name && (isalnum((unsigned char)*text) || *text == '-')) {
                        while (isalnum((unsigned char)*text) || *text == '-' || *text == '.')
                                text++;
                        want_name = false;
                } else {
                        return false;
                }
        }
        return depth == 0 && !want_name;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        NB_AUTO_FREE char *expression = copyright_expression((const char *)data, size);
        if (expression && !well_formed(expression))
                abort();
        return 0;
}
