/* The file behind a box's disk: scratch space that goes with the box, or a disk that outlives it (machine.keep). Either is the
 * upper layer over one image: over another, what is on it would contradict what is below it (a list of installed packages that
 * are not the ones installed). So a disk that is kept records its image, and is used with that one only. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "box/state.h"

struct box_start;
struct start_message;

/** Where a box's disk is while it runs. New string. */
char *disk_file(const struct start_message *m);
/** May the disk that this start would go on with be used with its image? -ESTALE with the ways out. */
int disk_check(const struct box_start *start, struct nb_error *err);
/** Takes the disk up, or makes an empty one. The box's locks are held. */
int disk_take(const struct box_start *start, struct start_message *m, struct nb_error *err);
/** When the box has ended: keeps its scratch disk for the next start. */
void disk_put_by(const struct start_message *m);

/** Is a disk kept for this box, persistent or for the next start? */
bool disk_is_kept(const struct box_paths *p);
/** Removes it, of a box that does not run. *ret_removed: there was one. */
int disk_delete(const struct box_paths *p, bool *ret_removed, struct nb_error *err);
