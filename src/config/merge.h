/* From a file to one merged document: profiles in order, then the file itself, then defaults. Private to src/config. */
#pragma once
#include "config/doc.h"

/** Reads, checks and merges `file` (absolute) and its profiles into tree->root. Defaults are not in it yet. */
int merge_load(struct config_tree *tree, const char *file, struct nb_error *err);
/** Puts in what nobody stated, as nodes without a source, and brings the keys into the order of the documentation. */
void merge_defaults(struct config_tree *tree, const char *dir);
/** A folder's name made a valid name for a box. New string. Pure. */
char *merge_default_name(const char *dir);
/** Merges `from` into the map `into`: maps merge, lists append without duplicates, scalars are replaced. Takes `from`. Pure. */
void merge_into(struct doc_node *into, struct doc_node *from);
