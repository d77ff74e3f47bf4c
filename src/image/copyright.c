/* Reading copyright files (see copyright.h). They come from packages and are long, old and written by hand: what cannot be
 * understood is named as such, never guessed. */
#include "image/copyright.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"

#define NAME_MAX_LEN 60u   /* of a licence; what is longer is a sentence */
#define LICENCES_MAX 1000u /* different ones in a file */

/* Debian's short name, and what SPDX calls the same text. The GNU licences are put together by gnu_name(). Debian's "MIT" and
 * "Artistic" stand for more than one text and are not here. */
static const struct {
        const char *debian, *spdx;
} names[] = {
        { "0BSD", "0BSD" },
        { "Apache-2", "Apache-2.0" },
        { "Apache-2.0", "Apache-2.0" },
        { "Artistic-2.0", "Artistic-2.0" },
        { "Beerware", "Beerware" },
        { "BSD-2-clause", "BSD-2-Clause" },
        { "BSD-3-clause", "BSD-3-Clause" },
        { "BSD-4-clause", "BSD-4-Clause" },
        { "BSD-4-clause-UC", "BSD-4-Clause-UC" },
        { "BSL-1.0", "BSL-1.0" },
        { "CC-BY-3.0", "CC-BY-3.0" },
        { "CC-BY-4.0", "CC-BY-4.0" },
        { "CC-BY-SA-3.0", "CC-BY-SA-3.0" },
        { "CC-BY-SA-4.0", "CC-BY-SA-4.0" },
        { "CC0", "CC0-1.0" },
        { "CC0-1.0", "CC0-1.0" },
        { "curl", "curl" },
        { "Expat", "MIT" },
        { "FSFAP", "FSFAP" },
        { "FSFUL", "FSFUL" },
        { "FSFULLR", "FSFULLR" },
        { "ISC", "ISC" },
        { "MPL-1.1", "MPL-1.1" },
        { "MPL-2.0", "MPL-2.0" },
        { "OLDAP-2.8", "OLDAP-2.8" },
        { "OpenLDAP-2.8", "OLDAP-2.8" },
        { "Unicode-DFS-2016", "Unicode-DFS-2016" },
        { "Unlicense", "Unlicense" },
        { "X11", "X11" },
        { "Zlib", "Zlib" },
};

/* "LGPL-2.1+" to "LGPL-2.1-or-later". NULL if it is none of these. */
static char *gnu_name(const char *text) {
        static const struct {
                const char *debian, *spdx, *after;
        } families[] = { { "GPL-", "GPL-", "" },
                         { "LGPL-", "LGPL-", "" },
                         { "AGPL-", "AGPL-", "" },
                         { "GFDL-NIV-", "GFDL-", "-no-invariants" } };
        static const char *const versions[] = { "1.0", "1.1", "1.2", "1.3", "2.0", "2.1", "3.0" };
        for (size_t i = 0; i < NB_ARRAY_LEN(families); i++) {
                size_t n = strlen(families[i].debian);
                if (strncasecmp(text, families[i].debian, n) != 0)
                        continue;
                size_t len = strlen(text + n);
                bool later = len > 0 && text[n + len - 1] == '+';
                NB_AUTO_FREE char *number = nb_strndup(text + n, len - later);
                for (size_t k = 0; k < NB_ARRAY_LEN(versions); k++) {
                        bool same = strcmp(number, versions[k]) == 0; /* "2" is "2.0" */
                        same = same || (number[0] && !number[1] && number[0] == versions[k][0] && versions[k][2] == '0');
                        if (same)
                                return nb_asprintf("%s%s%s%s", families[i].spdx, versions[k], families[i].after,
                                                   later ? "-or-later" : "-only");
                }
        }
        return NULL;
}

static char *reference(const char *text) {
        char *name = nb_asprintf(COPYRIGHT_REF "%s", text);
        for (char *c = name + strlen(COPYRIGHT_REF); *c; c++)
                if (!isascii((unsigned char)*c) || (!isalnum((unsigned char)*c) && *c != '.' && *c != '-'))
                        *c = '-';
        return name;
}

/* One short name. A name with a space in it is not one, but for "NAME with WHAT exception". */
static char *one_name(const char *text) {
        char *gnu = gnu_name(text);
        if (gnu)
                return gnu;
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++)
                if (strcasecmp(text, names[i].debian) == 0)
                        return nb_strdup(names[i].spdx);
        bool sentence = strlen(text) > NAME_MAX_LEN || (strchr(text, ' ') && !strcasestr(text, " with "));
        return reference(sentence || !text[0] ? COPYRIGHT_UNNAMED : text);
}

