/* Downloading the tarballs of npm packages (see npm.h). */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "image/fetch.h"
#include "image/npm.h"

#define REGISTRY "NIXBOX_NPM_REGISTRY"
#define REGISTRY_DEFAULT "https://registry.npmjs.org/"

/* Where a tarball may be: at the registry that was named instead of npm's own, then where the lock says. */
static char **addresses(const struct lock_npm *p) {
        const char *registry = getenv(REGISTRY);
        char **urls = NULL;
        if (registry && *registry && nb_starts_with(p->url, REGISTRY_DEFAULT)) {
                const char *between = registry[strlen(registry) - 1] == '/' ? "" : "/";
                nb_strv_addf(&urls, "%s%s%s", registry, between, p->url + strlen(REGISTRY_DEFAULT));
        }
        nb_strv_add(&urls, p->url);
        return urls;
}

int npm_fetch(const struct store *s, const struct lock_npm *list, const struct image_progress *progress, struct nb_error *err) {
        size_t n = 0, i = 0;
        for (const struct lock_npm *p = list; p; p = p->next)
                n++;
        NB_AUTO_FREE struct fetch_item *items = nb_calloc(n, sizeof *items);
        for (const struct lock_npm *p = list; p; p = p->next, i++) {
                items[i].label = nb_asprintf("%s %s", p->path + strlen("node_modules/"), p->version);
                items[i].urls = (const char *const *)addresses(p);
                items[i].hash = npm_hash(p->integrity);
        }
        int r = n > 0 ? fetch_all(s, items, n, progress, err) : 0;
        for (i = 0; i < n; i++) {
                free((char *)items[i].label);
                nb_strv_free((char **)items[i].urls);
                free((char *)items[i].hash);
        }
        return r;
}
