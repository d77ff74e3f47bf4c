/* Rules put into the text of a config (see save.h): small insertions and removals at places that layout.c finds. What is
 * written by hand in ways that are not understood here is left alone. Nothing is taken on trust: the edited text is parsed
 * again, and is refused unless it says what the old one said and the new rules. Pure. */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "config/check.h"
#include "config/layout.h"
#include "config/rules.h"
#include "config/save.h"

#define INDENT 2 /* of what is put below a key */

struct edit {
        size_t at, remove;
        char *insert;
};
struct editor {
        const struct config_source *src;
        const char *home;
        const char *newline;
        const char *list, *other; /* "allow" and "deny", or the other way round */
        char **add;               /* items to add, as YAML */
        bool *take;               /* which items of the other list go */
        size_t n_take;
        struct edit *edits; /* by place */
        size_t n_edits;
};

/* ---- places in the text */

static size_t next_line(const struct config_source *s, size_t at) {
        const char *end = memchr(s->bytes + at, '\n', s->len - at);
        return end ? (size_t)(end - s->bytes) + 1 : s->len;
}

static size_t line_start(const struct config_source *s, size_t at) {
        while (at > 0 && s->bytes[at - 1] != '\n')
                at--;
        return at;
}

static bool blank_between(const struct config_source *s, size_t from, size_t to) {
        for (; from < to; from++)
                if (!strchr(" \t\r", s->bytes[from]))
                        return false;
        return true;
}

static bool has_newline(const struct config_source *s, size_t from, size_t to) {
        return memchr(s->bytes + from, '\n', to - from);
}

/* The place after a comma that follows `at` on its line, 0 if none does. */
static size_t after_comma(const struct config_source *s, size_t at) {
        while (at < s->len && (s->bytes[at] == ' ' || s->bytes[at] == '\t'))
                at++;
        return at < s->len && s->bytes[at] == ',' ? at + 1 : 0;
}

/* Does nothing but a comma and a comment follow on the line? */
static bool ends_line(const struct config_source *s, size_t at) {
        size_t comma = after_comma(s, at);
        at = comma ? comma : at;
        while (at < s->len && (s->bytes[at] == ' ' || s->bytes[at] == '\t' || s->bytes[at] == '\r'))
                at++;
        return at == s->len || s->bytes[at] == '\n' || s->bytes[at] == '#';
}

/* ---- edits */

static void edit(struct editor *e, size_t at, size_t remove, char *insert) {
        size_t i = e->n_edits;
        e->edits = nb_realloc(e->edits, e->n_edits + 1, sizeof *e->edits);
        for (; i > 0 && e->edits[i - 1].at > at; i--)
                e->edits[i] = e->edits[i - 1];
        e->edits[i] = (struct edit){ .at = at, .remove = remove, .insert = insert };
        e->n_edits++;
}

/* Puts whole lines after the line that holds `at`. */
static void insert_lines(struct editor *e, size_t at, const char *lines) {
        size_t line = next_line(e->src, at);
        bool open = line == e->src->len && line > 0 && e->src->bytes[line - 1] != '\n';
        edit(e, line, 0, nb_asprintf("%s%s", open ? e->newline : "", lines));
}

static char *block_items(const struct editor *e, unsigned indent) {
        char *text = nb_strdup("");
        for (char **item = e->add; item && *item; item++) {
                char *longer = nb_asprintf("%s%*s- %s%s", text, (int)indent, "", *item, e->newline);
                free(text);
                text = longer;
        }
        return text;
}

static char *flow_items(const struct editor *e, const char *between) {
        char *text = nb_strdup("");
        for (char **item = e->add; item && *item; item++) {
                char *longer = nb_asprintf("%s%s%s", text, *text ? between : "", *item);
                free(text);
                text = longer;
        }
        return text;
}

/* "allow:" and the items, as lines. */
static char *list_lines(const struct editor *e, unsigned indent) {
        NB_AUTO_FREE char *items = block_items(e, indent + INDENT);
        return nb_asprintf("%*s%s:%s%s", (int)indent, "", e->list, e->newline, items);
}

/* ---- adding */

static int add_to_flow(struct editor *e, const struct layout *list) {
        const struct config_source *s = e->src;
        NB_AUTO_FREE char *items = flow_items(e, ", ");
        if (list->n_kids == 0) {
                bool tidy = blank_between(s, list->start + 1, list->end - 1);
                edit(e, list->start + 1, tidy ? list->end - list->start - 2 : 0, nb_steal(&items));
                return 0;
        }
        size_t last = list->kids[list->n_kids - 1]->end, from = list->kids[list->n_kids - 1]->start;
        size_t line = line_start(s, from), indent = from - line;
        if (!has_newline(s, last, list->end) || !blank_between(s, line, from) || !ends_line(s, last)) {
                edit(e, last, 0, nb_asprintf(", %s", items));
                return 0;
        }
        /* an item a line: so are the new ones, with or without a comma after the last, as it was */
        bool comma = after_comma(s, last);
        NB_AUTO_FREE char *space = nb_strndup(s->bytes + line, indent);
        NB_AUTO_FREE char *between = nb_asprintf(",%s%s", e->newline, space);
        NB_AUTO_FREE char *lines = flow_items(e, between);
        if (!comma)
                edit(e, last, 0, nb_strdup(","));
        NB_AUTO_FREE char *whole = nb_asprintf("%s%s%s%s", space, lines, comma ? "," : "", e->newline);
        insert_lines(e, last, whole);
        return 0;
}

