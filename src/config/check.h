/* Checking one document before it is merged: known keys, types, shapes, and paths made absolute. Private to src/config. */
#pragma once
#include "config/doc.h"

#define CHECK_PORTS_MAX 64 /* published ports */
#define CHECK_VOLUMES_MAX 64
#define LOCALE_PLAIN "C.UTF-8" /* the locale of an image that names none */

struct check {
        const char *home; /* the caller's, for ~ */
        struct nb_error *err;
};

struct check_key {
        const char *name;
        int (*fn)(struct check *c, struct doc_node *n); /* NULL: reserved, "not yet supported" */
};

/** Checks a whole document (nixbox.yaml or a profile) and brings it to normal form in place. */
int check_document(struct check *c, struct doc_node *root);

/* Building blocks (check_keys.c). `what` names the value in messages: "mounts", "write". An absent value (null) is an empty
 * map or list. */
int check_map(struct check *c, struct doc_node *n, const char *what, const struct check_key *keys, size_t n_keys);
int check_list(struct check *c, struct doc_node *n, const char *what, int (*fn)(struct check *c, struct doc_node *n));
int check_text(struct check *c, const struct doc_node *n, const char *what);
int check_bool(struct check *c, const struct doc_node *n, const char *what);
int check_int(struct check *c, const struct doc_node *n, const char *what, unsigned long min, unsigned long max);
/** A size such as 8G, as text or number. */
int check_size(struct check *c, struct doc_node *n, const char *what, uint64_t min, uint64_t max);
/** A list of text, none of it empty. */
int check_texts(struct check *c, struct doc_node *n, const char *what);
int check_wrong_type(struct check *c, const struct doc_node *n, const char *what, const char *wanted);
/** A path as written made absolute: ~ is the home, anything relative belongs to the folder of the file that names it. */
int check_path(struct check *c, const struct doc_node *n, const char *text, char **ret);
/** A name for an environment variable. */
bool check_env_name(const char *name);

/* check_npm.c */
int check_npm(struct check *c, struct doc_node *n);
int check_npm_scripts(struct check *c, struct doc_node *n);
int check_npm_bin(struct check *c, struct doc_node *n);

/* check_network.c */
int check_network(struct check *c, struct doc_node *n);
int check_ports(struct check *c, struct doc_node *n);
/** A host name or, with `suffix`, also "*.name"; brought to canonical form in place. */
int check_host(struct check *c, struct doc_node *n, const char *what, bool suffix);

/** Number of single-character edits between two words, at most `max` + 1. Pure. */
unsigned check_distance(const char *a, const char *b, unsigned max);
