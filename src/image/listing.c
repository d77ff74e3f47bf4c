/* Listings of tars (see listing.h). */
#include "image/listing.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <nettle/sha2.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/sha256.h"

#define BLOCK (128u * 1024u)

static int hash_entry(struct archive *a, char *block, char ret[NB_SHA256_HEX]) {
        struct sha256_ctx ctx;
        uint8_t digest[SHA256_DIGEST_SIZE];
        sha256_init(&ctx);
        for (ssize_t n; (n = archive_read_data(a, block, BLOCK)) != 0;) {
                if (n < 0)
                        return -EIO;
                sha256_update(&ctx, (size_t)n, (const uint8_t *)block);
        }
        sha256_digest(&ctx, sizeof digest, digest);
        for (size_t i = 0; i < sizeof digest; i++)
                (void)snprintf(ret + 2 * i, 3, "%02x", digest[i]);
        return 0;
}

static int add_entry(struct archive *a, struct archive_entry *e, char *block, struct nb_buf *text) {
        char hex[NB_SHA256_HEX] = "-";
        const char *hard = archive_entry_hardlink(e), *link = archive_entry_symlink(e), *name = archive_entry_pathname(e);
        mode_t type = archive_entry_filetype(e);
        int r = !hard && type == AE_IFREG ? hash_entry(a, block, hex) : 0;
        NB_AUTO_FREE char *line =
            nb_asprintf("%s %04o %lld:%lld %s %s\n",
                        hard               ? "same"
                        : type == AE_IFREG ? "file"
                        : type == AE_IFDIR ? "dir"
                        : type == AE_IFLNK ? "link"
                                           : "special",
                        (unsigned)archive_entry_perm(e), (long long)archive_entry_uid(e), (long long)archive_entry_gid(e),
                        hard   ? hard
                        : link ? link
                               : hex,
                        name ? name : "");
        nb_buf_add(text, line, strlen(line));
        return r;
}

int listing_of_tar(const char *tar, char **ret, struct nb_error *err) {
        struct archive *a = archive_read_new();
        struct archive_entry *e = NULL;
        NB_AUTO_BUF text = { 0 };
        NB_AUTO_FREE char *block = nb_calloc(1, BLOCK);
        archive_read_support_format_tar(a);
        int r = archive_read_open_filename(a, tar, BLOCK), added = 0;
        while (r == ARCHIVE_OK && added == 0 && (r = archive_read_next_header(a, &e)) != ARCHIVE_EOF && r >= ARCHIVE_WARN) {
                added = add_entry(a, e, block, &text);
                r = ARCHIVE_OK;
        }
        int result = r == ARCHIVE_EOF && added == 0 ? 0 : nb_fail(err, EIO, "cannot list %s: %s", tar, archive_error_string(a));
        archive_read_free(a);
        if (result == 0)
                *ret = nb_strndup((const char *)nb_buf_bytes(&text), text.len);
        return result;
}

static size_t line_length(const char *text) {
        return strcspn(text, "\n");
}

char *listing_difference(const char *was, const char *is) {
        while (*was && *is) {
                size_t n = line_length(was);
                if (n != line_length(is) || memcmp(was, is, n) != 0)
                        break;
                was += n + (was[n] == '\n');
                is += n + (is[n] == '\n');
        }
        if (!*was && !*is)
                return NULL;
        return nb_asprintf("was '%.*s', is '%.*s'", (int)line_length(was), was, (int)line_length(is), is);
}
