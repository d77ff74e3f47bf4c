/* Unit tests of the tree in memory: tars with hostile names, links, owners and whiteouts, folders, and the tar it is written
 * as. Tars are made here byte by byte, since no tar program would make most of them. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "image/tree.h"
#include "scratch.h"

#define BLOCK 512u
#define BYTES_MAX (1024u * 1024u)
#define ENTRIES_MAX 400u
#define LISTING_MAX 65536u

/* Types as a tar's header has them. */
enum { FILE_ = '0', HARD = '1', LINK = '2', CHAR = '3', BLOCK_DEVICE = '4', FOLDER = '5', FIFO = '6' };

struct member {
        const char *name;
        char type;
        const char *text; /* content, or what a link points to */
        unsigned mode, uid;
};

static void put_octal(char *field, int digits, size_t value) {
        char text[32];
        (void)snprintf(text, sizeof text, "%0*zo", digits, value);
        assert_int_equal(strlen(text), digits);
        memcpy(field, text, (size_t)digits + 1);
}

static void add_header(struct nb_buf *tar, const struct member *m, size_t size) {
        char h[BLOCK] = { 0 };
        size_t name_len = strlen(m->name);
        assert_true(name_len <= 100);
        memcpy(h, m->name, name_len);
        put_octal(h + 100, 7, m->mode ? m->mode : m->type == FOLDER ? 0755u : 0644u);
        put_octal(h + 108, 7, m->uid);
        put_octal(h + 116, 7, 0);
        put_octal(h + 124, 11, size);
        put_octal(h + 136, 11, 7);
        h[156] = m->type;
        if (m->type == HARD || m->type == LINK) {
                assert_true(strlen(m->text) <= 100);
                memcpy(h + 157, m->text, strlen(m->text));
        }
        memcpy(h + 257, "ustar\00000", 8); /* NOLINT(bugprone-not-null-terminated-result): as tar has it */
        memset(h + 148, ' ', 8);
        unsigned sum = 0;
        for (size_t i = 0; i < BLOCK; i++)
                sum += (unsigned char)h[i];
        put_octal(h + 148, 6, sum);
        nb_buf_add(tar, h, sizeof h);
}

static void add_member(struct nb_buf *tar, const struct member *m) {
        static const char zeros[BLOCK];
        size_t size = m->type == FILE_ || m->type == 'x' ? strlen(m->text) : 0;
        add_header(tar, m, size);
        if (size > 0) {
                nb_buf_add(tar, m->text, size);
                nb_buf_add(tar, zeros, (BLOCK - size % BLOCK) % BLOCK);
        }
}

static void end_tar(struct nb_buf *tar, const char *path) {
        static const char zeros[2 * BLOCK];
        nb_buf_add(tar, zeros, sizeof zeros);
        assert_int_equal(nb_write_file_atomic(path, nb_buf_bytes(tar), tar->len, 0600), 0);
}

static void make_tar(const char *path, const struct member *members, size_t n) {
        NB_AUTO_BUF tar = { 0 };
        for (size_t i = 0; i < n; i++)
                add_member(&tar, &members[i]);
        end_tar(&tar, path);
}

static struct tree *tree(void) {
        static const struct tree_limits limits = { .bytes = BYTES_MAX, .entries = ENTRIES_MAX };
        struct tree *t = NULL;
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(tree_new(".", &limits, &t, &err), 0);
        return t;
}

static const struct tree_add layer = { .whiteouts = true };

static int add(struct tree *t, const struct tree_add *how, const struct member *members, size_t n, struct nb_error *err) {
        make_tar("in.tar", members, n);
        return tree_add_tar(t, "in.tar", how, err);
}
#define ADD(t, how, ...)                                           \
        do {                                                       \
                const struct member m_[] = { __VA_ARGS__ };        \
                NB_AUTO_ERROR err_ = { 0 };                        \
                int r_ = add(t, how, m_, NB_ARRAY_LEN(m_), &err_); \
                if (r_ < 0)                                        \
                        fail_msg("%s", err_.what);                 \
        } while (0)
