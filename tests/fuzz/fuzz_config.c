/* Fuzz target: nixbox.yaml, which a guest may have written. Parsing, checking, merging with itself and copying must neither
 * fail to end nor leave anything behind; what was accepted is in normal form, so that checking it again changes nothing. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/check.h"
#include "config/hostrun.h"
#include "config/merge.h"

#define WORDS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void split_commands(const struct doc_node *n) {
        struct hostrun_word words[WORDS_MAX];
        if (n->text) {
                size_t count = hostrun_words(n->text, words, WORDS_MAX), last = 0;
                for (size_t i = 0; i < count; last = words[i++].end)
                        if (words[i].start < last || words[i].end <= words[i].start || words[i].end > strlen(n->text))
                                abort();
                hostrun_words_clear(words, count);
        }
        for (size_t i = 0; i < n->n_kids; i++)
                split_commands(n->kids[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        NB_AUTO_ERROR err = { 0 };
        DOC_AUTO *root = NULL;
        NB_AUTO_FREE char *bytes = nb_calloc(size + 1, 1);
        memcpy(bytes, data, size);
        struct config_source src = { .path = (char *)"/d/nixbox.yaml",
                                     .dir = (char *)"/d",
                                     .label = (char *)"nixbox.yaml",
                                     .bytes = bytes,
                                     .len = size };
        struct check check = { .home = "/home/x", .err = &err };
        if (doc_parse(&src, &root, &err) < 0 || check_document(&check, root) < 0) {
                if (err.code == 0 || !err.what)
                        abort();
                return 0;
        }
        struct doc_node *copy = doc_copy(root);
        if (check_document(&check, root) < 0 || !doc_equal(root, copy))
                abort();
        split_commands(root);
        merge_into(root, copy);
        return 0;
}
