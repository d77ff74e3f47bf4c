/* Mounts: entries of the host's share, each bound to its target. The share itself is mounted on the initramfs, below the root
 * that everybody sees, so that no path leads to it. */
#pragma once
#include "guest/request.h"

/** Binds an entry to its target; missing folders on the way are made. `old_root` is the initramfs. */
int share_mount(int old_root, const struct setup *setup, const struct mount_request *m, struct nb_error *err);
/** Takes the mount away if nothing uses it, and forgets what is known about its files. -EBUSY names the users. */
int share_unmount(int old_root, const struct mount_request *m, struct nb_error *err);
