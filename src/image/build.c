/* Building from the outside (see build.h): what the builder is given, what is heard from it, where its results go, and the
 * cache of base trees. What it does is in build_inside.c. */
#include "image/build.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "image/build_inside.h"
#include "image/deb.h"
#include "image/fetch.h"
#include "jail/stage.h"

#define BASES_KEPT 4u      /* trees in the cache; one for each base and day is made at most */
#define LOG_TAIL 2048      /* bytes of the output that are looked at after a failure */
#define LOG_LINES_SHOWN 6u /* of it, in the message */
#define BASE_SUFFIX ".tar.zst"

/* A build in progress. */
struct run {
        const struct store *store;
        const struct build_job *job;
        const struct image_progress *progress;
        struct build_inside inside;
        struct stage_file *files;
        size_t n_files;
        char *base_path, *base_temp; /* the cached tree, and its name while it is written */
        unsigned count, unpacked, configured;
        char *culprit; /* package that dpkg could not install */
        int log;
};

static void run_clear(struct run *r) {
        for (size_t i = 0; i < r->n_files; i++) {
                free(r->files[i].path);
                free(r->files[i].name);
        }
        free(r->files);
        nb_strv_free(r->inside.base);
        nb_strv_free(r->inside.packages);
        nb_close(r->inside.base_in);
        nb_close(r->inside.base_out);
        nb_close(r->inside.layer);
        nb_close(r->inside.tar);
        nb_close(r->log);
        if (r->base_temp)
                (void)unlink(r->base_temp);
        free(r->base_path);
        free(r->base_temp);
        free(r->culprit);
}
#define AUTO_RUN __attribute__((cleanup(run_clear))) struct run

static void show(struct run *r, const char *what, unsigned done) {
        NB_AUTO_FREE char *detail = nb_asprintf("%s %u of %u", what, done < r->count ? done : r->count, r->count);
        store_step(r->progress, r->job->step, detail, 0, 0);
}

/* The base's tar is whole: give it its name. A failure costs only the next build's time. */
static void keep_base(struct run *r) {
        if (fsync(r->inside.base_out) == 0 && rename(r->base_temp, r->base_path) == 0) {
                free(r->base_temp);
                r->base_temp = NULL;
        }
}

static const char *after(const char *line, const char *prefix) {
        return nb_starts_with(line, prefix) ? line + strlen(prefix) : NULL;
}

/* dpkg says "status: NAME : error : WHY". */
static char *culprit_of(const char *line) {
        const char *name = after(line, "status: "), *end = name ? strstr(name, " : error") : NULL;
        return end ? nb_strndup(name, (size_t)(end - name)) : NULL;
}

static void heard(void *user, const char *line) {
        struct run *r = user;
        const char *rest;
        uint64_t count = 0;
        if (strcmp(line, SAY_BASE) == 0) {
                keep_base(r);
        } else if ((rest = after(line, SAY_STEP))) {
                store_step(r->progress, r->job->step, rest, 0, 0);
        } else if ((rest = after(line, SAY_COUNT))) {
                (void)nb_parse_uint(rest, LOCK_PACKAGES_MAX, &count);
                r->count = (unsigned)count;
                r->unpacked = r->configured = 0;
        } else if (after(line, "processing: install:")) {
                show(r, "unpacking", ++r->unpacked);
        } else if (after(line, "processing: configure:")) {
                show(r, "configuring", ++r->configured);
        } else if (!r->culprit) {
                r->culprit = culprit_of(line);
        }
}

static int body(void *user, int say_fd, struct nb_error *err) {
        struct run *r = user;
        return build_inside(&r->inside, say_fd, err);
}

/* The packages of a set as files of the stage; their names inside go to `ret`. */
static int add_files(struct run *r, const struct lock_set *set, char ***ret, struct nb_error *err) {
        for (size_t i = 0; set && i < set->n; i++) {
                const struct lock_package *p = &set->packages[i];
                NB_AUTO_FREE char *path = fetch_package_path(r->store, p);
                NB_AUTO_FREE char *name = nb_asprintf("%s_%s_%s.deb", p->name, p->version, p->arch);
                if (access(path, R_OK) < 0)
                        return nb_fail_errno(err, errno, "cannot read the package %s %s", p->name, p->version);
                r->files = nb_realloc(r->files, r->n_files + 1, sizeof *r->files);
                nb_strv_add(ret, name);
                r->files[r->n_files++] = (struct stage_file){ nb_steal(&path), nb_steal(&name) };
        }
        return 0;
}

/* Keeps the newest trees of the cache, besides the one that is about to be made; so many are looked at at most. */
static void drop_old_bases(const char *dir) {
        struct dirent **names = NULL;
        int n = scandir(dir, &names, NULL, alphasort);
        struct {
                char *name;
                time_t used;
        } kept[BASES_KEPT - 1] = { 0 };
        for (int i = 0; i < n; i++) {
                NB_AUTO_FREE char *path = nb_path_join(dir, names[i]->d_name);
                struct stat st;
                if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && strstr(path, BASE_SUFFIX)) {
                        size_t oldest = 0;
                        for (size_t k = 1; k < NB_ARRAY_LEN(kept); k++)
                                if (kept[k].used < kept[oldest].used)
                                        oldest = k;
                        bool stays = st.st_mtime > kept[oldest].used;
                        const char *drop = stays ? kept[oldest].name : path;
                        if (drop)
                                (void)unlink(drop);
                        if (stays) {
                                free(kept[oldest].name);
                                kept[oldest].name = nb_steal(&path);
                                kept[oldest].used = st.st_mtime;
                        }
                }
                free(names[i]);
        }
        for (size_t k = 0; k < NB_ARRAY_LEN(kept); k++)
                free(kept[k].name);
        free(names);
}

