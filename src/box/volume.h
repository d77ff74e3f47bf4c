/* Named volumes: folders of nixbox's own that outlive boxes and are mounted for writing by every box of the caller whose config
 * names them. A box holds a lock on each of its volumes as long as it runs. */
#pragma once
#include <jansson.h>

#include "base/error.h"

/** Finds or makes a volume, for a box that is about to start. Returns its real path and a descriptor that keeps it from being
 *  removed while somebody holds it. -EBUSY while it is being removed. */
int volume_open(const char *name, char **ret_path, int *ret_lock, struct nb_error *err);
/** All of the caller's: an array of {"name", "path", "size", "boxes": [NAME…]}, sorted by name; `boxes` are those that run
 *  with it. */
int volume_list(json_t **ret, struct nb_error *err);
/** Removes one and everything in it. -ENOENT; -EBUSY while a box uses it, named in the error. */
int volume_remove(const char *name, struct nb_error *err);
