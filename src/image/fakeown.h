/* Building without subordinate ids: in a user namespace that maps a single id, the kernel refuses every other owner. The
 * child that installs packages runs under a system call filter that hands the calls about ids to its builder, which does
 * what they would have done for real root as far as the host allows and records the rest: owners on the inodes, so that a
 * record lives, moves and dies with its file, and the ids that a process has taken on with the process.
 *
 *      builder (in the namespace, no filter)            child (in the namespace, and a pid namespace of its own)
 *      fakeown_probe()                                  fakeown_filter() -> descriptor, sent by nb_send_fds()
 *      fakeown_new(descriptor), fakeown_serve()   <---  exec; chown(), stat(), setuid(), getuid(), open(O_CREAT), ...
 *      fakeown_owner() for each entry of the tar
 */
#pragma once
#include <sys/types.h>

#include "base/error.h"

/** Where the record is: on files and folders this attribute ("UID:GID"); symbolic links and special files, which cannot have
 *  such attributes, hold it in the form of a file capability, which means nothing there. Neither belongs into an image. */
#define FAKEOWN_XATTR "user.nixbox.owner"
#define FAKEOWN_XATTR_SPECIAL "security.capability"

/** Can records be kept below this folder? Says what to change if the file system cannot. Called in the namespace. */
int fakeown_probe(const char *dir, struct nb_error *err);

/** In the child, as id 0 of its user namespace, with one thread, after it has entered its root and just before exec: from now
 *  on it and everything it starts is under the filter. The descriptor is close-on-exec; it goes to the builder. */
int fakeown_filter(int *ret_notify_fd, struct nb_error *err);

struct fakeown;
/** The builder's end; takes the descriptor. The builder is in the child's user namespace, not under the filter, and sees the
 *  child in its own /proc. */
int fakeown_new(int notify_fd, struct fakeown **ret, struct nb_error *err);
void fakeown_free(struct fakeown *f);
static inline void fakeown_freep(struct fakeown **f) {
        fakeown_free(*f);
}
/** Answers until the last process under the filter is gone, or `until_fd` (the child's pidfd; -1: none) is readable: what the
 *  child leaves running then waits for ever at its next such call, and is the caller's to kill. Changes the calling process's
 *  root, working folder and umask meanwhile, so no other thread may be at work with files. */
int fakeown_serve(struct fakeown *f, int until_fd, struct nb_error *err);

/** The owner that real root would have given to an entry of a folder ("" for the folder itself); follows no link at its end.
 *  0:0 where nothing is recorded. Needs /proc unless `dirfd` is AT_FDCWD. Returns 0 or -errno. */
int fakeown_owner(int dirfd, const char *name, uid_t *ret_uid, gid_t *ret_gid);
/** Records one, for builders that unpack files themselves. Returns 0 or -errno. */
int fakeown_record(int dirfd, const char *name, uid_t uid, gid_t gid);
