/* YAML bytes to a tree with positions, by libyaml's events. What YAML can say and nixbox.yaml has no use for is refused
 * here: tags, several documents, keys that are no plain words, control characters. Scalars are sorted into kinds by the
 * rules of YAML 1.2, so "off" and "yes" are words; spellings that only some parsers take for a boolean are ambiguous. */
#include <errno.h>
#include <string.h>
#include <yaml.h>

#include "base/mem.h"
#include "base/text.h"
#include "config/doc.h"

#define YAML_DEPTH_MAX 16   /* lists and maps inside one another */
#define YAML_NODES_MAX 8192 /* nodes in a document, those that aliases repeat included */
#define YAML_ANCHORS_MAX 64

struct anchor {
        char *name;
        struct doc_node *node; /* a copy */
        size_t size;           /* nodes in it */
};
struct reader {
        yaml_parser_t parser;
        const struct config_source *src;
        struct anchor anchors[YAML_ANCHORS_MAX];
        size_t n_anchors;
        size_t nodes;
        struct nb_error *err;
};

static int fail_at(struct reader *rd, yaml_mark_t mark, const char *what) {
        return nb_fail(rd->err, EINVAL, "%s:%zu:%zu: %s", rd->src->label, mark.line + 1, mark.column + 1, what);
}

static int next(struct reader *rd, yaml_event_t *ret) {
        if (yaml_parser_parse(&rd->parser, ret))
                return 0;
        const yaml_parser_t *p = &rd->parser;
        if (p->error == YAML_MEMORY_ERROR)
                return nb_fail(rd->err, ENOMEM, "%s: out of memory", rd->src->label);
        if (p->error == YAML_READER_ERROR) {
                nb_fail(rd->err, EINVAL, "%s: not valid UTF-8 text at byte %zu: %s", rd->src->label, p->problem_offset,
                        p->problem);
                return nb_hint(rd->err, "save the file as UTF-8 without control characters");
        }
        NB_AUTO_FREE char *what = nb_asprintf("not valid YAML: %s%s%s", p->context ? p->context : "", p->context ? ", " : "",
                                              p->problem ? p->problem : "unknown problem");
        fail_at(rd, p->problem_mark, what);
        return nb_hint(rd->err, "look for a bracket or quote that is not closed, uneven indentation, or a tab that indents");
}

static bool in_list(const char *text, const char *const *list) {
        for (; *list; list++)
                if (strcmp(text, *list) == 0)
                        return true;
        return false;
}

/* YAML 1.2 core: [-+]? ( . digits | digits ( . digits? )? ) ( [eE] [-+]? digits )? */
static enum doc_kind number_kind(const char *text) {
        static const char digits[] = "0123456789";
        if (nb_starts_with(text, "0x") || nb_starts_with(text, "0o"))
                return text[2] && text[2 + strspn(text + 2, "0123456789abcdefABCDEF")] == 0 ? DOC_NUMBER : DOC_TEXT;
        const char *p = text + (*text == '-' || *text == '+');
        size_t whole = strspn(p, digits), part = 0;
        p += whole;
        if (*p == 0)
                return whole == 0 ? DOC_TEXT : p - whole == text && (whole == 1 || *text != '0') ? DOC_INT : DOC_NUMBER;
        if (*p == '.')
                part = strspn(++p, digits);
        p += part;
        if (whole + part == 0)
                return DOC_TEXT;
        if (*p == 'e' || *p == 'E') {
                p++;
                p += *p == '-' || *p == '+';
                size_t power = strspn(p, digits);
                p += power;
                if (power == 0)
                        return DOC_TEXT;
        }
        return *p == 0 ? DOC_NUMBER : DOC_TEXT;
}

enum doc_kind doc_plain_kind(const char *text) {
        static const char *const nulls[] = { "", "~", "null", NULL };
        static const char *const unclear[] = { "True", "TRUE", "False", "FALSE", "Null", "NULL", NULL };
        static const char *const odd[] = { ".inf", ".Inf", ".INF", "+.inf", "-.inf", ".nan", ".NaN", ".NAN", NULL };
        if (in_list(text, nulls))
                return DOC_NULL;
        if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
                return DOC_BOOL;
        if (in_list(text, unclear))
                return DOC_AMBIGUOUS;
        return in_list(text, odd) ? DOC_NUMBER : number_kind(text);
}

