/* Unit tests of images from elsewhere: references, the documents of OCI images, and whole layouts made here, sound and
 * damaged, up to the tar; and what an image says about commands. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "image/source_internal.h"
#include "scratch.h"

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define LAYER_TYPE "application/vnd.oci.image.layer.v1.tar"

/* ---------------------------------------------------------------------------------------------------------- references */
static void reference(const char *base, enum oci_place place, const char *at, const char *tag, const char *digest) {
        __attribute__((cleanup(oci_ref_clear))) struct oci_ref r = { 0 };
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(oci_ref_parse(base, &r, &err), 0);
        assert_int_equal(r.place, place);
        assert_string_equal(r.at, at);
        assert_string_equal(r.tag ? r.tag : "-", tag ? tag : "-");
        assert_string_equal(r.digest ? r.digest : "-", digest ? digest : "-");
}

static void test_references(void **state) {
        (void)state;
        reference("oci:/a/layout", OCI_LAYOUT, "/a/layout", NULL, NULL);
        reference("oci:/a:b/layout:1.2", OCI_LAYOUT, "/a:b/layout", "1.2", NULL);
        reference("oci:docker-archive:/a/x.tar", OCI_ARCHIVE, "/a/x.tar", NULL, NULL);
        reference("oci:docker-archive:/a/x.tar:name:1", OCI_ARCHIVE, "/a/x.tar", "name:1", NULL);
        reference("oci:alpine", OCI_REGISTRY, "alpine", NULL, NULL);
        reference("oci:localhost:5000/a/b", OCI_REGISTRY, "localhost:5000/a/b", NULL, NULL);
        reference("oci:localhost:5000/a/b:x", OCI_REGISTRY, "localhost:5000/a/b", "x", NULL);
        reference("oci:r.example/a@sha256:" HEX_A, OCI_REGISTRY, "r.example/a", NULL, "sha256:" HEX_A);
        static const char *const bad[] = { "oci:",           "oci:-x",      "oci:a b",
                                           "oci:a:",         "oci:/a:",     "oci:a@sha256:12",
                                           "oci:a@sha512:1", "oci:$(x)",    "oci:docker-archive:",
                                           "oci:a\n",        "oci:/a:-;rm", "oci:docker-archive:/a:b c" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
                struct oci_ref r = { 0 };
                NB_AUTO_ERROR err = { 0 };
                assert_int_equal(oci_ref_parse(bad[i], &r, &err), -EINVAL);
                assert_non_null(err.hint);
        }
}

/* ----------------------------------------------------------------------------------------------------------- documents */
static int choose(const char *text, const char *tag, struct oci_entry *ret) {
        NB_AUTO_ERROR err = { 0 };
        return oci_choose(text, strlen(text), tag, ret, &err);
}

#define ENTRY(digit, more) "{\"digest\": \"sha256:" digit "\", \"size\": 1" more "}"
#define OTHER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define PLATFORM(arch) ", \"platform\": {\"os\": \"linux\", \"architecture\": \"" arch "\"}"
#define TAG(tag) ", \"annotations\": {\"org.opencontainers.image.ref.name\": \"" tag "\"}"

static void test_choose(void **state) {
        (void)state;
        struct oci_entry e;
        assert_int_equal(choose("{\"manifests\": [" ENTRY(HEX_A, "") "]}", NULL, &e), 0);
        assert_string_equal(e.blob.sha256, HEX_A);
        static const char two[] = "{\"manifests\": [" ENTRY(OTHER, PLATFORM("arm64")) ", " ENTRY(HEX_A, PLATFORM("amd64")) "]}";
        assert_int_equal(choose(two, NULL, &e), 0);
        assert_string_equal(e.blob.sha256, HEX_A);
        static const char tags[] = "{\"manifests\": [" ENTRY(OTHER, TAG("x")) ", " ENTRY(HEX_A, TAG("y")) "]}";
        assert_int_equal(choose(tags, "x", &e), 0);
        assert_string_equal(e.blob.sha256, OTHER);
        assert_int_equal(choose(tags, NULL, &e), -EINVAL);
        assert_int_equal(choose(tags, "z", &e), -ENOENT);
        assert_int_equal(choose("{\"manifests\": [" ENTRY(HEX_A, ", \"mediaType\": \"" INDEX_TYPE "\"") "]}", NULL, &e), 0);
        assert_true(e.is_index);
        assert_int_equal(choose("{}", NULL, &e), -ENOENT);
        assert_int_equal(choose("{\"manifests\": [1, null, {}]}", NULL, &e), -EBADMSG);
        assert_int_equal(choose("{\"manifests\": [{}]}", NULL, &e), -EBADMSG);
        assert_int_equal(choose("{\"manifests\": [{\"digest\": \"../../x\", \"size\": 1}]}", NULL, &e), -EBADMSG);
        assert_int_equal(choose("{\"manifests\": [{\"digest\": \"sha256:" HEX_A "\", \"size\": -1}]}", NULL, &e), -EBADMSG);
        assert_int_equal(choose("{\"manifests\": [{\"digest\": \"sha512:ab\", \"size\": 1}]}", NULL, &e), -ENOTSUP);
        assert_int_equal(choose("[]", NULL, &e), -EBADMSG);
        assert_int_equal(choose("{", NULL, &e), -EBADMSG);
}