/* On a tree of its own that has "safe" already. */
#define REFUSED(code, how, ...)                                                       \
        do {                                                                          \
                const struct member m_[] = { __VA_ARGS__ };                           \
                __attribute__((cleanup(tree_freep))) struct tree *t_ = tree();        \
                NB_AUTO_ERROR err_ = { 0 };                                           \
                assert_int_equal(add(t_, how, m_, NB_ARRAY_LEN(m_), &err_), -(code)); \
                assert_non_null(err_.what);                                           \
        } while (0)

static void list_entry(struct nb_buf *out, struct archive *a, struct archive_entry *e) {
        NB_AUTO_FREE char *head = NULL, *tail = NULL;
        char text[256] = "";
        const char *hard = archive_entry_hardlink(e), *target = archive_entry_symlink(e);
        if (hard || target)
                tail = nb_asprintf(" %s %s", hard ? "==" : "->", hard ? hard : target);
        else if (archive_entry_filetype(e) == AE_IFREG && archive_read_data(a, text, sizeof text - 1) >= 0)
                tail = nb_asprintf(" %s", text);
        head = nb_asprintf("%o %d %s%s\n", (unsigned)archive_entry_perm(e), (int)archive_entry_uid(e),
                           archive_entry_pathname(e), tail ? tail : "");
        nb_buf_add(out, head, strlen(head));
        assert_int_equal(archive_entry_mtime(e), 1735689600);
}

/* What the written tar holds, a line for each entry. */
static char *listing(const struct tree *t) {
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_BUF out = { 0 };
        assert_int_equal(tree_write(t, "out.tar", &err), 0);
        struct archive *a = archive_read_new();
        struct archive_entry *e;
        archive_read_support_format_tar(a);
        assert_int_equal(archive_read_open_filename(a, "out.tar", BLOCK), ARCHIVE_OK);
        while (archive_read_next_header(a, &e) == ARCHIVE_OK)
                list_entry(&out, a, e);
        archive_read_free(a);
        return nb_strndup((const char *)nb_buf_bytes(&out), out.len);
}

static void holds(const struct tree *t, const char *expected) {
        NB_AUTO_FREE char *is = listing(t);
        assert_string_equal(is, expected);
}

/* ------------------------------------------------------------------------------------------------------------ entries */
static void test_sorted(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree(), *u = tree();
        ADD(t, &layer, { "b", FILE_, "x" }, { "a/", FOLDER }, { "a/z", LINK, "/etc/passwd" }, { "a/y", FIFO, "", 0600, 7 });
        ADD(u, &layer, { "a/y", FIFO, "", 0600, 7 }, { "./a/", FOLDER }, { "/b", FILE_, "x" }, { "a/z", LINK, "/etc/passwd" });
        static const char expected[] = "755 0 ./\n755 0 a/\n600 7 a/y\n777 0 a/z -> /etc/passwd\n644 0 b x\n";
        holds(t, expected);
        NB_AUTO_FREE char *first = NULL, *second = NULL;
        size_t n = 0, m = 0;
        assert_int_equal(nb_read_file("out.tar", LISTING_MAX, &first, &n), 0);
        holds(u, expected);
        assert_int_equal(nb_read_file("out.tar", LISTING_MAX, &second, &m), 0);
        assert_int_equal(n, m);
        assert_memory_equal(first, second, n);
}

static void test_names(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        ADD(t, &layer, { "./a//./b/../c", FILE_, "1" }, { "/../../d", FILE_, "2" }, { "./", FOLDER, "", 0700, 5 });
        holds(t, "700 5 ./\n755 0 a/\n644 0 a/c 1\n644 0 d 2\n");
        REFUSED(EBADMSG, &layer, { "../evil", FILE_, "x" });
        REFUSED(EBADMSG, &layer, { "a/../../evil", FILE_, "x" });
        REFUSED(EBADMSG, &layer, { "..", FOLDER });
        REFUSED(EBADMSG, &layer, { ".", FILE_, "x" });
        REFUSED(EBADMSG, &layer, { "/", LINK, "x" });
        REFUSED(ENOTDIR, &layer, { "a", FILE_, "x" }, { "a/b", FILE_, "x" });
        REFUSED(EBADMSG, &layer, { "a", FILE_, "x", 0644, 07777777 }, { "b", LINK, "" });
}

