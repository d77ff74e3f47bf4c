/* Writing the initramfs (see initrd.h). Not compressed: under emulation the guest would take longer to unpack it than to
 * copy it, and on hardware it makes no difference at this size. */
#include "image/initrd.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/sha256.h"

#define AGENT "nixbox-agent"
#define FILE_MAX (32u * 1024u * 1024u)
#define LIST_MAX 65536u
#define FORMAT "2" /* raise whenever the layout of the archive changes */

/* QEMU puts the initramfs at the end of memory, on a page boundary and one byte short of it at least; the firmware keeps the
 * ACPI tables in the last page. Whole pages leave that page alone; anything else would end in the tables, and the kernel
 * would sum up a gigabyte for their checksum. */
#define BLOCK 4096

static const char *const dirs[] = { "dev", "modules", "newroot", "proc", "run", "sys", "tmp" };

struct writer {
        struct archive *a;
        struct nb_error *err;
};

static int put(struct writer *w, const char *name, mode_t mode, dev_t rdev, const void *bytes, size_t len) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, name);
        archive_entry_set_mode(e, mode);
        archive_entry_set_nlink(e, S_ISDIR(mode) ? 2 : 1);
        archive_entry_set_size(e, (la_int64_t)len);
        archive_entry_set_mtime(e, 0, 0);
        if (rdev)
                archive_entry_set_rdev(e, rdev);
        bool ok = archive_write_header(w->a, e) == ARCHIVE_OK &&
                  (len == 0 || archive_write_data(w->a, bytes, len) == (la_ssize_t)len);
        archive_entry_free(e);
        return ok ? 0 : nb_fail(w->err, EIO, "cannot write %s to the initramfs: %s", name, archive_error_string(w->a));
}

static int put_file(struct writer *w, const char *from, const char *name, mode_t mode) {
        NB_AUTO_FREE char *bytes = NULL;
        size_t len = 0;
        int r = nb_read_file(from, FILE_MAX, &bytes, &len);
        if (r < 0)
                return nb_fail_errno(w->err, -r, "cannot read %s", from);
        return put(w, name, S_IFREG | mode, 0, bytes, len);
}

static int put_modules(struct writer *w, const char *kernel) {
        NB_AUTO_FREE char *list = nb_path_join(kernel, "modules.list"), *text = NULL;
        size_t len = 0;
        int r = nb_read_file(list, LIST_MAX, &text, &len);
        if (r < 0)
                return nb_fail_errno(w->err, -r, "cannot read %s", list);
        r = put(w, "modules.list", S_IFREG | 0444, 0, text, len);
        char *save = NULL;
        for (char *line = strtok_r(text, "\n", &save); r == 0 && line; line = strtok_r(NULL, "\n", &save)) {
                const char *space = strchr(line, ' '), *file = space ? space + 1 : line;
                NB_AUTO_FREE char *from = nb_path_join(kernel, file), *name = nb_asprintf("modules/%s", file);
                r = put_file(w, from, name, 0444);
        }
        return r;
}

static int put_all(struct writer *w, const char *kernel, const char *agent) {
        int r = 0;
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(dirs); i++)
                r = put(w, dirs[i], S_IFDIR | 0755, 0, NULL, 0);
        if (r == 0)
                r = put(w, "dev/console", S_IFCHR | 0600, makedev(5, 1), NULL, 0);
        if (r == 0)
                r = put_file(w, agent, "init", 0755);
        return r < 0 ? r : put_modules(w, kernel);
}

int initrd_write(const char *kernel, const char *agent, const char *to, struct nb_error *err) {
        struct writer w = { archive_write_new(), err };
        int r = 0;
        if (archive_write_set_format_cpio_newc(w.a) != ARCHIVE_OK || archive_write_add_filter_none(w.a) != ARCHIVE_OK ||
            archive_write_set_bytes_per_block(w.a, BLOCK) != ARCHIVE_OK ||
            archive_write_set_bytes_in_last_block(w.a, BLOCK) != ARCHIVE_OK ||
            archive_write_open_filename(w.a, to) != ARCHIVE_OK)
                r = nb_fail(err, EIO, "cannot write %s: %s", to, archive_error_string(w.a));
        if (r == 0)
                r = put_all(&w, kernel, agent);
        if (archive_write_close(w.a) != ARCHIVE_OK && r == 0)
                r = nb_fail(err, EIO, "cannot write %s: %s", to, archive_error_string(w.a));
        archive_write_free(w.a);
        return r;
}

