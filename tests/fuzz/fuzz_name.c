/* Fuzz target: the canonical form of names, against the definition in name.h read once more, one rule after the other. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_number(const char *label) {
        const char *digits = "0123456789";
        if (strncmp(label, "0x", 2) == 0) {
                label += 2;
                digits = "0123456789abcdef";
        }
        return label[strspn(label, digits)] == 0;
}

/* The same definition in many passes. */
static bool oracle(const uint8_t *data, size_t size, char *ret) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
        char text[NAME_MAX_LEN + 2];
        if (size > sizeof text - 1 || memchr(data, 0, size))
                return false;
        memcpy(text, data, size);
        text[size] = 0;
        if (strlen(text) != strspn(text, allowed))
                return false;
        if (size > 0 && text[size - 1] == '.')
                text[--size] = 0;
        if (size == 0 || size > NAME_MAX_LEN)
                return false;
        for (char *p = text; *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char)(*p + 32);
        memcpy(ret, text, strlen(text) + 1);
        if (text[0] == '.' || text[size - 1] == '.' || strstr(text, ".."))
                return false;
        char *last = NULL, *rest = NULL;
        for (char *label = strtok_r(text, ".", &rest); label; label = strtok_r(NULL, ".", &rest)) {
                if (strlen(label) > 63 || label[0] == '-' || label[strlen(label) - 1] == '-')
                        return false;
                last = label;
        }
        return last && !is_number(last);
}

static void check_below(const char *name) {
        for (const char *p = name; *p; p++) { /* exactly what follows a dot is a suffix */
                bool boundary = p > name && p[-1] == '.';
                if (name_below(name, p) != boundary)
                        abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char name[NAME_MAX_LEN + 1], again[NAME_MAX_LEN + 1], expected[NAME_MAX_LEN + 2];
        int len = name_canonical(data, size, name);
        bool good = oracle(data, size, expected);
        if ((len > 0) != good || (name_problem(data, size) == NULL) != good)
                abort();
        if (!good)
                return 0;
        if ((size_t)len != strlen(name) || strcmp(name, expected) != 0)
                abort();
        if (name_canonical(name, (size_t)len, again) != len || strcmp(name, again) != 0)
                abort();
        check_below(name);
        return 0;
}
