/* Which kernel modules must be loaded, in which order. Pure: the names that a module needs are read from its own bytes. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/** The modules a .ko file says it needs ("depends=" in .modinfo), NULL-terminated; empty list: NULL. -EBADMSG if the field
 *  is missing or a name is not one. */
int modules_depends(const void *ko, size_t len, char ***ret);
/** Length of a .ko file without the signature that follows its ELF image; `len` if it has none or it is not well formed.
 *  Debian's packages are checked when they are downloaded and the result is kept by digest; checking an RSA signature again
 *  for each module in each boot costs a tenth of a second under emulation. */
size_t modules_unsigned_length(const void *ko, size_t len);
/** "kernel/fs/erofs/erofs.ko.xz" to "erofs", with '-' as '_'; NULL if it does not name a module. New string. */
char *modules_name(const char *path);

/* What modules_order() asks: 1 and the names needed (may be NULL); 0 if the module is built into the kernel; -errno. */
typedef int (*modules_need_fn)(void *user, const char *name, char ***ret_needs);
/** All of `wanted` and what they need, each after what it needs, without duplicates and without what is built in.
 *  -ELOOP if they need each other. The list is new. */
int modules_order(const char *const *wanted, modules_need_fn need, void *user, char ***ret);
