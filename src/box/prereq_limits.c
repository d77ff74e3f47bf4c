/* What a host can add to the walls around a box (see prereq.h): a box starts without it, so none of it is ever missing. */
#include <errno.h>
#include <unistd.h>

#include "base/mem.h"
#include "box/cgroup.h"
#include "box/prereq_internal.h"
#include "jail/landlock.h"

static void check_landlock(struct checks *c) {
        int abi = landlock_abi();
        if (abi > 0) {
                (void)prereq_add(c, "landlock", PREREQ_OK, nb_asprintf("ABI %d, in every jail besides the rest", abi));
                return;
        }
        struct prereq *p = prereq_add(c, "landlock", PREREQ_NOTE,
                                      nb_strdup("this kernel has none (or one older than 5.19): the jails do without"));
        p->fix =
            nb_strdup("add landlock to the kernel's lsm= list (Debian 12 and later have it); in a container, let its seccomp "
                      "profile pass landlock_create_ruleset");
}

static void check_cgroup(struct checks *c) {
        NB_AUTO_FREE char *why = NULL;
        NB_AUTO_FREE char *parent = cgroup_find(&why);
        if (parent) {
                (void)prereq_add(c, "cgroup", PREREQ_OK,
                                 nb_asprintf("a box gets one below %s, with a limit of memory", parent));
                return;
        }
        struct prereq *p = prereq_add(c, "cgroup", PREREQ_NOTE,
                                      nb_asprintf("a box gets none, and the supervisor looks after its memory: %s", why));
        p->fix = nb_strdup(geteuid() == 0 ? "where systemd runs: systemd-run --scope nixbox up"
                                          : "where systemd runs: systemd-run --user --scope nixbox up");
}

void prereq_check_limits(struct checks *c) {
        check_landlock(c);
        check_cgroup(c);
}
