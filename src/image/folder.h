/* Folders of files as values: unpacking chosen parts of a tar, and sealing a folder under the digest of its contents. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/sha256.h"

/** Unpacks the files and links of a tar for which `want` says where to (a path relative to `dir`, a new string),
 *  NULL: leave out. Owners and times are not kept. Names with "..", and writing through a symbolic link, are errors. */
int folder_unpack(const char *tar, const char *dir, char *(*want)(const char *name), struct nb_error *err);
/** The same from a tar that is open, into an open folder; `tar` and `dir` are their names in messages. May run in several
 * threads for different tars into one folder. */
struct archive;
int folder_unpack_open(struct archive *a, const char *tar, int dirfd, const char *dir, char *(*want)(const char *name),
                       struct nb_error *err);
/** Makes everything in `dir` read-only for everybody (executables stay so) and returns its canonical listing, a line for
 *  each entry: type, mode, SHA-256 or link target, path; sorted by path. `dir` itself stays writable until it is in place.
 *  The digest is that of the listing. */
int folder_seal(const char *dir, char **ret_listing, char ret_digest[NB_SHA256_HEX], struct nb_error *err);
/** The same listing and digest of an open folder, as they would be if it were sealed now, changing nothing. Returns -errno. */
int folder_list(int dirfd, char **ret_listing, char ret_digest[NB_SHA256_HEX]);
/** A digest of what the inodes of all entries say (base/seal.h): the same for as long as nothing in the folder is changed.
 * Reads no file. Returns -errno. */
int folder_seals(int dirfd, char ret_digest[NB_SHA256_HEX]);
/** Copies a file's bytes to a new file, making the folders above it. */
int folder_copy(const char *from, const char *to, mode_t mode, struct nb_error *err);