static bool has_control(const yaml_char_t *text, size_t len) {
        for (size_t i = 0; i < len; i++)
                if ((text[i] < 0x20 && text[i] != '\n' && text[i] != '\t') || text[i] == 0x7f)
                        return true;
        return false;
}

static int scalar(struct reader *rd, const yaml_event_t *ev, struct doc_node **ret) {
        const yaml_char_t *text = ev->data.scalar.value;
        if (ev->data.scalar.tag) {
                fail_at(rd, ev->start_mark, "YAML tags (!…) mean nothing here");
                return nb_hint(rd->err, "write the value without the tag");
        }
        if (has_control(text, ev->data.scalar.length))
                return fail_at(rd, ev->start_mark, "the text holds a control character");
        struct doc_node *n = doc_new(DOC_TEXT, NULL, (const char *)text);
        if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
                n->kind = doc_plain_kind(n->text);
        *ret = n;
        return 0;
}

static size_t size_of(const struct doc_node *n) {
        size_t size = 1;
        for (size_t i = 0; i < n->n_kids; i++)
                size += size_of(n->kids[i]);
        return size;
}

static int count(struct reader *rd, yaml_mark_t mark, size_t size) {
        rd->nodes += size;
        if (rd->nodes > YAML_NODES_MAX)
                return fail_at(rd, mark, "too many values (aliases count each time)");
        return 0;
}

static int add_anchor(struct reader *rd, yaml_mark_t mark, const yaml_char_t *name, const struct doc_node *n) {
        if (!name)
                return 0;
        if (rd->n_anchors == YAML_ANCHORS_MAX)
                return fail_at(rd, mark, "too many anchors");
        rd->anchors[rd->n_anchors++] =
            (struct anchor){ .name = nb_strdup((const char *)name), .node = doc_copy(n), .size = size_of(n) };
        return 0;
}

static int alias(struct reader *rd, const yaml_event_t *ev, struct doc_node **ret) {
        for (size_t i = rd->n_anchors; i-- > 0;) {
                const struct anchor *a = &rd->anchors[i];
                if (strcmp(a->name, (const char *)ev->data.alias.anchor) != 0)
                        continue;
                int r = count(rd, ev->start_mark, a->size);
                if (r == 0)
                        *ret = doc_copy(a->node);
                return r;
        }
        return fail_at(rd, ev->start_mark, "the alias names an anchor that is not there, or one that contains it");
}

static int read_node(struct reader *rd, yaml_event_t *ev, unsigned depth, struct doc_node **ret);

static int read_list(struct reader *rd, struct doc_node *list, unsigned depth) {
        for (;;) {
                yaml_event_t ev;
                int r = next(rd, &ev);
                if (r < 0)
                        return r;
                if (ev.type == YAML_SEQUENCE_END_EVENT) {
                        yaml_event_delete(&ev);
                        return 0;
                }
                struct doc_node *kid = NULL;
                r = read_node(rd, &ev, depth, &kid);
                yaml_event_delete(&ev);
                if (r < 0)
                        return r;
                doc_append(list, kid);
        }
}

/* One key and its value; *ret_end at the end of the map. */
static int read_pair(struct reader *rd, struct doc_node *map, unsigned depth, bool *ret_end) {
        yaml_event_t ev, value;
        int r = next(rd, &ev);
        if (r < 0)
                return r;
        DOC_AUTO *key = NULL;
        DOC_AUTO *kid = NULL;
        yaml_mark_t mark = ev.start_mark;
        *ret_end = ev.type == YAML_MAPPING_END_EVENT;
        if (!*ret_end && ev.type != YAML_SCALAR_EVENT)
                r = fail_at(rd, mark, "a key must be a plain word");
        else if (!*ret_end)
                r = scalar(rd, &ev, &key);
        if (key && strpbrk(key->text, "\n\t"))
                r = fail_at(rd, mark, "a key holds a line break or a tab");
        yaml_event_delete(&ev);
        if (r < 0 || *ret_end || !key)
                return r;
        struct doc_node *first = doc_get(map, key->text);
        if (first) {
                nb_fail(rd->err, EINVAL, "%s:%zu:%zu: the key '%s' stands here twice", rd->src->label, mark.line + 1,
                        mark.column + 1, key->text);
                return nb_hint(rd->err, "the first is in line %u: remove one of them", first->key_line);
        }
        r = count(rd, mark, 1);
        if (r == 0)
                r = next(rd, &value);
        if (r < 0)
                return r;
        r = read_node(rd, &value, depth, &kid);
        yaml_event_delete(&value);
        if (r < 0)
                return r;
        kid->key_line = (unsigned)mark.line + 1;
        kid->key_column = (unsigned)mark.column + 1;
        doc_put(map, key->text, nb_steal(&kid));
        return 0;
}

