/* SHA-256 (FIPS 180-4) as lower-case hex, computed by nettle. Host only. */
#pragma once
#include <stddef.h>

#include "error.h"

#define NB_SHA256_HEX 65 /* 64 digits and a NUL */

void nb_sha256(const void *bytes, size_t len, char ret_hex[NB_SHA256_HEX]);
/** Digest of everything from the descriptor's current position to its end. Returns 0 or -errno. */
int nb_sha256_fd(int fd, char ret_hex[NB_SHA256_HEX]);
