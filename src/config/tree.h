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

enum tree_kind { TREE_NULL, TREE_TEXT, TREE_BOOL, TREE_INT, TREE_NUMBER, TREE_AMBIGUOUS, TREE_LIST, TREE_MAP };
struct tree_node {
        enum tree_kind kind;
        const struct config_source *src; /* NULL: a built-in default */
        unsigned line, column;
        char *text;              /* of a scalar, as written */
        struct tree_node **kids; /* items of a list, values of a map */
        size_t n_kids;
        char *key; /* in a map: under which key, and where that stands */
        unsigned key_line, key_column;
};

struct config_tree {
        struct tree_node *root;
        struct config_source **sources;
        size_t n_sources;
};

/** A new node that stands where `at` does (NULL: a default). */
struct tree_node *tree_new(enum tree_kind kind, const struct tree_node *at, const char *text);
void tree_free(struct tree_node *n);
static inline void tree_freep(struct tree_node **n) {
        tree_free(*n);
}
#define TREE_AUTO __attribute__((cleanup(tree_freep))) struct tree_node
struct tree_node *tree_copy(const struct tree_node *n);
/** Same kind and content; positions do not matter, nor does the order of a map's keys. */
bool tree_equal(const struct tree_node *a, const struct tree_node *b);
/** The value under a key, NULL if absent or `map` is no map (or NULL). */
struct tree_node *tree_get(const struct tree_node *map, const char *key);
/** The same along "a.b.c". */
struct tree_node *tree_path(const struct tree_node *map, const char *dotted);
/** Text of a scalar under a key, NULL if absent. */
const char *tree_text(const struct tree_node *map, const char *key);
/** Appends to a list / to a map under a key (which must be free). Takes ownership of the kid. */
void tree_append(struct tree_node *list, struct tree_node *kid);
void tree_put(struct tree_node *map, const char *key, struct tree_node *kid);
/** Replaces a scalar's text. */
void tree_set_text(struct tree_node *n, char *text);
/** The node's place for the public struct. */
struct config_pos tree_pos(const struct tree_node *n);
/** "file:line:column", "profile NAME" or "default". New string. */
char *tree_origin(const struct tree_node *n);
/** Fails with "file:line:column: what". Returns -code. */
int tree_fail(const struct tree_node *n, struct nb_error *err, int code, const char *fmt, ...) NB_PRINTF(4, 5);

/** Parses the source's bytes. An empty document is an empty map. Nothing in it is interpreted yet. */
int tree_parse(const struct config_source *src, struct tree_node **ret, struct nb_error *err);

/** What YAML 1.2 takes an unquoted word for. Pure. */
enum tree_kind tree_plain_kind(const char *text);

/** Reads a file into the tree's list of sources; `label` NULL: the path, shortened below the current folder. */
int tree_source(struct config_tree *tree, const char *path, const char *label, struct config_source **ret,
                struct nb_error *err);
struct config_tree *config_tree_new(void);
void config_tree_free(struct config_tree *tree);
