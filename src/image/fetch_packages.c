/* Downloading locked Debian packages (see fetch.h): from the mirrors, and what these no longer have from the snapshot archive,
 * which keeps all that Debian ever published. */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "image/debian_archive.h"
#include "image/fetch_part.h"

#define SNAPSHOT "https://snapshot.debian.org"
#define URLS 2u

struct sources {
        char *main, *security, *snapshot;
};

static void sources_clear(struct sources *s) {
        free(s->main);
        free(s->security);
        free(s->snapshot);
}

/* An address in the form in which libcurl takes it: apt's file:/FOLDER is file:///FOLDER. New string. */
static char *address(const char *url) {
        size_t n = strlen(url);
        while (n > 0 && url[n - 1] == '/')
                n--;
        bool short_file = nb_starts_with(url, "file:/") && !nb_starts_with(url, "file://");
        return short_file ? nb_asprintf("file://%.*s", (int)(n - strlen("file:")), url + strlen("file:")) : nb_strndup(url, n);
}

static int find_sources(struct sources *ret, struct nb_error *err) {
        NB_AUTO_FREE char *main = NULL, *security = NULL;
        const char *snapshot = getenv("NIXBOX_SNAPSHOT");
        int r = debian_mirrors(getenv("NIXBOX_MIRROR"), &main, &security, err);
        if (r < 0)
                return r;
        *ret = (struct sources){ address(main), address(security), address(snapshot && *snapshot ? snapshot : SNAPSHOT) };
        return 0;
}

/* Some servers take a plus for a space. New string. */
static char *escape(const char *path) {
        char *out = nb_calloc(3 * strlen(path) + 1, 1), *o = out;
        for (; *path; path++) {
                if (*path == '+')
                        o = stpcpy(o, "%2B");
                else
                        *o++ = *path;
        }
        return out;
}

/* "2025-11-26T23:40:00Z" as the snapshot archive names points in time: 20251126T234000Z. New string. */
static char *snapshot_time(const char *resolved) {
        char *out = nb_calloc(strlen(resolved) + 1, 1), *o = out;
        for (; *resolved; resolved++)
                if (*resolved != '-' && *resolved != ':')
                        *o++ = *resolved;
        return out;
}

struct packages {
        struct fetch_item *items;
        char *(*urls)[URLS + 1];
        const struct lock_package **of; /* the package of each item */
        size_t n;
};

static void packages_clear(struct packages *p) {
        for (size_t i = 0; i < p->n; i++) {
                free((char *)p->items[i].label);
                free((char *)p->items[i].hash);
                for (size_t k = 0; k < URLS; k++)
                        free(p->urls[i][k]);
        }
        free(p->items);
        free(p->urls);
        free(p->of);
}

static void add_package(struct packages *list, const struct sources *s, const struct lock_package *p, const char *resolved) {
        size_t i = list->n++;
        NB_AUTO_FREE char *path = escape(p->path), *when = snapshot_time(p->resolved ? p->resolved : resolved);
        bool security = strcmp(p->archive, "debian-security") == 0;
        list->urls[i][0] = nb_asprintf("%s/%s", security ? s->security : s->main, path);
        list->urls[i][1] = nb_asprintf("%s/archive/%s/%s/%s", s->snapshot, p->archive, when, path);
        list->of[i] = p;
        list->items[i] = (struct fetch_item){ .label = nb_asprintf("%s %s", p->name, p->version),
                                              .urls = (const char *const *)list->urls[i],
                                              .hash = nb_asprintf("sha256:%s", p->sha256),
                                              .size = p->size };
}

/* What to do about it depends on what the mirror, which was asked first, has said. */
static int explain(const struct packages *list, size_t failed, struct nb_error *err) {
        if (failed >= list->n || !err)
                return err ? -err->code : -EIO;
        const char *name = list->of[failed]->name;
        if (err->code == ENOENT)
                return nb_hint(err, "the archive has another version now: nixbox image update %s", name);
        if (err->code == EBADMSG)
                return nb_hint(
                    err, "try another mirror (NIXBOX_MIRROR=URL), or take what the archive has now: nixbox image update %s",
                    name);
        if (err->code == ENETUNREACH)
                return nb_hint(
                    err,
                    "check the network connection, or name another mirror: NIXBOX_MIRROR=URL; if this version is gone: "
                    "nixbox image update %s",
                    name);
        return -err->code;
}

int fetch_packages(const struct store *s, const struct lock_set *const *sets, const char *resolved,
                   const struct image_progress *progress, struct nb_error *err) {
        __attribute__((cleanup(sources_clear))) struct sources from = { 0 };
        __attribute__((cleanup(packages_clear))) struct packages list = { 0 };
        size_t n = 0, failed = 0;
        int r = find_sources(&from, err);
        if (r < 0)
                return r;
        for (size_t i = 0; sets[i]; i++)
                n += sets[i]->n;
        list.items = nb_calloc(n, sizeof *list.items);
        list.urls = nb_calloc(n, sizeof *list.urls);
        list.of = nb_calloc(n, sizeof(struct lock_package *));
        for (size_t i = 0; sets[i]; i++)
                for (size_t k = 0; k < sets[i]->n; k++)
                        add_package(&list, &from, &sets[i]->packages[k], resolved);
        r = fetch_some(s, list.items, list.n, progress, &failed, err);
        if (r < 0)
                (void)explain(&list, failed, err);
        return r < 0 ? nb_context(err, "cannot download the package") : 0;
}

char *fetch_package_path(const struct store *s, const struct lock_package *p) {
        NB_AUTO_FREE char *hash = nb_asprintf("sha256:%s", p->sha256);
        return fetch_path(s, hash);
}