static void test_config(void **state) {
        (void)state;
        static const char good[] =
            "{\"os\": \"linux\", \"architecture\": \"amd64\", \"config\": {\"User\": \"node\", "
            "\"WorkingDir\": \"/app/../srv\", \"Env\": [\"PATH=/x\", \"HOME=/root\", \"bad\", 3, \"A=b=c\"]}}";
        static const char other[] = "{\"os\": \"linux\", \"architecture\": \"arm64\"}";
        __attribute__((cleanup(image_meta_clear))) struct image_meta m = { 0 };
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(oci_parse_config(good, strlen(good), &m, &err), 0);
        assert_string_equal(m.user, "node");
        assert_string_equal(m.workdir, "/srv");
        assert_int_equal(nb_strv_len(m.env), 2);
        assert_string_equal(m.env[0], "PATH=/x");
        assert_string_equal(m.env[1], "A=b=c");
        assert_int_equal(oci_parse_config(other, strlen(other), &m, &err), -ENOEXEC);
        NB_AUTO_FREE char *big = nb_calloc(1, OCI_DOCUMENT_MAX + 2);
        memset(big, ' ', OCI_DOCUMENT_MAX + 1);
        assert_int_equal(oci_parse_config(big, OCI_DOCUMENT_MAX + 1, &m, &err), -EFBIG);
}

static void test_meta(void **state) {
        (void)state;
        __attribute__((cleanup(image_meta_clear))) struct image_meta m = { 0 }, n = { 0 };
        assert_null(image_meta_json(&m));
        assert_int_equal(image_meta_add_env(&m, "A=\n\"x"), 0);
        image_meta_set_workdir(&m, "relative");
        assert_null(m.workdir);
        image_meta_set_workdir(&m, "/w/./x/");
        json_t *json = image_meta_json(&m);
        image_meta_from_json(json, &n);
        assert_string_equal(n.env[0], "A=\n\"x");
        assert_null(n.env[1]);
        assert_string_equal(n.workdir, "/w/x");
        assert_null(n.user);
        json_decref(json);
        NB_AUTO_FREE char *large = nb_calloc(1, META_ENV_BYTES_MAX + 1);
        memset(large, '=', META_ENV_BYTES_MAX);
        large[0] = 'a';
        assert_int_equal(image_meta_add_env(&m, large), -E2BIG);
        image_meta_clear(&n);
        image_meta_from_json(NULL, &n);
        assert_null(n.env);
}

/* ------------------------------------------------------------------------------------------------------ whole layouts */
static char *put_blob(const void *bytes, size_t len) {
        char hex[NB_SHA256_HEX];
        nb_sha256(bytes, len, hex);
        NB_AUTO_FREE char *path = nb_asprintf("layout/blobs/sha256/%s", hex);
        assert_int_equal(nb_write_file_atomic(path, bytes, len, 0600), 0);
        return nb_strdup(hex);
}

/* A layer of one file. */
static char *put_layer(const char *name, const char *text, size_t *ret_size) {
        struct archive *a = archive_write_new();
        struct archive_entry *e = archive_entry_new();
        archive_write_set_format_pax_restricted(a);
        assert_int_equal(archive_write_open_filename(a, "layer.tar"), ARCHIVE_OK);
        archive_entry_set_pathname(e, name);
        archive_entry_set_mode(e, S_IFREG | 0644);
        archive_entry_set_size(e, (int64_t)strlen(text));
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        assert_int_equal(archive_write_data(a, text, strlen(text)), strlen(text));
        archive_entry_free(e);
        archive_write_free(a);
        NB_AUTO_FREE char *tar = NULL;
        assert_int_equal(nb_read_file("layer.tar", 1u << 20, &tar, ret_size), 0);
        return put_blob(tar, *ret_size);
}

struct layout {
        const char *arch;
        const char *type; /* of the index's entry */
        unsigned nested;  /* indexes in the index */
        long wrong_size;  /* added to the layer's */
        bool damage;      /* the layer is changed afterwards */
        const char *cut;  /* remove this blob: "layer", "config", "manifest" */
};

