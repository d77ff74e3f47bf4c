/* Where the parts of a YAML document stand in its text, for editing it. Private to src/config. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum layout_kind { LAYOUT_SCALAR, LAYOUT_LIST, LAYOUT_MAP, LAYOUT_ALIAS };
struct layout {
        enum layout_kind kind;
        bool flow;         /* a list in [ ] or a map in { } */
        bool anchored;     /* other places may repeat it */
        bool block_text;   /* text after | or >: where it ends depends on what follows */
        size_t start, end; /* its bytes; equal for a value that is not there */
        unsigned column;   /* of its start, from 0 */
        struct layout **kids;
        size_t n_kids;
        char *key; /* in a map */
        size_t key_end;
        unsigned key_column;
};

/** Reads text that doc_parse() has accepted. *ret is NULL for an empty document. -EINVAL for a document with an explicit end,
 *  or text that is not what it was thought to be. Pure. */
int layout_read(const char *text, size_t len, struct layout **ret);
void layout_free(struct layout *l);
static inline void layout_freep(struct layout **l) {
        layout_free(*l);
}
/** The value under a key of a map, NULL if there is none. */
const struct layout *layout_get(const struct layout *map, const char *key);
