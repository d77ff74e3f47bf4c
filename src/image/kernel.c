/* From Debian's kernel package to what a box boots: the ELF kernel out of the bzImage, and the few modules the guest loads
 * before it has a root file system, decompressed, with modules.list in the order to load them. A line "?disk NAME.ko" is
 * loaded only where a scratch disk is attached. Which modules are built in differs between kernels, so nothing is assumed. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fts.h>
#include <string.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "image/bzimage.h"
#include "image/modules.h"
#include "image/runtime.h"

#define BZIMAGE_MAX (64u * 1024u * 1024u)
#define MODULE_MAX (32u * 1024u * 1024u)
#define BUILTIN_MAX (1024u * 1024u)

static const char *const always[] = { "virtio_mmio", "virtio_blk", "virtio_balloon", "virtio_console",
                                      "erofs",       "overlay",    "virtiofs",       NULL };
static const char *const with_disk[] = { "ext4", NULL };

struct package {
        char *builtin; /* text of modules.builtin */
        char **paths;  /* of all module files */
        struct nb_error *err;
        const char *dir; /* where to write */
};

/* Fills in the kernel image's path, the module files and the list of what is built in. */
static int scan(const char *raw, struct package *p, char **ret_image) {
        NB_AUTO_FREE char *top = nb_path_join(raw, "kernel");
        char *const roots[] = { top, NULL };
        FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
        if (!fts)
                return -errno;
        for (FTSENT *e; (e = fts_read(fts));) {
                if (e->fts_info != FTS_F)
                        continue;
                if (nb_starts_with(e->fts_name, "vmlinuz-") && !*ret_image)
                        *ret_image = nb_strdup(e->fts_path);
                else if (strcmp(e->fts_name, "modules.builtin") == 0 && !p->builtin)
                        (void)nb_read_file(e->fts_path, BUILTIN_MAX, &p->builtin, NULL);
                else if (strstr(e->fts_name, ".ko"))
                        nb_strv_add(&p->paths, e->fts_path);
        }
        (void)fts_close(fts);
        return *ret_image && p->builtin ? 0 : -ENOENT;
}

static bool is_builtin(const struct package *p, const char *name) {
        NB_AUTO_FREE char *text = nb_strdup(p->builtin);
        char *save = NULL;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                NB_AUTO_FREE char *one = modules_name(line);
                if (one && strcmp(one, name) == 0)
                        return true;
        }
        return false;
}

/* The bytes of a module, decompressed whatever it is packed with. */
static int read_module(const char *path, struct nb_buf *out) {
        struct archive *a = archive_read_new();
        struct archive_entry *e = NULL;
        archive_read_support_filter_all(a);
        archive_read_support_format_raw(a);
        int r = archive_read_open_filename(a, path, 65536) == ARCHIVE_OK && archive_read_next_header(a, &e) == ARCHIVE_OK
                    ? 0
                    : -EBADMSG;
        while (r == 0) {
                ssize_t n = archive_read_data(a, nb_buf_reserve(out, 65536), 65536);
                if (n < 0)
                        r = -EBADMSG;
                if (n <= 0)
                        break;
                nb_buf_commit(out, (size_t)n);
                if (out->len > MODULE_MAX)
                        r = -EFBIG;
        }
        archive_read_free(a);
        return r;
}

/* modules_need_fn: finds the module, writes it out decompressed, and tells what it needs. */
static int take_module(void *user, const char *name, char ***ret_needs) {
        struct package *p = user;
        if (is_builtin(p, name))
                return 0;
        for (size_t i = 0; p->paths && p->paths[i]; i++) {
                NB_AUTO_FREE char *one = modules_name(p->paths[i]);
                if (!one || strcmp(one, name) != 0)
                        continue;
                NB_AUTO_BUF ko = { 0 };
                NB_AUTO_FREE char *to = nb_asprintf("%s/%s.ko", p->dir, name);
                int r = read_module(p->paths[i], &ko);
                if (r == 0)
                        r = modules_depends(nb_buf_bytes(&ko), ko.len, ret_needs);
                if (r == 0)
                        r = nb_write_file_atomic(to, nb_buf_bytes(&ko), modules_unsigned_length(nb_buf_bytes(&ko), ko.len),
                                                 0644);
                return r < 0 ? nb_fail_errno(p->err, -r, "cannot unpack the kernel module %s", name) : 1;
        }
        return nb_fail(p->err, ENOENT, "the kernel package has no module %s", name);
}

static bool listed(char *const *list, const char *name) {
        for (size_t i = 0; list && list[i]; i++)
                if (strcmp(list[i], name) == 0)
                        return true;
        return false;
}

static int make_modules(struct package *p) {
        NB_AUTO_STRV char **first = NULL, **disk = NULL;
        int r = modules_order(always, take_module, p, &first);
        if (r == 0)
                r = modules_order(with_disk, take_module, p, &disk);
        if (r < 0)
                return p->err->code ? r : nb_fail_errno(p->err, -r, "cannot order the kernel modules");
        NB_AUTO_BUF text = { 0 };
        for (size_t i = 0; first && first[i]; i++) {
                NB_AUTO_FREE char *line = nb_asprintf("%s.ko\n", first[i]);
                nb_buf_add(&text, line, strlen(line));
        }
        for (size_t i = 0; disk && disk[i]; i++) {
                NB_AUTO_FREE char *line = nb_asprintf("?disk %s.ko\n", disk[i]);
                if (!listed(first, disk[i]))
                        nb_buf_add(&text, line, strlen(line));
        }
        NB_AUTO_FREE char *path = nb_path_join(p->dir, "modules.list");
        r = nb_write_file_atomic(path, text.data ? (const char *)nb_buf_bytes(&text) : "", text.len, 0644);
        return r < 0 ? nb_fail_errno(p->err, -r, "cannot write %s", path) : 0;
}

static int make_vmlinux(const char *bzimage, const char *dir, struct nb_error *err) {
        NB_AUTO_FREE char *image = NULL, *to = nb_path_join(dir, "vmlinux");
        NB_AUTO_FREE uint8_t *elf = NULL;
        size_t len = 0, elf_len = 0;
        int r = nb_read_file(bzimage, BZIMAGE_MAX, &image, &len);
        if (r == 0)
                r = bzimage_vmlinux((const uint8_t *)image, len, BZIMAGE_VMLINUX_MAX, &elf, &elf_len);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot take the kernel out of %s", bzimage);
        r = nb_write_file_atomic(to, elf, elf_len, 0644);
        return r < 0 ? nb_fail_errno(err, -r, "cannot write %s", to) : 0;
}

int kernel_make(const char *raw, const char *dir, struct nb_error *err) {
        struct package p = { .err = err, .dir = dir };
        NB_AUTO_FREE char *image = NULL;
        int r = scan(raw, &p, &image);
        if (r < 0)
                (void)nb_fail_errno(err, -r, "the kernel package below %s is not as expected", raw);
        if (r == 0)
                r = make_vmlinux(image, dir, err);
        if (r == 0)
                r = make_modules(&p);
        nb_strv_free(p.paths);
        free(p.builtin);
        return r;
}
