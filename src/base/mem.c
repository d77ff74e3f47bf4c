/* Allocation and ownership helpers (see mem.h). */
#include "mem.h"

#include <errno.h>
#include <string.h>

static _Noreturn void out_of_memory(void) {
        static const char text[] = "nixbox: out of memory\n";
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        abort();
}

void *nb_calloc(size_t count, size_t size) {
        void *p = calloc(count ? count : 1, size ? size : 1);
        if (!p)
                out_of_memory();
        return p;
}

void *nb_realloc(void *ptr, size_t count, size_t size) {
        size_t bytes;
        if (__builtin_mul_overflow(count, size, &bytes))
                out_of_memory();
        void *p = realloc(ptr, bytes ? bytes : 1);
        if (!p)
                out_of_memory();
        return p;
}

char *nb_strdup(const char *text) {
        return text ? nb_strndup(text, strlen(text)) : NULL;
}

char *nb_strndup(const char *text, size_t len) {
        len = strnlen(text, len);
        char *copy = nb_calloc(len + 1, 1);
        memcpy(copy, text, len);
        return copy;
}

char *nb_vasprintf(const char *fmt, va_list ap) {
        char *text = NULL;
        if (vasprintf(&text, fmt, ap) < 0)
                out_of_memory();
        return text;
}

char *nb_asprintf(const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        char *text = nb_vasprintf(fmt, ap);
        va_end(ap);
        return text;
}

size_t nb_strv_len(char *const *list) {
        size_t n = 0;
        while (list && list[n])
                n++;
        return n;
}

static void strv_take(char ***list, char *text) {
        size_t n = nb_strv_len(*list);
        *list = nb_realloc(*list, n + 2, sizeof(char *));
        (*list)[n] = text;
        (*list)[n + 1] = NULL;
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak" /* gcc's analyser loses what is stored at an index it does not know */
#endif
void nb_strv_add(char ***list, const char *text) {
        strv_take(list, nb_strdup(text));
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

void nb_strv_addf(char ***list, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        strv_take(list, nb_vasprintf(fmt, ap));
        va_end(ap);
}

bool nb_strv_has(char *const *list, const char *text) {
        for (; list && *list; list++)
                if (strcmp(*list, text) == 0)
                        return true;
        return false;
}

char **nb_strv_copy(char *const *list) {
        size_t n = nb_strv_len(list);
        if (n == 0)
                return NULL;
        char **copy = nb_calloc(n + 1, sizeof *copy);
        for (size_t i = 0; i < n; i++)
                copy[i] = nb_strdup(list[i]);
        return copy;
}

void nb_strv_free(char **list) {
        for (size_t i = 0; list && list[i]; i++)
                free(list[i]);
        free(list);
}

int nb_close(int fd) {
        if (fd >= 0) {
                int saved = errno;
                close(fd);
                errno = saved;
        }
        return -1;
}
