/* What the kinds of source share (see source.h). */
#pragma once
#include "image/oci.h"
#include "image/source.h"
#include "image/tree.h"

/* An OCI image as `image.base` names it. */
enum oci_place { OCI_LAYOUT, OCI_ARCHIVE, OCI_REGISTRY };
struct oci_ref {
        enum oci_place place;
        char *at;     /* absolute path, or the reference without its tag */
        char *tag;    /* NULL: none given */
        char *digest; /* of a registry's reference: "sha256:…", NULL if none was given */
};
/** Reads "oci:…". Returns 0, or -EINVAL with the way to write it. */
int oci_ref_parse(const char *base, struct oci_ref *ret, struct nb_error *err);
void oci_ref_clear(struct oci_ref *r);

/** Copies a blob into the cache, checking it: `from` is one file. Nothing is done if it is there already. */
int blob_import(const struct store *s, const char *from, const struct lock_blob *blob, struct nb_error *err);
bool blob_is_cached(const struct store *s, const struct lock_blob *blob);
char *blob_path(const struct store *s, const struct lock_blob *blob);

/** Brings an image from an archive or a registry to a folder as skopeo's "dir:" has it. `digest` ("sha256:…", may be NULL)
 *  is what it has to be in a registry. */
int skopeo_copy(const struct oci_ref *ref, const char *digest, const char *work, const char *to, struct nb_error *err);

int source_oci_resolve(const struct store *s, const char *base, struct lock *l, const struct image_progress *progress,
                       struct nb_error *err);
int source_oci_add(const struct store *s, const struct lock *l, const char *base, struct tree *t, struct image_meta *ret,
                   const struct image_progress *progress, struct nb_error *err);
int source_nix_add(const char *base, struct tree *t, const struct image_progress *progress, struct nb_error *err);