static int add_to_list(struct editor *e, const struct layout *network, const struct layout *list) {
        NB_AUTO_FREE char *lines = NULL;
        if (list->anchored || list->kind == LAYOUT_ALIAS || list->kind == LAYOUT_MAP)
                return -ENOTSUP;
        if (list->kind == LAYOUT_SCALAR) { /* nothing is there yet */
                if (list->start != list->end || network->flow)
                        return -ENOTSUP;
                lines = block_items(e, list->key_column + INDENT);
                insert_lines(e, list->end, lines);
                return 0;
        }
        if (list->flow)
                return add_to_flow(e, list);
        const struct layout *last = list->kids[list->n_kids - 1];
        if (last->block_text || e->src->bytes[list->start] != '-')
                return -ENOTSUP;
        lines = block_items(e, list->column);
        insert_lines(e, last->end, lines);
        return 0;
}

/* The end of the comments that follow at and are indented deeper than column: they belong to the key above them, and a new
 * key put before them would take them over (an example for allow, made active, would deny). */
static size_t skip_comments(const struct config_source *s, size_t at, unsigned column) {
        for (;;) {
                const char *end = memchr(s->bytes + at, '\n', s->len - at);
                size_t next = end ? (size_t)(end - s->bytes) + 1 : s->len, text = next;
                while (text < s->len && s->bytes[text] == ' ')
                        text++;
                if (text >= s->len || s->bytes[text] != '#' || text - next <= column)
                        return at;
                at = text;
        }
}

static int add_list(struct editor *e, const struct layout *network) {
        NB_AUTO_FREE char *items = flow_items(e, ", ");
        NB_AUTO_FREE char *lines = NULL;
        if (network->anchored || network->kind == LAYOUT_ALIAS || network->kind == LAYOUT_LIST)
                return -ENOTSUP;
        if (network->kind == LAYOUT_SCALAR) {
                if (network->start != network->end)
                        return -ENOTSUP;
                lines = list_lines(e, network->key_column + INDENT);
                insert_lines(e, network->end, lines);
                return 0;
        }
        const struct layout *last = network->n_kids ? network->kids[network->n_kids - 1] : NULL;
        if (network->flow) {
                edit(e, last ? last->end : network->start + 1, 0, nb_asprintf("%s%s: [%s]", last ? ", " : "", e->list, items));
                return 0;
        }
        if (!last || last->block_text)
                return -ENOTSUP;
        lines = list_lines(e, network->column);
        insert_lines(e, skip_comments(e->src, last->end, network->column), lines);
        return 0;
}

static int add_network(struct editor *e, const struct layout *root) {
        const struct config_source *s = e->src;
        bool empty = !root || (root->kind == LAYOUT_SCALAR && root->start == root->end);
        if (!empty && (root->kind != LAYOUT_MAP || root->flow))
                return -ENOTSUP;
        unsigned indent = empty ? 0 : root->column;
        NB_AUTO_FREE char *list = list_lines(e, indent + INDENT);
        NB_AUTO_FREE char *twice = nb_asprintf("%s%s", e->newline, e->newline);
        bool airy =
            strstr(s->bytes, twice) && !(s->len >= strlen(twice) && strcmp(s->bytes + s->len - strlen(twice), twice) == 0);
        NB_AUTO_FREE char *lines = nb_asprintf("%s%*snetwork:%s%s", airy ? e->newline : "", (int)indent, "", e->newline, list);
        insert_lines(e, s->len, lines);
        return 0;
}

static int add_items(struct editor *e, const struct layout *root) {
        const struct layout *network = layout_get(root, "network"), *list = layout_get(network, e->list);
        if (!e->add)
                return 0;
        if (!network)
                return add_network(e, root);
        if (network->anchored)
                return -ENOTSUP;
        return list ? add_to_list(e, network, list) : add_list(e, network);
}

/* ---- taking out */