static int read_inner(struct reader *rd, yaml_event_t *ev, unsigned depth, struct doc_node **ret) {
        bool is_map = ev->type == YAML_MAPPING_START_EVENT;
        const yaml_char_t *tag = is_map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag;
        if (tag)
                return fail_at(rd, ev->start_mark, "YAML tags (!…) mean nothing here");
        if (depth >= YAML_DEPTH_MAX)
                return fail_at(rd, ev->start_mark, "nested too deeply");
        DOC_AUTO *n = doc_new(is_map ? DOC_MAP : DOC_LIST, NULL, NULL);
        n->src = rd->src;
        n->line = (unsigned)ev->start_mark.line + 1;
        n->column = (unsigned)ev->start_mark.column + 1;
        int r = 0;
        if (!is_map)
                r = read_list(rd, n, depth + 1);
        for (bool end = false; is_map && r == 0 && !end;)
                r = read_pair(rd, n, depth + 1, &end);
        if (r == 0)
                *ret = nb_steal(&n);
        return r;
}

static int read_node(struct reader *rd, yaml_event_t *ev, unsigned depth, struct doc_node **ret) {
        DOC_AUTO *n = NULL;
        const yaml_char_t *anchor = NULL;
        int r = 0;
        if (ev->type == YAML_ALIAS_EVENT)
                return alias(rd, ev, ret);
        if (ev->type == YAML_SCALAR_EVENT) {
                anchor = ev->data.scalar.anchor;
                r = scalar(rd, ev, &n);
        } else {
                anchor = ev->type == YAML_MAPPING_START_EVENT ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor;
                r = read_inner(rd, ev, depth, &n);
        }
        if (r == 0)
                r = count(rd, ev->start_mark, 1);
        if (r < 0 || !n)
                return r;
        n->src = rd->src;
        n->line = (unsigned)ev->start_mark.line + 1;
        n->column = (unsigned)ev->start_mark.column + 1;
        r = add_anchor(rd, ev->start_mark, anchor, n);
        if (r == 0)
                *ret = nb_steal(&n);
        return r;
}

/* Takes one event that must come next in a well-formed stream; *ret_type tells which it was. */
static int skip(struct reader *rd, yaml_event_type_t *ret_type) {
        yaml_event_t ev;
        int r = next(rd, &ev);
        if (r < 0)
                return r;
        *ret_type = ev.type;
        yaml_event_delete(&ev);
        return 0;
}

static int read_document(struct reader *rd, struct doc_node **ret) {
        yaml_event_type_t type = YAML_NO_EVENT;
        int r = skip(rd, &type); /* stream start */
        if (r == 0)
                r = skip(rd, &type);
        if (r < 0)
                return r;
        if (type == YAML_STREAM_END_EVENT) {
                *ret = doc_new(DOC_MAP, NULL, NULL);
                (*ret)->src = rd->src;
                (*ret)->line = (*ret)->column = 1;
                return 0;
        }
        yaml_event_t ev;
        DOC_AUTO *root = NULL;
        r = next(rd, &ev);
        if (r < 0)
                return r;
        r = read_node(rd, &ev, 0, &root);
        yaml_event_delete(&ev);
        if (r == 0)
                r = skip(rd, &type); /* document end */
        if (r == 0)
                r = skip(rd, &type);
        if (r == 0 && type != YAML_STREAM_END_EVENT)
                r = fail_at(rd, rd->parser.mark, "a second document begins here; one file holds one");
        if (r == 0)
                *ret = nb_steal(&root);
        return r;
}

int doc_parse(const struct config_source *src, struct doc_node **ret, struct nb_error *err) {
        struct reader rd = { .src = src, .err = err };
        if (!yaml_parser_initialize(&rd.parser))
                return nb_fail(err, ENOMEM, "%s: out of memory", src->label);
        yaml_parser_set_encoding(&rd.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&rd.parser, (const unsigned char *)src->bytes, src->len);
        int r = read_document(&rd, ret);
        for (size_t i = 0; i < rd.n_anchors; i++) {
                free(rd.anchors[i].name);
                doc_free(rd.anchors[i].node);
        }
        yaml_parser_delete(&rd.parser);
        return r;
}
