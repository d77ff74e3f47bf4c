/* From unpacked Debian packages to the smallest tree that runs QEMU, virtiofsd and the image tools: the programs, the
 * libraries their loader names, QEMU's firmware for a microVM, and the empty folders and files a jail mounts over. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/text.h"
#include "image/folder.h"
#include "image/runtime.h"

#define LIBS "usr/lib/x86_64-linux-gnu"
#define LOADER LIBS "/ld-linux-x86-64.so.2"
#define LOADER_OUTPUT_MAX (256u * 1024u)

static const char *const programs[] = { "usr/bin/qemu-system-x86_64", "usr/libexec/virtiofsd", "usr/bin/mkfs.erofs",
                                        "usr/sbin/mke2fs", "usr/bin/kmod" };
/* What `-M microvm -kernel VMLINUX` reads. */
static const char *const data[] = { "usr/share/qemu/pvh.bin", "usr/share/qemu/linuxboot_dma.bin",
                                    "usr/share/seabios/bios-microvm.bin", "etc/mke2fs.conf" };
static const struct {
        const char *name, *target;
} links[] = { { "bin", "usr/bin" },
              { "sbin", "usr/sbin" },
              { "lib", "usr/lib" },
              { "lib64", "usr/lib64" },
              { "usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" },
              { "usr/sbin/depmod", "../bin/kmod" } };
static const char *const empty_dirs[] = { "boot", "dev", "etc", "proc", "run", "sys", "tmp", "share", "usr/lib64" };
static const char *const empty_files[] = { "boot/vmlinux", "boot/initrd" };

char *runtime_want(const char *name) {
        static const char *const merged[] = { "bin/", "sbin/", "lib/", "lib64/" };
        NB_AUTO_FREE char *path = NULL;
        for (size_t i = 0; i < NB_ARRAY_LEN(merged) && !path; i++)
                if (nb_starts_with(name, merged[i]))
                        path = nb_asprintf("usr/%s", name);
        if (!path)
                path = nb_strdup(name);
        size_t len = strlen(path);
        if (len == 0 || path[len - 1] == '/')
                return NULL;
        for (size_t i = 0; i < NB_ARRAY_LEN(programs); i++)
                if (strcmp(path, programs[i]) == 0)
                        return nb_steal(&path);
        for (size_t i = 0; i < NB_ARRAY_LEN(data); i++)
                if (strcmp(path, data[i]) == 0)
                        return nb_steal(&path);
        bool library = nb_starts_with(path, LIBS "/") && !strchr(path + strlen(LIBS) + 1, '/') && strstr(path, ".so");
        return library || nb_starts_with(path, "kernel/") ? nb_steal(&path) : NULL;
}

char **image_tool(const char *tree, const char *program) {
        char **argv = NULL;
        nb_strv_addf(&argv, "%s/" LOADER, tree);
        nb_strv_add(&argv, "--inhibit-cache");
        nb_strv_add(&argv, "--library-path");
        nb_strv_addf(&argv, "%s/" LIBS, tree);
        nb_strv_addf(&argv, "%s/%s", tree, program);
        return argv;
}

/* Copies the libraries that the loader's listing names: "\tNAME => PATH (0x…)", or the loader itself "\tPATH (0x…)". */
static int copy_libraries(char *listing, const char *raw, const char *tree, struct nb_error *err) {
        char *save = NULL;
        for (char *line = strtok_r(listing, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char *arrow = strstr(line, " => ");
                if (!arrow)
                        continue;
                *arrow = 0;
                const char *name = line + strspn(line, " \t");
                if (strchr(name, '/')) /* the loader, copied anyway */
                        continue;
                NB_AUTO_FREE char *expected = nb_asprintf("%s/" LIBS "/%s", raw, name);
                if (!nb_starts_with(arrow + 4, expected))
                        return nb_fail(err, ENOENT, "the runtime lacks the library %s", name);
                NB_AUTO_FREE char *to = nb_asprintf("%s/" LIBS "/%s", tree, name);
                if (access(to, F_OK) == 0)
                        continue;
                int r = folder_copy(expected, to, 0644, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_program(const char *program, const char *raw, const char *tree, struct nb_error *err) {
        NB_AUTO_FREE char *from = nb_path_join(raw, program), *to = nb_path_join(tree, program), *listing = NULL;
        int r = folder_copy(from, to, 0755, err);
        if (r < 0)
                return r;
        NB_AUTO_STRV char **argv = NULL;
        nb_strv_addf(&argv, "%s/" LOADER, raw);
        nb_strv_add(&argv, "--inhibit-cache");
        nb_strv_add(&argv, "--library-path");
        nb_strv_addf(&argv, "%s/" LIBS, raw);
        nb_strv_add(&argv, "--list");
        nb_strv_add(&argv, from);
        struct proc_spec spec = { .argv = argv, .output_max = LOADER_OUTPUT_MAX, .stdout_fd = -1, .stderr_fd = -1 };
        r = proc_run(&spec, &listing, NULL, err);
        return r < 0 ? r : copy_libraries(listing, raw, tree, err);
}

static int add_mountpoints(const char *tree, struct nb_error *err) {
        for (size_t i = 0; i < NB_ARRAY_LEN(empty_dirs); i++) {
                NB_AUTO_FREE char *path = nb_path_join(tree, empty_dirs[i]);
                int r = nb_mkdirs(path, 0755);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot make %s", path);
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(empty_files); i++) {
                NB_AUTO_FREE char *path = nb_path_join(tree, empty_files[i]);
                int r = nb_write_file_atomic(path, "", 0, 0644);
                if (r < 0)
                        return nb_fail_errno(err, -r, "cannot make %s", path);
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(links); i++) {
                NB_AUTO_FREE char *path = nb_path_join(tree, links[i].name);
                if (symlink(links[i].target, path) < 0)
                        return nb_fail_errno(err, errno, "cannot make the link %s", path);
        }
        return 0;
}

int runtime_prune(const char *raw, const char *tree, struct nb_error *err) {
        NB_AUTO_FREE char *loader_from = nb_path_join(raw, LOADER), *loader_to = nb_path_join(tree, LOADER);
        int r = folder_copy(loader_from, loader_to, 0755, err);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(programs); i++)
                r = add_program(programs[i], raw, tree, err);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(data); i++) {
                NB_AUTO_FREE char *from = nb_path_join(raw, data[i]), *to = nb_path_join(tree, data[i]);
                r = folder_copy(from, to, 0644, err);
        }
        return r < 0 ? r : add_mountpoints(tree, err);
}
