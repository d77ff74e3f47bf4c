/* The share tree: one tmpfs that virtiofsd serves, with each mount attached under an id ("m0", "m1", …). Lives in the
 * supervisor's mount namespace; virtiofsd sees a read-only slave of it in a child user namespace and nothing else. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "jail/jail.h"

struct share;

/** Makes the tree in the calling process's own mount namespace. `dir` is an existing folder to mount it on. */
int share_new(const char *dir, struct share **ret, struct nb_error *err);
void share_free(struct share *s);
/** For the command that asks for a mount (up, mount), run with its own view of the file system: opens `path` (a real path:
 *  a symbolic link in it is an error) as a detached
 *  recursive mount tree in a short-lived child with namespaces of its own. Returns the descriptor in *ret_fd, and whether
 *  it is a single file. */
int share_open_tree(const char *path, int *ret_fd, bool *ret_is_file, struct nb_error *err);
/** The id that the next attached tree will have. */
void share_next_id(const struct share *s, char ret_id[16]);
/** Attaches a detached tree under a new id; nosuid, nodev, and read-only unless `write`, on every mount in it; flags a
 *  source mount had are kept. Takes ownership of tree_fd. Writes the id ("m0") to ret_id[16]. */
int share_attach(struct share *s, int tree_fd, bool is_file, bool write, char ret_id[16], struct nb_error *err);
/** Tells the tree which process serves it, once that runs; without it a mount with others below it cannot be detached. */
void share_serves(struct share *s, pid_t virtiofsd);
/** Detaches an id. -EBUSY while anything in the guest or virtiofsd still uses it; then everything is as before. */
int share_detach(struct share *s, const char *id, struct nb_error *err);
/** The root of what is attached under an id, as an O_PATH descriptor. Returns it or -errno. */
int share_open(const struct share *s, const char *id);
/** Plan for virtiofsd on this tree: its jail, its arguments. `listen_fd` is a listening unix socket. As an ordinary user
 *  every file belongs to the caller outside and to guest_uid:guest_gid inside. The plan borrows from `s`. */
struct share_daemon {
        const char *runtime;
        int listen_fd;
        unsigned guest_uid, guest_gid;
        int log_fd;
        int listener_sock; /* see struct jail_plan */
        int cgroup_fd;     /* of the box, or -1 */
};
int share_daemon_plan(struct share *s, const struct share_daemon *d, struct jail_plan **ret, struct nb_error *err);
/** Descriptors virtiofsd holds now and its hard limit (from /proc/PID). Returns 0 or -errno. */
int share_fd_use(pid_t virtiofsd, unsigned long *ret_held, unsigned long *ret_limit);
/** Does it answer requests? A request that is none can end the thread that does, and the process stays. */
bool share_answers(pid_t virtiofsd);
/** What to do about that use: whether the guest must forget unused dentries now (WIRE_RECLAIM_DENTRIES, one request at a
 *  time), and in how many milliseconds to look again. Pure. */
struct share_pressure {
        bool ask;
        unsigned next_ms;
};
struct share_pressure share_fd_pressure(unsigned long held, unsigned long limit);
