/* What the files of the kernel's part share: Debian's package, unpacked. Private to kernel.c and kernel_modules.c. */
#pragma once
#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"

struct kernel_package {
        char *builtin; /* text of modules.builtin */
        char **paths;  /* of all module files */
        char **names;  /* their names, in the same order */
        struct nb_error *err;
        const char *dir; /* where to write */
};

/** Is it in the kernel itself? */
bool kernel_has_builtin(const struct kernel_package *p, const char *name);
/** The file of a module; NULL if the package has none of this name. */
const char *kernel_module_path(const struct kernel_package *p, const char *name);
/** Writes a module out decompressed and without its signature, and tells what it needs. */
int kernel_take_module(const struct kernel_package *p, const char *name, const char *to, char ***ret_needs);

/** Makes dir/modules.erofs: the modules that a box can use, below usr/lib/modules/VERSION, with what modprobe looks them up
 *  in. `runtime` is the finished runtime tree, whose tools are used. */
int kernel_modules_image(struct kernel_package *p, const char *runtime, struct nb_error *err);
