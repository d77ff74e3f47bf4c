/* Mounts: what a source and a target may be. Private to src/config. */
#pragma once
#include "config/config.h"

/** The longest part of an absolute path that exists made real, the rest appended. New string. */
char *mount_real_path(const char *path);
/** True if the real path `path` is one of nixbox's own folders, or above or below one; names it in *ret_own (new string). */
bool mount_is_own(const char *path, char **ret_own);
/** Why a target cannot be used, NULL if it can. */
const char *mount_target_problem(const char *target);
/** Checks a mount against the host: the source exists, is a file or folder, is nobody's secret. Sets is_file. */
int mount_check_source(struct config_mount *m, struct nb_error *err);
