/* The files of the download cache (see fetch_part.h): hashing what arrives, and giving a file its name once it is right. */
#include "image/fetch_part.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"

#define BLOBS "blobs"
#define CHUNK (1u << 16)

/* sha256:HEX or sha512:HEX: only these become file names. */
static bool valid_hash(const char *hash) {
        const char *hex = nb_starts_with(hash, "sha256:") || nb_starts_with(hash, "sha512:") ? hash + strlen("sha256:") : NULL;
        size_t digits = nb_starts_with(hash, "sha256:") ? 2u * SHA256_DIGEST_SIZE : 2u * SHA512_DIGEST_SIZE;
        return hex && strlen(hex) == digits && strspn(hex, "0123456789abcdef") == digits;
}

char *fetch_path(const struct store *s, const char *hash) {
        return nb_asprintf("%s/" BLOBS "/%.6s-%s", s->cache, hash, hash + strlen("sha256:"));
}

int fetch_write_error(const struct store *s, int code, struct nb_error *err) {
        nb_fail_errno(err, code, "cannot write into the cache of downloads, %s/" BLOBS, s->cache);
        if (code == ENOSPC || code == EDQUOT)
                return nb_hint(err, "make room on the disk that holds %s (`nixbox image prune` removes downloads)", s->cache);
        return nb_hint(err, "make the folder writable for you");
}

static void hash_start(struct fetch_part *p) {
        if (p->sha512)
                sha512_init(&p->hash.sha512);
        else
                sha256_init(&p->hash.sha256);
}

static void hash_add(struct fetch_part *p, const void *bytes, size_t len) {
        if (p->sha512)
                sha512_update(&p->hash.sha512, len, bytes);
        else
                sha256_update(&p->hash.sha256, len, bytes);
}

/* The digest as "sha256:HEX"; ends the computation. New string. */
static char *hash_end(struct fetch_part *p) {
        uint8_t raw[SHA512_DIGEST_SIZE];
        size_t n = p->sha512 ? SHA512_DIGEST_SIZE : SHA256_DIGEST_SIZE;
        if (p->sha512)
                sha512_digest(&p->hash.sha512, n, raw);
        else
                sha256_digest(&p->hash.sha256, n, raw);
        char *text = nb_asprintf("%s:%*s", p->sha512 ? "sha512" : "sha256", (int)(2 * n), "");
        for (size_t i = 0; i < n; i++)
                (void)snprintf(text + strlen("sha256:") + 2 * i, 3, "%02x", raw[i]);
        return text;
}

int fetch_part_restart(struct fetch_part *p) {
        p->size = 0;
        p->error = 0;
        hash_start(p);
        return ftruncate(p->fd, 0) < 0 || lseek(p->fd, 0, SEEK_SET) < 0 ? -errno : 0;
}

/* Puts what an earlier try has left through the hash. */
static int read_back(struct fetch_part *p) {
        NB_AUTO_FREE uint8_t *chunk = nb_calloc(1, CHUNK);
        struct stat st;
        if (fstat(p->fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > p->limit)
                return fetch_part_restart(p);
        hash_start(p);
        for (p->size = 0;;) {
                ssize_t n = nb_read_full(p->fd, chunk, CHUNK);
                if (n <= 0)
                        return n < 0 ? (int)n : 0;
                hash_add(p, chunk, (size_t)n);
                p->size += (uint64_t)n;
        }
}

/* Opens and locks the file. It may have got its final name, or have been removed, before it was locked. */
static int lock_part(struct fetch_part *p) {
        struct stat mine, there;
        p->fd = open(p->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (p->fd < 0)
                return -errno;
        int r = flock(p->fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
        if (r == 0 && (fstat(p->fd, &mine) < 0 || lstat(p->path, &there) < 0 || mine.st_ino != there.st_ino))
                r = -EAGAIN;
        if (r < 0)
                p->fd = nb_close(p->fd);
        return r == -EWOULDBLOCK ? -EAGAIN : r;
}

int fetch_part_open(struct fetch_part *p, const struct store *s, const struct fetch_item *item, struct nb_error *err) {
        if (!valid_hash(item->hash))
                return nb_fail(err, EINVAL, "%s: '%s' is not a hash that can be checked", item->label, item->hash);
        NB_AUTO_FREE char *blobs = nb_path_join(s->cache, BLOBS);
        if (!p->final) {
                p->final = fetch_path(s, item->hash);
                p->path = nb_asprintf("%s.part", p->final);
        }
        p->sha512 = nb_starts_with(item->hash, "sha512:");
        p->limit = item->size ? item->size : FETCH_UNKNOWN_MAX;
        if (access(p->final, R_OK) == 0)
                return 1;
        int r = nb_mkdirs(blobs, 0700);
        if (r == 0)
                r = lock_part(p);
        if (r == 0 && access(p->final, R_OK) == 0) { /* finished by another process just before it let go of the lock */
                (void)unlink(p->path);
                return 1;
        }
        if (r == 0)
                r = read_back(p);
        return r == 0 || r == -EAGAIN ? r : fetch_write_error(s, -r, err);
}

bool fetch_part_write(struct fetch_part *p, const void *bytes, size_t len) {
        if (len > p->limit - p->size) {
                p->error = EFBIG;
                return false;
        }
        int r = nb_write_all(p->fd, bytes, len);
        if (r < 0) {
                p->error = -r;
                (void)!ftruncate(p->fd, (off_t)p->size); /* what was written of it has not gone through the hash */
                (void)lseek(p->fd, (off_t)p->size, SEEK_SET);
                return false;
        }
        hash_add(p, bytes, len);
        p->size += len;
        return true;
}

int fetch_part_finish(struct fetch_part *p, const struct fetch_item *item, struct nb_error *err) {
        NB_AUTO_FREE char *hash = hash_end(p);
        if ((item->size && p->size != item->size) || strcmp(hash, item->hash) != 0) {
                uint64_t size = p->size;
                (void)fetch_part_restart(p);
                return nb_fail(err, EBADMSG, "what was downloaded is not what is expected, but %llu bytes with the hash %s",
                               (unsigned long long)size, hash);
        }
        /* on the disk before it has its name, since that is taken to mean that it was checked */
        if (fchmod(p->fd, 0444) < 0 || fdatasync(p->fd) < 0 || rename(p->path, p->final) < 0)
                return nb_fail_errno(err, errno, "cannot store %s", p->final);
        return 0;
}

void fetch_part_close(struct fetch_part *p) {
        p->fd = nb_close(p->fd);
        free(nb_steal(&p->path));
        free(nb_steal(&p->final));
}
