/* Unit tests of cp's host side: what arguments mean, where things land, and hostile archives. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cp_path.h"
#include "cli/cp_tar.h"

struct member {
        const char *name;
        mode_t type;
        mode_t mode;
        const char *text; /* content, or target of a link */
        bool hardlink;
};

static int setup(void **state) {
        char *dir = nb_strdup("/tmp/nixbox-cp-XXXXXX");
        *state = dir;
        nb_log_set_level(NB_LOG_ERROR);
        return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state) {
        assert_int_equal(chdir("/"), 0);
        (void)nb_remove_tree(AT_FDCWD, *state);
        free(*state);
        return 0;
}

/* A tar stream as a hostile guest may make it. */
static int stream_of(const struct member *members, size_t n) {
        int fd = memfd_create("tar", MFD_CLOEXEC);
        struct archive *a = archive_write_new();
        archive_write_set_format_gnutar(a);
        assert_int_equal(archive_write_open_fd(a, fd), ARCHIVE_OK);
        for (size_t i = 0; i < n; i++) {
                const struct member *m = &members[i];
                bool file = m->type == S_IFREG && !m->hardlink;
                struct archive_entry *e = archive_entry_new();
                archive_entry_set_pathname(e, m->name);
                archive_entry_set_filetype(e, m->type);
                archive_entry_set_perm(e, m->mode);
                archive_entry_set_mtime(e, 1000000, 0);
                archive_entry_set_size(e, file ? (la_int64_t)strlen(m->text) : 0);
                if (m->hardlink)
                        archive_entry_set_hardlink(e, m->text);
                else if (m->type == S_IFLNK)
                        archive_entry_set_symlink(e, m->text);
                assert_true(archive_write_header(a, e) >= ARCHIVE_WARN);
                if (file)
                        assert_int_equal(archive_write_data(a, m->text, strlen(m->text)), strlen(m->text));
                archive_entry_free(e);
        }
        archive_write_close(a);
        archive_write_free(a);
        (void)lseek(fd, 0, SEEK_SET);
        return fd;
}

static int unpack(const struct member *members, size_t n, const char *root, const char *to) {
        NB_AUTO_CLOSE int fd = stream_of(members, n);
        uint64_t count;
        NB_AUTO_ERROR err = { 0 };
        return cp_unpack(fd, root, to, false, NULL, &count, &err);
}

static void assert_file(const char *path, const char *want) {
        NB_AUTO_FREE char *text = NULL;
        assert_int_equal(nb_read_file(path, 4096, &text, NULL), 0);
        assert_string_equal(text, want);
}

static void assert_absent(const char *path) {
        struct stat st;
        assert_int_equal(lstat(path, &st), -1);
}

