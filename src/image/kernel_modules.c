/* The modules that a guest loads when it wants them, as a read-only image of its own beside the kernel: what containers,
 * bridges, firewalls, tunnels and file systems need. It is the second layer under the guest's root (the guest's own image
 * lies above it), so modprobe finds it where it always looks, and no guest image has to know the kernel.
 * Left out is what drives hardware or other hypervisors' devices: a box has virtio alone. That is half of the bytes. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fts.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/text.h"
#include "image/erofs.h"
#include "image/folder.h"
#include "image/image.h"
#include "image/kernel_impl.h"
#include "image/modules.h"

#define MODULES_DIR "lib/modules/"
#define FILE_MAX (64u * 1024u * 1024u)

/* Below VERSION/kernel/. The longest beginning that fits decides; what fits none is left out, unless something that is taken
 * needs it. */
static const struct {
        const char *prefix;
        bool take;
} choice[] = {
        { "arch/x86/crypto/", true },
        { "block/", true },
        { "crypto/", true },
        { "drivers/block/", true },
        { "drivers/block/xen", false },
        { "drivers/md/", true },
        { "drivers/net/", true },
        { "drivers/net/ethernet/", false },
        { "drivers/net/hyperv/", false },
        { "drivers/net/mhi", false },
        { "drivers/net/vmxnet3/", false },
        { "drivers/net/wwan/", false },
        { "drivers/net/xen", false },
        { "drivers/virtio/", true },
        { "drivers/virtio/virtio_vdpa", false },
        { "fs/", true },
        { "lib/", true },
        { "mm/", true },
        { "net/", true },
        { "net/rds/", false },                              /* RDMA */
        { "net/smc/", false },                              /* RDMA */
        { "net/sunrpc/xprtrdma/", false },                  /* RDMA */
        { "net/vmw_vsock/hv_", false },                     /* Hyper-V */
        { "net/vmw_vsock/vmw_vsock_vmci_transport", false } /* VMware */
};
/* What depmod reads besides the modules. */
static const char *const lists[] = { "modules.builtin", "modules.builtin.modinfo", "modules.order" };

struct modules_image {
        struct kernel_package *package;
        const char *version; /* with its length: part of a path */
        size_t version_len;
        char *root; /* folder with usr/lib/modules/VERSION */
};

/* "…/lib/modules/VERSION/REST": REST, and where VERSION is. NULL for another path. */
static const char *split(const char *path, const char **ret_version, size_t *ret_len) {
        const char *version = strstr(path, "/" MODULES_DIR);
        if (!version)
                return NULL;
        version += strlen("/" MODULES_DIR);
        size_t len = strcspn(version, "/");
        *ret_version = version;
        *ret_len = len;
        return version[len] ? version + len + 1 : NULL;
}

static bool chosen(const char *path) {
        const char *version = NULL;
        size_t len = 0, best = 0;
        const char *rest = split(path, &version, &len);
        if (!rest || !nb_starts_with(rest, "kernel/"))
                return false;
        rest += strlen("kernel/");
        bool take = false;
        for (size_t i = 0; i < NB_ARRAY_LEN(choice); i++)
                if (strlen(choice[i].prefix) > best && nb_starts_with(rest, choice[i].prefix)) {
                        best = strlen(choice[i].prefix);
                        take = choice[i].take;
                }
        return take;
}

static char *place_of(const struct modules_image *m, const char *rest) {
        return nb_asprintf("%s/usr/" MODULES_DIR "%.*s/%s", m->root, (int)m->version_len, m->version, rest);
}

/* modules_need_fn: puts the module into the folder. */
static int put_module(void *user, const char *name, char ***ret_needs) {
        struct modules_image *m = user;
        const char *path = kernel_module_path(m->package, name), *version = NULL;
        size_t len = 0;
        if (!path && kernel_has_builtin(m->package, name))
                return 0;
        const char *rest = path ? split(path, &version, &len) : NULL;
        if (!rest)
                return nb_fail(m->package->err, ENOENT, "the kernel package has no module %s", name);
        NB_AUTO_FREE char *full = place_of(m, rest);
        *(strstr(full + strlen(full) - strlen(rest), ".ko") + strlen(".ko")) = 0; /* it is not compressed any more */
        NB_AUTO_FREE char *folder = nb_strndup(full, (size_t)(strrchr(full, '/') - full));
        int r = nb_mkdirs(folder, 0755);
        if (r < 0)
                return nb_fail_errno(m->package->err, -r, "cannot make %s", folder);
        r = kernel_take_module(m->package, name, full, ret_needs);
        return r < 0 ? r : 1;
}

static int put_modules(struct modules_image *m) {
        struct kernel_package *p = m->package;
        NB_AUTO_STRV char **wanted = nb_calloc(1, sizeof *wanted), **order = NULL;
        for (size_t i = 0; p->paths && p->paths[i]; i++)
                if (chosen(p->paths[i]))
                        nb_strv_add(&wanted, p->names[i]);
        int r = modules_order((const char *const *)wanted, put_module, m, &order);
        if (r < 0)
                return p->err->code ? r : nb_fail_errno(p->err, -r, "cannot order the kernel modules");
        return 0;
}