/* A name of `parts` parts of `len` bytes each, as a pax header says it. */
static void add_long_name(struct nb_buf *tar, size_t parts, size_t len) {
        NB_AUTO_BUF name = { 0 };
        for (size_t i = 0; i < parts; i++) {
                for (size_t j = 0; j < len; j++)
                        nb_buf_add(&name, "n", 1);
                nb_buf_add(&name, "/", 1);
        }
        NB_AUTO_FREE char *path = nb_strndup((const char *)nb_buf_bytes(&name), name.len - 1);
        size_t size = strlen(path) + strlen(" path=\n"), digits = 2 + (size + 2 > 99) + (size + 3 > 999);
        NB_AUTO_FREE char *record = nb_asprintf("%zu path=%s\n", size + digits, path);
        add_member(tar, &(struct member){ "pax", 'x', record });
        add_member(tar, &(struct member){ "short", FILE_, "x" });
}

static int add_long(size_t parts, size_t len) {
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        NB_AUTO_BUF tar = { 0 };
        NB_AUTO_ERROR err = { 0 };
        add_long_name(&tar, parts, len);
        end_tar(&tar, "long.tar");
        int r = tree_add_tar(t, "long.tar", &layer, &err);
        NB_AUTO_FREE char *bytes = NULL;
        assert_int_equal(tree_read(t, "short", 10, &bytes, NULL), -ENOENT); /* the long name was understood */
        return r;
}

static void test_long_names(void **state) {
        (void)state;
        assert_int_equal(add_long(1, 255), 0);
        assert_int_equal(add_long(1, 256), -ENAMETOOLONG);
        assert_int_equal(add_long(15, 255), 0);
        assert_int_equal(add_long(17, 255), -ENAMETOOLONG);
        assert_int_equal(add_long(150, 1), 0);
        assert_int_equal(add_long(257, 1), -ENAMETOOLONG);
}

static void test_bytes_of_names(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        /* composed, decomposed, and no UTF-8 at all: names are bytes */
        ADD(t, &layer, { "\303\244", FILE_, "1" }, { "a\314\210", FILE_, "2" }, { "\377", FILE_, "3" });
        NB_AUTO_FREE char *bytes = NULL;
        assert_int_equal(tree_read(t, "\377", 10, &bytes, NULL), 0);
        holds(t, "755 0 ./\n644 0 a\314\210 2\n644 0 \303\244 1\n644 0 \377 3\n");
}

static void test_links_inside(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        /* what goes through a link lands inside the tree, wherever the link says it points */
        ADD(t, &layer, { "up", LINK, "../../../../tmp" }, { "up/one", FILE_, "1" }, { "abs", LINK, "/srv" },
            { "abs/two", FILE_, "2" }, { "abs", LINK, "/other" });
        holds(t, "755 0 ./\n777 0 abs -> /other\n755 0 srv/\n644 0 srv/two 2\n755 0 tmp/\n644 0 tmp/one 1\n"
                 "777 0 up -> ../../../../tmp\n");
        REFUSED(ELOOP, &layer, { "a", LINK, "b" }, { "b", LINK, "a" }, { "a/x", FILE_, "x" });
        REFUSED(ELOOP, &layer, { "a", LINK, "a/a/a/a" }, { "a/x", FILE_, "x" });
        __attribute__((cleanup(tree_freep))) struct tree *u = tree();
        ADD(u, &layer, { "d", LINK, "e" }, { "d/", FOLDER }, { "d/x", FILE_, "x" }); /* the last part is never followed */
        holds(u, "755 0 ./\n755 0 d/\n644 0 d/x x\n");
}

static void test_hard_links(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        ADD(t, &layer, { "z", FILE_, "1" }, { "a", HARD, "./z" }, { "m", HARD, "/z" }, { "z", HARD, "z" });
        holds(t, "755 0 ./\n644 0 a 1\n644 0 m == a\n644 0 z == a\n");
}

static void test_hard_links_refused(void **state) {
        (void)state;
        REFUSED(EXDEV, &layer, { "a", HARD, "../../etc/passwd" });
        REFUSED(EXDEV, &layer, { "a", HARD, "/etc/passwd" });
        REFUSED(EXDEV, &layer, { "a", HARD, "a" });
        REFUSED(EXDEV, &layer, { "d/", FOLDER }, { "a", HARD, "d" });
        REFUSED(EXDEV, &layer, { "l", LINK, "/etc" }, { "a", HARD, "l/passwd" });
}