static void append(char **text, const char *word, const char *part, bool brackets) {
        char *all = nb_asprintf(brackets ? "%s%s(%s)" : "%s%s%s", *text ? *text : "", *text ? word : "", part);
        free(*text);
        *text = all;
}

/* The part before the next `word` (any case), trimmed; moves on behind it. NULL at the end. New string. */
static char *take_part(const char **text, const char *word) {
        if (!*text)
                return NULL;
        const char *start = *text, *end = strcasestr(start, word);
        *text = end ? end + strlen(word) : NULL;
        size_t n = end ? (size_t)(end - start) : strlen(start);
        while (n > 0 && isspace((unsigned char)*start)) {
                start++;
                n--;
        }
        while (n > 0 && (isspace((unsigned char)start[n - 1]) || start[n - 1] == ','))
                n--;
        return nb_strndup(start, n);
}

/* "A and B" */
static char *conjunction(const char *text) {
        char *all = NULL;
        for (char *part; (part = take_part(&text, " and ")); free(part)) {
                NB_AUTO_FREE char *name = one_name(part);
                append(&all, " AND ", name, false);
        }
        return all;
}

/* "A or B and C": "and" binds closer. */
static char *alternatives(const char *text) {
        char *all = NULL;
        bool several = strcasestr(text, " or ") != NULL;
        for (char *part; (part = take_part(&text, " or ")); free(part)) {
                NB_AUTO_FREE char *one = conjunction(part);
                if (one)
                        append(&all, " OR ", one, several && strstr(one, " AND ") != NULL);
        }
        return all;
}

/* A whole synopsis; a comma before the "and" makes it bind last. */
static char *synopsis(const char *text) {
        char *all = NULL;
        if (strlen(text) > 4 * NAME_MAX_LEN)
                return reference(COPYRIGHT_UNNAMED);
        bool several = strcasestr(text, ", and ") != NULL;
        for (char *part; (part = take_part(&text, ", and ")); free(part)) {
                NB_AUTO_FREE char *one = alternatives(part);
                if (one)
                        append(&all, " AND ", one, several && strstr(one, " OR ") != NULL);
        }
        return all;
}

static void add_once(char ***list, const char *text) {
        for (size_t i = 0; *list && (*list)[i]; i++)
                if (strcmp((*list)[i], text) == 0)
                        return;
        nb_strv_add(list, text);
}

/* Adds an expression; one without a choice in its parts. */
static void add_parts(char ***list, const char *expression) {
        static const char joint[] = " AND ";
        const char *end;
        while (!strstr(expression, " OR ") && (end = strstr(expression, joint))) {
                NB_AUTO_FREE char *part = nb_strndup(expression, (size_t)(end - expression));
                add_once(list, part);
                expression = end + (sizeof joint - 1);
        }
        add_once(list, expression);
}

static int by_text(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The value of a field on this line, NULL if it is another; the line is cut off behind it. */
static const char *field(const char *line, const char *name) {
        size_t n = strlen(name);
        if (strncasecmp(line, name, n) != 0)
                return NULL;
        return line + n + strspn(line + n, " \t");
}

/* Collects the licences of all paragraphs about files. A licence's own paragraph repeats its text only. */
static void collect(char *text, char ***list) {
        NB_AUTO_FREE char *licence = NULL;
        bool files = false, more = true;
        for (char *line = text; more;) {
                char *end = strchrnul(line, '\n');
                more = *end != 0;
                *end = 0;
                line[strcspn(line, "\r")] = 0;
                const char *value = field(line, "License:");
                if (value) {
                        free(licence);
                        licence = nb_strdup(value);
                }
                files = files || field(line, "Files:");
                bool blank = line[strspn(line, " \t")] == 0;
                if (blank || !more) {
                        if (licence && licence[0] && files && nb_strv_len(*list) < LICENCES_MAX) {
                                NB_AUTO_FREE char *one = synopsis(licence);
                                add_parts(list, one);
                        }
                        free(licence);
                        licence = NULL;
                        files = false;
                }
                line = end + 1;
        }
}

char *copyright_expression(const char *text, size_t len) {
        NB_AUTO_FREE char *copy = nb_strndup(text, len < COPYRIGHT_MAX ? len : COPYRIGHT_MAX);
        NB_AUTO_STRV char **list = NULL;
        const char *first = copy + strspn(copy, " \t\r\n");
        if (!field(first, "Format:") && !field(first, "Format-Specification:"))
                return NULL;
        collect(copy, &list);
        size_t n = nb_strv_len(list);
        if (!list)
                return NULL;
        qsort(list, n, sizeof *list, by_text);
        char *all = NULL;
        for (size_t i = 0; i < n; i++)
                append(&all, " AND ", list[i], n > 1 && strstr(list[i], " OR "));
        return all;
}
