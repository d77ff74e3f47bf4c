/* Unit tests of npm packages: what npm's lock may hold, what the config makes of it, the layer of files, and the script. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/text.h"
#include "image/fetch.h"
#include "image/npm.h"
#include "scratch.h"

#define A86 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define GOOD_HASH "sha512-" A86 "=="
#define HEAD "{\"lockfileVersion\": 3, \"packages\": {\"\": {}, "
#define URL "\"resolved\": \"https://r.example/x.tgz\""
#define PACKAGE(more) "{" URL ", \"version\": \"1.2.3\", \"integrity\": \"" GOOD_HASH "\"" more "}"
#define AUTO_LIST __attribute__((cleanup(list_freep))) struct lock_npm
#define LISTING_MAX 65536u

static void list_freep(struct lock_npm **l) {
        lock_npm_free(*l);
}

/* ---- the lock that npm writes */

/* The list as text: "PATH=NAME:COMMAND=FILE,…!;", with "!" for scripts. */
static char *shown(const struct lock_npm *list) {
        NB_AUTO_BUF b = { 0 };
        for (; list; list = list->next) {
                NB_AUTO_FREE char *one = nb_asprintf("%s%s%s", list->path + strlen("node_modules/"), list->name ? "=" : "",
                                                     list->name ? list->name : "");
                nb_buf_add(&b, one, strlen(one));
                for (size_t i = 0; list->bin && list->bin[i]; i++) {
                        nb_buf_add(&b, i ? "," : ":", 1);
                        nb_buf_add(&b, list->bin[i], strlen(list->bin[i]));
                }
                nb_buf_add(&b, list->scripts ? "!;" : ";", list->scripts ? 2 : 1);
        }
        return nb_strndup(b.len ? (const char *)nb_buf_bytes(&b) : "", b.len);
}

static void parses(const char *text, const struct config_image *c, const char *expected) {
        NB_AUTO_ERROR err = { 0 };
        AUTO_LIST *list = NULL;
        if (npm_parse(text, strlen(text), c, &list, &err) < 0)
                fail_msg("%s: %s", text, err.what);
        NB_AUTO_FREE char *got = shown(list);
        assert_string_equal(got, expected);
}

static void refuses(const char *text, const struct config_image *c, const char *why) {
        NB_AUTO_ERROR err = { 0 };
        AUTO_LIST *list = NULL;
        if (npm_parse(text, strlen(text), c, &list, &err) == 0)
                fail_msg("accepted: %s", text);
        assert_null(list);
        if (!strstr(err.what, why))
                fail_msg("%s\n said: %s\n not: %s", text, err.what, why);
}

static void test_parse(void **state) {
        (void)state;
        char *npm[] = { "@s/b@^1", "a", NULL };
        const struct config_image c = { .npm = npm };
        parses(HEAD "\"node_modules/a/node_modules/c\": " PACKAGE(
                   ", \"bin\": {\"c\": \"c.js\"}") ", "
                                                   "\"node_modules/a\": " PACKAGE(
                                                       ", \"bin\": {\"z\": \"./z.js\", \"a\": "
                                                       "\"bin/a.js\"}") ", "
                                                                        "\"node_modules/c\": " PACKAGE(
                                                                            ", \"bin\": {\"c\": "
                                                                            "\"c.js\"}") ", "
                                                                                         "\"node_"
                                                                                         "modules/a/"
                                                                                         "node_modules/"
                                                                                         "in\": "
                                                                                         "{\"version\":"
                                                                                         " \"1.0.0\", "
                                                                                         "\"inBundle\":"
                                                                                         " true}, "
                                                                                         "\"node_"
                                                                                         "modules/@s/"
                                                                                         "b\":"
                                                                                         " " PACKAGE("") "}}",
               &c, "@s/b=@s/b@^1;a=a:a=bin/a.js,z=z.js;a/node_modules/c;c:c=c.js;");
        parses("{\"lockfileVersion\": 2, \"packages\": {}, \"dependencies\": {}}", &(const struct config_image){ 0 }, "");
}

