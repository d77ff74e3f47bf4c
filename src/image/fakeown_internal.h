/* What the files of faked ownership share among themselves. Nothing outside src/image/fakeown*.c and its tests includes this.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "image/fakeown.h"
#include "jail/notify.h"

#define FAKEOWN_KEEP ((uint32_t)-1) /* chown() and the like: leave this id as it is */
#define FAKEOWN_FD_NAME 12          /* room for the name of a descriptor among one's own */

/* One of the two kinds of id of a process. */
struct fakeown_id {
        uint32_t real, effective, saved;
};
#define FAKEOWN_GROUPS_MAX 64
struct fakeown_ids {
        struct fakeown_id uid, gid;
        uint32_t n_groups, groups[FAKEOWN_GROUPS_MAX]; /* supplementary ones; unused places are 0 */
};
#define FAKEOWN_IDS_MAX 4096 /* different sets of ids in one build */

struct fakeown {
        struct notify notify;
        int own_fds; /* /proc/self/fd, the working folder while serving */
        int root_fd, cwd_fd;
        struct fakeown_ids *ids; /* sets that processes have taken on; 0 is real root's */
        size_t n_ids;
        uint64_t tag_base; /* soft limits of resident memory from here to the hard one are numbers of sets */
};

/* A call that waits for its answer. */
struct fakeown_call {
        struct fakeown *f;
        struct notify_call call;
        const uint64_t *arg; /* the call's */
        int64_t value;       /* the answer if the handler returns 0 */
};

/* A handler does the call and returns 0 or -errno for the child (-ESRCH if it is gone), or this. */
#define FAKEOWN_CONTINUE NOTIFY_CONTINUE
typedef int fakeown_handler(struct fakeown_call *c);

/* The calls that are handed to the builder; the table ends with a NULL handler. */
struct fakeown_entry {
        int nr;
        fakeown_handler *handle;
};
const struct fakeown_entry *fakeown_table(void);

/* fakeown_target.c: the child's memory and what its paths mean, seen with its root, its working folder and its descriptors */

/** Opens (O_PATH) what a path means to the child; `flags` are AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW. Returns the descriptor
 *  or -errno. */
int fakeown_open_path(const struct fakeown_call *c, int dirfd, const char *path, int flags);
/** The same for a path still in the child's memory, after which the child is known to be there; and for a descriptor of the
 *  child's. -ESRCH if it is gone. */
int fakeown_open_at(const struct fakeown_call *c, int dirfd, uint64_t path, int flags);
int fakeown_open_fd(const struct fakeown_call *c, int fd);
/** The child's umask, -errno. */
int fakeown_umask(const struct fakeown_call *c);

/* fakeown_record.c: records of owners on inodes, while serving, when the folder of one's own descriptors is the working folder.
 * `fd` may be an O_PATH descriptor. */
/** Reads the record; 0:0 (and false in ret_found) where there is none. */
int fakeown_record_get(int fd, mode_t mode, uid_t *ret_uid, gid_t *ret_gid, bool *ret_found);
/** Writes it; 0:0 is no record. */
int fakeown_record_set(int fd, mode_t mode, uid_t uid, gid_t gid);

/* fakeown_ids.c */
/** The ids that a process has taken on. */
const struct fakeown_ids *fakeown_ids_of(const struct fakeown_call *c);
fakeown_handler fakeown_setuid, fakeown_setgid, fakeown_setreuid, fakeown_setregid, fakeown_setresuid, fakeown_setresgid,
    fakeown_setfsuid, fakeown_setfsgid, fakeown_getuid, fakeown_geteuid, fakeown_getgid, fakeown_getegid, fakeown_getresuid,
    fakeown_getresgid, fakeown_setgroups, fakeown_getgroups;

/* fakeown_files.c, fakeown_make.c */
fakeown_handler fakeown_chown, fakeown_lchown, fakeown_fchown, fakeown_fchownat;
fakeown_handler fakeown_stat, fakeown_lstat, fakeown_fstat, fakeown_newfstatat, fakeown_statx;
fakeown_handler fakeown_listxattr, fakeown_llistxattr, fakeown_flistxattr;
fakeown_handler fakeown_creat, fakeown_open, fakeown_openat, fakeown_mkdir, fakeown_mkdirat, fakeown_mknod, fakeown_mknodat,
    fakeown_symlink, fakeown_symlinkat;
