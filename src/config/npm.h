/* npm packages in a config: the grammar of their names, which the lock and what npm answers are held to as well, and the
 * keys image.npm, image.npm-scripts and image.npm-bin as values. Nothing here looks at the host. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

#define NPM_NAME_MAX 214u /* npm's own limit */
#define NPM_COMMAND_MAX 128u
#define NPM_FILE_MAX 1024u

struct doc_node;

/** Length of the package name ("name", "@scope/name") that `text` begins with, which may be followed by anything but another
 *  letter of a name; 0 if it begins with none. Pure. */
size_t npm_name_len(const char *text);
/** The name of a command, as it may stand in a folder of programs. Pure. */
bool npm_valid_command(const char *text);
/** A file of a package: a relative path without empty parts, "." or "..". Pure. */
bool npm_valid_file(const char *text);
/** Where the wanted version begins in "name@version"; NULL: any. Pure. */
const char *npm_wanted_version(const char *item);

/** Fills the npm part of an image from the checked map `image` (NULL: nothing). Of several items for one package the last
 *  one counts, so that a config can pin what a profile names. */
void npm_load(struct config_image *c, const struct doc_node *image);
void npm_clear(struct config_image *c);
/** Checks the three keys against each other and the base. */
int npm_check_whole(const struct config_image *c, struct nb_error *err);
