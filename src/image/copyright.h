/* Licences from Debian's machine-readable copyright files (DEP-5) to SPDX licence expressions. Pure: text in, value out. */
#pragma once
#include <stddef.h>

#define COPYRIGHT_MAX (1024u * 1024u)    /* bytes of one file */
#define COPYRIGHT_REF "LicenseRef-"      /* begins a name that SPDX does not have */
#define COPYRIGHT_UNNAMED "without-name" /* of a licence whose file gives no short name for it */

/** What all files of a package together are under: "GPL-2.0-only AND (Artistic-2.0 OR LicenseRef-x)", each part once, sorted.
 *  Names that mean the same as an SPDX identifier become that; others become LicenseRef-NAME. NULL if the text is not
 *  machine-readable or names no licence. New string. */
char *copyright_expression(const char *text, size_t len);
