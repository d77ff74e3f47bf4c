/* Reading Debian package files (see deb.h). The tar inside is read while the ar archive around it is, without a copy on
 * disk. */
#include "image/deb.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/folder.h"

#define BLOCK (128u * 1024u)
#define THREADS_MAX 4
#define CONTROL_MAX (1024u * 1024u) /* bytes of a control file */
#define NEEDS_MAX 10000u            /* names in one field */

struct deb {
        struct archive *outer, *inner;
};

static void deb_close(struct deb *d) {
        if (d->inner)
                archive_read_free(d->inner);
        if (d->outer)
                archive_read_free(d->outer);
}
#define AUTO_DEB __attribute__((cleanup(deb_close))) struct deb

static la_ssize_t read_member(struct archive *inner, void *user, const void **ret) {
        struct deb *d = user;
        size_t size = 0;
        la_int64_t offset;
        int r = archive_read_data_block(d->outer, ret, &size, &offset);
        if (r == ARCHIVE_EOF)
                return 0;
        if (r == ARCHIVE_OK || r == ARCHIVE_WARN)
                return (la_ssize_t)size;
        archive_set_error(inner, archive_errno(d->outer), "%s", archive_error_string(d->outer));
        return -1;
}

/* Opens the tar whose member name begins with `member` ("data.tar"). */
static int deb_open(struct deb *d, const char *path, const char *member, struct nb_error *err) {
        struct archive_entry *e = NULL;
        d->outer = archive_read_new();
        d->inner = archive_read_new();
        archive_read_support_format_ar(d->outer);
        archive_read_support_format_tar(d->inner);
        archive_read_support_filter_all(d->inner);
        int r = archive_read_open_filename(d->outer, path, BLOCK);
        while (r == ARCHIVE_OK && (r = archive_read_next_header(d->outer, &e)) == ARCHIVE_OK)
                if (archive_entry_pathname(e) && nb_starts_with(archive_entry_pathname(e), member))
                        break;
        if (r == ARCHIVE_EOF)
                return nb_fail(err, EBADMSG, "%s is not a Debian package: it has no %s", path, member);
        if (r != ARCHIVE_OK)
                return nb_fail(err, EBADMSG, "cannot read the package %s: %s", path, archive_error_string(d->outer));
        if (archive_read_open(d->inner, d, NULL, read_member, NULL) != ARCHIVE_OK)
                return nb_fail(err, EBADMSG, "cannot read the package %s: %s", path, archive_error_string(d->inner));
        return 0;
}

/* Threads that take one package after another. */
struct work {
        char *const *paths;
        size_t n;
        const char *dir;
        int dirfd;
        char *(*want)(const char *name);
        atomic_size_t next;
        pthread_mutex_t lock;
        struct nb_error err; /* the first one's */
};

static int unpack_one(const struct work *w, const char *path, struct nb_error *err) {
        AUTO_DEB d = { 0 };
        int r = deb_open(&d, path, "data.tar", err);
        return r < 0 ? r : folder_unpack_open(d.inner, path, w->dirfd, w->dir, w->want, err);
}

static void *worker(void *user) {
        struct work *w = user;
        for (size_t i; (i = atomic_fetch_add(&w->next, 1)) < w->n;) {
                struct nb_error err = { 0 };
                if (unpack_one(w, w->paths[i], &err) == 0)
                        continue;
                pthread_mutex_lock(&w->lock);
                if (w->err.code == 0) {
                        w->err = err;
                        err = (struct nb_error){ 0 };
                }
                pthread_mutex_unlock(&w->lock);
                nb_error_clear(&err);
                atomic_store(&w->next, w->n); /* no more are begun */
        }
        return NULL;
}

static size_t run_workers(struct work *w, pthread_t *threads) {
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        size_t started = 0;
        for (long i = 1; i < cpus && i < THREADS_MAX && (size_t)i < w->n; i++)
                if (pthread_create(&threads[started], NULL, worker, w) == 0)
                        started++;
        (void)worker(w); /* this thread is one of them */
        return started;
}

int deb_unpack(char *const *paths, const char *dir, char *(*want)(const char *name), struct nb_error *err) {
        NB_AUTO_CLOSE int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dirfd < 0)
                return nb_fail_errno(err, errno, "cannot open %s", dir);
        struct work w = { .paths = paths, .n = nb_strv_len(paths), .dir = dir, .dirfd = dirfd, .want = want };
        pthread_mutex_init(&w.lock, NULL);
        pthread_t threads[THREADS_MAX];
        for (size_t i = run_workers(&w, threads); i > 0; i--)
                pthread_join(threads[i - 1], NULL);
        pthread_mutex_destroy(&w.lock);
        if (w.err.code == 0)
                return 0;
        int r = nb_fail(err, w.err.code, "%s", w.err.what);
        nb_error_clear(&w.err);
        return r;
}

