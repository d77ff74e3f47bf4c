/* Resolving everything anew (see resolve.h). The base is resolved by itself, as if nothing else was wanted, so that images
 * share it; then the config's packages where the base is installed already. */
#include "image/resolve.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "image/apt_text.h"
#include "image/debian_archive.h"
#include "image/npm.h"
#include "image/resolve_internal.h"
#include "image/rootfs.h"
#include "image/runtime.h"

int resolve_fill(struct apt *a, struct lock_set *set, char **ret_show, struct nb_error *err) {
        NB_AUTO_STRV char **names = NULL;
        NB_AUTO_FREE char *show = NULL;
        for (size_t i = 0; i < set->n; i++)
                nb_strv_addf(&names, "%s=%s", set->packages[i].name, set->packages[i].version);
        int r = apt_show(a, names, &show, err);
        if (r < 0)
                return r;
        const char *at = show;
        for (size_t i = 0; i < set->n; i++) {
                struct lock_package *p = &set->packages[i];
                struct apt_record record;
                if (!apt_find_record(show, &at, p->name, p->version, &record) || apt_fill_package(&record, p) < 0)
                        return nb_fail(err, EBADMSG, "Debian's lists do not say what the package %s %s is", p->name,
                                       p->version);
        }
        if (ret_show)
                *ret_show = nb_steal(&show);
        return 0;
}

int resolve_kernel(struct apt *a, struct lock_set *ret, struct nb_error *err) {
        NB_AUTO_FREE char *show = NULL;
        char meta[] = RUNTIME_KERNEL, *names[] = { meta, NULL };
        int r = apt_show(a, names, &show, err);
        if (r < 0)
                return r;
        struct apt_record record;
        const char *at = show;
        struct lock_package p = { 0 };
        if (!apt_next_record(&at, &record) || !apt_exact_dependency(&record, &p.name, &p.version))
                return nb_fail(err, EBADMSG, "the package %s names no kernel", RUNTIME_KERNEL);
        ret->packages = nb_calloc(1, sizeof p);
        ret->packages[0] = p;
        ret->n = 1;
        return resolve_fill(a, ret, NULL, err);
}

static const struct lock_package *find(const struct lock_set *set, const char *name) {
        for (size_t i = 0; i < set->n; i++)
                if (strcmp(set->packages[i].name, name) == 0)
                        return &set->packages[i];
        return NULL;
}

/* apt takes some texts that are no package's name for something else: an operator at the end, an expression, a name that
 * other packages provide. */
static int check_names(char *const *names, const struct lock *l, const char *show, struct nb_error *err) {
        for (size_t i = 0; names[i]; i++) {
                if (find(&l->base, names[i]) || find(&l->packages, names[i]))
                        continue;
                NB_AUTO_FREE char *provider = apt_provider(show, names[i]);
                nb_fail(err, ENOENT, "there is no package %s by itself, only others that stand for it", names[i]);
                return provider ? nb_hint(err, "name the package %s under image.packages", provider)
                                : nb_hint(err, "name one of those under image.packages");
        }
        return 0;
}

static int resolve_base(struct apt *a, struct lock_set *ret, char **ret_show, struct nb_error *err) {
        NB_AUTO_STRV char **names = NULL;
        nb_strv_add(&names, "?essential");
        nb_strv_add(&names, "apt");
        for (size_t i = 0; rootfs_standard[i]; i++)
                nb_strv_add(&names, rootfs_standard[i]);
        int r = apt_install(a, "", names, ret, err);
        return r < 0 ? r : resolve_fill(a, ret, ret_show, err);
}

/* What the config names, and what its other keys take: the sources of a locale, a reader of manual pages. */
static char **wanted_packages(const struct config_image *c) {
        char **names = nb_strv_copy(c->packages);
        if (c->locale)
                nb_strv_add(&names, "locales");
        if (c->docs)
                nb_strv_add(&names, "man-db");
        return names;
}

static int resolve_packages(struct apt *a, char *const *names, struct lock *l, const char *base_show, struct nb_error *err) {
        const struct lock_set *const installed[] = { &l->base, NULL };
        NB_AUTO_FREE char *status = apt_status(installed, base_show);
        int r = apt_install(a, status, names, &l->packages, err);
        for (size_t i = 0; r == 0 && i < l->packages.n; i++)
                if (find(&l->base, l->packages.packages[i].name)) {
                        nb_fail(err, EEXIST, "the packages asked for would change %s, which belongs to the base",
                                l->packages.packages[i].name);
                        r = nb_hint(err, "leave out the package under image.packages that needs another version of it");
                }
        NB_AUTO_FREE char *show = NULL;
        if (r == 0)
                r = resolve_fill(a, &l->packages, &show, err);
        if (!show)
                return r;
        return check_names(names, l, show, err);
}

static int resolve_debian(struct apt *a, const struct config_image *c, struct lock *l, struct nb_error *err) {
        NB_AUTO_FREE char *show = NULL;
        NB_AUTO_STRV char **names = wanted_packages(c);
        int r = resolve_base(a, &l->base, &show, err);
        if (r == 0 && names && names[0])
                r = resolve_packages(a, names, l, show, err);
        return r;
}

char *resolve_now(void) {
        char text[32] = "";
        time_t now = time(NULL);
        struct tm tm;
        (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
        return nb_strdup(text);
}

int resolve_check(struct lock **l, struct nb_error *err) {
        NB_AUTO_FREE char *text = lock_format(*l);
        lock_free(nb_steal(l));
        return lock_parse(text, strlen(text), "what Debian's lists say", l, err);
}

int resolve_all(const struct store *s, const struct config_image *c, bool refresh, const struct image_progress *progress,
                struct lock **ret, struct nb_error *err) {
        __attribute__((cleanup(lock_freep))) struct lock *l = nb_calloc(1, sizeof *l);
        __attribute__((cleanup(apt_freep))) struct apt *runtime = NULL, *guest = NULL;
        const char *suite = c->kind == CONFIG_BASE_DEBIAN ? debian_suite(c->base) : NULL;
        char *const *wanted = runtime_packages;
        l->builder = nb_strdup(LOCK_BUILDER);
        l->spec = lock_spec(c);
        l->resolved = resolve_now();
        l->suite = nb_strdup(suite);
        int r = npm_resolve(s, c, progress, &l->npm, err);
        if (r == 0)
                r = apt_open(s, RUNTIME_SUITE, refresh, progress, &runtime, err);
        if (r == 0)
                r = apt_install(runtime, "", wanted, &l->runtime, err);
        if (r == 0)
                r = resolve_fill(runtime, &l->runtime, NULL, err);
        if (r == 0)
                r = resolve_kernel(runtime, &l->kernel, err);
        if (r == 0 && suite && strcmp(suite, RUNTIME_SUITE) != 0)
                r = apt_open(s, suite, refresh, progress, &guest, err);
        if (r == 0 && suite)
                r = resolve_debian(guest ? guest : runtime, c, l, err);
        if (r == 0)
                r = resolve_check(&l, err);
        if (r < 0)
                return nb_context(err, "cannot resolve the image's packages");
        *ret = nb_steal(&l);
        return 0;
}
