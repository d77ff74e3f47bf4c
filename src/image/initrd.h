/* The initramfs: the guest agent as /init, the modules with their list, and the folders and device node the kernel wants
 * before anything is mounted. Made again at once when the agent or the kernel changes. */
#pragma once
#include "base/error.h"
#include "image/store.h"

/** Finds or makes the initramfs for a kernel folder and the agent that comes with this program. New path and digest. */
int initrd_ensure(const struct store *s, const char *kernel, char **ret, char **ret_digest, struct nb_error *err);
/** The kind of the record of its digest; the key is its file name. */
#define INITRD_RECORD "made"
/** Its file name; with `agent` NULL for the agent that comes with this program. NULL if the agent cannot be read. */
char *initrd_name(const char *kernel, const char *agent);
/** Writes it: a newc archive without times or owners, so that the same input gives the same bytes. */
int initrd_write(const char *kernel, const char *agent, const char *to, struct nb_error *err);
