/* From the initramfs to a root file system: the kernel's file systems, modules, devices, overlay, switching root. Runs once,
 * before any session; may wait for a device, nothing else may. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

/** Mounts /proc, /sys and /dev, gives us a console and loads the modules. Failures are left to those who miss something. */
void boot_kernel(void);
/** Opens the port the host is at, waiting until the kernel has found it. */
int boot_open_port(int *ret_fd, struct nb_error *err);
/** Mounts the image with something writable above it and makes it the root. `*ret_old_root` is the initramfs. */
int boot_root(bool disk, bool keep, int *ret_old_root, struct nb_error *err);
/** Gives back the memory of what the initramfs held. */
void boot_forget_initramfs(int old_root);
