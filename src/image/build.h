/* From locked packages, all in the cache, to a tree of files, and from that to a tar. The one place that runs packages' own
 * scripts: as real root, or in a user namespace with the caller's subordinate ids, or with a single id and faked ownership
 * (fakeown.h), always in namespaces that die with nixbox, without network, the host's files out of reach; all three give
 * the same bytes. */
#pragma once
#include "base/error.h"
#include "image/lock.h"
#include "image/store.h"

#define BUILD_EPOCH_SECONDS 1735689600
#define BUILD_EPOCH "1735689600" /* SOURCE_DATE_EPOCH of everything built: 2025-01-01T00:00:00Z */

struct build_job {
        const char *suite;               /* "trixie", "bookworm" */
        const struct lock_set *base;     /* installed first; the result is kept in the cache by its key and used again */
        const struct lock_set *packages; /* then these, in one dpkg run in this order */
        bool docs;                       /* keep manual pages and documentation */
        const char *locale;              /* "de_DE.UTF-8": generate it; NULL: C.UTF-8 only */
        const char *layer;               /* tar unpacked over the tree after the packages (npm); NULL: none */
        const char *script;              /* shell script run inside the tree after that (npm's listed scripts); NULL: none */
        const char *work;                /* folder for temporary files */
        const char *tar;                 /* file to write: sorted, normalized times, owners as inside */
        bool anew;                       /* the base, too, even if the cache has it */
        const char *step;                /* what to show while it runs */
};
int build_tree(const struct store *s, const struct build_job *job, const struct image_progress *progress, struct nb_error *err);
/** Unpacks packages without running anything: the files for which `want` gives a path, below `dir` (see folder.h). */
int build_extract(const struct store *s, const struct lock_set *set, const char *dir, char *(*want)(const char *name),
                  struct nb_error *err);
