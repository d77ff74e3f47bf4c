/* Fuzz target: paths against the default patterns and one made of the input, by what must hold between a path, its folder and
 * its other spellings; and an owner's list that the pattern is put on and taken out of again. */
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/protect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) {
        if (!ok)
                abort();
}

static void check_path(const struct protect *p, const char *path) {
        const char *pattern = NULL;
        unsigned is = protect_match(p, path, &pattern);
        NB_AUTO_FREE char *other = nb_strdup(path);
        for (char *c = other; *c; c++)
                *c = (char)(isascii(*c) && isupper(*c) ? tolower(*c) : isascii(*c) ? toupper(*c) : *c);
        NB_AUTO_FREE char *deeper = nb_asprintf("/some/where/%s", path);
        NB_AUTO_FREE char *slashes = nb_asprintf("//%s//", path);
        must(!is || pattern || is == PROTECT_LOCK);
        must(protect_match(p, other, NULL) == is);
        must(protect_match(p, slashes, NULL) == is);
        must(!(is & PROTECT_VETTED) || is & PROTECT_IS);
        must(!(is & PROTECT_LOCK) || !(is & PROTECT_IS));
        /* nothing above a path makes it harmless */
        must((is & ~protect_match(p, deeper, NULL) & (PROTECT_IS | PROTECT_LEADS)) == 0);
}

static size_t count(char *const *list, const char *text) {
        size_t n = 0;
        for (; list && *list; list++)
                n += strcasecmp(*list, text) == 0;
        return n;
}

static void check_list(char *pattern) {
        static char usual[] = PROTECT_DEFAULT;
        if (pattern[0] == '!' || strcmp(pattern, usual) == 0)
                return;
        NB_AUTO_FREE char *out = nb_asprintf("!%s", pattern);
        NB_AUTO_STRV char **with = NULL, **without = NULL, **none = NULL;
        NB_AUTO_ERROR err = { 0 };
        must(protect_resolve((char *[]){ usual, pattern, pattern, NULL }, &with, NULL) == 0);
        must(protect_resolve((char *[]){ pattern, usual, out, NULL }, &without, NULL) == 0);
        must(count(with, pattern) == 1 && count(without, pattern) == 0);
        must(protect_resolve((char *[]){ out, NULL }, &none, &err) < 0 && err.what && !none);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const uint8_t *end = memchr(data, '\n', size);
        if (!end || memchr(data, 0, size))
                return 0;
        NB_AUTO_FREE char *pattern = nb_strndup((const char *)data, (size_t)(end - data));
        NB_AUTO_FREE char *path = nb_strndup((const char *)end + 1, size - (size_t)(end + 1 - data));
        check_list(pattern);
        struct protect *p = NULL;
        char *own[] = { pattern, NULL };
        must(protect_new((char *const *)protect_defaults(), &p, NULL) == 0);
        check_path(p, path);
        protect_free(p);
        NB_AUTO_ERROR err = { 0 };
        if (protect_new(own, &p, &err) < 0)
                return 0;
        must(protect_check(pattern, NULL) == 0);
        if (pattern[0] != '/')
                check_path(p, path);
        else
                (void)protect_match(p, path, NULL);
        protect_free(p);
        return 0;
}
