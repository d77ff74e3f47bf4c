/* Jail plans as data: building, printing, freeing. Nothing here touches the system; jail_spawn.c carries a plan out. */
#include "jail/jail.h"

#include <string.h>
#include <sys/resource.h>

#include "base/buf.h"
#include "base/mem.h"

struct jail_plan *jail_plan_new(const char *name) {
        struct jail_plan *plan = nb_calloc(1, sizeof *plan);
        plan->name = name;
        plan->listener_sock = -1;
        plan->landlock_abi = landlock_abi();
        plan->cgroup_fd = -1;
        return plan;
}

void jail_plan_mount(struct jail_plan *plan, const struct jail_mount *mount) {
        plan->mounts = nb_realloc(plan->mounts, plan->n_mounts + 1, sizeof *plan->mounts);
        struct jail_mount *m = &plan->mounts[plan->n_mounts++];
        *m = *mount;
        m->source = nb_strdup(mount->source);
        m->target = nb_strdup(mount->target);
        m->seal = nb_strdup(mount->seal);
}

void jail_plan_fd(struct jail_plan *plan, int fd, int as) {
        plan->fds = nb_realloc(plan->fds, plan->n_fds + 1, sizeof *plan->fds);
        plan->fds[plan->n_fds++] = (struct jail_fd){ .fd = fd, .as = as };
}

void jail_plan_limit(struct jail_plan *plan, int resource, rlim_t value) {
        plan->limits = nb_realloc(plan->limits, plan->n_limits + 1, sizeof *plan->limits);
        plan->limits[plan->n_limits++] = (struct jail_limit){ .resource = resource, .value = value };
}

void jail_plan_runtime(struct jail_plan *plan, const char *runtime) {
        static const char *const links[] = { "bin", "lib", "lib64", "sbin" };
        NB_AUTO_FREE char *usr = nb_asprintf("%s/usr", runtime);
        jail_plan_mount(plan, &(struct jail_mount){ .kind = JAIL_BIND, .source = usr, .target = "/usr", .exec = true });
        for (size_t i = 0; i < NB_ARRAY_LEN(links); i++) {
                NB_AUTO_FREE char *points_at = nb_asprintf("usr/%s", links[i]);
                NB_AUTO_FREE char *target = nb_asprintf("/%s", links[i]);
                jail_plan_mount(plan, &(struct jail_mount){ .kind = JAIL_SYMLINK, .source = points_at, .target = target });
        }
}

void jail_plan_free(struct jail_plan *plan) {
        if (!plan)
                return;
        for (size_t i = 0; i < plan->n_mounts; i++) {
                free((void *)plan->mounts[i].source);
                free((void *)plan->mounts[i].target);
                free((void *)plan->mounts[i].seal);
        }
        free(plan->mounts);
        free(plan->fds);
        free(plan->limits);
        nb_strv_free(plan->argv);
        nb_strv_free(plan->env);
        free(plan);
}

static void say_ids(struct nb_buf *out, const struct jail_plan *plan) {
        static const char *const texts[] = {
                [JAIL_IDS_CALLER] = "the caller alone, as 0",
                [JAIL_IDS_ALL] = "all, each as itself",
                [JAIL_IDS_UNUSED] = "one that nobody uses, as 0 (without privilege: the caller)",
        };
        nb_buf_printf(out, "  ids           %s", texts[plan->ids]);
        if (plan->ids == JAIL_IDS_UNUSED && plan->unused_id)
                nb_buf_printf(out, " [%u]", plan->unused_id);
        nb_buf_printf(out, "\n  namespaces    user mount pid network ipc uts cgroup, all its own\n");
}

static void say_mount(struct nb_buf *out, const struct jail_mount *m) {
        static const char *const kinds[] = { "bind", "link", "file", "proc" };
        nb_buf_printf(out, "  %-5s         %s", kinds[m->kind], m->target);
        switch (m->kind) {
        case JAIL_BIND:
                nb_buf_printf(out, " from %s %s,nosuid,nodev%s%s", m->source, m->write ? "rw" : "ro", m->exec ? "" : ",noexec",
                              m->recursive ? ", with what is mounted below it, now and later" : "");
                break;
        case JAIL_SYMLINK: nb_buf_printf(out, " to %s", m->source); break;
        case JAIL_PROC: nb_buf_printf(out, " ro,nosuid,nodev,noexec, its own processes only"); break;
        case JAIL_FILE: break;
        }
        nb_buf_printf(out, "\n");
}

const char *jail_limit_name(int resource) {
        static const struct {
                int resource;
                const char *name;
        } names[] = {
                { RLIMIT_AS, "address space" },        { RLIMIT_FSIZE, "file size" },   { RLIMIT_MEMLOCK, "locked memory" },
                { RLIMIT_MSGQUEUE, "message queues" }, { RLIMIT_NOFILE, "open files" }, { RLIMIT_NPROC, "threads" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++)
                if (names[i].resource == resource)
                        return names[i].name;
        return "another";
}

char *jail_describe(const struct jail_plan *plan) {
        static const char *const filters[] = {
                [JAIL_SECCOMP_NONE] = "not filtered here",
                [JAIL_SECCOMP_VIRTIOFSD] = "no set-id bits, devices, extended attributes, mounts, namespaces, sockets",
                [JAIL_SECCOMP_QEMU] = "no mounts, namespaces, sockets, tracing, keys, kernel interfaces",
                [JAIL_SECCOMP_READER] = "no mounts, namespaces, tracing, keys, kernel interfaces, writing, running, signals",
        };
        NB_AUTO_BUF out = { 0 };
        nb_buf_printf(&out, "jail %s\n", plan->name);
        say_ids(&out, plan);
        nb_buf_printf(&out, "  root          an empty read-only tmpfs with:\n");
        for (size_t i = 0; i < plan->n_mounts; i++)
                say_mount(&out, &plan->mounts[i]);
        for (size_t i = 0; i < plan->n_fds; i++)
                nb_buf_printf(&out, "  descriptor    %d\n", plan->fds[i].as);
        for (size_t i = 0; i < plan->n_limits; i++)
                nb_buf_printf(&out, "  limit         %s = %llu\n", jail_limit_name(plan->limits[i].resource),
                              (unsigned long long)plan->limits[i].value);
        if (plan->cgroup_fd >= 0)
                nb_buf_printf(&out, "  cgroup        the box's\n");
        if (plan->oom_score_adj > 0)
                nb_buf_printf(&out, "  out of memory it goes before others (oom_score_adj %d)\n", plan->oom_score_adj);
        if (plan->keep_caps)
                nb_buf_printf(&out, "  capabilities  %#llx, over its own user namespace only\n",
                              (unsigned long long)plan->keep_caps);
        else
                nb_buf_printf(&out, "  capabilities  none, and none to be had\n");
        NB_AUTO_FREE char *landlock = landlock_describe(&plan->landlock, plan->landlock_abi);
        nb_buf_printf(&out, "  landlock      %s\n", landlock);
        nb_buf_printf(&out, "  system calls  %s; no 32-bit or x32 calls\n", filters[plan->seccomp]);
        if (plan->listener_sock >= 0)
                nb_buf_printf(&out, "  asked about   calls that change files\n");
        nb_buf_printf(&out, "  runs         ");
        for (char **arg = plan->argv; arg && *arg; arg++)
                nb_buf_printf(&out, " %s", *arg);
        nb_buf_printf(&out, "\n");
        nb_buf_add(&out, "", 1);
        return nb_strndup((const char *)nb_buf_bytes(&out), out.len);
}