/* What is for other machines is left out, and so is what lies in it. */
static void test_platforms(void **state) {
        (void)state;
        static const struct {
                const char *name, *what;
                bool taken;
        } cases[] = {
                { "x", "\"os\": [\"linux\"], \"cpu\": [\"x64\"], \"libc\": [\"glibc\"]", true },
                { "x", "\"os\": [\"linux\"], \"cpu\": [\"x64\", \"arm64\"]", true },
                { "x", "\"os\": [\"!win32\"]", true },
                { "x", "\"os\": [\"any\"]", true },
                { "x", "\"os\": \"linux\"", true },
                { "x-musl", "\"license\": \"MIT\"", true },
                { "x", "\"os\": [\"darwin\"]", false },
                { "x", "\"os\": [\"!linux\"]", false },
                { "x", "\"cpu\": [\"arm64\"]", false },
                { "x", "\"libc\": [\"musl\"]", false },
                { "x-linuxmusl-x64", "\"os\": [\"linux\"], \"cpu\": [\"x64\"]", false },
        };
        const struct config_image c = { 0 };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *text = nb_asprintf(
                    HEAD
                    "\"node_modules/%s\": {" URL ", \"version\": \"1.0.0\", \"integrity\": \"" GOOD_HASH
                    "\", \"optional\": true, %s}, \"node_modules/%s/node_modules/y\": " PACKAGE(", \"optional\": true") "}}",
                    cases[i].name, cases[i].what, cases[i].name);
                NB_AUTO_FREE char *all = nb_asprintf("%s;%s/node_modules/y;", cases[i].name, cases[i].name);
                parses(text, &c, cases[i].taken ? all : "");
        }
        refuses(HEAD "\"node_modules/x\": " PACKAGE(", \"os\": [\"darwin\"]") "}}", &c, "not for Linux on x86-64");
}

static void test_refused(void **state) {
        (void)state;
        static const char *const cases[][2] = {
                { "", "no package-lock.json" },
                { "[]", "no package-lock.json" },
                { "{\"lockfileVersion\": 1, \"packages\": {}}", "no package-lock.json" },
                { "{\"lockfileVersion\": 3, \"packages\": []}", "no package-lock.json" },
                { HEAD "\"x\": " PACKAGE("") "}}", "not where a package can be" },
                { HEAD "\"/node_modules/x\": " PACKAGE("") "}}", "not where a package can be" },
                { HEAD "\"node_modules/..\": " PACKAGE("") "}}", "not where a package can be" },
                { HEAD "\"node_modules/.bin\": " PACKAGE("") "}}", "not where a package can be" },
                { HEAD "\"node_modules/x/../../y\": " PACKAGE("") "}}", "not where a package can be" },
                { HEAD "\"node_modules/x/\": " PACKAGE("") "}}", "not where a package can be" },
                { HEAD "\"node_modules/x/lib/node_modules/y\": " PACKAGE("") "}}", "not where a package can be" },
                { HEAD "\"node_modules/@x\": " PACKAGE("") "}}", "not where a package can be" },
                { HEAD "\"node_modules/a b\": " PACKAGE("") "}}", "not where a package can be" },
                { HEAD "\"node_modules/x\": []}}", "not where a package can be" },
                { HEAD "\"node_modules/x\": {\"link\": true, \"resolved\": \"../x\"}}}", "not come from a registry" },
                { HEAD "\"node_modules/x\": {\"version\": \"1.0.0\"}}}", "x: it does not come from a registry" },
                { HEAD "\"node_modules/x\": {\"resolved\": \"git+ssh://h/x\", \"version\": \"1.0.0\"}}}",
                  "begins with https://" },
                { HEAD "\"node_modules/x\": {\"resolved\": \"file:x.tgz\", \"version\": \"1.0.0\"}}}", "begins with https://" },
                { HEAD "\"node_modules/x\": {\"resolved\": \"https://h/a b\", \"version\": \"1.0.0\"}}}",
                  "begins with https://" },
                { HEAD "\"node_modules/x\": {" URL ", \"version\": \"../1\"}}}", "its version" },
                { HEAD "\"node_modules/x\": {" URL ", \"version\": \"1.0.0\"}}}", "no SHA-512 hash" },
                { HEAD "\"node_modules/x\": {" URL
                       ", \"version\": \"1.0.0\", \"integrity\": \"sha1-Kq5sNclPz7QV2+lfQIuc6R7oRu0=\"}}}",
                  "@" },
                { HEAD "\"node_modules/x\": " PACKAGE(", \"bin\": [\"x\"]") "}}", "list of commands" },
                { HEAD "\"node_modules/x\": " PACKAGE(", \"bin\": {\"../x\": \"x\"}") "}}", "command that cannot be one" },
                { HEAD "\"node_modules/x\": " PACKAGE(", \"bin\": {\"x\": \"../../x\"}") "}}", "command that cannot be one" },
                { HEAD "\"node_modules/x\": " PACKAGE(", \"bin\": {\"x\": \"/x\"}") "}}", "command that cannot be one" },
                { HEAD "\"node_modules/x\": " PACKAGE(", \"bin\": {\"x\": 1}") "}}", "command that cannot be one" },
        };
        const struct config_image c = { 0 };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++)
                refuses(cases[i][0], &c, *cases[i][1] == '@' ? "x: the registry has only a SHA-1 hash of it" : cases[i][1]);
        char *npm[] = { "gone", NULL };
        refuses(HEAD "\"node_modules/x\": " PACKAGE("") "}}", &(const struct config_image){ .npm = npm },
                "left out the package gone");
}

