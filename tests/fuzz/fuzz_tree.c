/* Fuzz target: a layer's tar over a tree that has something to hide, link to and go through, then the tree as a tar. The sums
 * of headers are put right first, or no change of a header would get past libarchive. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "image/tree.h"

#define BYTES_MAX (1024u * 1024u)
#define ENTRIES_MAX 500u
#define BLOCK 512u
#define SUM_AT 148u
#define SUM_LEN 8u
#define MAGIC_AT 257u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *path_of(int fd) {
        return nb_asprintf("/proc/self/fd/%d", fd);
}

static void add(struct tree *t, const char *tar, const struct tree_add *how) {
        NB_AUTO_ERROR err = { 0 };
        if (tree_add_tar(t, tar, how, &err) < 0 && !err.what)
                abort(); /* nothing fails without saying what */
}

static void mend_headers(char *tar, size_t size) {
        for (char *h = tar; size - (size_t)(h - tar) >= BLOCK; h += BLOCK) {
                if (memcmp(h + MAGIC_AT, "ustar", 5) != 0)
                        continue;
                unsigned sum = 0;
                memset(h + SUM_AT, ' ', SUM_LEN);
                for (size_t i = 0; i < BLOCK; i++)
                        sum += (unsigned char)h[i];
                (void)snprintf(h + SUM_AT, SUM_LEN, "%06o", sum);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const struct tree_limits limits = { .bytes = BYTES_MAX, .entries = ENTRIES_MAX };
        static const struct tree_add layer = { .whiteouts = true },
                                     package = { .prefix = "p/q", .strip = 1, .root_owned = true };
        __attribute__((cleanup(tree_freep))) struct tree *t = NULL;
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_CLOSE int in = memfd_create("in", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);
        NB_AUTO_FREE char *tar = path_of(in), *to = path_of(out), *bytes = nb_calloc(size + 1, 1);
        if (size > 0)
                memcpy(bytes, data, size);
        mend_headers(bytes, size);
        if (in < 0 || out < 0 || nb_write_all(in, bytes, size) < 0 || tree_new("/tmp", &limits, &t, &err) < 0)
                return 0;
        (void)tree_add_file(t, "a/b", "text", 4, 0644, &err);
        (void)tree_add_link(t, "l", "/a", &err);
        add(t, tar, &layer);
        add(t, tar, &package);
        if (tree_write(t, to, &err) < 0)
                abort(); /* what was taken can be written */
        return 0;
}