static void test_special(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        ADD(t, &layer, { "dev/sda", BLOCK_DEVICE, "" }, { "dev/mem", CHAR, "" }, { "p", FIFO, "" }, { "s", FILE_, "x", 04755 },
            { "gone", FILE_, "x" }, { "gone", CHAR, "" });
        holds(t, "755 0 ./\n755 0 dev/\n644 0 p\n4755 0 s x\n");
}

static void test_duplicates(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        ADD(t, &layer, { "a", FILE_, "1" }, { "a", FILE_, "2" }, { "d/x", FILE_, "x" }, { "d", FILE_, "flat" },
            { "e", LINK, "a" }, { "e/", FOLDER }, { "f/", FOLDER }, { "f/y", FILE_, "y" }, { "f/", FOLDER, "", 0700 });
        holds(t, "755 0 ./\n644 0 a 2\n644 0 d flat\n755 0 e/\n700 0 f/\n644 0 f/y y\n");
}

/* ---------------------------------------------------------------------------------------------------------- whiteouts */
static void test_whiteouts(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        ADD(t, &layer, { "a", FILE_, "1" }, { "d/x", FILE_, "x" }, { "d/y", FILE_, "y" }, { "e/f/g", FILE_, "g" },
            { "k/l", FILE_, "l" });
        ADD(t, &layer, { ".wh.a", FILE_, "" }, { "d/.wh.x", FILE_, "" }, { "e/new", FILE_, "n" },
            { "e/.wh..wh..opq", FILE_, "" }, { "e/f/.wh.none", FILE_, "" }, { "none/.wh.none", FILE_, "" },
            { ".wh..wh.plnk", FOLDER }, { ".wh..wh.plnk/1.2", FILE_, "" });
        holds(t, "755 0 ./\n755 0 d/\n644 0 d/y y\n755 0 e/\n644 0 e/new n\n755 0 k/\n644 0 k/l l\n");
}

/* A mark hides what is below its layer, never what its own layer has, in whatever order. */
static void test_whiteouts_same_layer(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        ADD(t, &layer, { "a", FILE_, "1" }, { "d/", FOLDER, "", 0700, 9 }, { "d/x", FILE_, "x" }, { "d/s/t", FILE_, "t" });
        ADD(t, &layer, { "a", FILE_, "2" }, { ".wh.a", FILE_, "" }, { "d/s/new", FILE_, "n" }, { ".wh.d", FILE_, "" },
            { "e/.wh..wh..opq", FILE_, "" }, { "e/z", FILE_, "z" });
        holds(t, "755 0 ./\n644 0 a 2\n755 0 d/\n755 0 d/s/\n644 0 d/s/new n\n755 0 e/\n644 0 e/z z\n");
}

static void test_whiteout_tricks(void **state) {
        (void)state;
        REFUSED(EBADMSG, &layer, { ".wh.", FILE_, "" });
        REFUSED(EBADMSG, &layer, { ".wh..", FILE_, "" });
        REFUSED(EBADMSG, &layer, { "a/.wh...", FILE_, "" });
        REFUSED(EBADMSG, &layer, { ".wh.a/b", FILE_, "" });
        REFUSED(EBADMSG, &layer, { "../.wh.etc", FILE_, "" });
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        ADD(t, &layer, { "srv/x", FILE_, "x" }, { "srv/y", FILE_, "y" }, { "l", LINK, "/srv" });
        ADD(t, &layer, { "l/.wh.x", FILE_, "" }, { "l/a/../../.wh.none", FILE_, "" });
        holds(t, "755 0 ./\n777 0 l -> /srv\n755 0 srv/\n644 0 srv/y y\n");
        ADD(t, &layer, { ".wh..wh..opq", FILE_, "" });
        holds(t, "755 0 ./\n");
        __attribute__((cleanup(tree_freep))) struct tree *u = tree(); /* no mark where none was asked for */
        ADD(u, &(struct tree_add){ 0 }, { "x", FILE_, "x" }, { ".wh.x", FILE_, "" });
        holds(u, "755 0 ./\n644 0 .wh.x \n644 0 x x\n");
}

