/* What happens inside the builder's own root (src/jail/stage.h): from package files to a finished tree and its tar.
 * Nothing outside src/image/build*.c and its tests includes this. */
#pragma once
#include <stdbool.h>

#include "image/build.h"

/* Lines that are said to the outside, besides those of dpkg's --status-fd. */
#define SAY_STEP "step "   /* what is going on */
#define SAY_COUNT "count " /* how many packages the next dpkg run installs */
#define SAY_BASE "base"    /* the base's tar is complete */

struct build_inside {
        const struct build_job *job;
        char **base, **packages; /* file names below STAGE_FILES, in order */
        int base_in;             /* tar of the base, or -1: build it and write that to base_out */
        int base_out;
        int layer; /* the job's layer, or -1 */
        int tar;   /* where the result goes */
        bool fake; /* there is one id only: owners are recorded (fakeown.h) */
};
/** The body of the stage. */
int build_inside(const struct build_inside *in, int say_fd, struct nb_error *err);

/** Removes from the tree ("/") what would differ from build to build or is of no use in a guest, and writes the neutral files.
 *  The package sources are Debian's own whatever mirror was used. */
int build_finish(const struct build_job *job, struct nb_error *err);
/** Is this python byte code that names its source by hash, and so stays valid whatever the times of files? */
bool build_pyc_is_hashed(const unsigned char *head, size_t len);
