/* Text from outside made safe to show, and small parsing helpers. Pure functions: buffer in, value out. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NB_TEXT_KEEP_NEWLINE 1u /* newline and tab stay as they are */

/** A copy in which control characters (C0, DEL, C1, also as UTF-8) and invalid UTF-8 are shown as \xNN, so that a
 *  terminal does nothing with them. The caller frees it. */
char *nb_text_clean(const char *text, unsigned flags);
/** The same for bytes that may hold NUL. */
char *nb_text_clean_bytes(const void *bytes, size_t len, unsigned flags);

/** Parses "512M", "8G", "1T", "4096" (bytes; K/M/G/T are powers of 1024). Returns 0, -EINVAL or -ERANGE. */
int nb_parse_size(const char *text, uint64_t *ret_bytes);
/** Whole string as an unsigned decimal no greater than `max`. Returns 0, -EINVAL or -ERANGE. */
int nb_parse_uint(const char *text, uint64_t max, uint64_t *ret);
/** "8.0G", "312M", "17K": for people. The caller frees it. */
char *nb_format_size(uint64_t bytes);
bool nb_starts_with(const char *text, const char *prefix);
/** [a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?: what boxes and volumes are called. */
bool nb_valid_name(const char *name);
/** A box's name: [a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?, so that it is a valid host name and file name. */
bool nb_valid_box_name(const char *name);
