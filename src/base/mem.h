/* Memory and descriptor ownership: allocation that cannot return NULL, and cleanup attributes.
 * Running out of memory ends the process with a message; no caller handles it. Limits on what an outsider can make us
 * allocate are the caller's duty and are named constants beside the code that reads outside data. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "error.h"

/** Zeroed memory for `count` objects of `size` bytes; never NULL. */
void *nb_calloc(size_t count, size_t size);
/** realloc() for `count` objects of `size` bytes, overflow-checked; never NULL. */
void *nb_realloc(void *ptr, size_t count, size_t size);
/** strdup() that never returns NULL for a string; NULL stays NULL. */
char *nb_strdup(const char *text);
/** First `len` bytes as a new NUL-terminated string. */
char *nb_strndup(const char *text, size_t len);
/** Formatted new string; the caller frees it. */
char *nb_asprintf(const char *fmt, ...) NB_PRINTF(1, 2);
char *nb_vasprintf(const char *fmt, va_list ap) NB_PRINTF(1, 0);

/** NULL-terminated list of strings: append a copy / free all. A NULL list is an empty one. */
void nb_strv_add(char ***list, const char *text);
void nb_strv_addf(char ***list, const char *fmt, ...) NB_PRINTF(2, 3);
size_t nb_strv_len(char *const *list);
bool nb_strv_has(char *const *list, const char *text);
char **nb_strv_copy(char *const *list);
void nb_strv_free(char **list);

/** Closes a descriptor if it is not negative, keeping errno. Returns -1, so `fd = nb_close(fd)` forgets it. */
int nb_close(int fd);

static inline void nb_freep(void *p) {
        free(*(void **)p);
}
static inline void nb_closep(const int *fd) {
        nb_close(*fd);
}
static inline void nb_fclosep(FILE **f) {
        if (*f)
                fclose(*f);
}
static inline void nb_strv_freep(char ***list) {
        nb_strv_free(*list);
}

#define NB_AUTO_FREE __attribute__((cleanup(nb_freep)))
#define NB_AUTO_CLOSE __attribute__((cleanup(nb_closep)))
#define NB_AUTO_FCLOSE __attribute__((cleanup(nb_fclosep)))
#define NB_AUTO_STRV __attribute__((cleanup(nb_strv_freep)))

/** Hands ownership out of a variable that has a cleanup attribute: `return nb_steal(&path);` */
#define nb_steal(ptr)                           \
        __extension__({                         \
                __typeof__(*(ptr)) _v = *(ptr); \
                *(ptr) = NULL;                  \
                _v;                             \
        })
#define nb_steal_fd(ptr)         \
        __extension__({          \
                int _v = *(ptr); \
                *(ptr) = -1;     \
                _v;              \
        })
#define NB_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