/* In one line: what is left is written anew from its own text. */
static void take_inline(struct editor *e, const struct layout *list) {
        NB_AUTO_FREE char *left = nb_strdup("");
        for (size_t i = 0; i < list->n_kids; i++) {
                const struct layout *kid = list->kids[i];
                if (e->take[i])
                        continue;
                char *longer =
                    nb_asprintf("%s%s%.*s", left, *left ? ", " : "", (int)(kid->end - kid->start), e->src->bytes + kid->start);
                free(left);
                left = longer;
        }
        edit(e, list->start + 1, list->end - list->start - 2, nb_steal(&left));
}

static int take_lines(struct editor *e, const struct layout *list, const struct layout *item) {
        const struct config_source *s = e->src;
        size_t from = item->start, line = line_start(s, from);
        if (!list->flow) {
                while (from > line && strchr(" \t", s->bytes[from - 1]))
                        from--;
                if (from == line || s->bytes[--from] != '-')
                        return -ENOTSUP;
        }
        if (item->block_text || item->anchored || !blank_between(s, line, from) || !ends_line(s, item->end))
                return -ENOTSUP;
        edit(e, line, next_line(s, item->end) - line, NULL);
        return 0;
}

static int take_items(struct editor *e, const struct layout *root) {
        const struct layout *list = layout_get(layout_get(root, "network"), e->other);
        size_t wanted = 0;
        int r = 0;
        for (size_t i = 0; i < e->n_take; i++)
                wanted += e->take[i];
        if (wanted == 0)
                return 0;
        if (!list || list->kind != LAYOUT_LIST || list->anchored || list->n_kids != e->n_take)
                return -ENOTSUP;
        if (list->flow && !has_newline(e->src, list->start, list->end)) {
                take_inline(e, list);
                return 0;
        }
        for (size_t i = 0; i < list->n_kids && r == 0; i++)
                if (e->take[i])
                        r = take_lines(e, list, list->kids[i]);
        return r;
}

/* ---- the result */

/* Edits lie in order and do not touch each other's bytes, or there is no result. New string. */
static char *apply(const struct editor *e) {
        char *out = nb_strdup("");
        size_t done = 0;
        for (size_t i = 0; i < e->n_edits; i++) {
                const struct edit *d = &e->edits[i];
                if (d->at < done) {
                        free(out);
                        return NULL;
                }
                char *longer =
                    nb_asprintf("%s%.*s%s", out, (int)(d->at - done), e->src->bytes + done, d->insert ? d->insert : "");
                free(out);
                out = longer;
                done = d->at + d->remove;
        }
        char *whole = nb_asprintf("%s%s", out, e->src->bytes + done);
        free(out);
        return whole;
}

static int parse(const struct config_source *src, const char *home, struct doc_node **ret, struct nb_error *err) {
        struct check check = { .home = home, .err = err };
        int r = doc_parse(src, ret, err);
        return r < 0 ? r : check_document(&check, *ret);
}

/* Takes network.KEY out of the document; NULL if it is empty or not there. An empty network goes with it. */
static struct doc_node *cut(struct doc_node *root, const char *key) {
        struct doc_node *network = doc_get(root, "network"), *list = doc_get(network, key);
        if (list)
                doc_remove(network, list);
        if (network && network->n_kids == 0) {
                doc_remove(root, network);
                doc_free(network);
        }
        if (list && list->n_kids == 0) {
                doc_free(list);
                list = NULL;
        }
        return list;
}

static bool same_lists(const struct editor *e, const struct doc_node *was, const struct doc_node *is, bool added,
                       const struct policy_rule *rules, bool deny) {
        size_t n_was = was ? was->n_kids : 0, n_is = is ? is->n_kids : 0, at = 0;
        for (size_t i = 0; i < n_was; i++) {
                if (!added && e->take[i])
                        continue;
                if (at == n_is || !doc_equal(was->kids[i], is->kids[at++]))
                        return false;
        }
        for (size_t i = 0; added && i < nb_strv_len(e->add); i++) {
                struct policy_rule made = { 0 };
                if (at == n_is || rules_make(is->kids[at++], deny, &made, NULL) < 0)
                        return false;
                bool same = policy_rule_equal(&made, &rules[i]);
                policy_rule_clear(&made);
                if (!same)
                        return false;
        }
        return at == n_is;
}

/* Does the new text say what the old one did, and the rules, and nothing else? */
static bool verify(const struct editor *e, const char *text, const struct policy_rule *added) {
        struct config_source now = *e->src;
        DOC_AUTO *was = NULL;
        DOC_AUTO *is = NULL;
        bool deny = strcmp(e->list, "deny") == 0;
        now.bytes = (char *)text;
        now.len = strlen(text);
        if (parse(e->src, e->home, &was, NULL) < 0 || parse(&now, e->home, &is, NULL) < 0)
                return false;
        DOC_AUTO *was_list = cut(was, e->list);
        DOC_AUTO *is_list = cut(is, e->list);
        DOC_AUTO *was_other = cut(was, e->other);
        DOC_AUTO *is_other = cut(is, e->other);
        return doc_equal(was, is) && same_lists(e, was_list, is_list, true, added, deny) &&
               same_lists(e, was_other, is_other, false, NULL, !deny);
}