/* ------------------------------------------------------------------------------------------------- prefixes and limits */
static void test_prefix(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        static const struct tree_add how = { .prefix = "usr/lib/x", .strip = 1, .root_owned = true };
        ADD(t, &how, { "package/", FOLDER, "", 0700, 3 }, { "package/bin/run", FILE_, "1", 0775, 1000 },
            { "package/a", FILE_, "2", 0600, 1000 }, { "package/h", HARD, "package/a" }, { "package/l", LINK, "/etc" },
            { "package/l/passwd", FILE_, "3" }, { "other", FILE_, "4" });
        holds(
            t,
            "755 0 ./\n755 0 usr/\n755 0 usr/lib/\n755 0 usr/lib/x/\n644 0 usr/lib/x/a 2\n755 0 usr/lib/x/bin/\n"
            "755 0 usr/lib/x/bin/run 1\n755 0 usr/lib/x/etc/\n644 0 usr/lib/x/etc/passwd 3\n644 0 usr/lib/x/h == usr/lib/x/a\n"
            "777 0 usr/lib/x/l -> /etc\n");
        REFUSED(EXDEV, &how, { "package/a", FILE_, "2" }, { "package/h", HARD, "package" });
        REFUSED(EBADMSG, &how, { "package/../../../x", FILE_, "2" });
}

static void test_limits(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        NB_AUTO_BUF many = { 0 }, twice = { 0 };
        for (unsigned i = 0; i <= ENTRIES_MAX; i++) /* always the same name: what was replaced counts, too */
                add_member(&many, &(struct member){ "a", FILE_, "x" });
        end_tar(&many, "many.tar");
        assert_int_equal(tree_add_tar(t, "many.tar", &layer, &err), -EOVERFLOW);
        NB_AUTO_FREE char *half = nb_calloc(1, BYTES_MAX / 2 + 2);
        memset(half, 'x', BYTES_MAX / 2 + 1);
        add_member(&twice, &(struct member){ "a", FILE_, half });
        add_member(&twice, &(struct member){ "a", FILE_, half });
        end_tar(&twice, "twice.tar");
        __attribute__((cleanup(tree_freep))) struct tree *u = tree();
        assert_int_equal(tree_add_tar(u, "twice.tar", &layer, &err), -EFBIG);
}

/* A file that says it is huge is refused before a byte of it is read, whatever its type. */
static void test_huge(void **state) {
        (void)state;
        static const char types[] = { FILE_, CHAR };
        for (size_t i = 0; i < sizeof types; i++) {
                NB_AUTO_BUF tar = { 0 };
                NB_AUTO_ERROR err = { 0 };
                __attribute__((cleanup(tree_freep))) struct tree *t = tree();
                add_header(&tar, &(struct member){ "a", types[i] }, 077777777777u);
                end_tar(&tar, "huge.tar");
                int r = tree_add_tar(t, "huge.tar", &layer, &err);
                assert_true(r == -EFBIG || (types[i] == CHAR && r == 0)); /* libarchive: a device has no content */
        }
}

static void test_truncated(void **state) {
        (void)state;
        NB_AUTO_BUF tar = { 0 };
        NB_AUTO_FREE char *text = nb_calloc(1, 3 * BLOCK);
        memset(text, 'x', 3 * BLOCK - 1);
        add_member(&tar, &(struct member){ "a", FILE_, text });
        for (size_t len = 0; len < tar.len; len += BLOCK / 2) {
                __attribute__((cleanup(tree_freep))) struct tree *t = tree();
                NB_AUTO_ERROR err = { 0 };
                assert_int_equal(nb_write_file_atomic("cut.tar", nb_buf_bytes(&tar), len, 0600), 0);
                assert_int_equal(tree_add_tar(t, "cut.tar", &layer, &err), -EBADMSG);
        }
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(tree_add_tar(t, "absent.tar", &layer, &err), -EBADMSG);
}

static void test_xattrs(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        ADD(t, &layer, { "pax", 'x', "25 SCHILY.xattr.user.a=1\n34 SCHILY.xattr.trusted.overlay.x=y\n" }, { "a", FILE_, "x" });
        holds(t, "755 0 ./\n644 0 a x\n");
        NB_AUTO_FREE char *tar = NULL;
        size_t len = 0;
        assert_int_equal(nb_read_file("out.tar", LISTING_MAX, &tar, &len), 0);
        assert_non_null(memmem(tar, len, "SCHILY.xattr.user.a=1\n", 22));
        assert_null(memmem(tar, len, "trusted", 7));
        assert_null(memmem(tar, len, "LIBARCHIVE", 10));
}

