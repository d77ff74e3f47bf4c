/* Where nixbox keeps things: the caller's XDG folders, and the files installed with the program. Host only. */
#pragma once
#include "error.h"

/** Home folder of the caller: $HOME if absolute, else the password database. New string. */
char *nb_home_dir(void);
/** $XDG_RUNTIME_DIR/nixbox, or /tmp/nixbox-UID where there is none or it is not the caller's. New string; not created. */
char *nb_runtime_dir(void);
/** $XDG_STATE_HOME/nixbox, $XDG_DATA_HOME/nixbox, $XDG_CACHE_HOME/nixbox. New strings; not created. */
char *nb_state_dir(void);
char *nb_data_dir(void);
char *nb_cache_dir(void);
/** Makes the folder, mode 0700, and refuses it if it is a symbolic link, belongs to someone else or is open to others. */
int nb_private_dir(const char *path, struct nb_error *err);
/** A file that comes with the program ("nixbox-agent", "profiles/x.yaml", "schema.json"): beside the running binary in a
 *  build tree, else in the installed data folder. New string; it may not exist. */
char *nb_installed_file(const char *name);
/** A helper program that comes with this one: beside the running binary in a build tree, else in the installed folder for such
 *  programs. New string; it may not exist. */
char *nb_installed_program(const char *name);
/** `dir/name`, or `name` when it is absolute. New string. */
char *nb_path_join(const char *dir, const char *name);
/** Absolute path with ".", ".." and double slashes removed by text alone (symbolic links are not looked at). */
char *nb_path_normalize(const char *absolute);
/** True if `path` is `dir` or lies below it (both normalized). */
_Bool nb_path_below(const char *path, const char *dir);
