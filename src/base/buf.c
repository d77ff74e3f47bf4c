/* Byte buffers (see buf.h). */
#include "buf.h"

#include <string.h>

#include "mem.h"

#define SMALLEST 256

void *nb_buf_reserve(struct nb_buf *b, size_t len) {
        if (b->start > 0 && (b->len == 0 || b->start + b->len + len > b->cap)) {
                if (b->len > 0)
                        memmove(b->data, b->data + b->start, b->len);
                b->start = 0;
        }
        if (b->len + len > b->cap) {
                size_t cap = b->cap ? b->cap : SMALLEST;
                while (cap < b->len + len)
                        cap *= 2;
                b->data = nb_realloc(b->data, cap, 1);
                b->cap = cap;
        }
        return b->data + b->start + b->len;
}

void nb_buf_commit(struct nb_buf *b, size_t len) {
        b->len += len;
}

void nb_buf_add(struct nb_buf *b, const void *bytes, size_t len) {
        if (len == 0)
                return;
        memcpy(nb_buf_reserve(b, len), bytes, len);
        nb_buf_commit(b, len);
}

void nb_buf_printf(struct nb_buf *b, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *text = nb_vasprintf(fmt, ap);
        va_end(ap);
        nb_buf_add(b, text, strlen(text));
}

void nb_buf_consume(struct nb_buf *b, size_t len) {
        if (len > b->len)
                len = b->len;
        b->len -= len;
        b->start = b->len ? b->start + len : 0;
}

void nb_buf_clear(struct nb_buf *b) {
        if (!b)
                return;
        free(b->data);
        *b = (struct nb_buf){ 0 };
}

void nb_buf_wipe(struct nb_buf *b) {
        if (b->data)
                explicit_bzero(b->data, b->cap);
        nb_buf_clear(b);
}
