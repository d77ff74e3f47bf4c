/* Unit tests of src/image: what is read from kernels and modules, names and mirrors, the store, folders by digest. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <zstd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "image/bzimage.h"
#include "image/debian_archive.h"
#include "image/folder.h"
#include "image/initrd.h"
#include "image/modules.h"
#include "image/rootfs.h"
#include "image/runtime.h"
#include "image/store.h"

#define ELF_LEN 4096u
#define SETUP 1024u /* one setup sector and the boot sector */

/* ------------------------------------------------------------------------------------------------------------ bzImage */
static void put32(uint8_t *p, uint32_t v) {
        for (int i = 0; i < 4; i++)
                p[i] = (uint8_t)(v >> (8 * i));
}

/* A bzImage around a zstd frame of a small ELF file, with the size behind it as a kernel build appends it. */
static uint8_t *bzimage_new(bool known_size, size_t *ret_len) {
        uint8_t elf[ELF_LEN] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 };
        uint8_t *image = nb_calloc(1, SETUP + ELF_LEN);
        ZSTD_CCtx *z = ZSTD_createCCtx();
        assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_contentSizeFlag, known_size)));
        size_t n = ZSTD_compress2(z, image + SETUP, ELF_LEN, elf, sizeof elf);
        ZSTD_freeCCtx(z);
        assert_false(ZSTD_isError(n));
        put32(image + SETUP + n, ELF_LEN);
        image[0x1f1] = 1;
        image[0x1fe] = 0x55;
        image[0x1ff] = 0xaa;
        put32(image + 0x202, 0x53726448); /* "HdrS" */
        image[0x206] = 0x0f;
        image[0x207] = 0x02;
        put32(image + 0x24c, (uint32_t)n + 4);
        *ret_len = SETUP + n + 4;
        return image;
}

static void test_bzimage(void **state) {
        (void)state;
        for (int known = 0; known < 2; known++) {
                size_t len = 0, elf_len = 0;
                NB_AUTO_FREE uint8_t *image = bzimage_new(known, &len), *elf = NULL;
                assert_int_equal(bzimage_vmlinux(image, len, ELF_LEN, &elf, &elf_len), 0);
                assert_int_equal(elf_len, ELF_LEN);
                assert_memory_equal(elf, "\177ELF", 4);
                assert_int_equal(bzimage_vmlinux(image, len, ELF_LEN - 1, &elf, &elf_len), -EFBIG);
        }
}

static void test_bzimage_damaged(void **state) {
        (void)state;
        size_t len = 0, n = 0;
        NB_AUTO_FREE uint8_t *good = bzimage_new(true, &len), *elf = NULL;
        for (size_t cut = 0; cut < len; cut++) { /* each in memory of its own, so that a sanitizer sees a read too far */
                NB_AUTO_FREE uint8_t *part = nb_calloc(1, cut + 1);
                part = nb_realloc(part, cut ? cut : 1, 1);
                memcpy(part, good, cut);
                assert_int_equal(bzimage_vmlinux(part, cut, ELF_LEN, &elf, &n), -EBADMSG);
        }
        static const struct {
                size_t at;
                uint32_t value;
                int result;
        } cases[] = {
                { 0x248, 0xffffffffu, -EBADMSG }, { 0x24c, 0xffffffffu, -EBADMSG }, { 0x24c, 0, -EBADMSG },
                { 0x202, 0, -EBADMSG },           { SETUP, 0x184c2102, -ENOTSUP },  { SETUP + 4, 0xffffffffu, -EBADMSG }
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE uint8_t *bad = nb_calloc(1, len);
                memcpy(bad, good, len);
                put32(bad + cases[i].at, cases[i].value);
                assert_int_equal(bzimage_vmlinux(bad, len, ELF_LEN, &elf, &n), cases[i].result);
        }
        assert_null(elf);
}

