/* Marks of use and the check of digests before a boot (see use.h). */
#include "image/use.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/seal.h"
#include "image/folder.h"

#define MANIFEST_MAX (8u * 1024u * 1024u)
#define TICK_US 20000u /* file systems do not tell two times apart that are closer than this */

/* One thing of the store that is being looked at. */
struct item {
        const struct use *u;
        const char *what, *path;
        const char *digest;
        int fd;
        bool is_tree;
};

char *use_key(const char *path) {
        const char *slash = strrchr(path, '/');
        return nb_strdup(slash ? slash + 1 : path);
}

int use_discard(const struct store *s, const char *path) {
        NB_AUTO_FREE char *key = use_key(path);
        (void)store_ref_remove(s, USE_RECORD, key);
        struct store_temp work = { .fd = -1 };
        struct stat st;
        if (lstat(path, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        /* first out of sight in one step, so that nobody finds half of it; a full disk may not allow that */
        if (S_ISDIR(st.st_mode) && store_temp_new(s, &work, NULL) == 0) {
                NB_AUTO_FREE char *to = nb_path_join(work.path, "old");
                (void)chmod(path, 0700); /* a folder can only be moved while its owner may write to it */
                (void)rename(path, to);
                store_temp_remove(&work);
        }
        return nb_remove_tree(AT_FDCWD, path);
}

/* What the inodes say now. */
static int inodes_of(const struct item *x, char **ret) {
        if (!x->is_tree) {
                *ret = nb_seal_fd(x->fd);
                return *ret ? 0 : -errno;
        }
        char digest[NB_SHA256_HEX];
        int r = folder_seals(x->fd, digest);
        if (r == 0)
                *ret = nb_strdup(digest);
        return r;
}

/* What the content is now; for a folder also its listing. */
static int digest_of(const struct item *x, char **ret_listing, char ret[NB_SHA256_HEX]) {
        return x->is_tree ? folder_list(x->fd, ret_listing, ret) : nb_sha256_fd(x->fd, ret);
}

static bool is_recorded(const struct item *x, const char *inodes) {
        NB_AUTO_FREE char *key = use_key(x->path);
        json_t *ref = store_ref_get(x->u->s, USE_RECORD, key);
        const char *then = json_string_value(json_object_get(ref, "inodes"));
        bool same = then && strcmp(then, inodes) == 0;
        json_decref(ref);
        return same;
}

/* Without a record everything is read again the next time; that is no reason not to boot. */
static void record(const struct item *x, const char *inodes) {
        NB_AUTO_FREE char *key = use_key(x->path);
        NB_AUTO_CLOSE int lock = -1;
        json_t *ref = json_pack("{s:s}", "inodes", inodes);
        if (ref && store_lock(x->u->s, STORE_LOCK_ALL, NULL, &lock, NULL) == 0)
                (void)store_ref_put(x->u->s, USE_RECORD, key, ref, NULL);
        json_decref(ref);
}

/* The path of the first entry of a folder that is not as its manifest says. New string, NULL if it cannot be told. */
static char *first_difference(const struct item *x, const char *listing) {
        NB_AUTO_FREE char *path = nb_asprintf("%s.manifest", x->path), *text = NULL;
        if (!x->is_tree || !listing || nb_read_file(path, MANIFEST_MAX, &text, NULL) < 0)
                return NULL;
        const char *a = text, *b = listing;
        while (*a || *b) {
                size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
                if (n != m || strncmp(a, b, n) != 0) {
                        NB_AUTO_FREE char *line = n > 0 ? nb_strndup(a, n) : nb_strndup(b, m);
                        const char *space = strrchr(line, ' ');
                        return space ? nb_strdup(space + 1) : NULL;
                }
                a += n + (a[n] == '\n');
                b += m + (b[m] == '\n');
        }
        return NULL;
}

static int refuse(const struct item *x, const char *listing, struct nb_error *err) {
        NB_AUTO_FREE char *where = first_difference(x, listing);
        if (x->u->repair) {
                int r = use_discard(x->u->s, x->path);
                return r < 0 ? nb_fail_errno(err, -r, "cannot remove %s, which was changed", x->path) : -ESTALE;
        }
        nb_fail(err, EBADMSG, "the %s " STORE_DIGEST_PREFIX "%s was changed%s%s", x->what, x->digest, where ? ": " : "",
                where ? where : "");
        return nb_hint(err, "`nixbox image build --force` builds it again");
}

/* Reads everything. A change that follows within a tick of the file system's clock could not be seen later, so the last one
 * must be older than that. */
static int read_again(const struct item *x, struct nb_error *err) {
        NB_AUTO_FREE char *listing = NULL, *before = NULL, *after = NULL;
        char hex[NB_SHA256_HEX] = "";
        store_step(x->u->progress, "checking", x->what, 0, 0);
        (void)usleep(TICK_US);
        int r = inodes_of(x, &before);
        if (r == 0)
                r = digest_of(x, &listing, hex);
        if (r == 0)
                r = inodes_of(x, &after);
        if (r == -EINVAL || r == -ELOOP || r == -E2BIG || (r == 0 && strcmp(hex, x->digest) != 0))
                return refuse(x, listing, err);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", x->path);
        if (!before || !after || strcmp(before, after) != 0)
                return refuse(x, listing, err);
        record(x, after);
        return 0;
}

static int check(const struct item *x, struct nb_error *err) {
        NB_AUTO_FREE char *inodes = NULL;
        int r = inodes_of(x, &inodes);
        return r == 0 && is_recorded(x, inodes) ? 0 : read_again(x, err);
}

/* Opens it with a mark, which the image keeps. */
static int begin(const struct use *u, const char *path, int *ret_fd, struct nb_error *err) {
        int r = nb_use_open(path, ret_fd);
        if (r == -ENOENT)
                return -ESTALE;
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot open %s", path);
        struct image *i = u->i;
        i->marks = nb_realloc(i->marks, i->n_marks + 1, sizeof *i->marks);
        i->marks[i->n_marks++] = *ret_fd;
        return 0;
}

static const char *hex_of(const char *digest) {
        size_t n = strlen(STORE_DIGEST_PREFIX);
        return strncmp(digest, STORE_DIGEST_PREFIX, n) == 0 ? digest + n : digest;
}

int use_tree(const struct use *u, const char *what, const char *path, const char *digest, const struct use_part *parts,
             struct nb_error *err) {
        struct item x = { .u = u, .what = what, .path = path, .digest = hex_of(digest), .is_tree = true };
        int r = begin(u, path, &x.fd, err);
        /* before the check: what changes later then differs from this */
        for (const struct use_part *p = parts; r == 0 && p && p->file; p++) {
                struct stat st;
                if (fstatat(x.fd, p->file, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return refuse(&x, NULL, err);
                free(*p->ret_seal);
                *p->ret_seal = nb_seal_of(&st);
        }
        return r < 0 ? r : check(&x, err);
}

int use_file(const struct use *u, const char *what, const char *path, const char *digest, char **ret_seal,
             struct nb_error *err) {
        struct item x = { .u = u, .what = what, .path = path, .digest = hex_of(digest) };
        int r = begin(u, path, &x.fd, err);
        NB_AUTO_FREE char *seal = r == 0 ? nb_seal_fd(x.fd) : NULL;
        if (r == 0 && !seal)
                r = nb_fail_errno(err, errno, "cannot look at %s", path);
        if (r == 0)
                r = check(&x, err);
        if (r == 0)
                *ret_seal = nb_steal(&seal);
        return r;
}
