/* Making outside text safe, and small parsers (see text.h). */
#include "text.h"

#include <errno.h>
#include <string.h>

#include "mem.h"

#define NAME_LEN_MAX 40

/* Length of the valid UTF-8 sequence at p (RFC 3629), 0 if there is none. */
static size_t utf8_len(const uint8_t *p, size_t left) {
        if (p[0] < 0x80)
                return 1;
        size_t n = p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : 0;
        if (n == 0 || n > left)
                return 0;
        for (size_t i = 1; i < n; i++)
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
            (p[0] == 0xf4 && p[1] > 0x8f))
                return 0;
        return n;
}

static bool shown_as_is(const uint8_t *p, size_t n, unsigned flags) {
        if (n == 1) {
                if ((flags & NB_TEXT_KEEP_NEWLINE) && (p[0] == '\n' || p[0] == '\t'))
                        return true;
                return p[0] >= 0x20 && p[0] != 0x7f;
        }
        if (n == 2 && p[0] == 0xc2 && p[1] < 0xa0) /* C1 controls */
                return false;
        /* bidirectional overrides and isolates can make shown text differ from what it is */
        if (n == 3 && p[0] == 0xe2 &&
            ((p[1] == 0x80 && p[2] >= 0xaa && p[2] <= 0xae) || (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9)))
                return false;
        return true;
}

char *nb_text_clean_bytes(const void *bytes, size_t len, unsigned flags) {
        static const char hex[] = "0123456789abcdef";
        const uint8_t *p = bytes;
        char *out = nb_calloc(len * 4 + 1, 1);
        char *o = out;
        for (size_t i = 0; i < len;) {
                size_t n = utf8_len(p + i, len - i);
                if (n > 0 && shown_as_is(p + i, n, flags)) {
                        memcpy(o, p + i, n);
                        o += n;
                        i += n;
                        continue;
                }
                for (size_t end = i + (n ? n : 1); i < end; i++) {
                        *o++ = '\\';
                        *o++ = 'x';
                        *o++ = hex[p[i] >> 4];
                        *o++ = hex[p[i] & 15];
                }
        }
        *o = 0;
        return out;
}

char *nb_text_clean(const char *text, unsigned flags) {
        return nb_text_clean_bytes(text, strlen(text), flags);
}

int nb_parse_uint(const char *text, uint64_t max, uint64_t *ret) {
        uint64_t v = 0;
        if (!*text)
                return -EINVAL;
        for (; *text; text++) {
                if (*text < '0' || *text > '9')
                        return -EINVAL;
                if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
                        return -ERANGE;
        }
        if (v > max)
                return -ERANGE;
        *ret = v;
        return 0;
}

int nb_parse_size(const char *text, uint64_t *ret_bytes) {
        static const char units[] = "KMGT";
        size_t len = strlen(text);
        unsigned shift = 0;
        const char *unit = len > 0 ? strchr(units, text[len - 1]) : NULL;
        if (unit && *unit) {
                shift = 10 * (unsigned)(unit - units + 1);
                len--;
        }
        NB_AUTO_FREE char *digits = nb_strndup(text, len);
        uint64_t v;
        int r = nb_parse_uint(digits, UINT64_MAX >> shift, &v);
        if (r < 0)
                return r;
        *ret_bytes = v << shift;
        return 0;
}

char *nb_format_size(uint64_t bytes) {
        static const char units[] = "BKMGT";
        size_t u = 0;
        double v = (double)bytes;
        while (v >= 1024 && u < sizeof units - 2) {
                v /= 1024;
                u++;
        }
        if (u == 0)
                return nb_asprintf("%u", (unsigned)bytes);
        return nb_asprintf(v < 9.95 ? "%.1f%c" : "%.0f%c", v, units[u]);
}

bool nb_starts_with(const char *text, const char *prefix) {
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool nb_valid_name(const char *name) {
        size_t len = strlen(name);
        if (len == 0 || len > NAME_LEN_MAX || name[0] == '-' || name[len - 1] == '-')
                return false;
        return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

bool nb_valid_box_name(const char *name) {
        /* folders of that name are in the state folder itself, beside those of the boxes */
        return nb_valid_name(name) && strcmp(name, "approvals") != 0 && strcmp(name, "volumes") != 0;
}