/* ------------------------------------------------------------------------------------------------------------ modules */
static void test_modules(void **state) {
        (void)state;
        NB_AUTO_STRV char **needs = NULL, **none = NULL, **bad = NULL;
        static const char ko[] = "ELF\0license=GPL\0depends=crc16,mbcache,jbd-2\0name=ext4";
        assert_int_equal(modules_depends(ko, sizeof ko, &needs), 0);
        assert_int_equal(nb_strv_len(needs), 3);
        assert_string_equal(needs[2], "jbd_2");
        static const char alone[] = "\0depends=";
        assert_int_equal(modules_depends(alone, sizeof alone, &none), 0);
        assert_null(none);
        assert_int_equal(modules_depends(alone, sizeof alone - 1, &bad), -EBADMSG); /* no NUL at its end */
        assert_int_equal(modules_depends("depends=", 8, &bad), -EBADMSG);           /* not at a string's start */
        static const char path[] = "\0depends=../../x";
        assert_int_equal(modules_depends(path, sizeof path, &bad), -EBADMSG);
        assert_null(bad);
        NB_AUTO_FREE char *a = modules_name("kernel/drivers/x/crc32c-intel.ko.xz"), *b = modules_name("erofs.ko");
        assert_string_equal(a, "crc32c_intel");
        assert_string_equal(b, "erofs");
        assert_null(modules_name("modules.order"));
        assert_null(modules_name("x.kora"));
        assert_null(modules_name(".ko"));
}

static void test_module_signature(void **state) {
        (void)state;
        static const char text[] = "elf"
                                   "SIGN"
                                   "\0\0\0\0\0\0\0\0\0\0\0\4"
                                   "~Module signature appended~\n";
        size_t len = sizeof text - 1;
        assert_int_equal(modules_unsigned_length(text, len), 3);
        assert_int_equal(modules_unsigned_length(text, len - 1), len - 1);
        assert_int_equal(modules_unsigned_length(text + 5, len - 5), len - 5); /* says 4 bytes, has 2 */
        assert_int_equal(modules_unsigned_length("", 0), 0);
}

static int need(void *user, const char *name, char ***ret_needs) {
        static const char *const edges[][2] = { { "a", "b" }, { "a", "c" }, { "b", "c" }, { "x", "y" }, { "y", "x" } };
        (void)user;
        if (strcmp(name, "builtin") == 0)
                return 0;
        if (strcmp(name, "missing") == 0)
                return -ENOENT;
        for (size_t i = 0; i < NB_ARRAY_LEN(edges); i++)
                if (strcmp(edges[i][0], name) == 0)
                        nb_strv_add(ret_needs, edges[i][1]);
        return 1;
}

static void test_module_order(void **state) {
        (void)state;
        static const char *const wanted[] = { "builtin", "a", "d", "c", NULL }, *const loop[] = { "x", NULL },
                                 *const missing[] = { "missing", NULL };
        NB_AUTO_STRV char **order = NULL, **none = NULL;
        assert_int_equal(modules_order(wanted, need, NULL, &order), 0);
        assert_int_equal(nb_strv_len(order), 4);
        static const char *const expected[] = { "c", "b", "a", "d" };
        for (size_t i = 0; i < NB_ARRAY_LEN(expected); i++)
                assert_string_equal(order[i], expected[i]);
        assert_int_equal(modules_order(loop, need, NULL, &none), -ELOOP);
        assert_int_equal(modules_order(missing, need, NULL, &none), -ENOENT);
}

/* -------------------------------------------------------------------------------------------------- names and mirrors */
static void test_package_names(void **state) {
        (void)state;
        static const char *const good[] = { "git", "g++", "libc6-dev", "python3.13", "0ad" };
        static const char *const bad[] = { "",         "a",   "Git",  "-o",         "git=1", "git/sid",
                                           "git:i386", "a b", "git,", "?essential", "~i",    "git-\n" };
        for (size_t i = 0; i < NB_ARRAY_LEN(good); i++)
                assert_true(debian_valid_package(good[i]));
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                assert_false(debian_valid_package(bad[i]));
}

static void test_mirrors(void **state) {
        (void)state;
        NB_AUTO_STRV char **standard = NULL, **own = NULL, **none = NULL;
        assert_int_equal(debian_sources(NULL, "trixie", &standard, NULL), 0);
        assert_string_equal(standard[0], "deb http://deb.debian.org/debian trixie main");
        assert_string_equal(standard[2], "deb http://deb.debian.org/debian-security trixie-security main");
        assert_int_equal(debian_sources("https://m.example/debian file:/srv/security", "trixie", &own, NULL), 0);
        assert_string_equal(own[1], "deb https://m.example/debian trixie-updates main");
        assert_string_equal(own[2], "deb file:/srv/security trixie-security main");
        static const char *const bad[] = { "ftp://m.example", "m.example", "http://a http://b http://c",
                                           "http://a [trusted=yes]", "http://a\n" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                NB_AUTO_ERROR err = { 0 };
                assert_int_equal(debian_sources(bad[i], "trixie", &none, &err), -EINVAL);
                assert_non_null(err.hint);
        }
        assert_null(none);
}