static int by_hand(const struct editor *e, const struct doc_node *other, struct nb_error *err) {
        NB_AUTO_FREE char *add = flow_items(e, "\", \"- ");
        NB_AUTO_FREE char *take = nb_strdup("");
        for (size_t i = 0; i < e->n_take; i++) {
                if (!e->take[i])
                        continue;
                NB_AUTO_FREE char *at = doc_origin(other->kids[i]);
                char *longer = nb_asprintf("%s%s%s", take, *take ? ", " : "", at);
                free(take);
                take = longer;
        }
        nb_fail(err, ENOTSUP, "%s is written in a way that cannot be edited safely", e->src->label);
        return nb_hint(err, "%s%s%s%s%s%s%s%s%s%s", *add ? "add this below network." : "", *add ? e->list : "",
                       *add ? " by hand: \"- " : "", add, *add ? "\"" : "", *add && *take ? "; " : "",
                       *take ? "remove from network." : "", *take ? e->other : "", *take ? " by hand what is at " : "", take);
}

/* Which rules are missing, and which items of the other list say the opposite. A rule with a limit or the like stays: it says
 * more than the new one takes back. */
static void plan(struct editor *e, const struct doc_node *network, const struct policy_rule *rules, size_t n,
                 struct policy_rule *missing) {
        const struct doc_node *list = doc_get(network, e->list), *other = doc_get(network, e->other);
        size_t n_missing = 0;
        e->n_take = other ? other->n_kids : 0;
        e->take = nb_calloc(e->n_take, sizeof *e->take);
        for (size_t i = 0; i < n; i++) {
                NB_AUTO_FREE char *text = policy_rule_text(&rules[i]);
                bool there = false;
                for (size_t k = 0; k < n_missing && !there; k++)
                        there = policy_rule_equal(&missing[k], &rules[i]);
                for (size_t k = 0; list && k < list->n_kids && !there; k++) {
                        struct policy_rule r = { 0 };
                        there = !rules_some_requests(list->kids[k]) &&
                                rules_make(list->kids[k], rules[i].deny, &r, NULL) == 0 && policy_rule_equal(&r, &rules[i]);
                        policy_rule_clear(&r);
                }
                for (size_t k = 0; k < e->n_take; k++) {
                        struct policy_rule r = { 0 };
                        if (rules_some_requests(other->kids[k]) || rules_make(other->kids[k], !rules[i].deny, &r, NULL) < 0)
                                continue;
                        NB_AUTO_FREE char *opposite = policy_rule_text(&r);
                        if (!r.private && r.limit == 0 && strcmp(opposite, text) == 0)
                                e->take[k] = true;
                        policy_rule_clear(&r);
                }
                if (there)
                        continue;
                NB_AUTO_FREE char *yaml = rules_yaml(&rules[i]);
                nb_strv_add(&e->add, yaml);
                missing[n_missing++] = rules[i]; /* borrowed */
        }
}

static void editor_clear(struct editor *e) {
        for (size_t i = 0; i < e->n_edits; i++)
                free(e->edits[i].insert);
        free(e->edits);
        free(e->take);
        nb_strv_free(e->add);
}

int save_edit(const struct config_source *src, const char *home, const struct policy_rule *rules, size_t n_rules, char **ret,
              struct nb_error *err) {
        bool deny = n_rules > 0 && rules[0].deny, any = false;
        struct editor e = { .src = src, .home = home, .list = deny ? "deny" : "allow", .other = deny ? "allow" : "deny" };
        __attribute__((cleanup(layout_freep))) struct layout *root = NULL;
        NB_AUTO_FREE struct policy_rule *missing = nb_calloc(n_rules, sizeof *missing);
        DOC_AUTO *doc = NULL;
        e.newline = strstr(src->bytes, "\r\n") ? "\r\n" : "\n";
        int r = parse(src, home, &doc, err);
        if (r < 0)
                return r;
        plan(&e, doc_get(doc, "network"), rules, n_rules, missing);
        for (size_t i = 0; i < e.n_take; i++)
                any = any || e.take[i];
        if (e.add || any) {
                r = layout_read(src->bytes, src->len, &root);
                if (r == 0)
                        r = add_items(&e, root);
                if (r == 0)
                        r = take_items(&e, root);
                NB_AUTO_FREE char *text = r == 0 ? apply(&e) : NULL;
                if (text && verify(&e, text, missing))
                        *ret = nb_steal(&text);
                else
                        r = by_hand(&e, doc_path(doc, e.other[0] == 'd' ? "network.deny" : "network.allow"), err);
        }
        editor_clear(&e);
        return r;
}
