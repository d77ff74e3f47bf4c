/* A growable byte buffer with a hard limit, consumed from the front. For queues of bytes and for building messages. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct nb_buf {
        uint8_t *data; /* allocation */
        size_t start;  /* first byte not consumed */
        size_t len;    /* bytes held, from start */
        size_t cap;    /* size of the allocation */
};

static inline const uint8_t *nb_buf_bytes(const struct nb_buf *b) {
        return b->start > 0 ? b->data + b->start : b->data; /* an empty buffer may have no memory */
}

/** Appends bytes. The buffer grows as needed; limits are the caller's (check len first). */
void nb_buf_add(struct nb_buf *b, const void *bytes, size_t len);
/** Appends formatted text, without a NUL. */
void nb_buf_printf(struct nb_buf *b, const char *fmt, ...) NB_PRINTF(2, 3);
/** Room for `len` more bytes at the end; write there, then nb_buf_commit() what was written. */
void *nb_buf_reserve(struct nb_buf *b, size_t len);
void nb_buf_commit(struct nb_buf *b, size_t len);
/** Drops `len` bytes (at most what is held) from the front. */
void nb_buf_consume(struct nb_buf *b, size_t len);
/** Frees the memory and makes the buffer empty. With `wipe`, overwrites it first (secrets). */
void nb_buf_clear(struct nb_buf *b);
void nb_buf_wipe(struct nb_buf *b);

#define NB_AUTO_BUF __attribute__((cleanup(nb_buf_clear))) struct nb_buf