/* Scripts and commands that the config names. */
static void test_named(void **state) {
        (void)state;
        static const char text[] = HEAD "\"node_modules/a\": " PACKAGE(
            ", \"bin\": {\"t\": \"t.js\", \"u\": \"u.js\"}") ", "
                                                             "\"node_modules/b\": " PACKAGE(
                                                                 ", \"bin\": {\"t\": \"t.js\"}") ", "
                                                                                                 "\"node_modules/a/"
                                                                                                 "node_modules/n\": " PACKAGE(
                                                                                                     "") ", "
                                                                                                         "\"node_modules/"
                                                                                                         "n\": " PACKAGE(
                                                                                                             ", \"bin\": "
                                                                                                             "{\"n\": "
                                                                                                             "\"n.js\"}") "}}";
        char *npm[] = { "a", "b", NULL };
        struct config_npm_bin bin[] = { { "t", "n", "x/t", { "f", 3, 4 } } };
        struct config_npm_script scripts[] = { { "n", { "f", 1, 2 } } };
        struct config_image c = { .npm = npm };
        refuses(text, &c, "the npm packages a and b both bring the command t");
        c.npm_bin = bin;
        c.n_npm_bin = 1;
        parses(text, &c, "a=a:u=u.js;a/node_modules/n;b=b;n=n:t=x/t;");
        bin[0].package = "b";
        c.npm_scripts = scripts;
        c.n_npm_scripts = 1;
        parses(text, &c, "a=a:u=u.js;a/node_modules/n!;b=b:t=x/t;n:n=n.js!;");
        scripts[0].package = "none";
        refuses(text, &c, "f:1:2: none is not among the npm packages");
        c.n_npm_scripts = 0;
        bin[0].package = "none";
        refuses(text, &c, "f:3:4: none is not among the npm packages");
}

static void test_hash(void **state) {
        (void)state;
        NB_AUTO_FREE char *zeros = npm_hash(GOOD_HASH);
        assert_int_equal(strlen(zeros), strlen("sha512:") + 128);
        assert_int_equal(strspn(zeros + 7, "0"), 128);
        static const char *const bad[] = { "",
                                           "sha512-",
                                           "sha512-" A86,
                                           "sha256-" A86 "==",
                                           "sha512-" A86 "=",
                                           GOOD_HASH "x",
                                           "sha512-" A86 "==?x",
                                           "sha512-!" A86 "=" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                assert_null(npm_hash(bad[i]));
}

static void test_complaint(void **state) {
        (void)state;
        NB_AUTO_FREE char *nine = npm_complaint("npm failed with status 1: npm ERR! code E404\n"
                                                "npm ERR! 404 Not Found - GET http://r/x - no such package\n"
                                                "npm ERR! 404 \nnpm ERR! A complete log of this run can be found in:\n");
        assert_string_equal(nine, "404 Not Found - GET http://r/x - no such package");
        NB_AUTO_FREE char *eleven = npm_complaint("npm error code ETARGET\nnpm error notarget No matching version\033[1m\n");
        assert_string_equal(eleven, "notarget No matching version\\x1b[1m");
        assert_null(npm_complaint("npm warn x\n"));
}

/* ---- the layer */

struct member {
        const char *name, *text, *link; /* `link`: what it points to */
        unsigned mode;
        bool hard;
};

/* Puts a tarball where the cache has it, under the hash that the number stands for; returns that as integrity. */
static const char *tarball(const struct store *s, unsigned number, const struct member *m, size_t n, char integrity[96]) {
        (void)snprintf(integrity, 96, "%s", GOOD_HASH);
        integrity[7] = (char)('A' + number);
        NB_AUTO_FREE char *hash = npm_hash(integrity), *path = fetch_path(s, hash);
        NB_AUTO_FREE char *above = nb_strndup(path, (size_t)(strrchr(path, '/') - path));
        assert_int_equal(nb_mkdirs(above, 0700), 0);
        struct archive *a = archive_write_new();
        struct archive_entry *e = archive_entry_new();
        archive_write_set_format_pax_restricted(a);
        archive_write_add_filter_gzip(a);
        assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
        for (size_t i = 0; i < n; i++) {
                archive_entry_clear(e);
                archive_entry_set_pathname(e, m[i].name);
                archive_entry_set_mode(e, (m[i].link && !m[i].hard ? S_IFLNK : S_IFREG) | m[i].mode);
                archive_entry_set_uid(e, 1000);
                archive_entry_set_mtime(e, 12345 + (time_t)i, 0);
                archive_entry_set_size(e, m[i].text ? (int64_t)strlen(m[i].text) : 0);
                if (m[i].link && m[i].hard)
                        archive_entry_set_hardlink(e, m[i].link);
                else if (m[i].link)
                        archive_entry_set_symlink(e, m[i].link);
                assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
                if (m[i].text)
                        assert_int_equal(archive_write_data(a, m[i].text, strlen(m[i].text)), (int)strlen(m[i].text));
        }
        archive_entry_free(e);
        assert_int_equal(archive_write_close(a), ARCHIVE_OK);
        archive_write_free(a);
        return integrity;
}

/* Files and links of a tar, "MODE NAME -> TARGET" a line. */
static char *listing(const char *tar) {
        NB_AUTO_BUF b = { 0 };
        struct archive *a = archive_read_new();
        struct archive_entry *e;
        archive_read_support_format_tar(a);
        assert_int_equal(archive_read_open_filename(a, tar, 4096), ARCHIVE_OK);
        while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
                const char *to = archive_entry_symlink(e);
                assert_int_equal(archive_entry_uid(e), 0);
                if (archive_entry_filetype(e) == S_IFDIR)
                        continue;
                NB_AUTO_FREE char *line = nb_asprintf("%03o %s%s%s\n", archive_entry_perm(e), archive_entry_pathname(e),
                                                      to ? " -> " : "", to ? to : "");
                nb_buf_add(&b, line, strlen(line));
        }
        archive_read_free(a);
        return nb_strndup((const char *)nb_buf_bytes(&b), b.len);
}

