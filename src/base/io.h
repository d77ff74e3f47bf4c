/* Descriptors and files: whole reads and writes, atomic replacement, descriptor passing, close-on-exec everywhere. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

/** Writes everything, through EINTR and (by polling) EAGAIN. Returns 0 or -errno. */
int nb_write_all(int fd, const void *bytes, size_t len);
/** Reads until `len` bytes or end of file. Returns the count or -errno. */
ssize_t nb_read_full(int fd, void *bytes, size_t len);
/** Reads a whole file of at most `max` bytes into new NUL-terminated memory. -EFBIG if it is larger. */
int nb_read_file_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);
int nb_read_file(const char *path, size_t max, char **ret, size_t *ret_len);
/** The same from an open descriptor's current position. */
int nb_read_fd(int fd, size_t max, char **ret, size_t *ret_len);
/** The same, but only a regular file (following symbolic links): -EINVAL for anything else, and never blocks on a FIFO. */
int nb_read_regular(const char *path, size_t max, char **ret, size_t *ret_len);
/** Replaces a file in one step (temporary file, fsync, rename). Returns 0 or -errno. */
int nb_write_file_atomic(const char *path, const void *bytes, size_t len, mode_t mode);
/** The same for a file that is there, keeping its mode and, as far as the caller may, its owner and group. -ELOOP for a
 *  symbolic link, -EINVAL for what is no regular file. */
int nb_replace_file(const char *path, const void *bytes, size_t len);
/** Writes to an existing file such as one in /proc. Returns 0 or -errno. */
int nb_write_string_at(int dirfd, const char *path, const char *text);
/** mkdir -p; folders that it makes get `mode`. Returns 0 or -errno. */
int nb_mkdirs(const char *path, mode_t mode);
/** rm -rf below dirfd, never following a symbolic link and never crossing to another file system. 0 if absent. */
int nb_remove_tree(int dirfd, const char *name);
/** Sends bytes and up to NB_FDS_MAX descriptors in one message. Returns the bytes sent or -errno. */
#define NB_FDS_MAX 16
ssize_t nb_send_fds(int sock, const void *bytes, size_t len, const int *fds, size_t n_fds);
/** Receives one message. *ret_n_fds holds the room in fds on entry, the number received on return; they are
 *  close-on-exec and the caller's; descriptors beyond the room are closed. Returns the bytes read, 0 at end, -errno. */
ssize_t nb_recv_fds(int sock, void *bytes, size_t len, int *fds, size_t *ret_n_fds);
/** O_NONBLOCK on or off. Returns 0 or -errno. */
int nb_set_nonblock(int fd, bool on);
/** CLOCK_MONOTONIC in milliseconds / nanoseconds. */
uint64_t nb_now_ms(void);
uint64_t nb_now_ns(void);