char *initrd_name(const char *kernel, const char *agent) {
        NB_AUTO_FREE char *installed = agent ? NULL : nb_installed_file(AGENT);
        NB_AUTO_CLOSE int fd = open(agent ? agent : installed, O_RDONLY | O_CLOEXEC);
        char digest[NB_SHA256_HEX];
        int r = fd < 0 ? -errno : nb_sha256_fd(fd, digest);
        if (r < 0) {
                errno = -r;
                return NULL;
        }
        const char *slash = strrchr(kernel, '/');
        return nb_asprintf("initrd-%.16s-%.16s-" FORMAT ".cpio", slash ? slash + 1 : kernel, digest);
}

/* Puts a finished one in place; its digest is recorded last. New string: the digest. */
static int put_away(const struct store *s, const char *from, const char *name, const char *to, char **ret_digest,
                    struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(from, O_RDONLY | O_CLOEXEC);
        NB_AUTO_CLOSE int lock = -1;
        char hex[NB_SHA256_HEX];
        int r = fd < 0 ? -errno : nb_sha256_fd(fd, hex);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", from);
        r = store_lock(s, STORE_LOCK_ALL, NULL, &lock, err);
        if (r < 0)
                return r;
        if (fchmod(fd, 0444) < 0 || rename(from, to) < 0)
                return nb_fail_errno(err, errno, "cannot store %s", to);
        NB_AUTO_FREE char *digest = nb_asprintf(STORE_DIGEST_PREFIX "%s", hex);
        json_t *ref = json_pack("{s:s}", "digest", digest);
        r = store_ref_put(s, INITRD_RECORD, name, ref, err);
        json_decref(ref);
        if (r < 0)
                return r;
        store_mark(s, to);
        *ret_digest = nb_steal(&digest);
        return 0;
}

static char *recorded_digest(const struct store *s, const char *name) {
        json_t *ref = store_ref_get(s, INITRD_RECORD, name);
        char *digest = nb_strdup(json_string_value(json_object_get(ref, "digest")));
        json_decref(ref);
        return digest;
}

static int make(const struct store *s, const char *kernel, const char *agent, const char *name, const char *path,
                char **ret_digest, struct nb_error *err) {
        struct store_temp work;
        int r = store_temp_new(s, &work, err);
        if (r < 0)
                return r;
        NB_AUTO_FREE char *tmp = nb_path_join(work.path, "initrd");
        r = initrd_write(kernel, agent, tmp, err);
        if (r == 0)
                r = put_away(s, tmp, name, path, ret_digest, err);
        store_temp_remove(&work);
        return r < 0 ? store_hint(s, err) : 0;
}

int initrd_ensure(const struct store *s, const char *kernel, char **ret, char **ret_digest, struct nb_error *err) {
        NB_AUTO_FREE char *agent = nb_installed_file(AGENT), *name = initrd_name(kernel, agent);
        if (!name) {
                nb_fail_errno(err, errno, "cannot read the guest agent %s", agent);
                return nb_hint(err, "build it with `make`, or install nixbox completely with `make install`");
        }
        NB_AUTO_FREE char *path = store_path(s, "kernel", name), *digest = recorded_digest(s, name);
        if (!digest || access(path, R_OK) < 0) {
                free(digest);
                digest = NULL;
                int r = make(s, kernel, agent, name, path, &digest, err);
                if (r < 0)
                        return r;
        }
        *ret = nb_steal(&path);
        *ret_digest = nb_steal(&digest);
        return 0;
}
