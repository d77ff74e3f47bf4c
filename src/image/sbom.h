/* The bill of materials of an image: an SPDX 2.3 document from a lock. Pure: the same lock and licences give the same text. */
#pragma once
#include <jansson.h>

#include "base/error.h"
#include "image/lock.h"

/** The SPDX licence expression of a Debian package; NULL if its package does not say. New string. */
typedef char *(*sbom_licence_fn)(void *user, const struct lock_package *p);
/** -ENOENT if the lock names no image yet. */
int sbom_check(const struct lock *l, struct nb_error *err);
/** The document. -ENOENT if the lock names no image yet. The caller's reference. */
int sbom_document(const struct lock *l, sbom_licence_fn licence, void *user, json_t **ret, struct nb_error *err);
/** For people: "NAME VERSION  LICENCE", a line each, of what the guest image holds. New string. */
char *sbom_licences(const struct lock *l, sbom_licence_fn licence, void *user);
