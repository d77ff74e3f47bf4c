/* Reading copyright files out of packages (see licences.h). */
#include "image/licences.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "image/build.h"
#include "image/copyright.h"
#include "image/fetch.h"

#define RECORD "licences"
#define DOC "usr/share/doc/"
#define LINK_MAX 256u

/* "NAME/copyright" for what a package has to say, and "NAME" where its folder is a link to another package's. */
static char *want(const char *name) {
        if (!nb_starts_with(name, DOC))
                return NULL;
        const char *rest = name + strlen(DOC), *slash = strchr(rest, '/');
        return !slash ? (rest[0] ? nb_strdup(rest) : NULL) : strcmp(slash, "/copyright") == 0 ? nb_strdup(rest) : NULL;
}

/* Opens `name` below dirfd, a folder; a link to a folder beside it is followed once. */
static int open_folder(int dirfd, const char *name) {
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        char target[LINK_MAX];
        ssize_t n = fd < 0 ? readlinkat(dirfd, name, target, sizeof target - 1) : -1;
        if (n <= 0)
                return fd;
        target[n] = 0;
        return strchr(target, '/') ? -1 : openat(dirfd, target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static json_t *read_one(int dirfd, const char *package) {
        NB_AUTO_CLOSE int folder = open_folder(dirfd, package);
        NB_AUTO_CLOSE int fd = folder < 0 ? -1 : openat(folder, "copyright", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;
        NB_AUTO_FREE char *text = NULL;
        size_t len = 0;
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || nb_read_fd(fd, COPYRIGHT_MAX, &text, &len) < 0)
                return json_null();
        NB_AUTO_FREE char *expression = copyright_expression(text, len);
        return expression ? json_string(expression) : json_null();
}

/* Unpacks the copyright files of some sets, which have no package in common, to a folder of their own. */
static int read_sets(const struct store *s, const struct lock_set *const *sets, size_t n, const char *dir, json_t *all,
                     struct nb_error *err) {
        if (mkdir(dir, 0700) < 0)
                return nb_fail_errno(err, errno, "cannot make the folder %s", dir);
        for (size_t i = 0; i < n; i++) {
                int r = build_extract(s, sets[i], dir, want, err);
                if (r < 0)
                        return r;
        }
        NB_AUTO_CLOSE int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dirfd < 0)
                return nb_fail_errno(err, errno, "cannot open %s", dir);
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < sets[i]->n; k++) {
                        const struct lock_package *p = &sets[i]->packages[k];
                        (void)json_object_set_new(all, p->sha256, read_one(dirfd, p->name));
                }
        return 0;
}

static bool covers(const json_t *all, const struct lock_set *set) {
        for (size_t i = 0; i < set->n; i++)
                if (!json_object_get(all, set->packages[i].sha256))
                        return false;
        return true;
}

static int read_all(const struct store *s, const struct lock *l, const struct image_progress *progress, json_t *all,
                    struct nb_error *err) {
        const struct lock_set *const sets[] = { &l->base, &l->packages, &l->runtime, &l->kernel, NULL };
        int r = fetch_packages(s, sets, l->resolved, progress, err);
        if (r < 0)
                return r;
        struct store_temp work;
        r = store_temp_new(s, &work, err);
        if (r < 0)
                return r;
        NB_AUTO_FREE char *guest = nb_path_join(work.path, "guest"), *runtime = nb_path_join(work.path, "runtime"),
                          *kernel = nb_path_join(work.path, "kernel");
        store_step(progress, "reading licences", NULL, 0, 0);
        r = read_sets(s, sets, 2, guest, all, err);
        if (r == 0)
                r = read_sets(s, sets + 2, 1, runtime, all, err);
        if (r == 0)
                r = read_sets(s, sets + 3, 1, kernel, all, err);
        store_temp_remove(&work);
        return r < 0 ? store_hint(s, err) : 0;
}

int licences_read(const struct store *s, const struct lock *l, const struct image_progress *progress, json_t **ret,
                  struct nb_error *err) {
        const char *hex =
            l->digest && nb_starts_with(l->digest, STORE_DIGEST_PREFIX) ? l->digest + strlen(STORE_DIGEST_PREFIX) : NULL;
        json_t *ref = hex ? store_ref_get(s, RECORD, hex) : NULL, *all = json_object_get(ref, "licences");
        bool known =
            all && covers(all, &l->base) && covers(all, &l->packages) && covers(all, &l->runtime) && covers(all, &l->kernel);
        if (known) {
                *ret = json_incref(all);
                json_decref(ref);
                return 0;
        }
        json_decref(ref);
        all = json_object();
        int r = read_all(s, l, progress, all, err);
        if (r == 0 && hex) {
                NB_AUTO_CLOSE int lock = -1;
                ref = json_pack("{s:s, s:O}", "digest", l->digest, "licences", all);
                r = store_lock(s, STORE_LOCK_ALL, NULL, &lock, err);
                if (r == 0)
                        r = store_ref_put(s, RECORD, hex, ref, err);
                json_decref(ref);
        }
        if (r < 0) {
                json_decref(all);
                return r;
        }
        *ret = all;
        return 0;
}

char *licences_of(void *user, const struct lock_package *p) {
        return nb_strdup(json_string_value(json_object_get(user, p->sha256)));
}
