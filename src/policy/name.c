/* The canonical form of host names (see name.h). Nothing here knows about rules. */
#include "policy/name.h"

#include <errno.h>
#include <string.h>

#define LABEL_MAX 63

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static bool is_hex(char c) {
        return is_digit(c) || (c >= 'a' && c <= 'f');
}

/* "1", "0x7f", "0x": resolvers and URL readers take a name that ends so for an address. */
static bool is_number(const char *label, size_t len) {
        bool hex = len >= 2 && label[0] == '0' && label[1] == 'x';
        for (size_t i = hex ? 2 : 0; i < len; i++)
                if (hex ? !is_hex(label[i]) : !is_digit(label[i]))
                        return false;
        return true;
}

/* Copies in lower case. NULL, or the problem. */
static const char *canonical(const unsigned char *bytes, size_t len, char *ret) {
        if (len > 0 && bytes[len - 1] == '.')
                len--;
        if (len == 0)
                return "is empty";
        if (len > NAME_MAX_LEN)
                return "is longer than 253 characters";
        size_t label = 0;
        for (size_t i = 0; i <= len; i++) {
                unsigned char c = i < len ? bytes[i] : '.';
                if (c == '.') {
                        if (i == label || i - label > LABEL_MAX || ret[label] == '-' || ret[i - 1] == '-')
                                return "is not a host name";
                        if (i == len && is_number(ret + label, i - label))
                                return "is an address, not a name";
                        label = i + 1;
                } else if (c >= 'A' && c <= 'Z') {
                        c = (unsigned char)(c - 'A' + 'a');
                } else if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_') {
                        return "is not a host name";
                }
                ret[i] = i < len ? (char)c : 0;
        }
        return NULL;
}

int name_canonical(const void *bytes, size_t len, char ret[NAME_MAX_LEN + 1]) {
        if (canonical(bytes, len, ret)) {
                ret[0] = 0;
                return -EINVAL;
        }
        return (int)strlen(ret);
}

const char *name_problem(const void *bytes, size_t len) {
        char scratch[NAME_MAX_LEN + 1];
        return canonical(bytes, len, scratch);
}

bool name_below(const char *name, const char *suffix) {
        size_t n = strlen(name), s = strlen(suffix);
        return n > s + 1 && name[n - s - 1] == '.' && strcmp(name + n - s, suffix) == 0;
}