/* Opens the cached tree of the base, or a file to write it to. */
static int open_base(struct run *r, struct nb_error *err) {
        NB_AUTO_FREE char *dir = nb_path_join(r->store->cache, "base");
        NB_AUTO_FREE char *salt = nb_asprintf("%s %s docs=%d translations=%d", LOCK_BUILDER, r->job->suite, r->job->docs,
                                              r->job->docs || r->job->locale);
        char key[NB_SHA256_HEX];
        lock_set_key(r->job->base, salt, key);
        r->base_path = nb_asprintf("%s/%s" BASE_SUFFIX, dir, key);
        r->inside.base_in = r->job->anew ? -1 : open(r->base_path, O_RDONLY | O_CLOEXEC);
        if (r->inside.base_in >= 0) {
                (void)futimens(r->inside.base_in, NULL); /* used now */
                return 0;
        }
        if (mkdir(dir, 0700) < 0 && errno != EEXIST)
                return nb_fail_errno(err, errno, "cannot make %s", dir);
        drop_old_bases(dir);
        r->base_temp = nb_asprintf("%s/.%s.%d", dir, key, (int)getpid());
        r->inside.base_out = open(r->base_temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        return r->inside.base_out < 0 ? nb_fail_errno(err, errno, "cannot make %s", r->base_temp) : 0;
}

static int open_files(struct run *r, struct nb_error *err) {
        const struct build_job *job = r->job;
        NB_AUTO_FREE char *log = nb_path_join(job->work, "log");
        r->log = open(log, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        r->inside.tar = open(job->tar, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (r->log < 0 || r->inside.tar < 0)
                return nb_fail_errno(err, errno, "cannot make files in %s", job->work);
        if (job->layer && (r->inside.layer = open(job->layer, O_RDONLY | O_CLOEXEC)) < 0)
                return nb_fail_errno(err, errno, "cannot read %s", job->layer);
        return open_base(r, err);
}

/* The last lines that the scripts printed, in one line; NULL if there are none. New string. */
static char *last_words(int log) {
        char tail[LOG_TAIL + 1];
        off_t size = lseek(log, 0, SEEK_END), from = size > LOG_TAIL ? size - LOG_TAIL : 0;
        ssize_t n = size > 0 ? pread(log, tail, LOG_TAIL, from) : 0;
        if (n <= 0)
                return NULL;
        while (n > 0 && tail[n - 1] == '\n')
                n--;
        tail[n] = 0;
        const char *start = tail + n;
        for (unsigned lines = 0; start > tail; start--)
                if (start[-1] == '\n' && ++lines == LOG_LINES_SHOWN)
                        break;
        NB_AUTO_FREE char *text = nb_strdup(start);
        for (char *c = text; *c; c++)
                if (*c == '\n')
                        *c = ';';
        return nb_text_clean(text, 0);
}

/* A failure of what runs inside, with what it said, and the way out where that is outside. */
static int explain(struct run *r, struct nb_error *err) {
        NB_AUTO_FREE char *said = last_words(r->log);
        if (!err)
                return -EIO;
        bool script = err->code == ECHILD && said && *said;
        bool full = said && (strstr(said, "No space left on device") || strstr(said, "Disk quota exceeded"));
        NB_AUTO_FREE char *what = nb_strdup(err->what);
        if (script && full)
                nb_fail_errno(err, ENOSPC, "cannot install %s", r->culprit ? r->culprit : "the packages");
        else if (script && r->culprit)
                nb_fail(err, ECHILD, "cannot install %s: %s: %s", r->culprit, what, said);
        else if (script)
                nb_fail(err, ECHILD, "%s: %s", what, said);
        return store_hint(r->store, err);
}

static int build_once(struct run *r, struct nb_error *err) {
        const struct build_job *job = r->job;
        NB_AUTO_FREE char *root = nb_asprintf("%s/root.XXXXXX", job->work);
        int e = open_files(r, err);
        if (e == 0)
                e = add_files(r, job->base, &r->inside.base, err);
        if (e == 0)
                e = add_files(r, job->packages, &r->inside.packages, err);
        if (e == 0 && (!mkdtemp(root) || chmod(root, 0755) < 0))
                e = nb_fail_errno(err, errno, "cannot make a folder in %s", job->work);
        if (e < 0)
                return store_hint(r->store, err);
        enum userns_ids ids = userns_best();
        r->inside.fake = ids == USERNS_ONE;
        struct stage stage = { .ids = ids,
                               .root = root,
                               .files = r->files,
                               .n_files = r->n_files,
                               .log_fd = r->log,
                               .body = body,
                               .heard = heard,
                               .user = r };
        e = stage_run(&stage, err);
        return e < 0 ? explain(r, err) : 0;
}

int build_tree(const struct store *s, const struct build_job *job, const struct image_progress *progress,
               struct nb_error *err) {
        AUTO_RUN r = { .store = s, .job = job, .progress = progress, .log = -1 };
        r.inside = (struct build_inside){ .job = job, .base_in = -1, .base_out = -1, .layer = -1, .tar = -1 };
        store_step(progress, job->step, NULL, 0, 0);
        return build_once(&r, err);
}

int build_extract(const struct store *s, const struct lock_set *set, const char *dir, char *(*want)(const char *name),
                  struct nb_error *err) {
        NB_AUTO_STRV char **paths = nb_calloc(1, sizeof *paths);
        for (size_t i = 0; i < set->n; i++) {
                NB_AUTO_FREE char *path = fetch_package_path(s, &set->packages[i]);
                nb_strv_add(&paths, path);
        }
        return deb_unpack(paths, dir, want, err);
}