static void test_complaints(void **state) {
        (void)state;
        NB_AUTO_FREE char *text =
            debian_complaint("I: running apt-get update...\nReading package lists...\nE: Unable to locate package x\n"
                             "E: setup failed: E: apt-get -o x failed\nI: done\nE: mmdebstrap failed to run");
        assert_string_equal(text, "Unable to locate package x");
        NB_AUTO_FREE char *many = debian_complaint("E: a1\nE: a1\nE: b\nE: c\nE: d\n");
        assert_string_equal(many, "a1; b; c");
        assert_null(debian_complaint("W: x\n"));
        assert_null(debian_complaint(""));
}

static void test_check(void **state) {
        (void)state;
        char base[] = "debian-13", sid[] = "debian-sid", make[] = "make", evil[] = "--x";
        char *good[] = { make, NULL }, *bad[] = { evil, NULL };
        struct config_image right = { .base = base, .packages = good };
        assert_int_equal(rootfs_check(&right, NULL), 0);
        struct config_image wrong[] = { { .base = sid }, { .base = base, .packages = bad } };
        for (size_t i = 0; i < NB_ARRAY_LEN(wrong); i++) {
                NB_AUTO_ERROR err = { 0 };
                assert_true(rootfs_check(&wrong[i], &err) < 0);
                assert_non_null(err.hint);
        }
}

/* The key of an image changes with everything that decides its bits, and with nothing else. */
static void test_key(void **state) {
        (void)state;
        char spec[] = "base debian-13\n", other[] = "base debian-13\npackage make\n", name[] = "make", path[] = "pool/make.deb",
             version[] = "1", arch[] = "amd64", here[] = "dir:/here", there[] = "dir:/there";
        struct lock_package make = { .name = name, .version = version, .arch = arch, .path = path, .sha256 = "00" };
        struct lock a = { .spec = spec }, b = a, c = a;
        b.spec = other;
        c.packages = (struct lock_set){ &make, 1 };
        const struct config_image debian = { .kind = CONFIG_BASE_DEBIAN }, one = { .kind = CONFIG_BASE_DIR, .base = here },
                                  two = { .kind = CONFIG_BASE_DIR, .base = there };
        const struct rootfs_job jobs[] = { { .lock = &a, .config = &debian }, { .lock = &b, .config = &debian },
                                           { .lock = &c, .config = &debian }, { .lock = &a, .config = &debian },
                                           { .lock = &a, .config = &one },    { .lock = &a, .config = &one },
                                           { .lock = &a, .config = &two } };
        const char *const digests[] = { NULL, NULL, NULL, "sha256:0", "sha256:0", "sha256:1", "sha256:0" };
        char keys[NB_ARRAY_LEN(jobs)][NB_SHA256_HEX];
        for (size_t i = 0; i < NB_ARRAY_LEN(jobs); i++)
                rootfs_key(&jobs[i], digests[i], keys[i]);
        assert_string_not_equal(keys[0], keys[1]);
        assert_string_not_equal(keys[0], keys[2]);
        assert_string_equal(keys[0], keys[3]);     /* what came out of packages decides nothing */
        assert_string_not_equal(keys[4], keys[5]); /* a folder is what came out of it */
        assert_string_not_equal(keys[4], keys[6]);
}

static void test_want(void **state) {
        (void)state;
        static const struct {
                const char *in, *out;
        } cases[] = { { "usr/bin/qemu-system-x86_64", "usr/bin/qemu-system-x86_64" },
                      { "sbin/mke2fs", "usr/sbin/mke2fs" },
                      { "lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6" },
                      { "usr/lib/x86_64-linux-gnu/qemu/hw-usb-host.so", NULL },
                      { "usr/bin/qemu-system-i386", NULL },
                      { "kernel/boot/vmlinuz-6", "kernel/boot/vmlinuz-6" },
                      { "kernel/", NULL },
                      { "etc/passwd", NULL } };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *got = runtime_want(cases[i].in);
                if (cases[i].out)
                        assert_string_equal(got, cases[i].out);
                else
                        assert_null(got);
        }
}

