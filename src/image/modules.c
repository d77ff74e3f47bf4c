/* Module dependencies and load order (see modules.h). */
#include "image/modules.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

#define DEPTH_MAX 16u
#define FIELD_MAX 4096u

static bool valid_name(const char *name) {
        if (!*name || strlen(name) >= 64)
                return false;
        for (; *name; name++)
                if (!isalnum((unsigned char)*name) && *name != '_')
                        return false;
        return true;
}

static void underscores(char *name) {
        for (; *name; name++)
                if (*name == '-')
                        *name = '_';
}

int modules_depends(const void *ko, size_t len, char ***ret) {
        static const char field[] = "\0depends="; /* .modinfo is a list of NUL-terminated strings */
        const char *at = memmem(ko, len, field, sizeof field - 1);
        if (!at)
                return -EBADMSG;
        at += sizeof field - 1;
        size_t left = len - (size_t)(at - (const char *)ko);
        const char *end = memchr(at, 0, left < FIELD_MAX ? left : FIELD_MAX);
        if (!end)
                return -EBADMSG;
        NB_AUTO_FREE char *text = nb_strndup(at, (size_t)(end - at));
        NB_AUTO_STRV char **list = NULL;
        char *save = NULL;
        for (char *name = strtok_r(text, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
                underscores(name);
                if (!valid_name(name))
                        return -EBADMSG;
                nb_strv_add(&list, name);
        }
        *ret = nb_steal(&list);
        return 0;
}

/* ELF image, signature, 12 bytes that end with the signature's length (big endian), magic string. */
size_t modules_unsigned_length(const void *ko, size_t len) {
        static const char magic[] = "~Module signature appended~\n";
        const size_t trailer = 12, tail = sizeof magic - 1 + trailer;
        const uint8_t *bytes = ko;
        if (len < tail || memcmp(bytes + len - (sizeof magic - 1), magic, sizeof magic - 1) != 0)
                return len;
        const uint8_t *p = bytes + len - (sizeof magic - 1) - 4;
        size_t signature = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | (size_t)p[3];
        return signature <= len - tail ? len - tail - signature : len;
}

char *modules_name(const char *path) {
        const char *slash = strrchr(path, '/');
        const char *base = slash ? slash + 1 : path, *dot = strstr(base, ".ko");
        if (!dot || (dot[3] != 0 && dot[3] != '.'))
                return NULL;
        NB_AUTO_FREE char *name = nb_strndup(base, (size_t)(dot - base));
        underscores(name);
        return valid_name(name) ? nb_steal(&name) : NULL;
}

static bool holds(char *const *list, const char *name) {
        for (size_t i = 0; list && list[i]; i++)
                if (strcmp(list[i], name) == 0)
                        return true;
        return false;
}

static int visit(const char *name, modules_need_fn need, void *user, unsigned depth, char ***order) {
        if (depth > DEPTH_MAX)
                return -ELOOP;
        if (holds(*order, name))
                return 0;
        NB_AUTO_STRV char **needs = NULL;
        int r = need(user, name, &needs);
        if (r <= 0)
                return r;
        for (size_t i = 0; needs && needs[i]; i++) {
                r = visit(needs[i], need, user, depth + 1, order);
                if (r < 0)
                        return r;
        }
        nb_strv_add(order, name);
        return 0;
}

int modules_order(const char *const *wanted, modules_need_fn need, void *user, char ***ret) {
        NB_AUTO_STRV char **order = NULL;
        for (size_t i = 0; wanted[i]; i++) {
                int r = visit(wanted[i], need, user, 0, &order);
                if (r < 0)
                        return r;
        }
        *ret = nb_steal(&order);
        return 0;
}
