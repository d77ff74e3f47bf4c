/* Applies SETUP to the running system: name, clock, entropy, the caller's account, sudo, the commands that power off. */
#pragma once
#include <sys/types.h>

#include "guest/request.h"

/** -ETIME if the processors' timers stand still. On a host that is very busy the kernel may find its calibration of them
 *  wrong and give them up; a microvm has no other timer for each processor, so what sleeps would sleep for ever. Only
 *  another boot helps: the host answers this error with one. */
int system_check_timers(struct nb_error *err);
/** Clock and randomness, which other steps depend on. */
void system_seed(const struct setup *s);
/** Everything else. Fails only where the box would not be the caller's without it. `old_root` holds our own program. */
int system_apply(const struct setup *s, int old_root, struct nb_error *err);
/** Writes a file of /etc over what is there, whatever that is. Returns 0 or -errno. */
int system_write_etc(const char *path, const char *text, mode_t mode);
/** Makes a folder and its missing parents; those in the caller's home belong to the caller. Returns 0 or -errno. */
int system_mkdirs(const char *path, const struct setup *s);
