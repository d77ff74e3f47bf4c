/* See landlock.h. The numbers are the kernel's, written out because the headers of Debian 12 do not have all of them. */
#include "jail/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#define BIT(n) (1ull << (n))
#define FS_EXECUTE BIT(0)
#define FS_WRITE_FILE BIT(1)
#define FS_READ_FILE BIT(2)
#define FS_READ_DIR BIT(3)
#define FS_MAKE_CHAR BIT(6)
#define FS_MAKE_BLOCK BIT(11)
#define FS_REFER BIT(13)           /* ABI 2 */
#define FS_TRUNCATE BIT(14)        /* ABI 3 */
#define FS_IOCTL_DEV BIT(15)       /* ABI 5 */
#define NET_TCP (BIT(0) | BIT(1))  /* ABI 4: binding, connecting */
#define SCOPE_ABSTRACT_UNIX BIT(0) /* ABI 6 */
#define SCOPE_SIGNAL BIT(1)

#define CREATE_VERSION 1u
#define RULE_PATH_BENEATH 1u
struct ruleset_attr {
        uint64_t handled_fs, handled_net, scoped;
};
struct path_attr {
        uint64_t allowed;
        int32_t parent;
} __attribute__((packed));

int landlock_abi(void) {
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
        return abi < LANDLOCK_ABI_MIN ? 0 : (int)abi;
}

struct landlock_rules landlock_translate(const struct landlock_plan *plan, int abi) {
        struct landlock_rules r = { 0 };
        if (!plan->on || abi < LANDLOCK_ABI_MIN)
                return r;
        r.handled_fs = (FS_REFER << 1) - 1;
        if (abi >= 3)
                r.handled_fs |= FS_TRUNCATE;
        if (abi >= 5)
                r.handled_fs |= FS_IOCTL_DEV;
        if (abi >= 4 && !plan->tcp)
                r.handled_net = NET_TCP;
        if (abi >= 6)
                r.scoped = SCOPE_SIGNAL | (plan->abstract ? 0 : SCOPE_ABSTRACT_UNIX);
        if (plan->read)
                r.read = FS_EXECUTE | FS_READ_FILE | FS_READ_DIR;
        if (plan->write)
                r.write = r.handled_fs & ~(FS_MAKE_CHAR | FS_MAKE_BLOCK | FS_IOCTL_DEV);
        return r;
}

char *landlock_describe(const struct landlock_plan *plan, int abi) {
        if (!plan->on)
                return nb_strdup("not used");
        if (abi < LANDLOCK_ABI_MIN)
                return nb_strdup("none: this kernel has none");
        struct landlock_rules r = landlock_translate(plan, abi);
        return nb_asprintf("ABI %d: files are %s%s%s; no devices%s%s%s", abi, r.read ? "read and run" : "out of reach",
                           r.write ? ", changed below " : ", not changed", r.write ? plan->write : "",
                           r.handled_net ? ", no TCP" : "", r.scoped & SCOPE_ABSTRACT_UNIX ? ", no abstract sockets" : "",
                           r.scoped & SCOPE_SIGNAL ? ", no signals to others" : "");
}

static int allow_below(int ruleset, const char *path, uint64_t what, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
        struct path_attr attr = { .allowed = what, .parent = fd };
        if (fd < 0 || syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &attr, 0) < 0)
                return nb_fail_errno(err, errno, "cannot allow what is below %s", path);
        return 0;
}

int landlock_enter(const struct landlock_plan *plan, int abi, struct nb_error *err) {
        struct landlock_rules r = landlock_translate(plan, abi);
        if (r.handled_fs == 0)
                return 0;
        /* older kernels take the longer struct where what they do not know is zero */
        struct ruleset_attr attr = { r.handled_fs, r.handled_net, r.scoped };
        NB_AUTO_CLOSE int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
        if (ruleset < 0)
                return nb_fail_errno(err, errno, "cannot make the Landlock rules");
        int done = r.read ? allow_below(ruleset, "/", r.read, err) : 0;
        if (done == 0 && r.write)
                done = allow_below(ruleset, plan->write, r.write, err);
        if (done == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
                done = nb_fail_errno(err, errno, "cannot put the Landlock rules in force");
        return done;
}
