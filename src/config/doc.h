/* The document behind a config: YAML as a tree in which every node knows where it was written. Private to src/config.
 * A node without a source is a built-in default. Nodes own their children; sources belong to the tree. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "config/config.h"

/* One file that was read: its bytes are read once, and are what is parsed and what is hashed. */
struct config_source {
        char *path;  /* absolute, normalized */
        char *dir;   /* its folder */
        char *label; /* how messages name it */
        char *bytes;
        size_t len;
        bool builtin; /* a profile that comes with the program */
};

enum doc_kind { DOC_NULL, DOC_TEXT, DOC_BOOL, DOC_INT, DOC_NUMBER, DOC_AMBIGUOUS, DOC_LIST, DOC_MAP };
struct doc_node {
        enum doc_kind kind;
        const struct config_source *src; /* NULL: a built-in default */
        unsigned line, column;
        char *text;             /* of a scalar, as written */
        struct doc_node **kids; /* items of a list, values of a map */
        size_t n_kids;
        char *key; /* in a map: under which key, and where that stands */
        unsigned key_line, key_column;
};

struct config_tree {
        struct doc_node *root;
        struct config_source **sources;
        size_t n_sources;
};

/** A new node that stands where `at` does (NULL: a default). */
struct doc_node *doc_new(enum doc_kind kind, const struct doc_node *at, const char *text);
void doc_free(struct doc_node *n);
static inline void doc_freep(struct doc_node **n) {
        doc_free(*n);
}
#define DOC_AUTO __attribute__((cleanup(doc_freep))) struct doc_node
struct doc_node *doc_copy(const struct doc_node *n);
/** Same kind and content; positions do not matter, nor does the order of a map's keys. */
bool doc_equal(const struct doc_node *a, const struct doc_node *b);
/** The value under a key, NULL if absent or `map` is no map (or NULL). */
struct doc_node *doc_get(const struct doc_node *map, const char *key);
/** The same along "a.b.c". */
struct doc_node *doc_path(const struct doc_node *map, const char *dotted);
/** Text of a scalar under a key, NULL if absent. */
const char *doc_text(const struct doc_node *map, const char *key);
/** Appends to a list / to a map under a key (which must be free). Takes ownership of the kid. */
void doc_append(struct doc_node *list, struct doc_node *kid);
void doc_put(struct doc_node *map, const char *key, struct doc_node *kid);
/** Takes a kid out of its list or map; it is the caller's then. */
void doc_remove(struct doc_node *parent, const struct doc_node *kid);
/** Replaces a scalar's text. */
void doc_set_text(struct doc_node *n, char *text);
/** The node's place for the public struct. */
struct config_pos doc_pos(const struct doc_node *n);
/** "file:line:column", "profile NAME" or "default". New string. */
char *doc_origin(const struct doc_node *n);
/** Fails with "file:line:column: what". Returns -code. */
int doc_fail(const struct doc_node *n, struct nb_error *err, int code, const char *fmt, ...) NB_PRINTF(4, 5);

/** Parses the source's bytes. An empty document is an empty map. Nothing in it is interpreted yet. */
int doc_parse(const struct config_source *src, struct doc_node **ret, struct nb_error *err);

/** What YAML 1.2 takes an unquoted word for. Pure. */
enum doc_kind doc_plain_kind(const char *text);

/** A config's path made absolute, and its folder made real, so that one config has one name. New string. */
int doc_file_path(const char *file, char **ret, struct nb_error *err);
/** Reads a file into the tree's list of sources; `label` NULL: the path, shortened below the current folder. */
int doc_source(struct config_tree *tree, const char *path, const char *label, struct config_source **ret, struct nb_error *err);
struct config_tree *config_tree_new(void);
void config_tree_free(struct config_tree *tree);
