/* From Debian's kernel package to what a box boots: the ELF kernel out of the bzImage, and the few modules the guest loads
 * before it has a root file system, decompressed, with modules.list in the order to load them. A line "?disk NAME.ko" or
 * "?net NAME.ko" is loaded only where a scratch disk or a network device is attached. Which modules are built in differs
 * between kernels, so nothing is assumed. The modules for later are in kernel_modules.c. */
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
#include "image/kernel_impl.h"
#include "image/modules.h"
#include "image/runtime.h"

#define BZIMAGE_MAX (64u * 1024u * 1024u)
#define MODULE_MAX (32u * 1024u * 1024u)
#define BUILTIN_MAX (1024u * 1024u)

static const char *const always[] = { "virtio_mmio", "virtio_blk", "virtio_balloon", "virtio_console",
                                      "erofs",       "overlay",    "virtiofs",       NULL };
static const char *const with_disk[] = { "ext4", NULL };
static const char *const with_net[] = { "virtio_net", NULL };

/* Fills in the kernel image's path, the module files and the list of what is built in. */
static int scan(const char *raw, struct kernel_package *p, char **ret_image) {
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
                NB_AUTO_FREE char *name = modules_name(e->fts_name);
                if (name) {
                        nb_strv_add(&p->paths, e->fts_path);
                        nb_strv_add(&p->names, name);
                }
        }
        (void)fts_close(fts);
        return *ret_image && p->builtin ? 0 : -ENOENT;
}

bool kernel_has_builtin(const struct kernel_package *p, const char *name) {
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

const char *kernel_module_path(const struct kernel_package *p, const char *name) {
        for (size_t i = 0; p->names && p->names[i]; i++)
                if (strcmp(p->names[i], name) == 0)
                        return p->paths[i];
        return NULL;
}

int kernel_take_module(const struct kernel_package *p, const char *name, const char *to, char ***ret_needs) {
        const char *path = kernel_module_path(p, name);
        if (!path)
                return nb_fail(p->err, ENOENT, "the kernel package has no module %s", name);
        NB_AUTO_BUF ko = { 0 };
        int r = read_module(path, &ko);
        if (r == 0)
                r = modules_depends(nb_buf_bytes(&ko), ko.len, ret_needs);
        if (r == 0)
                r = nb_write_file_atomic(to, nb_buf_bytes(&ko), modules_unsigned_length(nb_buf_bytes(&ko), ko.len), 0644);
        return r < 0 ? nb_fail_errno(p->err, -r, "cannot unpack the kernel module %s", name) : 0;
}

/* modules_need_fn: writes a module out that is needed before there is a root file system. */
static int take_module(void *user, const char *name, char ***ret_needs) {
        struct kernel_package *p = user;
        if (kernel_has_builtin(p, name))
                return 0;
        NB_AUTO_FREE char *to = nb_asprintf("%s/%s.ko", p->dir, name);
        int r = kernel_take_module(p, name, to, ret_needs);
        return r < 0 ? r : 1;
}

static bool listed(char *const *list, const char *name) {
        for (size_t i = 0; list && list[i]; i++)
                if (strcmp(list[i], name) == 0)
                        return true;
        return false;
}

/* Adds what `wanted` takes and `before` does not hold yet to the list, each line after `mark`; *ret_order is what it took. */
static int add_modules(struct kernel_package *p, struct nb_buf *text, const char *mark, const char *const *wanted,
                       char *const *before, char ***ret_order) {
        int r = modules_order(wanted, take_module, p, ret_order);
        if (r < 0)
                return p->err->code ? r : nb_fail_errno(p->err, -r, "cannot order the kernel modules");
        for (char **name = *ret_order; name && *name; name++) {
                NB_AUTO_FREE char *line = nb_asprintf("%s%s.ko\n", mark, *name);
                if (!listed(before, *name))
                        nb_buf_add(text, line, strlen(line));
        }
        return 0;
}

static int make_modules(struct kernel_package *p) {
        NB_AUTO_STRV char **first = NULL, **disk = NULL, **net = NULL;
        NB_AUTO_BUF text = { 0 };
        int r = add_modules(p, &text, "", always, NULL, &first);
        if (r == 0)
                r = add_modules(p, &text, "?disk ", with_disk, first, &disk);
        if (r == 0)
                r = add_modules(p, &text, "?net ", with_net, first, &net);
        if (r < 0)
                return r;
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

int kernel_make(const char *raw, const char *runtime, const char *dir, struct nb_error *err) {
        struct kernel_package p = { .err = err, .dir = dir };
        NB_AUTO_FREE char *image = NULL;
        int r = scan(raw, &p, &image);
        if (r < 0)
                (void)nb_fail_errno(err, -r, "the kernel package below %s is not as expected", raw);
        if (r == 0)
                r = make_vmlinux(image, dir, err);
        if (r == 0)
                r = make_modules(&p);
        if (r == 0)
                r = kernel_modules_image(&p, runtime, err);
        nb_strv_free(p.paths);
        nb_strv_free(p.names);
        free(p.builtin);
        return r;
}
