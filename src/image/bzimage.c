/* bzImage to vmlinux (see bzimage.h). The layout is that of the kernel's Documentation/arch/x86/boot.rst: a setup header at
 * 0x1f1 whose payload_offset counts from the start of the protected-mode code, which follows the setup sectors. */
#include "image/bzimage.h"

#include <errno.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"

enum {
        SECTOR = 512,
        AT_SETUP_SECTS = 0x1f1,
        AT_BOOT_FLAG = 0x1fe,
        AT_HEADER = 0x202,
        AT_VERSION = 0x206,
        AT_PAYLOAD_OFFSET = 0x248,
        AT_PAYLOAD_LENGTH = 0x24c,
        HEADER_END = 0x250,
        VERSION_PAYLOAD = 0x0208, /* first protocol version with the payload fields */
        SETUP_SECTS_DEFAULT = 4,
        ELF_CLASS = 4,
        ELF_CLASS_64 = 2,
        ELF_HEADER = 64,
        SIZE_TRAILER = 4, /* the build appends the decompressed size after the compressed bytes */
};

static uint32_t le32(const uint8_t *p) {
        return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int bzimage_payload(const uint8_t *image, size_t len, size_t *ret_offset, size_t *ret_len) {
        if (len < HEADER_END || image[AT_BOOT_FLAG] != 0x55 || image[AT_BOOT_FLAG + 1] != 0xaa ||
            memcmp(image + AT_HEADER, "HdrS", 4) != 0)
                return -EBADMSG;
        if ((image[AT_VERSION] | image[AT_VERSION + 1] << 8) < VERSION_PAYLOAD)
                return -EBADMSG;
        size_t sectors = image[AT_SETUP_SECTS] ? image[AT_SETUP_SECTS] : SETUP_SECTS_DEFAULT;
        size_t offset = (sectors + 1) * SECTOR + (size_t)le32(image + AT_PAYLOAD_OFFSET);
        size_t size = le32(image + AT_PAYLOAD_LENGTH);
        if (size == 0 || offset > len || size > len - offset)
                return -EBADMSG;
        *ret_offset = offset;
        *ret_len = size;
        return 0;
}

static int unzstd(const uint8_t *in, size_t len, size_t max, uint8_t **ret, size_t *ret_len) {
        size_t frame = ZSTD_findFrameCompressedSize(in, len);
        if (ZSTD_isError(frame))
                return -EBADMSG;
        unsigned long long size = ZSTD_getFrameContentSize(in, frame);
        /* A kernel build streams, so the frame does not tell its size; the four bytes after it do. */
        if (size == ZSTD_CONTENTSIZE_UNKNOWN && len - frame >= SIZE_TRAILER)
                size = le32(in + len - SIZE_TRAILER);
        if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size == 0)
                return -EBADMSG;
        if (size > max)
                return -EFBIG;
        NB_AUTO_FREE uint8_t *out = nb_calloc(1, (size_t)size);
        size_t n = ZSTD_decompress(out, (size_t)size, in, frame);
        if (ZSTD_isError(n) || n != size)
                return -EBADMSG;
        *ret = nb_steal(&out);
        *ret_len = n;
        return 0;
}

int bzimage_vmlinux(const uint8_t *image, size_t len, size_t max, uint8_t **ret, size_t *ret_len) {
        static const uint8_t zstd_magic[] = { 0x28, 0xb5, 0x2f, 0xfd };
        size_t offset = 0, size = 0, n = 0;
        int r = bzimage_payload(image, len, &offset, &size);
        if (r < 0)
                return r;
        if (size < sizeof zstd_magic || memcmp(image + offset, zstd_magic, sizeof zstd_magic) != 0)
                return -ENOTSUP;
        NB_AUTO_FREE uint8_t *out = NULL;
        r = unzstd(image + offset, size, max, &out, &n);
        if (r < 0)
                return r;
        if (n < ELF_HEADER || memcmp(out, "\177ELF", 4) != 0 || out[ELF_CLASS] != ELF_CLASS_64)
                return -ENOEXEC;
        *ret = nb_steal(&out);
        *ret_len = n;
        return 0;
}
