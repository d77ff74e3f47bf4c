/* Types and keys: the part of checking that knows nothing about any particular key (see check.h). */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "config/check.h"

#define WORD_MAX 40     /* longer words are not compared */
#define SUGGEST_EDITS 3 /* a known key this near is offered */

unsigned check_distance(const char *a, const char *b, unsigned max) {
        size_t la = strlen(a), lb = strlen(b);
        if (la > WORD_MAX || lb > WORD_MAX)
                return max + 1;
        unsigned row[WORD_MAX + 1];
        for (size_t j = 0; j <= lb; j++)
                row[j] = (unsigned)j;
        for (size_t i = 1; i <= la; i++) {
                unsigned diagonal = row[0];
                row[0] = (unsigned)i;
                for (size_t j = 1; j <= lb; j++) {
                        unsigned above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
                        if (above + 1 < best)
                                best = above + 1;
                        if (row[j - 1] + 1 < best)
                                best = row[j - 1] + 1;
                        row[j] = best;
                        diagonal = above;
                }
        }
        return row[lb] > max ? max + 1 : row[lb];
}

static const char *kind_name(enum doc_kind kind) {
        static const char *const names[] = {
                [DOC_NULL] = "nothing", [DOC_TEXT] = "text",       [DOC_BOOL] = "true or false",
                [DOC_INT] = "a number", [DOC_NUMBER] = "a number", [DOC_AMBIGUOUS] = "an ambiguous word",
                [DOC_LIST] = "a list",  [DOC_MAP] = "a map",
        };
        return names[kind];
}

int check_wrong_type(struct check *c, const struct doc_node *n, const char *what, const char *wanted) {
        return doc_fail(n, c->err, EINVAL, "%s must be %s, but here is %s", what, wanted, kind_name(n->kind));
}

static int unknown_key(struct check *c, const struct doc_node *kid, const char *what, const struct check_key *keys,
                       size_t n_keys) {
        struct doc_node at = { .src = kid->src, .line = kid->key_line, .column = kid->key_column };
        const char *near = NULL;
        unsigned best = SUGGEST_EDITS + 1;
        NB_AUTO_FREE char *known = nb_strdup("");
        for (size_t i = 0; i < n_keys; i++) {
                if (!keys[i].fn)
                        continue;
                unsigned d = check_distance(kid->key, keys[i].name, SUGGEST_EDITS);
                if (d < best && d < strlen(keys[i].name)) {
                        best = d;
                        near = keys[i].name;
                }
                char *longer = nb_asprintf("%s%s%s", known, *known ? ", " : "", keys[i].name);
                free(known);
                known = longer;
        }
        doc_fail(&at, c->err, EINVAL, "there is no key '%s'%s%s", kid->key, *what ? " in " : "", what);
        if (near)
                return nb_hint(c->err, "did you mean '%s'?", near);
        return nb_hint(c->err, "the keys here are: %s", known);
}

int check_map(struct check *c, struct doc_node *n, const char *what, const struct check_key *keys, size_t n_keys) {
        if (n->kind == DOC_NULL)
                n->kind = DOC_MAP;
        if (n->kind != DOC_MAP) {
                check_wrong_type(c, n, *what ? what : "the file", "a map");
                return nb_hint(c->err, "write 'key: value', each on a line of its own");
        }
        for (size_t i = 0; i < n->n_kids; i++) {
                struct doc_node *kid = n->kids[i];
                const struct check_key *key = keys;
                while (key < keys + n_keys && strcmp(key->name, kid->key) != 0)
                        key++;
                if (key == keys + n_keys)
                        return unknown_key(c, kid, what, keys, n_keys);
                if (!key->fn) {
                        struct doc_node at = { .src = kid->src, .line = kid->key_line, .column = kid->key_column };
                        doc_fail(&at, c->err, ENOTSUP, "'%s%s%s' is not yet supported", what, *what ? "." : "", kid->key);
                        return nb_hint(c->err, "the name is reserved; remove the key");
                }
                int r = key->fn(c, kid);
                if (r < 0)
                        return r;
        }
        return 0;
}

