/* One file on its way into the cache of downloads (see fetch.h). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <nettle/sha2.h>

#include "base/error.h"
#include "image/fetch.h"

/* The unfinished file of one item, "NAME.part" beside its final name, locked while its maker lives. What is in it is kept for
 * the next try, and has gone through the hash already. */
struct fetch_part {
        char *path, *final;
        int fd; /* -1: not open */
        uint64_t size, limit;
        bool sha512;
        union {
                struct sha256_ctx sha256;
                struct sha512_ctx sha512;
        } hash;
        int error; /* errno of a failed write, EFBIG: more than the item has; 0: none */
};
/** Opens or makes it and reads what is there. 0; 1: the finished file is there already; -EAGAIN: another process has it. */
int fetch_part_open(struct fetch_part *p, const struct store *s, const struct fetch_item *item, struct nb_error *err);
/** Appends bytes. False, with p->error set, if that fails. */
bool fetch_part_write(struct fetch_part *p, const void *bytes, size_t len);
/** Forgets all that was written. Returns 0 or -errno. */
int fetch_part_restart(struct fetch_part *p);
/** Checks the whole and gives it its final name. -EBADMSG: it is not what the item says; then the part is empty again. */
int fetch_part_finish(struct fetch_part *p, const struct fetch_item *item, struct nb_error *err);
void fetch_part_close(struct fetch_part *p);
/** A failed write into the cache, with a way out. Returns -code. */
int fetch_write_error(const struct store *s, int code, struct nb_error *err);
/** fetch_all() without its advice; *ret_failed is the item that an error is about, else `n`. */
int fetch_some(const struct store *s, const struct fetch_item *items, size_t n, const struct image_progress *progress,
               size_t *ret_failed, struct nb_error *err);