static void test_arguments(void **state) {
        (void)state;
        static const struct {
                const char *text;
                bool in_box;
                const char *box, *path, *folder, *name;
        } cases[] = {
                { "file", false, NULL, "file", ".", "file" },
                { "./a:b", false, NULL, "./a:b", ".", "a:b" },
                { "/x/y/", false, NULL, "/x/y/", "/x", "y" },
                { ":", true, NULL, ".", ".", "." },
                { ":/etc/passwd", true, NULL, "/etc/passwd", "/etc", "passwd" },
                { "box:a/b", true, "box", "a/b", "a", "b" },
                { "box:a/.", true, "box", "a/.", "a/.", "." },
                { "box:/", true, "box", "/", "/", "." },
                { "box:/a", true, "box", "/a", "/", "a" },
                { "box:..", true, "box", "..", "..", "." },
                { "Not_a_box:x", false, NULL, "Not_a_box:x", ".", "Not_a_box:x" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                struct cp_arg a;
                cp_parse(cases[i].text, &a);
                assert_int_equal(a.in_box, cases[i].in_box);
                assert_string_equal(a.path, cases[i].path);
                if (cases[i].box)
                        assert_string_equal(a.box, cases[i].box);
                else
                        assert_null(a.box);
                NB_AUTO_FREE char *folder = NULL;
                NB_AUTO_FREE char *name = NULL;
                cp_split(&a, &folder, &name);
                assert_string_equal(folder, cases[i].folder);
                assert_string_equal(name, cases[i].name);
                cp_arg_clear(&a);
        }
}

static void test_member_names(void **state) {
        (void)state;
        static const struct {
                const char *name, *root, *want;
        } cases[] = {
                { "./src/a", "src", "a" },
                { "src", "src", "" },
                { "src/", "src", "" },
                { "./src//a/./b", "src", "a/b" },
                { "srcs/a", "src", NULL },
                { "/src/a", "src", NULL },
                { "../src/a", "src", NULL },
                { "src/../../a", "src", NULL },
                { "src/..", "src", NULL },
                { "other", "src", NULL },
                { "./a", ".", "a" },
                { ".", ".", "" },
                { "..", ".", NULL },
                { "a/b/../c", ".", NULL },
                { "", ".", "" },
                { "/", ".", NULL },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *got = cp_member(cases[i].name, cases[i].root);
                if (cases[i].want)
                        assert_string_equal(got, cases[i].want);
                else
                        assert_null(got);
        }
}

static void test_where_a_file_lands(void **state) {
        (void)state;
        const struct member file = { "./f", S_IFREG, 0644, "text", false };
        assert_int_equal(unpack(&file, 1, "f", "new"), 0);
        assert_file("new", "text");
        assert_int_equal(mkdir("folder", 0755), 0);
        assert_int_equal(unpack(&file, 1, "f", "folder"), 0);
        assert_file("folder/f", "text");
        const struct member again = { "./f", S_IFREG, 0644, "other", false };
        assert_int_equal(unpack(&again, 1, "f", "new"), 0);
        assert_file("new", "other");
        assert_true(unpack(&file, 1, "f", "missing/new") < 0);
        NB_AUTO_CLOSE int fd = stream_of(&file, 1);
        uint64_t count;
        assert_int_equal(cp_unpack(fd, "f", "missing/", true, NULL, &count, NULL), -ENOTDIR);
}

static void test_where_a_folder_lands(void **state) {
        (void)state;
        const struct member tree[] = { { "./d/", S_IFDIR, 0755, NULL, false }, { "./d/f", S_IFREG, 0600, "text", false } };
        const struct member contents[] = { { "./", S_IFDIR, 0755, NULL, false }, { "./f", S_IFREG, 0600, "text", false } };
        assert_int_equal(unpack(tree, 2, "d", "new"), 0);
        assert_file("new/f", "text");
        assert_int_equal(unpack(tree, 2, "d", "new"), 0);
        assert_file("new/d/f", "text");
        assert_int_equal(mkdir("old", 0755), 0);
        assert_int_equal(unpack(contents, 2, ".", "old"), 0);
        assert_file("old/f", "text");
        assert_int_equal(unpack(tree, 2, "d", "old/f"), -ENOTDIR);
}

static void test_modes_and_times(void **state) {
        (void)state;
        const struct member tree[] = { { "d", S_IFDIR, 06555, NULL, false }, { "d/f", S_IFREG, 06755, "text", false } };
        struct stat st;
        (void)umask(022);
        assert_int_equal(unpack(tree, 2, "d", "base"), 0);
        assert_int_equal(unpack(tree, 2, "d", "base"), 0); /* now inside, as base/d */
        assert_int_equal(stat("base/d", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0555);
        assert_int_equal(st.st_mtime, 1000000);
        assert_int_equal(stat("base/d/f", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
        assert_int_equal(st.st_mtime, 1000000);
        assert_int_equal(st.st_uid, geteuid());
        assert_int_equal(chmod("base/d", 0755), 0);
}

static void test_names_that_lead_outside(void **state) {
        (void)state;
        const struct member evil[] = {
                { "d", S_IFDIR, 0755, NULL, false },           { "../evil", S_IFREG, 0644, "x", false },
                { "d/../../evil", S_IFREG, 0644, "x", false }, { "/tmp/nixbox-evil-absolute", S_IFREG, 0644, "x", false },
                { "evil", S_IFREG, 0644, "x", false },         { "d/ok", S_IFREG, 0644, "fine", false },
        };
        assert_int_equal(unpack(evil, NB_ARRAY_LEN(evil), "d", "out"), 0);
        assert_file("out/ok", "fine");
        assert_absent("evil");
        assert_absent("../evil");
        assert_absent("out/evil");
        assert_absent("/tmp/nixbox-evil-absolute");
}

static void test_nothing_is_written_through_a_link(void **state) {
        (void)state;
        assert_int_equal(mkdir("victim", 0755), 0);
        assert_int_equal(nb_write_file_atomic("victim/file", "mine", 4, 0644), 0);
        NB_AUTO_FREE char *victim = nb_asprintf("%s/victim", (char *)*state);
        NB_AUTO_FREE char *file = nb_asprintf("%s/file", victim);
        const struct member evil[] = {
                { "d", S_IFDIR, 0755, NULL, false },
                { "d/folder", S_IFLNK, 0777, victim, false },
                { "d/folder/new", S_IFREG, 0644, "x", false },
                { "d/folder/file", S_IFREG, 0644, "x", false },
                { "d/folder/sub/", S_IFDIR, 0755, NULL, false },
                { "d/up", S_IFLNK, 0777, "..", false },
                { "d/up/victim/new", S_IFREG, 0644, "x", false },
                { "d/link", S_IFLNK, 0777, file, false },
                { "d/link", S_IFREG, 0600, "replaces the link", false },
                { "d/ok", S_IFREG, 0644, "fine", false },
        };
        assert_int_equal(unpack(evil, NB_ARRAY_LEN(evil), "d", "out"), 0);
        assert_file("victim/file", "mine");
        assert_absent("victim/new");
        assert_absent("victim/sub");
        assert_file("out/link", "replaces the link");
        assert_file("out/ok", "fine");
        /* a link that was here before is no way out either */
        assert_int_equal(mkdir("dst", 0755), 0);
        assert_int_equal(symlink(victim, "dst/d"), 0);
        const struct member plain[] = { { "d/", S_IFDIR, 0700, NULL, false }, { "d/new", S_IFREG, 0644, "x", false } };
        (void)unpack(plain, 2, "d", "dst");
        assert_absent("victim/new");
}

static void test_hard_links_stay_inside(void **state) {
        (void)state;
        assert_int_equal(nb_write_file_atomic("victim", "mine", 4, 0644), 0);
        NB_AUTO_FREE char *victim = nb_asprintf("%s/victim", (char *)*state);
        const struct member evil[] = {
                { "d", S_IFDIR, 0755, NULL, false },       { "d/one", S_IFREG, 0644, "both", false },
                { "d/two", S_IFREG, 0644, "d/one", true }, { "d/three", S_IFREG, 0644, "../victim", true },
                { "d/four", S_IFREG, 0644, victim, true },
        };
        assert_int_equal(unpack(evil, NB_ARRAY_LEN(evil), "d", "out"), 0);
        struct stat one, two;
        assert_int_equal(stat("out/one", &one), 0);
        assert_int_equal(stat("out/two", &two), 0);
        assert_int_equal(one.st_ino, two.st_ino);
        assert_absent("out/three");
        assert_absent("out/four");
}

static void test_devices_are_left_out(void **state) {
        (void)state;
        const struct member evil[] = {
                { "d", S_IFDIR, 0755, NULL, false },
                { "d/fifo", S_IFIFO, 0644, NULL, false },
                { "d/char", S_IFCHR, 0666, NULL, false },
                { "d/block", S_IFBLK, 0666, NULL, false },
        };
        assert_int_equal(unpack(evil, NB_ARRAY_LEN(evil), "d", "out"), 0);
        assert_absent("out/fifo");
        assert_absent("out/char");
        assert_absent("out/block");
}

static void test_what_breaks_off_leaves_the_old_file(void **state) {
        (void)state;
        static const char old[] = "old";
        const struct member whole[] = { { "src", S_IFREG, 0644, "new and longer", false } };
        assert_int_equal(nb_write_file_atomic("dst", old, strlen(old), 0644), 0);
        NB_AUTO_CLOSE int fd = stream_of(whole, 1);
        assert_int_equal(ftruncate(fd, 512 + 4), 0);
        uint64_t count;
        NB_AUTO_ERROR err = { 0 };
        assert_true(cp_unpack(fd, "src", "dst", false, NULL, &count, &err) < 0);
        assert_file("dst", old);
        assert_int_equal(unlink("dst"), 0);
        assert_int_equal(unpack(whole, 1, "src", "dst"), 0);
        assert_file("dst", "new and longer");
}

static void test_garbage_is_refused(void **state) {
        (void)state;
        NB_AUTO_CLOSE int fd = memfd_create("x", MFD_CLOEXEC);
        uint64_t count;
        NB_AUTO_ERROR err = { 0 };
        for (int i = 0; i < 2000; i++)
                assert_int_equal(nb_write_all(fd, "not a tar ", 10), 0);
        (void)lseek(fd, 0, SEEK_SET);
        assert_true(cp_unpack(fd, "d", "out", false, NULL, &count, &err) < 0);
        assert_absent("out");
}

static void test_what_is_packed_comes_out_the_same(void **state) {
        (void)state;
        assert_int_equal(nb_mkdirs("src/a/b", 0755), 0);
        assert_int_equal(nb_write_file_atomic("src/a/b/\xff\xc3\xbc", "odd name", 8, 0640), 0);
        assert_int_equal(nb_write_file_atomic("src/tool", "#!/bin/sh\n", 10, 04755), 0);
        assert_int_equal(symlink("a/b", "src/link"), 0);
        assert_int_equal(mkfifo("src/fifo", 0600), 0);
        NB_AUTO_CLOSE int fd = memfd_create("tar", MFD_CLOEXEC);
        NB_AUTO_ERROR err = { 0 };
        uint64_t count;
        assert_int_equal(cp_pack("src", "./src", fd, NULL, &err), 0);
        (void)lseek(fd, 0, SEEK_SET);
        assert_int_equal(cp_unpack(fd, "src", "copy", false, NULL, &count, &err), 0);
        assert_file("copy/a/b/\xff\xc3\xbc", "odd name");
        struct stat st;
        assert_int_equal(stat("copy/tool", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
        char target[16] = { 0 };
        assert_int_equal(readlink("copy/link", target, sizeof target), 3);
        assert_string_equal(target, "a/b");
        assert_absent("copy/fifo");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_arguments),
                cmocka_unit_test(test_member_names),
                T(test_where_a_file_lands),
                T(test_where_a_folder_lands),
                T(test_modes_and_times),
                T(test_names_that_lead_outside),
                T(test_nothing_is_written_through_a_link),
                T(test_hard_links_stay_inside),
                T(test_devices_are_left_out),
                T(test_what_breaks_off_leaves_the_old_file),
                T(test_garbage_is_refused),
                T(test_what_is_packed_comes_out_the_same),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
