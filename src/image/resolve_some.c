/* Moving some packages of a lock on (see resolve.h). apt is told that what the lock holds is installed, and asked to install
 * the named packages: it then changes these and what they need, and nothing else. */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "image/apt_text.h"
#include "image/npm.h"
#include "image/resolve.h"
#include "image/resolve_internal.h"
#include "image/runtime.h"

#define ROUNDS_MAX 8u /* of moving the base and what lies on it in turn */

static size_t index_of(const struct lock_set *set, const char *name) {
        size_t i = 0;
        while (i < set->n && strcmp(set->packages[i].name, name) != 0)
                i++;
        return i;
}

static bool holds(const struct lock_set *set, const char *name) {
        return set && index_of(set, name) < set->n;
}

/* Takes the package over into the set: in the place of its older version, or before `*pos`. */
static void place(struct lock_set *set, struct lock_package *p, size_t *pos, const char *resolved) {
        size_t at = index_of(set, p->name);
        bool known = at < set->n;
        struct lock_package old = known ? set->packages[at] : (struct lock_package){ 0 };
        if (!known) {
                at = *pos;
                set->packages = nb_realloc(set->packages, set->n + 1, sizeof *set->packages);
                memmove(&set->packages[at + 1], &set->packages[at], (set->n - at) * sizeof *set->packages);
                set->n++;
        }
        set->packages[at] = *p;
        set->packages[at].resolved = nb_strdup(resolved);
        *pos = at;
        struct lock_set gone = { known ? nb_calloc(1, sizeof old) : NULL, known };
        if (known)
                gone.packages[0] = old;
        lock_set_clear(&gone);
        *p = (struct lock_package){ 0 };
}

/* The records of the versions in the sets, and of those that the archive has now. */
static int show_sets(struct apt *a, const struct lock_set *const *sets, char **ret, struct nb_error *err) {
        NB_AUTO_STRV char **names = NULL;
        for (; *sets; sets++)
                for (size_t i = 0; i < (*sets)->n; i++) {
                        nb_strv_addf(&names, "%s=%s", (*sets)->packages[i].name, (*sets)->packages[i].version);
                        nb_strv_add(&names, (*sets)->packages[i].name);
                }
        return apt_show(a, names, ret, err);
}

/* Moves those of `names` that the set holds. `under`, which may be NULL, is installed as well; what would have to change there
 * is added to ret_under and not changed. */
static int move_set(struct apt *a, struct lock_set *set, const struct lock_set *under, char *const *names, const char *resolved,
                    char ***ret_under, struct nb_error *err) {
        const struct lock_set *const sets[] = { set, under, NULL };
        NB_AUTO_FREE char *show = NULL, *status = NULL;
        NB_AUTO_STRV char **mine = NULL;
        for (size_t i = 0; names[i]; i++)
                if (holds(set, names[i]))
                        nb_strv_add(&mine, names[i]);
        char *none[] = { NULL };
        int r = show_sets(a, sets, &show, err);
        if (r < 0)
                return r;
        status = apt_status(sets, show);
        struct lock_set got = { 0 };
        r = apt_install(a, status, mine ? mine : none, &got, err);
        if (r == 0)
                r = resolve_fill(a, &got, NULL, err);
        size_t pos = set->n;
        for (size_t i = got.n; r == 0 && i-- > 0;) {
                if (!holds(under, got.packages[i].name))
                        place(set, &got.packages[i], &pos, resolved);
                else if (ret_under && !nb_strv_has(*ret_under, got.packages[i].name))
                        nb_strv_add(ret_under, got.packages[i].name);
        }
        lock_set_clear(&got);
        return r;
}

/* What a package needs of the base in another version moves the base by itself first, since it is built by itself. */
static int move_guest(struct apt *a, struct lock *l, char *const *names, const char *resolved, struct nb_error *err) {
        NB_AUTO_STRV char **moving = nb_strv_copy(names);
        for (unsigned round = 0; round < ROUNDS_MAX; round++) {
                NB_AUTO_STRV char **under = NULL;
                int r = move_set(a, &l->base, NULL, moving, resolved, NULL, err);
                if (r == 0 && l->packages.n > 0)
                        r = move_set(a, &l->packages, &l->base, moving, resolved, &under, err);
                if (r < 0 || !under)
                        return r;
                for (size_t i = 0; under[i]; i++)
                        if (!nb_strv_has(moving, under[i]))
                                nb_strv_add(&moving, under[i]);
        }
        nb_fail(err, ELOOP, "what must move with these packages comes to no end");
        return nb_hint(err, "move all: nixbox image update");
}

static bool any_in(char *const *names, const struct lock_set *set) {
        for (; *names; names++)
                if (holds(set, *names))
                        return true;
        return false;
}

