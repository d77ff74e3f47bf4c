/* apt with folders of its own below the cache: it knows one release of Debian, its signing key and the configured mirror, and
 * nothing of this host's packages, sources or settings. It only answers questions; nothing is downloaded but its lists, and
 * nothing is installed. Needs no root. */
#pragma once
#include "base/error.h"
#include "image/lock.h"
#include "image/store.h"

struct apt;
/** Opens the release's lists, bringing them up to date when they are more than an hour old or `refresh` asks for it. Waits for
 *  another nixbox that uses the same. -ENETUNREACH if the mirror cannot be reached. */
int apt_open(const struct store *s, const char *suite, bool refresh, const struct image_progress *progress, struct apt **ret,
             struct nb_error *err);
void apt_free(struct apt *a);
static inline void apt_freep(struct apt **a) {
        apt_free(*a);
}
/** What would be installed for `names` (or patterns of apt's) where the packages of `status`, a text as dpkg's status file, are
 *  installed already: all that is new or changed, in the order of installation. It is an error if a package would have to be
 *  removed. */
int apt_install(struct apt *a, const char *status, char *const *names, struct lock_set *ret, struct nb_error *err);
/** The records of packages ("NAME", "NAME=VERSION") as `apt-cache show` prints them; those that do not exist are left out.
 *  New string. */
int apt_show(struct apt *a, char *const *names, char **ret, struct nb_error *err);
