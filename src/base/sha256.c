/* SHA-256 through nettle (see sha256.h). */
#include "sha256.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdint.h>
#include <unistd.h>

static void finish(struct sha256_ctx *ctx, char *ret_hex) {
        static const char digits[] = "0123456789abcdef";
        uint8_t raw[SHA256_DIGEST_SIZE];
        sha256_digest(ctx, sizeof raw, raw);
        for (size_t i = 0; i < sizeof raw; i++) {
                ret_hex[2 * i] = digits[raw[i] >> 4];
                ret_hex[2 * i + 1] = digits[raw[i] & 15];
        }
        ret_hex[2 * sizeof raw] = 0;
}

void nb_sha256(const void *bytes, size_t len, char ret_hex[NB_SHA256_HEX]) {
        struct sha256_ctx ctx;
        sha256_init(&ctx);
        sha256_update(&ctx, len, bytes);
        finish(&ctx, ret_hex);
}

int nb_sha256_fd(int fd, char ret_hex[NB_SHA256_HEX]) {
        static _Thread_local uint8_t chunk[1 << 16];
        struct sha256_ctx ctx;
        sha256_init(&ctx);
        for (;;) {
                ssize_t n = read(fd, chunk, sizeof chunk);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                sha256_update(&ctx, (size_t)n, chunk);
        }
        finish(&ctx, ret_hex);
        return 0;
}
