/* Fuzz target: the documents of an OCI image, and a reference to one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/source_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *text = (const char *)data;
        struct oci_entry entry;
        __attribute__((cleanup(oci_manifest_clear))) struct oci_manifest m = { 0 };
        __attribute__((cleanup(image_meta_clear))) struct image_meta meta = { 0 };
        __attribute__((cleanup(oci_ref_clear))) struct oci_ref ref = { 0 };
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *line = nb_strndup(text, size), *base = nb_asprintf("oci:%s", line);
        if (oci_choose(text, size, NULL, &entry, &err) == 0 && strlen(entry.blob.sha256) != NB_SHA256_HEX - 1)
                abort();
        (void)oci_choose(text, size, "1", &entry, &err);
        (void)oci_parse_manifest(text, size, &m, &err);
        (void)oci_parse_config(text, size, &meta, &err);
        if (meta.workdir && meta.workdir[0] != '/')
                abort();
        (void)oci_ref_parse(base, &ref, &err);
        return 0;
}
