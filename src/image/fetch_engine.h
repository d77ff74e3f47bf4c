/* The downloading itself: the program nixbox-fetch, which alone carries libcurl and what that brings along. fetch_all() starts
 * it: nixbox-fetch CACHE    stdin: [{"label", "urls", "hash", "size"}, …] stderr, while it works: "BYTES TOTAL TEXT", a line
 * now and then stdout, at the end: {"failed": index or the number of items, "code", "what", "hint"} ("code" 0: all there)
 */
#pragma once
#include "base/error.h"
#include "image/fetch.h"
#include "image/store.h"

/** Brings all items into the cache. *ret_failed is the item that an error is about, else `n`. Only the store's cache is used.
 */
int fetch_engine(const struct store *s, const struct fetch_item *items, size_t n, const struct image_progress *progress,
                 size_t *ret_failed, struct nb_error *err);