static void remove_blob(const char *hex) {
        NB_AUTO_FREE char *path = nb_asprintf("layout/blobs/sha256/%s", hex);
        assert_int_equal(unlink(path), 0);
}

static char *put_manifest(const struct layout *l) {
        size_t one = 0, two = 0;
        NB_AUTO_FREE char *first = put_layer("etc/a", "1", &one), *second = put_layer("etc/b", "2", &two);
        NB_AUTO_FREE char *config = nb_asprintf(
            "{\"os\": \"linux\", \"architecture\": \"%s\", \"config\": {\"Env\": [\"A=b\"]}}", l->arch ? l->arch : "amd64");
        NB_AUTO_FREE char *config_hex = put_blob(config, strlen(config));
        NB_AUTO_FREE char *text = nb_asprintf("{\"schemaVersion\": 2, \"config\": {\"digest\": \"sha256:%s\", \"size\": %zu}, "
                                              "\"layers\": [{\"mediaType\": \"" LAYER_TYPE
                                              "\", \"digest\": \"sha256:%s\", \"size\": %zu}, {\"mediaType\": \"" LAYER_TYPE
                                              "\", \"digest\": \"sha256:%s\", \"size\": %ld}]}",
                                              config_hex, strlen(config), first, one, second, (long)two + l->wrong_size);
        char *hex = put_blob(text, strlen(text));
        if (l->damage) {
                NB_AUTO_FREE char *path = nb_asprintf("layout/blobs/sha256/%s", second), *bytes = nb_calloc(1, two);
                assert_int_equal(nb_write_file_atomic(path, bytes, two, 0600), 0);
        }
        if (l->cut && strcmp(l->cut, "layer") == 0)
                remove_blob(second);
        if (l->cut && strcmp(l->cut, "config") == 0)
                remove_blob(config_hex);
        if (l->cut && strcmp(l->cut, "manifest") == 0)
                remove_blob(hex);
        return hex;
}

static size_t size_of(const char *hex) {
        struct stat st;
        NB_AUTO_FREE char *path = nb_asprintf("layout/blobs/sha256/%s", hex);
        return stat(path, &st) == 0 ? (size_t)st.st_size : 1;
}

static void make_layout(const struct layout *l) {
        assert_int_equal(nb_remove_tree(AT_FDCWD, "layout"), 0);
        assert_int_equal(nb_mkdirs("layout/blobs/sha256", 0755), 0);
        NB_AUTO_FREE char *hex = put_manifest(l), *text = NULL;
        for (unsigned i = 0; i <= l->nested; i++) {
                free(text);
                text = nb_asprintf("{\"schemaVersion\": 2, \"manifests\": [{\"mediaType\": \"%s\", \"digest\": \"sha256:%s\", "
                                   "\"size\": %zu}]}",
                                   i > 0     ? INDEX_TYPE
                                   : l->type ? l->type
                                             : MANIFEST_TYPE,
                                   hex, size_of(hex));
                free(hex);
                hex = put_blob(text, strlen(text));
        }
        assert_int_equal(nb_write_file_atomic("layout/index.json", text, strlen(text), 0600), 0);
}

struct result {
        struct lock lock;
        struct image_meta meta;
};

static void result_clear(struct result *r) {
        free(r->lock.source);
        free(r->lock.layers);
        image_meta_clear(&r->meta);
}

/* Resolves and builds: out.tar. */
static int use(struct result *ret, struct nb_error *err) {
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        NB_AUTO_FREE char *here = getcwd(NULL, 0), *base = nb_asprintf("oci:%s/layout", here);
        struct config_image c = { .kind = CONFIG_BASE_OCI, .base = base };
        int r = store_open(&s, err);
        if (r == 0)
                r = source_resolve(s, &c, &ret->lock, NULL, err);
        return r == 0 ? source_tar(s, &ret->lock, &c, ".", NULL, "out.tar", &ret->meta, NULL, err) : r;
}

static int try(const struct layout *l) {
        __attribute__((cleanup(result_clear))) struct result r = { 0 };
        NB_AUTO_ERROR err = { 0 };
        make_layout(l);
        (void)nb_remove_tree(AT_FDCWD, "own");
        return use(&r, &err);
}