static bool is_npm(const struct lock *l, const char *name) {
        const struct lock_npm *p = l->npm;
        while (p && !(p->name && strcmp(p->name, name) == 0))
                p = p->next;
        return p;
}

static int check_known(const struct lock *l, char *const *names, struct nb_error *err) {
        for (size_t i = 0; names[i]; i++)
                if (!is_npm(l, names[i]) && !holds(&l->base, names[i]) && !holds(&l->packages, names[i]) &&
                    !holds(&l->runtime, names[i]) && !holds(&l->kernel, names[i]) && strcmp(names[i], RUNTIME_KERNEL) != 0) {
                        nb_fail(err, ENOENT, "%s has no package %s", LOCK_FILE, names[i]);
                        return nb_hint(err, "new packages go under image.packages or image.npm; then nixbox image lock");
                }
        return 0;
}

static int move_kernel(struct apt *a, struct lock_set *kernel, const char *resolved, struct nb_error *err) {
        struct lock_set now = { 0 };
        int r = resolve_kernel(a, &now, err);
        if (r == 0 && (kernel->n == 0 || strcmp(kernel->packages[0].sha256, now.packages[0].sha256) != 0)) {
                struct lock_set old = *kernel;
                now.packages[0].resolved = nb_strdup(resolved);
                *kernel = now;
                now = old;
        }
        lock_set_clear(&now);
        return r;
}

/* npm's packages share what they need, so one cannot move without the others. */
static int move_npm(const struct store *s, const struct config_image *c, struct lock *l, const struct image_progress *progress,
                    struct nb_error *err) {
        struct lock_npm *now = NULL;
        int r = npm_resolve(s, c, progress, &now, err);
        if (r < 0)
                return r;
        lock_npm_free(l->npm);
        l->npm = now;
        return 0;
}

/* `names` without those of npm packages; whether there are such. */
static char **debian_names(const struct lock *l, char *const *names, bool *ret_npm) {
        char **left = NULL;
        *ret_npm = false;
        for (size_t i = 0; names[i]; i++)
                if (is_npm(l, names[i]))
                        *ret_npm = true;
                else
                        nb_strv_add(&left, names[i]);
        return left;
}

static int move_debian(const struct store *s, struct lock *l, char *const *names, const struct image_progress *progress,
                       struct nb_error *err) {
        __attribute__((cleanup(apt_freep))) struct apt *runtime = NULL, *guest = NULL;
        NB_AUTO_FREE char *now = resolve_now();
        bool same = l->suite && strcmp(l->suite, RUNTIME_SUITE) == 0;
        int r = apt_open(s, RUNTIME_SUITE, true, progress, &runtime, err);
        if (r == 0 && l->suite && !same)
                r = apt_open(s, l->suite, true, progress, &guest, err);
        if (r == 0 && any_in(names, &l->runtime))
                r = move_set(runtime, &l->runtime, NULL, names, now, NULL, err);
        if (r == 0 && (any_in(names, &l->kernel) || nb_strv_has(names, RUNTIME_KERNEL)))
                r = move_kernel(runtime, &l->kernel, now, err);
        if (r == 0 && (any_in(names, &l->base) || any_in(names, &l->packages)))
                r = move_guest(guest ? guest : runtime, l, names, now, err);
        return r;
}

static int move_all(const struct store *s, const struct config_image *c, struct lock *l, char *const *names,
                    const struct image_progress *progress, struct nb_error *err) {
        bool npm = false;
        NB_AUTO_STRV char **debian = debian_names(l, names, &npm);
        int r = npm ? move_npm(s, c, l, progress, err) : 0;
        return r == 0 && debian ? move_debian(s, l, debian, progress, err) : r;
}

static void forget_digests(struct lock *l) {
        char **const digests[] = { &l->digest, &l->runtime_digest, &l->kernel_digest };
        for (size_t i = 0; i < NB_ARRAY_LEN(digests); i++)
                free(nb_steal(digests[i]));
}

int resolve_some(const struct store *s, const struct config_image *c, const struct lock *old, char *const *names,
                 const struct image_progress *progress, struct lock **ret, struct nb_error *err) {
        __attribute__((cleanup(lock_freep))) struct lock *l = NULL;
        NB_AUTO_FREE char *text = lock_format(old);
        int r = check_known(old, names, err);
        if (r == 0)
                r = lock_parse(text, strlen(text), LOCK_FILE, &l, err);
        if (r == 0)
                r = move_all(s, c, l, names, progress, err);
        if (r == 0)
                r = resolve_check(&l, err);
        if (r < 0 || !l)
                return nb_context(err, "cannot move the packages on");
        NB_AUTO_FREE char *changes = lock_changes(old, l);
        if (*changes)
                forget_digests(l);
        *ret = nb_steal(&l);
        return 0;
}