static void test_layer(void **state) {
        (void)state;
        static const struct member a[] = { { "package/package.json",
                                             "{\"scripts\": {\"install\": \"echo it's; :\", \"test\": \"no\"}}", NULL, 0600,
                                             false },
                                           { "package/cli.js", "x", NULL, 0644, false },
                                           { "package/run", "x", NULL, 0711, false },
                                           { "package/etc", NULL, "/etc", 0777, false },
                                           { "package/etc/passwd", "in its own folder", NULL, 0666, false },
                                           { "package/hard", NULL, "package/run", 0777, true } };
        static const struct member b[] = {
                { "other-name/package.json",
                  "\xef\xbb\xbf{\"scripts\": {\"postinstall\": \"p\", \"preinstall\": \"q\", \"install\": 1}}", NULL, 0644,
                  false }
        };
        NB_AUTO_ERROR err = { 0 };
        char one[96], two[96];
        struct store s = { .data = scratch_dir, .cache = scratch_dir };
        char *bin_a[] = { "tool=cli.js", NULL }, *bin_b[] = { "later=made.js", "tool=x", NULL };
        struct lock_npm second = { .path = "node_modules/b",
                                   .version = "2.0.0",
                                   .integrity = (char *)tarball(&s, 1, b, NB_ARRAY_LEN(b), two),
                                   .bin = bin_b,
                                   .scripts = true };
        struct lock_npm first = { .path = "node_modules/@s/a",
                                  .name = "@s/a@^1",
                                  .version = "1.0.0",
                                  .integrity = (char *)tarball(&s, 0, a, NB_ARRAY_LEN(a), one),
                                  .bin = bin_a,
                                  .scripts = true,
                                  .next = &second };
        NB_AUTO_FREE char *tar = NULL, *script = NULL;
        assert_int_equal(npm_layer(&s, &first, scratch_dir, &tar, &script, &err), 0);
        NB_AUTO_FREE char *got = listing(tar);
        assert_string_equal(got, "777 usr/local/bin/tool -> ../lib/node_modules/@s/a/cli.js\n"
                                 "777 usr/local/lib/node_modules/.bin/later -> ../b/made.js\n"
                                 "777 usr/local/lib/node_modules/.bin/tool -> ../@s/a/cli.js\n"
                                 "755 usr/local/lib/node_modules/@s/a/cli.js\n"
                                 "644 usr/local/lib/node_modules/@s/a/etc/passwd\n"
                                 "644 usr/local/lib/node_modules/@s/a/package.json\n"
                                 "755 usr/local/lib/node_modules/@s/a/run\n"
                                 "644 usr/local/lib/node_modules/b/package.json\n");
        const char *runs = strstr(script, "\nrun '");
        assert_string_equal(runs, "\nrun 'node_modules/b' 'preinstall' '2.0.0' 'q'\n"
                                  "run 'node_modules/b' 'postinstall' '2.0.0' 'p'\n"
                                  "run 'node_modules/@s/a' 'install' '1.0.0' 'echo it'\\''s; :'\n"
                                  "cd /\nrm -rf \"$HOME\"\n");
        /* without being listed none is run */
        first.scripts = second.scripts = false;
        NB_AUTO_FREE char *again = NULL, *none = NULL, *before = NULL, *after = NULL;
        size_t len = 0, again_len = 0;
        assert_int_equal(nb_read_file(tar, LISTING_MAX, &before, &len), 0);
        assert_int_equal(npm_layer(&s, &first, scratch_dir, &again, &none, &err), 0);
        assert_null(none);
        assert_int_equal(nb_read_file(again, LISTING_MAX, &after, &again_len), 0);
        assert_int_equal(again_len, len);
        assert_memory_equal(after, before, len);
}

