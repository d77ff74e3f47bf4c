/* Calling mkfs.erofs (see erofs.h). */
#include "image/erofs.h"

#include "base/mem.h"
#include "base/proc.h"
#include "image/image.h"

#define EROFS_UUID "6e697862-6f78-4000-8000-726f6f746673"

int erofs_make(const char *runtime, const char *tar, const char *to, const char *const *pack, struct nb_error *err) {
        NB_AUTO_STRV char **argv = image_tool(runtime, "usr/bin/mkfs.erofs");
        static const char *const options[] = { "--quiet", "-T" EROFS_EPOCH, "-U" EROFS_UUID, "--tar=f" };
        for (size_t i = 0; i < NB_ARRAY_LEN(options); i++)
                nb_strv_add(&argv, options[i]);
        for (; *pack; pack++)
                nb_strv_add(&argv, *pack);
        nb_strv_add(&argv, to);
        nb_strv_add(&argv, tar);
        struct proc_spec spec = { .argv = argv, .stdout_fd = -1, .stderr_fd = -1 };
        return proc_run(&spec, NULL, NULL, err);
}
