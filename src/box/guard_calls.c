/* What each call may do. Reads are not asked about. Making and opening are judged and then left to virtiofsd; what puts an
 * existing thing under a name (renames, links) is done here, one after the other, so that nothing else is there than what was
 * looked at. No folder can come to lie where it would lead to protected files, nor a protected file go away by a rename above
 * it; so the path of an open folder stays what it was when it was judged. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/guard_impl.h"

#define REPORTS_PER_SECOND 2000u
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* Texts one after the other, each with its NUL. */
static size_t put(char *to, size_t at, const char *text) {
        size_t len = strlen(text) + 1;
        if (at + len > GUARD_MESSAGE_MAX)
                return at;
        memcpy(to + at, text, len);
        return at + len;
}

static bool tell(const char *message, size_t len) {
        return send(GUARD_FD_SUPER, message, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static bool may_tell(struct guard *g) {
        uint64_t second = nb_now_ms() / 1000;
        if (second != g->second) {
                g->second = second;
                g->reports = 0;
        }
        return g->reports++ < REPORTS_PER_SECOND;
}

/* Refuses, and says so; never waits, so that a flood of refusals costs the guest and not the supervisor. */
static int refuse(struct guard *g, const struct guard_place *p, const char *what, const char *why) {
        char message[GUARD_MESSAGE_MAX];
        if (!may_tell(g)) {
                g->skipped++;
                return -EPERM;
        }
        if (g->skipped > 0) {
                int len = snprintf(message, sizeof message, "%c%" PRIu64, GUARD_SAYS_SKIPPED, g->skipped);
                if (tell(message, (size_t)len + 1))
                        g->skipped = 0;
        }
        NB_AUTO_FREE char *usual = nb_asprintf("protected by %s", p->pattern ? p->pattern : "a permission of its owner");
        message[0] = GUARD_SAYS_DENIED;
        size_t len = put(message, 1, what);
        len = put(message, len, p->mount->id);
        len = put(message, len, p->rel ? p->rel : "");
        len = put(message, len, why ? why : usual);
        g->skipped += !tell(message, len);
        return -EPERM;
}

static int decide_open(struct guard *g, struct notify_call *c) {
        GUARD_AUTO_PLACE p;
        int flags = (int)c->arg[2];
        int r = guard_place_at(g, c, (int)c->arg[0], c->arg[1], &p);
        if (r < 0)
                return r;
        if (p.is & PROTECT_IS)
                return refuse(g, &p, flags & O_CREAT ? "create" : "write", NULL);
        if (!(p.is & PROTECT_LOCK))
                return NOTIFY_CONTINUE;
        const char *why = NULL;
        r = guard_lock_open(g, c, &p, flags, (mode_t)c->arg[3], &why);
        return why ? refuse(g, &p, "write", why) : r;
}

static int decide_mkdir(struct guard *g, struct notify_call *c) {
        GUARD_AUTO_PLACE p;
        int r = guard_place_at(g, c, (int)c->arg[0], c->arg[1], &p);
        if (r < 0)
                return r;
        bool as_file = p.is & PROTECT_IS && !(p.is & PROTECT_LEADS);
        return as_file || p.is & PROTECT_LOCK ? refuse(g, &p, "mkdir", NULL) : NOTIFY_CONTINUE;
}

static int decide_mknod(struct guard *g, struct notify_call *c) {
        GUARD_AUTO_PLACE p;
        int r = guard_place_at(g, c, (int)c->arg[0], c->arg[1], &p);
        if (r < 0)
                return r;
        return p.is & (PROTECT_IS | PROTECT_LOCK) ? refuse(g, &p, "create", NULL) : NOTIFY_CONTINUE;
}

static int decide_symlink(struct guard *g, struct notify_call *c) {
        GUARD_AUTO_PLACE p;
        NB_AUTO_FREE char *target = NULL;
        int r = guard_place_at(g, c, (int)c->arg[1], c->arg[2], &p);
        if (r == 0)
                r = notify_read_path(c, c->arg[0], &target);
        if (r == 0 && !notify_alive(c))
                r = -ESRCH;
        if (r < 0)
                return r;
        if (p.is || !p.name || !target)
                return refuse(g, &p, "symlink", NULL);
        return symlinkat(target, p.fd, p.name) < 0 ? -errno : 0;
}

static bool leads_as_link(const struct guard *g, const struct guard_place *p) {
        struct stat st;
        return p->is & PROTECT_LEADS && guard_place_stat(g, p, &st) == 0 && S_ISLNK(st.st_mode);
}

static int decide_link(struct guard *g, struct notify_call *c) {
        GUARD_AUTO_PLACE from;
        GUARD_AUTO_PLACE to = { .fd = -1 };
        char own[GUARD_OWN_FD];
        struct stat st = { 0 };
        int r = guard_place_at(g, c, (int)c->arg[0], c->arg[1], &from);
        if (r == 0)
                r = guard_place_at(g, c, (int)c->arg[2], c->arg[3], &to);
        if (r == 0 && (from.name || (int)c->arg[4] != AT_SYMLINK_FOLLOW))
                r = -EPERM;
        if (r == 0)
                r = guard_place_stat(g, &from, &st);
        if (r < 0)
                return r;
        unsigned bad = PROTECT_IS | PROTECT_LOCK | (S_ISLNK(st.st_mode) ? PROTECT_LEADS : 0u);
        if (from.is & bad)
                return refuse(g, &from, "link from", NULL);
        if (to.is & bad)
                return refuse(g, &to, "link", NULL);
        if (!to.name)
                return -EPERM;
        guard_own_fd(from.fd, own);
        return linkat(g->notify.proc_fd, own, to.fd, to.name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* May what is at a place leave it (as the source of a rename, or as what that replaces)? */
static bool must_stay(const struct guard *g, const struct guard_place *p) {
        struct stat st;
        if (p->is & (PROTECT_IS | PROTECT_LOCK))
                return true;
        return p->is & PROTECT_LEADS && guard_place_stat(g, p, &st) == 0 && !S_ISREG(st.st_mode);
}

/* May something of this kind come to a place? */
static bool must_not_come(const struct guard_place *p, mode_t mode) {
        return p->is & (PROTECT_IS | PROTECT_LOCK) || (p->is & PROTECT_LEADS && !S_ISREG(mode));
}

static int replace_config(struct guard *g, const struct guard_place *from, const struct guard_place *to) {
        NB_AUTO_FREE char *why = NULL;
        int r = guard_config_replace(g, from, to, &why);
        return why ? refuse(g, to, "write", why) : r;
}

static int decide_rename(struct guard *g, struct notify_call *c) {
        GUARD_AUTO_PLACE from;
        GUARD_AUTO_PLACE to = { .fd = -1 };
        struct stat st = { 0 }, other = { 0 };
        unsigned flags = (unsigned)c->arg[4];
        int r = guard_place_at(g, c, (int)c->arg[0], c->arg[1], &from);
        if (r == 0)
                r = guard_place_at(g, c, (int)c->arg[2], c->arg[3], &to);
        if (r == 0 && (!from.name || !to.name))
                r = -EPERM;
        if (r == 0)
                r = guard_place_stat(g, &from, &st);
        if (r < 0)
                return r;
        if (from.is & PROTECT_LOCK && to.is & PROTECT_VETTED && flags == 0)
                return replace_config(g, &from, &to);
        if (must_stay(g, &from))
                return refuse(g, &from, "rename", NULL);
        if (must_not_come(&to, st.st_mode) || must_stay(g, &to))
                return refuse(g, &to, "rename to", NULL);
        if (flags & RENAME_EXCHANGE && guard_place_stat(g, &to, &other) == 0 && must_not_come(&from, other.st_mode))
                return refuse(g, &from, "rename to", NULL);
        return renameat2(from.fd, from.name, to.fd, to.name, flags) < 0 ? -errno : 0;
}

/* Removing an owner's file may undo what it forbids; a config of git's that the box could have written may go. */
static int decide_unlink(struct guard *g, struct notify_call *c) {
        GUARD_AUTO_PLACE p;
        int r = guard_place_at(g, c, (int)c->arg[0], c->arg[1], &p);
        if (r < 0)
                return r;
        if (p.is & PROTECT_LOCK) {
                const char *why = NULL;
                r = guard_lock_remove(g, &p, &why);
                return why ? refuse(g, &p, "remove", why) : r;
        }
        bool kept = p.is & PROTECT_IS && !(p.is & PROTECT_VETTED && guard_config_removable(&p));
        return kept || leads_as_link(g, &p) ? refuse(g, &p, "remove", NULL) : NOTIFY_CONTINUE;
}

/* git tries the executable bit on its config, where it means nothing. */
static int judge_mode(struct guard *g, const struct guard_place *p) {
        bool kept = p->is & PROTECT_IS && !(p->is & PROTECT_VETTED);
        if (p->is & PROTECT_LOCK)
                kept = kept || !guard_lock_is_ours(g, p);
        return kept ? refuse(g, p, "chmod", NULL) : NOTIFY_CONTINUE;
}

static int decide_chmod_at(struct guard *g, struct notify_call *c) {
        GUARD_AUTO_PLACE p;
        int r = guard_place_at(g, c, (int)c->arg[0], c->arg[1], &p);
        return r < 0 ? r : judge_mode(g, &p);
}

static int decide_fchmod(struct guard *g, struct notify_call *c) {
        GUARD_AUTO_PLACE p;
        int r = guard_place_fd(g, c, (int)c->arg[0], &p);
        return r < 0 ? r : judge_mode(g, &p);
}

int guard_decide(struct guard *g, struct notify_call *c) {
        static const struct {
                int nr;
                int (*decide)(struct guard *g, struct notify_call *c);
        } table[] = {
                { SYS_openat, decide_open },       { SYS_mkdirat, decide_mkdir },     { SYS_mknodat, decide_mknod },
                { SYS_symlinkat, decide_symlink }, { SYS_linkat, decide_link },       { SYS_renameat2, decide_rename },
                { SYS_unlinkat, decide_unlink },   { SYS_fchmodat, decide_chmod_at }, { SYS_fchmodat2, decide_chmod_at },
                { SYS_fchmod, decide_fchmod },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(table); i++)
                if (table[i].nr == c->nr)
                        return table[i].decide(g, c);
        return -EPERM;
}
