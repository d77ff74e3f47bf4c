/* Fuzz target: nixbox.yaml, which a guest may have written. Parsing, checking, merging with itself and copying must neither
 * fail to end nor leave anything behind; what was accepted is in normal form, so that checking it again changes nothing.
 * Rules are saved to its text or not, and once they are saved there is nothing left to save. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/check.h"
#include "config/hostrun.h"
#include "config/merge.h"
#include "config/save.h"

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

static void save(const struct config_source *src, bool deny) {
        static const char *const texts[] = { "x.org", "*.y.org:22" };
        struct policy_rule rules[2] = { 0 };
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *text = NULL;
        NB_AUTO_FREE char *again = NULL;
        for (size_t i = 0; i < NB_ARRAY_LEN(rules); i++)
                if (policy_rule_parse(texts[i], deny, &rules[i], &err) < 0)
                        abort();
        if (save_edit(src, "/home/x", rules, NB_ARRAY_LEN(rules), &text, &err) == 0 && text) {
                struct config_source saved = *src;
                saved.bytes = text;
                saved.len = strlen(text);
                if (save_edit(&saved, "/home/x", rules, NB_ARRAY_LEN(rules), &again, &err) < 0 || again)
                        abort();
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(rules); i++)
                policy_rule_clear(&rules[i]);
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
        save(&src, false);
        save(&src, true);
        merge_into(root, copy);
        return 0;
}
