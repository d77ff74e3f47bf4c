/* What the documents of an OCI image say: index, manifest and config, those of docker included. Pure: text from outside in,
 * checked values out. Reading the files is in source_oci.c. */
#pragma once
#include "base/error.h"
#include "base/sha256.h"
#include "image/lock.h"
#include "image/meta.h"

#define OCI_DOCUMENT_MAX (4u * 1024u * 1024u) /* bytes of one; what registries accept at most */
#define OCI_LAYERS_MAX 512u
#define OCI_MANIFESTS_MAX 1000u /* in one index */

/* What an index names: a manifest, or an index again. */
struct oci_entry {
        struct lock_blob blob;
        bool is_index;
};
struct oci_manifest {
        struct lock_blob config;
        struct lock_blob *layers; /* from the lowest up */
        size_t n_layers;
};

/** "sha256:HEX" as HEX. -ENOTSUP: another hash, -EBADMSG: none. */
int oci_digest(const char *text, char ret_hex[NB_SHA256_HEX], struct nb_error *err);
/** Finds the entry for `tag` (NULL: whichever is the only one) and this machine. -ENOENT, -EBADMSG. */
int oci_choose(const char *text, size_t len, const char *tag, struct oci_entry *ret, struct nb_error *err);
int oci_parse_manifest(const char *text, size_t len, struct oci_manifest *ret, struct nb_error *err);
void oci_manifest_clear(struct oci_manifest *m);
/** The image's environment, working folder and user. -ENOEXEC: it is for another machine. */
int oci_parse_config(const char *text, size_t len, struct image_meta *ret, struct nb_error *err);
