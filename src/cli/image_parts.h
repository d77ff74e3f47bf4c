/* The parts of `nixbox image` that have a file of their own; image.c holds the table. Each gets what follows its name. */
#pragma once
#include <jansson.h>

#include "cli/cli.h"
#include "image/image.h"

/** Prints a value and frees it. Returns the exit status. */
int image_print_json(json_t *value);
int image_ls(struct cli *cli, char **args, bool force);
int image_rm(struct cli *cli, char **args, bool force);
/** image lock: resolves the config's image anew and writes nixbox.lock. */
int image_part_lock(struct cli *cli, char **args, bool force);
/** image update [PACKAGE...]: moves nixbox.lock on. */
int image_part_update(struct cli *cli, char **args, bool force);
/** image_ensure(); when that writes nixbox.lock, an approval of the config goes on for it. */
int image_ensure_approved(struct config *c, bool force, const struct image_progress *progress, struct image **ret,
                          struct nb_error *err);
/** The config in force; where there is none, one that asks for the default image. */
int image_load_config(struct cli *cli, struct config **ret, struct nb_error *err);
/** image verify: builds the lock again and compares. */
int image_verify(struct cli *cli, char **args, bool force);
/** image sbom: the bill of materials of the config's image. */
int image_part_sbom(struct cli *cli, char **args, bool force);
/** image sbom --licenses: the licences of its packages, for people. */
int image_part_licences(struct cli *cli, char **args, bool force);
