/* The ids that processes of the build have taken on. To the kernel every one of them stays id 0, so setuid() and its like
 * change only what getuid() and its like answer and whom new files belong to. Which set of ids a process has must be inherited
 * as the real thing is, through fork and exec, without a look at either: the set's number is kept in the process's own limit of
 * resident memory, which Linux has ignored since 2.4.30, just below the hard limit. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "image/fakeown_internal.h"

const struct fakeown_ids *fakeown_ids_of(const struct fakeown_call *c) {
        struct rlimit limit;
        if (prlimit(c->call.tid, RLIMIT_RSS, NULL, &limit) < 0 || limit.rlim_cur < c->f->tag_base)
                return &c->f->ids[0];
        rlim_t index = limit.rlim_cur - c->f->tag_base;
        return &c->f->ids[index < c->f->n_ids ? index : 0];
}

static int set_ids(const struct fakeown_call *c, const struct fakeown_ids *ids) {
        struct fakeown *f = c->f;
        struct rlimit limit;
        size_t i = 0;
        while (i < f->n_ids && memcmp(&f->ids[i], ids, sizeof *ids) != 0)
                i++;
        if (i == FAKEOWN_IDS_MAX)
                return -EAGAIN;
        if (i == f->n_ids) {
                f->ids = nb_realloc(f->ids, f->n_ids + 1, sizeof *ids);
                f->ids[f->n_ids++] = *ids;
        }
        if (prlimit(c->call.tid, RLIMIT_RSS, NULL, &limit) < 0)
                return -errno;
        limit.rlim_cur = f->tag_base + i;
        if (!notify_alive(&c->call))
                return -ESRCH;
        return prlimit(c->call.tid, RLIMIT_RSS, &limit, NULL) < 0 ? -errno : 0;
}

/* Without privilege a process may only move among the user ids that it has, and some make sure of it. Group ids are free:
 * setpriv gives up the user id first and keeps the capability for the rest. */
static bool may_have(const struct fakeown_id *id, bool privileged, uint32_t wanted) {
        return wanted == FAKEOWN_KEEP || privileged || wanted == id->real || wanted == id->effective || wanted == id->saved;
}

enum kind { USER, GROUP };

static int change(const struct fakeown_call *c, enum kind kind, uint32_t real, uint32_t effective, uint32_t saved) {
        struct fakeown_ids ids = *fakeown_ids_of(c);
        struct fakeown_id *id = kind == USER ? &ids.uid : &ids.gid;
        bool privileged = kind == GROUP || ids.uid.effective == 0;
        if (!may_have(id, privileged, real) || !may_have(id, privileged, effective) || !may_have(id, privileged, saved))
                return -EPERM;
        if (real != FAKEOWN_KEEP)
                id->real = real;
        if (effective != FAKEOWN_KEEP)
                id->effective = effective;
        if (saved != FAKEOWN_KEEP)
                id->saved = saved;
        return set_ids(c, &ids);
}

static int set_one(const struct fakeown_call *c, enum kind kind) {
        uint32_t wanted = (uint32_t)c->arg[0];
        if (wanted == FAKEOWN_KEEP)
                return -EINVAL;
        if (fakeown_ids_of(c)->uid.effective == 0)
                return change(c, kind, wanted, wanted, wanted);
        return change(c, kind, FAKEOWN_KEEP, wanted, FAKEOWN_KEEP);
}

/* The saved id follows the effective one when the real one is set, or the effective one is set to another than the old real
 * one. */
static int set_two(const struct fakeown_call *c, enum kind kind) {
        const struct fakeown_ids *ids = fakeown_ids_of(c);
        const struct fakeown_id *id = kind == USER ? &ids->uid : &ids->gid;
        uint32_t real = (uint32_t)c->arg[0], effective = (uint32_t)c->arg[1], saved = FAKEOWN_KEEP;
        if (real != FAKEOWN_KEEP || (effective != FAKEOWN_KEEP && effective != id->real))
                saved = effective != FAKEOWN_KEEP ? effective : id->effective;
        return change(c, kind, real, effective, saved);
}

static int set_three(const struct fakeown_call *c, enum kind kind) {
        return change(c, kind, (uint32_t)c->arg[0], (uint32_t)c->arg[1], (uint32_t)c->arg[2]);
}

int fakeown_setuid(struct fakeown_call *c) {
        return set_one(c, USER);
}

int fakeown_setgid(struct fakeown_call *c) {
        return set_one(c, GROUP);
}

int fakeown_setreuid(struct fakeown_call *c) {
        return set_two(c, USER);
}

int fakeown_setregid(struct fakeown_call *c) {
        return set_two(c, GROUP);
}

int fakeown_setresuid(struct fakeown_call *c) {
        return set_three(c, USER);
}

int fakeown_setresgid(struct fakeown_call *c) {
        return set_three(c, GROUP);
}

/* These report the id that was in force before and nothing else, success included; no program of a build is a file server. */
int fakeown_setfsuid(struct fakeown_call *c) {
        c->value = fakeown_ids_of(c)->uid.effective;
        return 0;
}

int fakeown_setfsgid(struct fakeown_call *c) {
        c->value = fakeown_ids_of(c)->gid.effective;
        return 0;
}

int fakeown_getuid(struct fakeown_call *c) {
        c->value = fakeown_ids_of(c)->uid.real;
        return 0;
}

int fakeown_geteuid(struct fakeown_call *c) {
        c->value = fakeown_ids_of(c)->uid.effective;
        return 0;
}

int fakeown_getgid(struct fakeown_call *c) {
        c->value = fakeown_ids_of(c)->gid.real;
        return 0;
}

int fakeown_getegid(struct fakeown_call *c) {
        c->value = fakeown_ids_of(c)->gid.effective;
        return 0;
}

static int give_three(const struct fakeown_call *c, const struct fakeown_id *id) {
        const uint32_t values[] = { id->real, id->effective, id->saved };
        if (!notify_alive(&c->call))
                return -ESRCH;
        for (size_t i = 0; i < NB_ARRAY_LEN(values); i++)
                if (notify_write(&c->call, c->arg[i], &values[i], sizeof values[i]) < 0)
                        return -EFAULT;
        return 0;
}

int fakeown_getresuid(struct fakeown_call *c) {
        return give_three(c, &fakeown_ids_of(c)->uid);
}

int fakeown_getresgid(struct fakeown_call *c) {
        return give_three(c, &fakeown_ids_of(c)->gid);
}

/* They give access, which the child has in any case; but programs ask for them to find out what another user may do. */
int fakeown_setgroups(struct fakeown_call *c) {
        struct fakeown_ids ids = *fakeown_ids_of(c);
        size_t n = (uint32_t)c->arg[0];
        if (n > FAKEOWN_GROUPS_MAX)
                return -EINVAL;
        memset(ids.groups, 0, sizeof ids.groups);
        ids.n_groups = (uint32_t)n;
        int r = n > 0 ? notify_read(&c->call, c->arg[1], ids.groups, n * sizeof *ids.groups) : 0;
        return r < 0 ? r : set_ids(c, &ids);
}

int fakeown_getgroups(struct fakeown_call *c) {
        const struct fakeown_ids *ids = fakeown_ids_of(c);
        int room = (int)c->arg[0];
        c->value = ids->n_groups;
        if (room == 0 || ids->n_groups == 0)
                return room < 0 ? -EINVAL : 0;
        if (room < (int)ids->n_groups)
                return -EINVAL;
        return notify_alive(&c->call) ? notify_write(&c->call, c->arg[1], ids->groups, ids->n_groups * sizeof *ids->groups)
                                      : -ESRCH;
}
