/* What the probes of mounts share. */
#pragma once
#include "attack/guest/guest.h"

/** The same file by way of the folder that all shared folders are in, where the guest has set no flag. New string; the path
 * itself where there is no such way. */
char *raw_of(const char *path);
/** Mounts the shared file system once more, on `place`, in such a way that this is the folder at `target`. */
bool is_mounted_again(const char *target, const char *place);
/** `folder`/.NAME-OF-THE-RUN.suffix, the only names that are ever made in an owner's folder. New string. */
char *own_name(const char *folder, const char *suffix);
/** A new folder of our own with a file "file" in it that has some bytes. New string; NULL if it cannot be made. */
char *own_folder(const char *suffix);
/** open, close: 0, or -1 with errno. */
long open_with(const char *path, int flags);