/* The names of a dependency field: "a (>= 1) | b:any, c [amd64]" gives a, b, c. */
static void parse_names(const char *value, char ***ret) {
        size_t n = 0;
        for (const char *p = value; *p && n < NEEDS_MAX; n++) {
                p += strspn(p, " \t\n");
                size_t len = strcspn(p, " \t\n:,|([");
                if (len > 0) {
                        NB_AUTO_FREE char *name = nb_strndup(p, len);
                        nb_strv_add(ret, name);
                }
                p += strcspn(p, ",|");
                p += *p ? 1 : 0;
        }
}

static const char *field(const char *line, const char *name) {
        size_t len = strlen(name);
        return strncasecmp(line, name, len) == 0 && line[len] == ':' ? line + len + 1 + strspn(line + len + 1, " \t") : NULL;
}

void deb_parse_control(const char *text, struct deb_control *ret) {
        *ret = (struct deb_control){ 0 };
        NB_AUTO_FREE char *copy = nb_strdup(text);
        for (char *c = copy; (c = strchr(c, '\n')); c++) /* a line that begins with a blank goes on with the one before */
                if (c[1] == ' ' || c[1] == '\t')
                        *c = ' ';
        char *rest = copy;
        for (const char *line; (line = strsep(&rest, "\n"));) {
                const char *value;
                if (!ret->name && (value = field(line, "Package")))
                        ret->name = nb_strndup(value, strcspn(value, " \t"));
                else if ((value = field(line, "Essential")))
                        ret->essential = nb_starts_with(value, "yes");
                else if ((value = field(line, "Depends")) || (value = field(line, "Pre-Depends")))
                        parse_names(value, &ret->needs);
                else if ((value = field(line, "Provides")))
                        parse_names(value, &ret->provides);
        }
}

void deb_control_clear(struct deb_control *c) {
        free(c->name);
        nb_strv_free(c->needs);
        nb_strv_free(c->provides);
        *c = (struct deb_control){ 0 };
}

static int read_text(struct archive *a, struct nb_buf *text) {
        for (;;) {
                ssize_t n = archive_read_data(a, nb_buf_reserve(text, BLOCK), BLOCK);
                if (n < 0 || text->len + (size_t)n > CONTROL_MAX)
                        return -EBADMSG;
                if (n == 0)
                        return 0;
                nb_buf_commit(text, (size_t)n);
        }
}

int deb_read_control(const char *path, struct deb_control *ret, struct nb_error *err) {
        AUTO_DEB d = { 0 };
        struct archive_entry *e = NULL;
        int r = deb_open(&d, path, "control.tar", err);
        while (r == 0 && archive_read_next_header(d.inner, &e) == ARCHIVE_OK) {
                const char *name = archive_entry_pathname(e);
                if (!name || (strcmp(name, "./control") != 0 && strcmp(name, "control") != 0))
                        continue;
                NB_AUTO_BUF text = { 0 };
                if (read_text(d.inner, &text) < 0)
                        break;
                nb_buf_add(&text, "", 1);
                deb_parse_control((const char *)nb_buf_bytes(&text), ret);
                if (ret->name)
                        return 0;
                deb_control_clear(ret);
                break;
        }
        return r < 0 ? r : nb_fail(err, EBADMSG, "cannot read what the package %s says of itself", path);
}

static bool listed(char *const *list, const char *name) {
        for (; list && *list; list++)
                if (strcmp(*list, name) == 0)
                        return true;
        return false;
}

/* Marks what one marked package needs; true if that is more than before. */
static bool mark_needs(const struct deb_control *packages, size_t n, const struct deb_control *of, bool *ret) {
        bool more = false;
        for (size_t i = 0; i < n; i++) {
                bool needed = !ret[i] && listed(of->needs, packages[i].name);
                for (char *const *p = packages[i].provides; !ret[i] && !needed && p && *p; p++)
                        needed = listed(of->needs, *p);
                if (needed)
                        ret[i] = more = true;
        }
        return more;
}

void deb_bootstrap(const struct deb_control *packages, size_t n, bool *ret) {
        for (size_t i = 0; i < n; i++)
                ret[i] = packages[i].essential || strcmp(packages[i].name, "dpkg") == 0;
        for (bool more = true; more;) {
                more = false;
                for (size_t i = 0; i < n; i++)
                        if (ret[i] && mark_needs(packages, n, &packages[i], ret))
                                more = true;
        }
}