/* ------------------------------------------------------------------------------------------------- folders and store */
static char *scratch(void) {
        char *path = nb_strdup("/tmp/nixbox-test-XXXXXX");
        assert_non_null(mkdtemp(path));
        return path;
}

static void put(const char *dir, const char *name, const char *text, mode_t mode) {
        NB_AUTO_FREE char *path = nb_path_join(dir, name);
        assert_int_equal(nb_write_file_atomic(path, text, strlen(text), mode), 0);
}

static void test_seal(void **state) {
        (void)state;
        char digest[2][NB_SHA256_HEX];
        for (int i = 0; i < 2; i++) { /* modes and the order of making do not matter, only what is there */
                NB_AUTO_FREE char *dir = scratch(), *sub = nb_path_join(dir, "b"), *link = nb_path_join(dir, "l"),
                                  *listing = NULL;
                if (i)
                        put(dir, "a", "text", 0600);
                assert_int_equal(mkdir(sub, i ? 0700 : 0755), 0);
                put(sub, "tool", "x", i ? 0700 : 0755);
                if (!i)
                        put(dir, "a", "text", 0644);
                assert_int_equal(symlink("b/tool", link), 0);
                assert_int_equal(folder_seal(dir, &listing, digest[i], NULL), 0);
                assert_string_equal(listing,
                                    "file 0444 982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1 a\n"
                                    "dir 0555 - b\n"
                                    "file 0555 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 b/tool\n"
                                    "link 0777 b/tool l\n");
                put(dir, "with space", "", 0644);
                NB_AUTO_FREE char *again = NULL;
                char unused[NB_SHA256_HEX];
                assert_int_equal(folder_seal(dir, &again, unused, NULL), -EINVAL);
                assert_int_equal(nb_remove_tree(AT_FDCWD, dir), 0);
        }
        assert_string_equal(digest[0], digest[1]);
}

static void tar_add(struct archive *a, const char *name, mode_t type, const char *target) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, name);
        archive_entry_set_mode(e, type | 0644);
        if (type == AE_IFLNK)
                archive_entry_set_symlink(e, target);
        archive_entry_set_size(e, type == AE_IFREG ? 1 : 0);
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        if (type == AE_IFREG)
                assert_int_equal(archive_write_data(a, "x", 1), 1);
        archive_entry_free(e);
}

static char *want_all(const char *name) {
        return nb_strdup(name);
}

static void test_unpack(void **state) {
        (void)state;
        static const struct {
                const char *link, *file;
                int result;
        } cases[] = { { NULL, "./dir/file", 0 },
                      { NULL, "dir/../../file", -EBADMSG },
                      { NULL, "../file", -EBADMSG },
                      { "dir", "dir/file", -ENOTDIR },
                      { "file", "file", -EEXIST } };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *dir = scratch(), *out = nb_path_join(dir, "out"), *tar = nb_path_join(dir, "tar");
                NB_AUTO_FREE char *outside = nb_path_join(dir, "file");
                NB_AUTO_ERROR err = { 0 };
                assert_int_equal(mkdir(out, 0755), 0);
                struct archive *a = archive_write_new();
                archive_write_set_format_ustar(a);
                assert_int_equal(archive_write_open_filename(a, tar), ARCHIVE_OK);
                if (cases[i].link)
                        tar_add(a, cases[i].link, AE_IFLNK, "..");
                tar_add(a, cases[i].file, AE_IFREG, NULL);
                archive_write_free(a);
                int r = folder_unpack(tar, out, want_all, &err);
                assert_int_equal(r, cases[i].result);
                assert_int_equal(access(outside, F_OK), -1);
                assert_int_equal(nb_remove_tree(AT_FDCWD, dir), 0);
        }
}