static int put_lists(const struct modules_image *m, const char *from) {
        for (size_t i = 0; i < NB_ARRAY_LEN(lists); i++) {
                NB_AUTO_FREE char *source = nb_asprintf("%.*s/%s", (int)(m->version + m->version_len - from), from, lists[i]);
                NB_AUTO_FREE char *to = place_of(m, lists[i]);
                int r = folder_copy(source, to, 0644, m->package->err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int run_depmod(const struct modules_image *m, const char *runtime) {
        NB_AUTO_STRV char **argv = image_tool(runtime, "usr/sbin/depmod");
        /* its configuration would be the host's */
        static const char *const options[] = { "-C", "/dev/null", "-m", "/usr/lib/modules", "-b" };
        for (size_t i = 0; i < NB_ARRAY_LEN(options); i++)
                nb_strv_add(&argv, options[i]);
        nb_strv_add(&argv, m->root);
        nb_strv_addf(&argv, "%.*s", (int)m->version_len, m->version);
        struct proc_spec spec = { .argv = argv, .stdout_fd = -1, .stderr_fd = -1 };
        return proc_run(&spec, NULL, NULL, m->package->err);
}

static int write_entry(struct archive *a, const FTSENT *e, const char *name, struct nb_error *err) {
        NB_AUTO_FREE char *bytes = NULL;
        size_t len = 0;
        int r = e->fts_info == FTS_F ? nb_read_file(e->fts_path, FILE_MAX, &bytes, &len) : 0;
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot read %s", e->fts_path);
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, name);
        archive_entry_set_mode(entry, e->fts_info == FTS_F ? S_IFREG | 0644 : S_IFDIR | 0755);
        archive_entry_set_size(entry, (la_int64_t)len);
        archive_entry_set_mtime(entry, 0, 0);
        bool ok =
            archive_write_header(a, entry) == ARCHIVE_OK && (len == 0 || archive_write_data(a, bytes, len) == (la_ssize_t)len);
        archive_entry_free(entry);
        return ok ? 0 : nb_fail(err, EIO, "cannot archive %s: %s", name, archive_error_string(a));
}

static int by_name(const FTSENT **a, const FTSENT **b) {
        return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* Sorted, all root's, with one time: the same files give the same tar. */
static int write_tar(const char *root, struct archive *a, struct nb_error *err) {
        char *const roots[] = { (char *)root, NULL };
        FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
        int r = fts ? 0 : nb_fail_errno(err, errno, "cannot read %s", root);
        for (FTSENT *e; r == 0 && (e = fts_read(fts));) {
                const char *name = e->fts_path + strlen(root) + (e->fts_level > 0);
                if (e->fts_level > 0 && (e->fts_info == FTS_F || e->fts_info == FTS_D))
                        r = write_entry(a, e, name, err);
                else if (e->fts_info != FTS_DP && e->fts_info != FTS_D)
                        r = nb_fail(err, EIO, "cannot read %s", e->fts_path);
        }
        if (fts)
                (void)fts_close(fts);
        return r;
}

static int make_tar(const char *root, const char *to, struct nb_error *err) {
        struct archive *a = archive_write_new();
        int r = 0;
        if (archive_write_set_format_ustar(a) != ARCHIVE_OK || archive_write_open_filename(a, to) != ARCHIVE_OK)
                r = nb_fail(err, EIO, "cannot write %s: %s", to, archive_error_string(a));
        if (r == 0)
                r = write_tar(root, a, err);
        if (archive_write_close(a) != ARCHIVE_OK && r == 0)
                r = nb_fail(err, EIO, "cannot write %s: %s", to, archive_error_string(a));
        archive_write_free(a);
        return r;
}

int kernel_modules_image(struct kernel_package *p, const char *runtime, struct nb_error *err) {
        /* zstd: read seldom, and a quarter smaller than what the guest's own image is packed with */
        static const char *const pack[] = { "-zzstd", "-C65536", NULL };
        NB_AUTO_FREE char *root = nb_asprintf("%s.root", p->dir), *tar = nb_asprintf("%s.tar", p->dir);
        NB_AUTO_FREE char *to = nb_path_join(p->dir, "modules.erofs");
        struct modules_image m = { .package = p, .root = root };
        const char *first = p->paths ? p->paths[0] : NULL;
        if (!first || !split(first, &m.version, &m.version_len))
                return nb_fail(err, ENOENT, "the kernel package has no modules");
        int r = put_modules(&m);
        if (r == 0)
                r = put_lists(&m, first);
        if (r == 0)
                r = run_depmod(&m, runtime);
        if (r == 0)
                r = make_tar(root, tar, err);
        return r < 0 ? r : erofs_make(runtime, tar, to, pack, err);
}