int check_list(struct check *c, struct doc_node *n, const char *what, int (*fn)(struct check *c, struct doc_node *n)) {
        if (n->kind == DOC_NULL)
                n->kind = DOC_LIST;
        if (n->kind != DOC_LIST) {
                check_wrong_type(c, n, what, "a list");
                return nb_hint(c->err, "write each item on a line of its own after '- ', or all of them in [ ]");
        }
        for (size_t i = 0; i < n->n_kids; i++) {
                int r = fn(c, n->kids[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

int check_text(struct check *c, const struct doc_node *n, const char *what) {
        if (n->kind == DOC_TEXT && *n->text)
                return 0;
        if (n->kind == DOC_TEXT)
                return doc_fail(n, c->err, EINVAL, "%s is empty", what);
        if (n->kind == DOC_NULL) {
                doc_fail(n, c->err, EINVAL, "%s has no value", what);
                return nb_hint(c->err, "write a value, or remove the key");
        }
        check_wrong_type(c, n, what, "text");
        if (n->kind == DOC_LIST || n->kind == DOC_MAP)
                return -EINVAL;
        return nb_hint(c->err, "put it in quotes: \"%s\"", n->text);
}

int check_bool(struct check *c, const struct doc_node *n, const char *what) {
        if (n->kind == DOC_BOOL)
                return 0;
        check_wrong_type(c, n, what, "true or false");
        return nb_hint(c->err, "write true or false, without quotes and in lower case");
}

int check_int(struct check *c, const struct doc_node *n, const char *what, unsigned long min, unsigned long max) {
        uint64_t v = 0;
        if (n->kind != DOC_INT) {
                check_wrong_type(c, n, what, "a whole number");
                return nb_hint(c->err, "write a decimal number from %lu to %lu, without quotes", min, max);
        }
        if (nb_parse_uint(n->text, max, &v) < 0 || v < min)
                return doc_fail(n, c->err, ERANGE, "%s must be from %lu to %lu, but here is %s", what, min, max, n->text);
        return 0;
}

int check_size(struct check *c, struct doc_node *n, const char *what, uint64_t min, uint64_t max) {
        uint64_t v = 0;
        if (n->kind != DOC_TEXT && n->kind != DOC_INT) {
                check_wrong_type(c, n, what, "a size");
                return nb_hint(c->err, "write a whole number and K, M, G or T, such as 8G");
        }
        int r = nb_parse_size(n->text, &v);
        if (r == -EINVAL) {
                doc_fail(n, c->err, EINVAL, "%s: '%s' is not a size", what, n->text);
                return nb_hint(c->err, "write a whole number and K, M, G or T, such as 8G");
        }
        if (r < 0 || v < min || v > max) {
                NB_AUTO_FREE char *low = nb_format_size(min);
                NB_AUTO_FREE char *high = nb_format_size(max);
                return doc_fail(n, c->err, ERANGE, "%s must be from %s to %s, but here is %s", what, low, high, n->text);
        }
        return 0;
}

static int item_text(struct check *c, struct doc_node *n) {
        return check_text(c, n, "an item of this list");
}

int check_texts(struct check *c, struct doc_node *n, const char *what) {
        return check_list(c, n, what, item_text);
}

int check_path(struct check *c, const struct doc_node *n, const char *text, char **ret) {
        NB_AUTO_FREE char *full = NULL;
        if (strchr(text, '\n') || strchr(text, '\t'))
                return doc_fail(n, c->err, EINVAL, "the path holds a line break or a tab");
        if (text[0] == '~' && text[1] != '/' && text[1] != 0) {
                doc_fail(n, c->err, EINVAL, "'%s': only ~ and ~/… are understood", text);
                return nb_hint(c->err, "write the other user's home folder out, or ./%s for a file of that name", text);
        }
        if (text[0] == '~')
                full = nb_asprintf("%s/%s", c->home, text + 1);
        else
                full = nb_path_join(n->src ? n->src->dir : "/", text);
        *ret = nb_path_normalize(full);
        return 0;
}

bool check_env_name(const char *name) {
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
        return *name && !(*name >= '0' && *name <= '9') && name[strspn(name, letters)] == 0;
}
