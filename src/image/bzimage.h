/* The ELF kernel inside a bzImage. Pure: bytes in, bytes out. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define BZIMAGE_VMLINUX_MAX (256u * 1024u * 1024u)

/** Where the compressed kernel lies in a bzImage. Returns 0, or -EBADMSG if this is not a bzImage or it is cut short. */
int bzimage_payload(const uint8_t *image, size_t len, size_t *ret_offset, size_t *ret_len);
/** Decompresses it (zstd) to new memory of at most `max` bytes. -EBADMSG: damaged; -ENOTSUP: another compression;
 *  -EFBIG: larger than `max`; or the result is not a 64-bit ELF file: -ENOEXEC. */
int bzimage_vmlinux(const uint8_t *image, size_t len, size_t max, uint8_t **ret, size_t *ret_len);