static void test_initrd(void **state) {
        (void)state;
        NB_AUTO_FREE char *dir = scratch(), *agent = nb_path_join(dir, "agent"), *one = nb_path_join(dir, "1"),
                          *two = nb_path_join(dir, "2"), *a = NULL, *b = NULL;
        size_t a_len = 0, b_len = 0;
        put(dir, "agent", "the agent", 0755);
        put(dir, "modules.list", "erofs.ko\n?disk ext4.ko\n", 0644);
        put(dir, "erofs.ko", "erofs", 0644);
        put(dir, "ext4.ko", "ext4", 0644);
        assert_int_equal(initrd_write(dir, agent, one, NULL), 0);
        assert_int_equal(initrd_write(dir, agent, two, NULL), 0);
        assert_int_equal(nb_read_file(one, 1u << 20, &a, &a_len), 0);
        assert_int_equal(nb_read_file(two, 1u << 20, &b, &b_len), 0);
        assert_int_equal(a_len, b_len);
        assert_memory_equal(a, b, a_len);
        static const char *const names[] = { "init", "dev/console", "modules/erofs.ko", "modules/ext4.ko", "modules.list" };
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++)
                assert_non_null(memmem(a, a_len, names[i], strlen(names[i]) + 1));
        NB_AUTO_FREE char *name = initrd_name("/k/0123456789abcdefXX", agent), *missing = initrd_name("/k/0", "/nonexistent");
        assert_non_null(strstr(name, "initrd-0123456789abcdef-"));
        assert_null(missing);
        assert_int_equal(nb_remove_tree(AT_FDCWD, dir), 0);
}

static void test_store(void **state) {
        (void)state;
        NB_AUTO_FREE char *dir = scratch();
        assert_int_equal(setenv("XDG_DATA_HOME", dir, 1), 0);
        assert_int_equal(setenv("XDG_CACHE_HOME", dir, 1), 0);
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        assert_int_equal(store_open(&s, NULL), 0);
        assert_null(store_ref_get(s, "image", "k"));
        json_t *ref = json_pack("{s:s}", "digest", "sha256:0"), *got = NULL;
        assert_int_equal(store_ref_put(s, "image", "k", ref, NULL), 0);
        got = store_ref_get(s, "image", "k");
        assert_true(json_equal(ref, got));
        json_decref(ref);
        json_decref(got);
        assert_int_equal(store_ref_remove(s, "image", "k"), 0);
        assert_int_equal(store_ref_remove(s, "image", "k"), 0);
        put(dir, "nixbox/refs/image-bad.json", "{", 0600);
        assert_null(store_ref_get(s, "image", "bad"));

        /* work in progress stays, work that nobody holds goes */
        struct store_temp mine;
        assert_int_equal(store_temp_new(s, &mine, NULL), 0);
        NB_AUTO_FREE char *left = store_path(s, "tmp", "left");
        assert_int_equal(mkdir(left, 0700), 0);
        put(left, "half", "half", 0600);
        store_sweep(s);
        assert_int_equal(access(left, F_OK), -1);
        assert_int_equal(access(mine.path, F_OK), 0);
        NB_AUTO_FREE char *path = nb_strdup(mine.path);
        store_temp_remove(&mine);
        assert_int_equal(access(path, F_OK), -1);

        NB_AUTO_CLOSE int lock = -1;
        assert_int_equal(store_lock(s, "x", NULL, &lock, NULL), 0);
        NB_AUTO_FREE char *file = store_path(s, "locks", "x");
        NB_AUTO_CLOSE int again = open(file, O_RDWR | O_CLOEXEC);
        assert_int_equal(flock(again, LOCK_EX | LOCK_NB), -1);
        assert_int_equal(nb_remove_tree(AT_FDCWD, dir), 0);
}

static void test_full_disk(void **state) {
        (void)state;
        char data[] = "/data";
        struct store s = { .data = data };
        NB_AUTO_ERROR err = { 0 };
        nb_fail_errno(&err, ENOSPC, "cannot write");
        assert_int_equal(store_hint(&s, &err), -ENOSPC);
        assert_non_null(strstr(err.hint, "/data"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bzimage),      cmocka_unit_test(test_bzimage_damaged),
                cmocka_unit_test(test_modules),      cmocka_unit_test(test_module_signature),
                cmocka_unit_test(test_module_order), cmocka_unit_test(test_package_names),
                cmocka_unit_test(test_mirrors),      cmocka_unit_test(test_check),
                cmocka_unit_test(test_complaints),   cmocka_unit_test(test_key),
                cmocka_unit_test(test_want),         cmocka_unit_test(test_seal),
                cmocka_unit_test(test_unpack),       cmocka_unit_test(test_initrd),
                cmocka_unit_test(test_store),        cmocka_unit_test(test_full_disk),
        };
        return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