/* ------------------------------------------------------------------------------------------------ folders, own entries */
static void test_dir(void **state) {
        (void)state;
        assert_int_equal(nb_mkdirs("src/d", 0755), 0);
        assert_int_equal(nb_write_file_atomic("src/d/f", "text", 4, 0755), 0);
        assert_int_equal(link("src/d/f", "src/d/g"), 0);
        assert_int_equal(symlink("/etc", "src/etc"), 0);
        assert_int_equal(mkfifo("src/p", 0600), 0);
        assert_int_equal(chmod("src/p", 0600), 0);
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(tree_add_dir(t, "src", NULL, 0, 0, &err), 0);
        holds(t, "755 0 ./\n755 0 d/\n755 0 d/f text\n755 0 d/g == d/f\n777 0 etc -> /etc\n600 0 p\n");
        assert_int_equal(tree_add_dir(t, "src/d", "nix/store/x", 5, 5, &err), 0);
        NB_AUTO_FREE char *is = listing(t);
        assert_non_null(strstr(is, "755 0 nix/store/\n755 5 nix/store/x/\n755 5 nix/store/x/f text\n"));
        assert_int_equal(tree_add_dir(t, "src/etc/../none", NULL, 0, 0, &err), -ENOENT);
        assert_int_equal(truncate("src/d/f", 2 * (off_t)BYTES_MAX), 0);
        assert_int_equal(tree_add_dir(t, "src", NULL, 0, 0, &err), -EFBIG);
        assert_non_null(strstr(err.what, "src/d/")); /* says which */
}

static void test_own_entries(void **state) {
        (void)state;
        __attribute__((cleanup(tree_freep))) struct tree *t = tree();
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *bytes = NULL;
        size_t len = 0;
        assert_int_equal(tree_add_file(t, "/etc/hostname", "box\n", 4, 0644, &err), 0);
        assert_int_equal(tree_add_link(t, "usr/bin/x", "../lib/x", &err), 0);
        assert_int_equal(tree_mkdir(t, "tmp", 01777, &err), 0);
        holds(t, "755 0 ./\n755 0 etc/\n644 0 etc/hostname box\n\n1777 0 tmp/\n755 0 usr/\n755 0 usr/bin/\n777 0 usr/bin/x -> "
                 "../lib/x\n");
        assert_int_equal(tree_read(t, "etc/hostname", 4, &bytes, &len), 0);
        assert_string_equal(bytes, "box\n");
        assert_int_equal(len, 4);
        assert_int_equal(tree_read(t, "etc/hostname", 3, &bytes, &len), -EFBIG);
        assert_int_equal(tree_read(t, "etc/none", 3, &bytes, &len), -ENOENT);
        assert_int_equal(tree_read(t, "etc", 3, &bytes, &len), -EINVAL);
        assert_int_equal(tree_remove(t, "etc", &err), 0);
        assert_int_equal(tree_remove(t, "none/at/all", &err), 0);
        assert_int_equal(tree_remove(t, "/", &err), -EBADMSG);
        assert_int_equal(tree_add_link(t, "a", "", &err), -EBADMSG);
        holds(t, "755 0 ./\n1777 0 tmp/\n755 0 usr/\n755 0 usr/bin/\n777 0 usr/bin/x -> ../lib/x\n");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_set_up, scratch_tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_sorted),
                TEST(test_names),
                TEST(test_long_names),
                TEST(test_bytes_of_names),
                TEST(test_links_inside),
                TEST(test_hard_links),
                TEST(test_hard_links_refused),
                TEST(test_special),
                TEST(test_duplicates),
                TEST(test_whiteouts),
                TEST(test_whiteouts_same_layer),
                TEST(test_whiteout_tricks),
                TEST(test_prefix),
                TEST(test_limits),
                TEST(test_huge),
                TEST(test_truncated),
                TEST(test_xattrs),
                TEST(test_dir),
                TEST(test_own_entries),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
