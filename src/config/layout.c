/* Places of YAML nodes in their text (see layout.h), from libyaml's events. What the nodes mean is not looked at. */
#include "config/layout.h"

#include <errno.h>
#include <string.h>
#include <yaml.h>

#include "base/mem.h"

#define DEPTH_MAX 16 /* doc_parse() allows no more */

struct reader {
        yaml_parser_t parser;
        size_t *offsets; /* in bytes, of each character: libyaml counts characters */
        size_t n_chars;
};

static bool next(struct reader *rd, yaml_event_t *ret) {
        return yaml_parser_parse(&rd->parser, ret);
}

static size_t offset(const struct reader *rd, yaml_mark_t mark) {
        return rd->offsets[mark.index < rd->n_chars ? mark.index : rd->n_chars];
}

static int read_node(struct reader *rd, yaml_event_t *ev, unsigned depth, struct layout **ret);

/* The key's event is the caller's to delete; NULL in a list. */
static int read_kid(struct reader *rd, yaml_event_t *ev, const yaml_event_t *key, unsigned depth, struct layout *into) {
        struct layout *kid = NULL;
        int r = read_node(rd, ev, depth, &kid);
        if (r < 0 || !kid)
                return r;
        if (key) {
                kid->key = nb_strdup((const char *)key->data.scalar.value);
                kid->key_end = offset(rd, key->end_mark);
                kid->key_column = (unsigned)key->start_mark.column;
        }
        into->kids = nb_realloc(into->kids, into->n_kids + 1, sizeof(struct layout *));
        into->kids[into->n_kids++] = kid;
        return 0;
}

static int read_pair(struct reader *rd, const yaml_event_t *key, unsigned depth, struct layout *into) {
        yaml_event_t value;
        if (key->type != YAML_SCALAR_EVENT || !next(rd, &value))
                return -EINVAL;
        int r = read_kid(rd, &value, key, depth, into);
        yaml_event_delete(&value);
        return r;
}

/* The end of what is in [ ] or { } is where that closes; else it is the last thing in it, since libyaml's own end comes
 * after the comments that follow. */
static int read_inner(struct reader *rd, unsigned depth, struct layout *into) {
        if (depth >= DEPTH_MAX)
                return -EINVAL;
        for (;;) {
                yaml_event_t ev;
                if (!next(rd, &ev))
                        return -EINVAL;
                if (ev.type == YAML_SEQUENCE_END_EVENT || ev.type == YAML_MAPPING_END_EVENT) {
                        const struct layout *last = into->n_kids ? into->kids[into->n_kids - 1] : NULL;
                        into->end = into->flow || !last         ? offset(rd, ev.end_mark)
                                    : last->end < last->key_end ? last->key_end
                                                                : last->end;
                        yaml_event_delete(&ev);
                        return 0;
                }
                int r =
                    into->kind == LAYOUT_MAP ? read_pair(rd, &ev, depth + 1, into) : read_kid(rd, &ev, NULL, depth + 1, into);
                yaml_event_delete(&ev);
                if (r < 0)
                        return r;
        }
}

static int read_node(struct reader *rd, yaml_event_t *ev, unsigned depth, struct layout **ret) {
        struct layout *l = nb_calloc(1, sizeof *l);
        int r = 0;
        l->start = offset(rd, ev->start_mark);
        l->end = offset(rd, ev->end_mark);
        l->column = (unsigned)ev->start_mark.column;
        switch (ev->type) {
        case YAML_ALIAS_EVENT: l->kind = LAYOUT_ALIAS; break;
        case YAML_SCALAR_EVENT:
                l->anchored = ev->data.scalar.anchor;
                l->block_text =
                    ev->data.scalar.style == YAML_LITERAL_SCALAR_STYLE || ev->data.scalar.style == YAML_FOLDED_SCALAR_STYLE;
                break;
        case YAML_SEQUENCE_START_EVENT:
                l->kind = LAYOUT_LIST;
                l->anchored = ev->data.sequence_start.anchor;
                l->flow = ev->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
                r = read_inner(rd, depth, l);
                break;
        case YAML_MAPPING_START_EVENT:
                l->kind = LAYOUT_MAP;
                l->anchored = ev->data.mapping_start.anchor;
                l->flow = ev->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE;
                r = read_inner(rd, depth, l);
                break;
        default: r = -EINVAL;
        }
        if (r < 0)
                layout_free(l);
        else
                *ret = l;
        return r;
}

static int read_document(struct reader *rd, struct layout **ret) {
        bool started = false;
        for (;;) {
                yaml_event_t ev;
                if (!next(rd, &ev))
                        return -EINVAL;
                int r = 0;
                bool end = ev.type == YAML_STREAM_END_EVENT;
                if (ev.type == YAML_DOCUMENT_START_EVENT)
                        r = started ? -EINVAL : 0;
                else if (ev.type == YAML_DOCUMENT_END_EVENT)
                        r = ev.data.document_end.implicit ? 0 : -EINVAL;
                else if (!end && ev.type != YAML_STREAM_START_EVENT)
                        r = *ret ? -EINVAL : read_node(rd, &ev, 0, ret);
                started = started || ev.type == YAML_DOCUMENT_START_EVENT;
                yaml_event_delete(&ev);
                if (r < 0 || end)
                        return r;
        }
}

int layout_read(const char *text, size_t len, struct layout **ret) {
        struct reader rd = { .offsets = nb_calloc(len + 1, sizeof *rd.offsets) };
        __attribute__((cleanup(layout_freep))) struct layout *root = NULL;
        int r = -ENOMEM;
        for (size_t i = 0; i < len; i++)
                if (((unsigned char)text[i] & 0xc0) != 0x80)
                        rd.offsets[rd.n_chars++] = i;
        rd.offsets[rd.n_chars] = len;
        if (yaml_parser_initialize(&rd.parser)) {
                yaml_parser_set_encoding(&rd.parser, YAML_UTF8_ENCODING);
                yaml_parser_set_input_string(&rd.parser, (const unsigned char *)text, len);
                r = read_document(&rd, &root);
                yaml_parser_delete(&rd.parser);
        }
        free(rd.offsets);
        if (r == 0)
                *ret = nb_steal(&root);
        return r;
}

void layout_free(struct layout *l) {
        if (!l)
                return;
        for (size_t i = 0; i < l->n_kids; i++)
                layout_free(l->kids[i]);
        free(l->kids);
        free(l->key);
        free(l);
}

const struct layout *layout_get(const struct layout *map, const char *key) {
        for (size_t i = 0; map && map->kind == LAYOUT_MAP && i < map->n_kids; i++)
                if (strcmp(map->kids[i]->key, key) == 0)
                        return map->kids[i];
        return NULL;
}