static void test_layout(void **state) {
        (void)state;
        __attribute__((cleanup(result_clear))) struct result r = { 0 }, again = { 0 };
        NB_AUTO_ERROR err = { 0 };
        make_layout(&(struct layout){ 0 });
        if (use(&r, &err) < 0)
                fail_msg("%s", err.what);
        assert_int_equal(r.lock.n_layers, 2);
        assert_memory_equal(r.lock.source, "sha256:", 7);
        assert_string_equal(r.meta.env ? r.meta.env[0] : "-", "A=b");
        NB_AUTO_FREE char *tar = NULL, *second = NULL;
        size_t len = 0, n = 0;
        assert_int_equal(nb_read_file("out.tar", 1u << 20, &tar, &len), 0);
        assert_non_null(memmem(tar, len, "etc/a", 5));
        assert_non_null(memmem(tar, len, "etc/b", 5));
        /* the same again, from the cache alone */
        assert_int_equal(rename("layout/blobs", "layout/gone"), 0);
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        struct config_image c = { .kind = CONFIG_BASE_OCI, .base = (char *)"oci:/none/at/all" };
        assert_int_equal(store_open(&s, &err), 0);
        assert_int_equal(source_tar(s, &r.lock, &c, ".", NULL, "out.tar", &again.meta, NULL, &err), 0);
        assert_int_equal(nb_read_file("out.tar", 1u << 20, &second, &n), 0);
        assert_int_equal(n, len);
        assert_memory_equal(tar, second, len);
}

/* What is gone from the cache is fetched again; what is damaged there is not used. */
static void test_cache(void **state) {
        (void)state;
        __attribute__((cleanup(result_clear))) struct result r = { 0 }, again = { 0 };
        __attribute__((cleanup(store_freep))) struct store *s = NULL;
        NB_AUTO_ERROR err = { 0 };
        make_layout(&(struct layout){ 0 });
        assert_int_equal(use(&r, &err), 0);
        assert_int_equal(store_open(&s, &err), 0);
        if (!r.lock.layers) /* set on success only */
                return;
        NB_AUTO_FREE char *path = blob_path(s, &r.lock.layers[1]), *here = getcwd(NULL, 0);
        NB_AUTO_FREE char *base = nb_asprintf("oci:%s/layout:moved", here), *zeros = nb_calloc(1, r.lock.layers[1].size);
        struct config_image c = { .kind = CONFIG_BASE_OCI, .base = base };
        assert_int_equal(unlink(path), 0);
        assert_int_equal(source_tar(s, &r.lock, &c, ".", NULL, "out.tar", &again.meta, NULL, &err), 0);
        assert_int_equal(nb_write_file_atomic(path, zeros, r.lock.layers[1].size, 0600), 0);
        image_meta_clear(&again.meta);
        assert_int_equal(source_tar(s, &r.lock, &c, ".", NULL, "out.tar", &again.meta, NULL, &err), -EBADMSG);
        assert_int_equal(source_tar(s, &r.lock, &c, ".", NULL, "out.tar", &again.meta, NULL, &err), 0);
        r.lock.layers[0].size++;
        image_meta_clear(&again.meta);
        assert_int_equal(source_tar(s, &r.lock, &c, ".", NULL, "out.tar", &again.meta, NULL, &err), -EBADMSG);
        assert_non_null(strstr(err.what, LOCK_FILE));
}

static void test_layout_refused(void **state) {
        (void)state;
        assert_int_equal(try(&(struct layout){ 0 }), 0);
        assert_int_equal(try(&(struct layout){ .nested = 3 }), 0);
        assert_int_equal(try(&(struct layout){ .nested = 4 }), -ELOOP);
        assert_int_equal(try(&(struct layout){ .type = INDEX_TYPE }), -ENOENT); /* a manifest names no manifests */
        assert_int_equal(try(&(struct layout){ .wrong_size = 1 }), -EBADMSG);
        assert_int_equal(try(&(struct layout){ .wrong_size = -1 }), -EBADMSG);
        assert_int_equal(try(&(struct layout){ .damage = true }), -EBADMSG);
        assert_int_equal(try(&(struct layout){ .arch = "arm64" }), -ENOEXEC);
        assert_int_equal(try(&(struct layout){ .cut = "layer" }), -ENOENT);
        assert_int_equal(try(&(struct layout){ .cut = "config" }), -ENOENT);
        assert_int_equal(try(&(struct layout){ .cut = "manifest" }), -ENOENT);
}

static void test_packages_refused(void **state) {
        (void)state;
        char *packages[] = { (char *)"git", NULL };
        struct config_image c = { .kind = CONFIG_BASE_DIR, .base = (char *)"dir:/x", .packages = packages };
        NB_AUTO_ERROR err = { 0 };
        assert_int_equal(source_check(&c, &err), -ENOTSUP);
        assert_non_null(err.hint);
        c.packages = NULL;
        assert_int_equal(source_check(&c, &err), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, scratch_set_up, scratch_tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_references), TEST(test_choose), TEST(test_config),         TEST(test_meta),
                TEST(test_layout),     TEST(test_cache),  TEST(test_layout_refused), TEST(test_packages_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
