/* Unit tests of bills of materials: licences from copyright files, and an SPDX document that keeps the rules of its version. */
#include <errno.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/text.h"
#include "image/copyright.h"
#include "image/sbom.h"

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define HEX_C "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define ZEROS64 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
#define FORMAT "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"

/* ---- licences */

static void check_licence(const char *text, const char *expected) {
        NB_AUTO_FREE char *got = copyright_expression(text, strlen(text));
        if (expected)
                assert_string_equal(got ? got : "(none)", expected);
        else
                assert_null(got);
}

static void test_names(void **state) {
        (void)state;
        static const struct {
                const char *debian, *spdx;
        } cases[] = {
                { "Expat", "MIT" },
                { "GPL-2", "GPL-2.0-only" },
                { "GPL-2+", "GPL-2.0-or-later" },
                { "gpl-3.0+", "GPL-3.0-or-later" },
                { "LGPL-2.1+", "LGPL-2.1-or-later" },
                { "LGPL-2", "LGPL-2.0-only" },
                { "GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later" },
                { "bsd-3-Clause", "BSD-3-Clause" },
                { "GPL-9", "LicenseRef-GPL-9" },
                { "GPL-", "LicenseRef-GPL-" },
                { "MIT", "LicenseRef-MIT" }, /* stands for several texts */
                { "public-domain", "LicenseRef-public-domain" },
                { "BSD-3-clause~Google", "LicenseRef-BSD-3-clause-Google" },
                { "GPL-2+ with OpenSSL exception", "LicenseRef-GPL-2--with-OpenSSL-exception" },
                { "GPL-1+ or Artistic", "GPL-1.0-or-later OR LicenseRef-Artistic" },
                { "GPL-2 and Expat", "GPL-2.0-only AND MIT" },
                { "GPL-2+ or ISC and Zlib", "GPL-2.0-or-later OR (ISC AND Zlib)" },
                { "GPL-2+ or ISC, and Zlib", "(GPL-2.0-or-later OR ISC) AND Zlib" },
                { "\xc3\xa9t\xc3\xa9", "LicenseRef---t--" },
                { "do what you like", "LicenseRef-without-name" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *text = nb_asprintf(FORMAT "Files: *\nCopyright: x\nLicense: %s\n", cases[i].debian);
                check_licence(text, cases[i].spdx);
        }
}

static void test_files(void **state) {
        (void)state;
        check_licence(FORMAT
                      "Files: *\nLicense: ISC\n a text\n .\n License: of nothing\n\nFiles: b\nCopyright: y\nLicense: GPL-2 or "
                      "Expat\n\nFiles: c\nLicense: ISC\n\nLicense: Zlib\n only its text\n",
                      "(GPL-2.0-only OR MIT) AND ISC");
        check_licence(FORMAT "Files: *\nLicense: ISC and Zlib\n\nFiles: b\nLicense: Zlib\n", "ISC AND Zlib");
        check_licence("This package was debianized by hand.\nLicense: GPL-2\n", NULL);
        check_licence(FORMAT, NULL);
        check_licence(FORMAT "Files: *\nLicense:\n GPL-2\n", NULL);
        check_licence("", NULL);
        check_licence("Format:", NULL);
        check_licence(FORMAT "Files: *\r\nLicense: ISC\r\n", "ISC");
        check_licence(FORMAT "Files: *\nLicense: ,\n", "LicenseRef-without-name");
}

/* ---- documents */

static char *licence_of(void *user, const struct lock_package *p) {
        (void)user;
        if (strcmp(p->name, "libc6") == 0)
                return NULL;
        return nb_strdup(strcmp(p->name, "libstdc++6") == 0 ? "GPL-3.0-or-later AND LicenseRef-odd" : "MIT AND LicenseRef-odd");
}

static struct lock_package packages[] = {
        { (char *)"libstdc++6", (char *)"1:14.2.0-19+b1", (char *)"amd64", (char *)"pool/main/g/gcc/libstdc++6_14_amd64.deb",
          (char *)"debian", HEX_A, 10 },
        { (char *)"libc6", (char *)"2.41-12~x", (char *)"amd64", (char *)"pool/updates/main/g/glibc/libc6_2_amd64.deb",
          (char *)"debian-security", HEX_B, 20 },
        { (char *)"tree", (char *)"2.1", (char *)"all", (char *)"pool/main/t/tree/tree_2_all.deb", (char *)"debian", HEX_C,
          30 },
};
static struct lock_npm inner = { .path = (char *)"node_modules/@a/b/node_modules/c",
                                 .version = (char *)"1.0.0",
                                 .url = (char *)"https://registry.npmjs.org/c/-/c-1.0.0.tgz",
                                 .integrity = (char *)"sha512-broken" };
static struct lock_npm outer = { .path = (char *)"node_modules/@a/b",
                                 .name = (char *)"@a/b",
                                 .version = (char *)"1.2.3",
                                 .url = (char *)"https://registry.npmjs.org/@a/b/-/b-1.2.3.tgz",
                                 .integrity = (char *)("sha512-" ZEROS64),
                                 .next = &inner };
static struct lock_blob layer = { HEX_C, 7 };

static struct lock example(void) {
        return (struct lock){ .resolved = (char *)"2025-11-26T23:40:00Z",
                              .digest = (char *)"sha256:" HEX_A,
                              .runtime_digest = (char *)"sha256:" HEX_B,
                              .base = { packages, 2 },
                              .packages = { packages + 2, 1 },
                              .runtime = { packages, 3 }, /* all of it once more */
                              .npm = &outer,
                              .layers = &layer,
                              .n_layers = 1 };
}

static const char *text_of(const json_t *object, const char *key) {
        const char *text = json_string_value(json_object_get(object, key));
        if (!text)
                fail_msg("there is no %s", key);
        return text;
}

static bool matches(const char *text, const char *pattern) {
        regex_t re;
        assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
        bool yes = regexec(&re, text, 0, NULL, 0) == 0;
        regfree(&re);
        if (!yes)
                print_message("'%s' is not %s\n", text, pattern);
        return yes;
}

static const json_t *find(const json_t *doc, const char *name) {
        size_t i;
        json_t *p;
        json_array_foreach(json_object_get(doc, "packages"), i, p) {
                if (strcmp(text_of(p, "name"), name) == 0)
                        return p;
        }
        fail_msg("there is no package %s", name);
        return NULL;
}

/* What SPDX 2.3 requires of a package, and what its values may be. */
static void check_package(const json_t *p, json_t *ids) {
        const char *id = text_of(p, "SPDXID");
        assert_true(matches(id, "^SPDXRef-[A-Za-z0-9.-]+$"));
        assert_null(json_object_get(ids, id));
        (void)json_object_set_new(ids, id, json_true());
        assert_true(strlen(text_of(p, "name")) > 0);
        assert_true(matches(text_of(p, "downloadLocation"), "^(NOASSERTION|https://[^ ]+)$"));
        assert_true(json_is_false(json_object_get(p, "filesAnalyzed")));
        assert_true(matches(text_of(p, "licenseConcluded"), "^NOASSERTION$"));
        assert_true(matches(text_of(p, "licenseDeclared"), "^(NOASSERTION|[A-Za-z0-9.() -]+)$"));
        assert_true(strlen(text_of(p, "copyrightText")) > 0);
        size_t i;
        json_t *sum, *ref;
        json_array_foreach(json_object_get(p, "checksums"), i, sum) {
                bool wide = strcmp(text_of(sum, "algorithm"), "SHA512") == 0;
                assert_true(wide || strcmp(text_of(sum, "algorithm"), "SHA256") == 0);
                assert_true(matches(text_of(sum, "checksumValue"), wide ? "^[0-9a-f]{128}$" : "^[0-9a-f]{64}$"));
        }
        json_array_foreach(json_object_get(p, "externalRefs"), i, ref) {
                assert_string_equal(text_of(ref, "referenceCategory"), "PACKAGE-MANAGER");
                assert_string_equal(text_of(ref, "referenceType"), "purl");
                assert_true(matches(text_of(ref, "referenceLocator"),
                                    "^pkg:(deb/debian|npm)(/[A-Za-z0-9._~%-]+){1,2}@[A-Za-z0-9._~%-]+([?]arch=[a-z0-9]+)?$"));
        }
        if (json_object_get(p, "supplier"))
                assert_true(matches(text_of(p, "supplier"), "^(NOASSERTION|(Person|Organization): .+)$"));
}

/* Every LicenseRef is defined, and the other way round. */
static void check_licences(const json_t *doc) {
        NB_AUTO_FREE char *text = json_dumps(json_object_get(doc, "packages"), 0);
        json_t *info;
        size_t i;
        json_array_foreach(json_object_get(doc, "hasExtractedLicensingInfos"), i, info) {
                assert_true(matches(text_of(info, "licenseId"), "^LicenseRef-[A-Za-z0-9.-]+$"));
                assert_non_null(strstr(text, text_of(info, "licenseId")));
                assert_true(strlen(text_of(info, "extractedText")) > 0);
        }
        assert_int_equal(i, strstr(text, "LicenseRef-") ? 1 : 0);
}

static void check_document(const json_t *doc) {
        assert_string_equal(text_of(doc, "spdxVersion"), "SPDX-2.3");
        assert_string_equal(text_of(doc, "dataLicense"), "CC0-1.0");
        assert_string_equal(text_of(doc, "SPDXID"), "SPDXRef-DOCUMENT");
        assert_true(matches(text_of(doc, "documentNamespace"), "^https://[^ #]+$"));
        const json_t *info = json_object_get(doc, "creationInfo");
        assert_true(matches(text_of(info, "created"), "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"));
        assert_true(matches(json_string_value(json_array_get(json_object_get(info, "creators"), 0)), "^Tool: .+"));
        json_t *ids = json_object(), *p, *r;
        size_t i, described = 0;
        (void)json_object_set_new(ids, "SPDXRef-DOCUMENT", json_true());
        json_array_foreach(json_object_get(doc, "packages"), i, p) {
                check_package(p, ids);
        }
        json_array_foreach(json_object_get(doc, "relationships"), i, r) {
                assert_non_null(json_object_get(ids, text_of(r, "spdxElementId")));
                assert_non_null(json_object_get(ids, text_of(r, "relatedSpdxElement")));
                assert_true(matches(text_of(r, "relationshipType"), "^(DESCRIBES|CONTAINS|DEPENDS_ON)$"));
                described += strcmp(text_of(r, "relationshipType"), "DESCRIBES") == 0;
        }
        assert_int_equal(described, 1);
        check_licences(doc);
        json_decref(ids);
}

static void test_document(void **state) {
        (void)state;
        struct lock l = example();
        json_t *doc = NULL;
        assert_int_equal(sbom_document(&l, licence_of, NULL, &doc, NULL), 0);
        check_document(doc);
        assert_int_equal(json_array_size(json_object_get(doc, "packages")), 3 + 3 + 2 + 1);
        const json_t *p = find(doc, "libstdc++6");
        assert_string_equal(text_of(p, "versionInfo"), "1:14.2.0-19+b1");
        assert_string_equal(text_of(p, "licenseDeclared"), "GPL-3.0-or-later AND LicenseRef-odd");
        assert_string_equal(text_of(p, "downloadLocation"),
                            "https://deb.debian.org/debian/pool/main/g/gcc/libstdc++6_14_amd64.deb");
        assert_string_equal(text_of(json_array_get(json_object_get(p, "externalRefs"), 0), "referenceLocator"),
                            "pkg:deb/debian/libstdc%2B%2B6@1%3A14.2.0-19%2Bb1?arch=amd64");
        assert_string_equal(text_of(find(doc, "libc6"), "licenseDeclared"), "NOASSERTION");
        assert_true(nb_starts_with(text_of(find(doc, "libc6"), "downloadLocation"), "https://deb.debian.org/debian-security/"));
        p = find(doc, "@a/b");
        assert_string_equal(text_of(json_array_get(json_object_get(p, "externalRefs"), 0), "referenceLocator"),
                            "pkg:npm/%40a/b@1.2.3");
        assert_int_equal(json_array_size(json_object_get(p, "checksums")), 1);
        assert_int_equal(json_array_size(json_object_get(find(doc, "c"), "checksums")),
                         0); /* no hash rather than a false one */
        json_decref(doc);
}

static void test_same_bytes(void **state) {
        (void)state;
        struct lock l = example();
        json_t *docs[2];
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(sbom_document(&l, licence_of, NULL, &docs[i], NULL), 0);
        NB_AUTO_FREE char *a = json_dumps(docs[0], JSON_INDENT(2)), *b = json_dumps(docs[1], JSON_INDENT(2));
        assert_string_equal(a, b);
        json_decref(docs[0]);
        json_decref(docs[1]);
}

static void test_without_licences(void **state) {
        (void)state;
        struct lock l = example();
        json_t *doc = NULL;
        assert_int_equal(sbom_document(&l, NULL, NULL, &doc, NULL), 0);
        check_document(doc);
        assert_null(json_object_get(doc, "hasExtractedLicensingInfos"));
        json_decref(doc);
}

static void test_not_built(void **state) {
        (void)state;
        struct lock l = example();
        NB_AUTO_ERROR err = { 0 };
        json_t *doc = NULL;
        l.digest = NULL;
        assert_int_equal(sbom_document(&l, licence_of, NULL, &doc, &err), -ENOENT);
        assert_non_null(strstr(err.hint, "nixbox image build"));
}

static void test_table(void **state) {
        (void)state;
        struct lock l = example();
        NB_AUTO_FREE char *text = sbom_licences(&l, licence_of, NULL);
        assert_non_null(strstr(text, "libc6 "));
        assert_non_null(strstr(text, "not stated\n"));
        assert_non_null(strstr(text, "MIT AND LicenseRef-odd\n"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_document),
                cmocka_unit_test(test_same_bytes),
                cmocka_unit_test(test_without_licences),
                cmocka_unit_test(test_not_built),
                cmocka_unit_test(test_table),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
