/* Files that must not change while they are relied on: what an inode says about its content, and the mark that keeps a file in
 * place while somebody uses it. Host only. */
#pragma once
#include <sys/stat.h>

/** What an inode says, as text: number, size, time of content, time of inode. The last cannot be set by an ordinary
 *  program, so the same text later means the same content. Devices are left out: some file systems get another number at each
 *  mount. New string. */
char *nb_seal_of(const struct stat *st);
/** The same of an open descriptor. NULL with errno. */
char *nb_seal_fd(int fd);
/** Opens a file or folder and marks it as in use until the descriptor is closed (a shared lock; on a file system without locks
 *  there is no mark). Waits for somebody who is just removing it. Returns -ENOENT if it is not there, or no longer. */
int nb_use_open(const char *path, int *ret_fd);
/** Takes the opposite: opens it so that nobody can begin to use it until the descriptor is closed. -EBUSY while somebody does,
 *  or where that cannot be known. */
int nb_use_claim(const char *path, int *ret_fd);