static void test_hostile_tarballs(void **state) {
        (void)state;
        static const struct member cases[] = { { "../../../../../etc/passwd", "x", NULL, 0644, false },
                                               { "package/../../b/index.js", "x", NULL, 0644, false } };
        struct store s = { .data = scratch_dir, .cache = scratch_dir };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_ERROR err = { 0 };
                NB_AUTO_FREE char *tar = NULL, *script = NULL;
                char hash[96];
                struct lock_npm p = { .path = "node_modules/a", .integrity = (char *)tarball(&s, 0, &cases[i], 1, hash) };
                assert_int_equal(npm_layer(&s, &p, scratch_dir, &tar, &script, &err), -EBADMSG);
                assert_non_null(strstr(err.what, "cannot unpack the npm package a"));
        }
}

/* What a package.json says reaches the shell as one word, and fails or not by itself. */
static void test_script_runs(void **state) {
        (void)state;
        static const char manifest[] = "{\"scripts\": {\"install\": \"printf '%s\\\\n' \\\"$npm_package_name\\\" 'a'\\\\''b' "
                                       "\\\"$(pwd)\\\" '$x' `echo \\\\$`\","
                                       " \"postinstall\": \"exit 3\"}}";
        const struct member m[] = { { "package/package.json", manifest, NULL, 0644, false } };
        static const struct tree_limits limits = { 1u << 20, 100 };
        NB_AUTO_ERROR err = { 0 };
        char hash[96];
        struct store s = { .data = scratch_dir, .cache = scratch_dir };
        struct lock_npm p = {
                .path = "node_modules/a", .version = "1.0.0", .integrity = (char *)tarball(&s, 0, m, 1, hash), .scripts = true
        };
        __attribute__((cleanup(tree_freep))) struct tree *t = NULL;
        NB_AUTO_FREE char *script = NULL, *out = NULL;
        assert_int_equal(tree_new(scratch_dir, &limits, &t, &err), 0);
        assert_int_equal(npm_add(&s, &p, t, &err), 0);
        assert_int_equal(npm_script(&p, t, &script, &err), 0);
        NB_AUTO_FREE char *folder = nb_asprintf("%s/node_modules/a", scratch_dir);
        assert_int_equal(nb_mkdirs(folder, 0755), 0);
        char *place = strstr(script, "lib=/usr/local/lib");
        assert_non_null(place);
        NB_AUTO_FREE char *moved =
            nb_asprintf("%.*slib=%s%s", (int)(place - script), script, scratch_dir, place + strlen("lib=/usr/local/lib"));
        char *argv[] = { "sh", "-c", "sh -c \"$1\"; echo $?", "sh", moved, NULL };
        const struct proc_spec spec = { .argv = argv, .output_max = LISTING_MAX, .stderr_fd = -1 };
        assert_int_equal(proc_run(&spec, &out, NULL, &err), 0);
        NB_AUTO_FREE char *expected = nb_asprintf("a\na'b\n%s\n$x\n$\n1\n", folder);
        assert_string_equal(out, expected);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse),
                cmocka_unit_test(test_platforms),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_named),
                cmocka_unit_test(test_hash),
                cmocka_unit_test(test_complaint),
                cmocka_unit_test_setup_teardown(test_layer, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_hostile_tarballs, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_script_runs, scratch_set_up, scratch_tear_down),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
