/* Blobs of images in the cache: copied there whole and checked before they get the name of their hash, so that what has such
 * a name is what it says. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "image/fetch.h"
#include "image/source_internal.h"

#define BLOCK (128u * 1024u)

char *blob_path(const struct store *s, const struct lock_blob *blob) {
        NB_AUTO_FREE char *hash = nb_asprintf(STORE_DIGEST_PREFIX "%s", blob->sha256);
        return fetch_path(s, hash);
}

bool blob_is_cached(const struct store *s, const struct lock_blob *blob) {
        struct stat st;
        NB_AUTO_FREE char *path = blob_path(s, blob);
        return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == blob->size;
}

static int copy(int from, int to, uint64_t size) {
        NB_AUTO_FREE char *block = nb_calloc(1, BLOCK);
        while (size > 0) {
                ssize_t n = nb_read_full(from, block, size < BLOCK ? (size_t)size : BLOCK);
                if (n <= 0)
                        return n < 0 ? (int)n : -EBADMSG;
                int r = nb_write_all(to, block, (size_t)n);
                if (r < 0)
                        return r;
                size -= (uint64_t)n;
        }
        return 0;
}

/* What is judged is the copy: nobody else can change that. */
static int copy_checked(const char *from, int to, const struct lock_blob *blob, struct nb_error *err) {
        struct stat st;
        char hex[NB_SHA256_HEX];
        NB_AUTO_CLOSE int fd = open(from, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return nb_fail_errno(err, errno, "cannot open %s", from);
        if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != blob->size)
                return nb_fail(err, EBADMSG, "%s has %llu bytes, but %llu were promised", from, (unsigned long long)st.st_size,
                               (unsigned long long)blob->size);
        int r = copy(fd, to, blob->size);
        if (r == 0 && lseek(to, 0, SEEK_SET) < 0)
                r = -errno;
        if (r == 0)
                r = nb_sha256_fd(to, hex);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot copy %s to the cache", from);
        if (strcmp(hex, blob->sha256) != 0)
                return nb_fail(err, EBADMSG, "%s is damaged: its SHA-256 is %s, not %s", from, hex, blob->sha256);
        return 0;
}

int blob_import(const struct store *s, const char *from, const struct lock_blob *blob, struct nb_error *err) {
        if (blob_is_cached(s, blob))
                return 0;
        NB_AUTO_FREE char *to = blob_path(s, blob), *dir = nb_strndup(to, (size_t)(strrchr(to, '/') - to));
        NB_AUTO_FREE char *part = nb_asprintf("%s/part-XXXXXX", dir);
        if (mkdir(dir, 0700) < 0 && errno != EEXIST)
                return nb_fail_errno(err, errno, "cannot make the folder %s", dir);
        NB_AUTO_CLOSE int fd = mkostemp(part, O_CLOEXEC);
        if (fd < 0)
                return nb_fail_errno(err, errno, "cannot make a file in %s", dir);
        int r = copy_checked(from, fd, blob, err);
        if (r == 0 && rename(part, to) < 0)
                r = nb_fail_errno(err, errno, "cannot keep %s", to);
        if (r < 0)
                (void)unlink(part);
        return r < 0 ? store_hint(s, err) : 0;
}
