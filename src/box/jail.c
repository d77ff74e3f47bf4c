/* Jail plans as data: building, printing, freeing. Nothing here touches the system; jail_spawn.c carries a plan out. */
#include "box/jail.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

struct jail_plan *jail_plan_new(const char *name) {
        struct jail_plan *plan = nb_calloc(1, sizeof *plan);
        plan->name = name;
        return plan;
}

void jail_plan_mount(struct jail_plan *plan, const struct jail_mount *mount) {
        plan->mounts = nb_realloc(plan->mounts, plan->n_mounts + 1, sizeof *plan->mounts);
        struct jail_mount *m = &plan->mounts[plan->n_mounts++];
        *m = *mount;
        m->source = nb_strdup(mount->source);
        m->target = nb_strdup(mount->target);
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
        }
        free(plan->mounts);
        free(plan->fds);
        free(plan->limits);
        nb_strv_free(plan->argv);
        nb_strv_free(plan->env);
        free(plan);
}

static void say(struct nb_buf *out, const char *fmt, ...) NB_PRINTF(2, 3);
static void say(struct nb_buf *out, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        NB_AUTO_FREE char *line = nb_vasprintf(fmt, ap);
        va_end(ap);
        nb_buf_add(out, line, strlen(line));
}

static void say_ids(struct nb_buf *out, const struct jail_plan *plan) {
        static const char *const texts[] = {
                [JAIL_IDS_CALLER] = "the caller alone, as 0",
                [JAIL_IDS_ALL] = "all, each as itself",
                [JAIL_IDS_UNUSED] = "one that nobody uses, as 0 (without privilege: the caller)",
        };
        say(out, "  ids           %s", texts[plan->ids]);
        if (plan->ids == JAIL_IDS_UNUSED && plan->unused_id)
                say(out, " [%u]", plan->unused_id);
        say(out, "\n  namespaces    user mount pid network ipc uts, all its own\n");
}

static void say_mount(struct nb_buf *out, const struct jail_mount *m) {
        static const char *const kinds[] = { "bind", "link", "file", "proc" };
        say(out, "  %-5s         %s", kinds[m->kind], m->target);
        switch (m->kind) {
        case JAIL_BIND:
                say(out, " from %s %s,nosuid,nodev%s%s", m->source, m->write ? "rw" : "ro", m->exec ? "" : ",noexec",
                    m->recursive ? ", with what is mounted below it, now and later" : "");
                break;
        case JAIL_SYMLINK: say(out, " to %s", m->source); break;
        case JAIL_PROC: say(out, " ro,nosuid,nodev,noexec, its own processes only"); break;
        case JAIL_FILE: break;
        }
        say(out, "\n");
}

char *jail_describe(const struct jail_plan *plan) {
        static const char *const filters[] = {
                [JAIL_SECCOMP_NONE] = "not filtered here",
                [JAIL_SECCOMP_VIRTIOFSD] = "no set-id bits, devices, extended attributes, mounts, namespaces, sockets",
                [JAIL_SECCOMP_QEMU] = "no mounts, namespaces, sockets, tracing, keys, kernel interfaces",
        };
        NB_AUTO_BUF out = { 0 };
        say(&out, "jail %s\n", plan->name);
        say_ids(&out, plan);
        say(&out, "  root          an empty read-only tmpfs with:\n");
        for (size_t i = 0; i < plan->n_mounts; i++)
                say_mount(&out, &plan->mounts[i]);
        for (size_t i = 0; i < plan->n_fds; i++)
                say(&out, "  descriptor    %d\n", plan->fds[i].as);
        for (size_t i = 0; i < plan->n_limits; i++)
                say(&out, "  limit         %d = %llu\n", plan->limits[i].resource, (unsigned long long)plan->limits[i].value);
        if (plan->keep_caps)
                say(&out, "  capabilities  %#llx, over its own user namespace only\n", (unsigned long long)plan->keep_caps);
        else
                say(&out, "  capabilities  none, and none to be had\n");
        say(&out, "  system calls  %s; no 32-bit or x32 calls\n", filters[plan->seccomp]);
        say(&out, "  runs         ");
        for (char **arg = plan->argv; arg && *arg; arg++)
                say(&out, " %s", *arg);
        say(&out, "\n");
        nb_buf_add(&out, "", 1);
        return nb_strndup((const char *)nb_buf_bytes(&out), out.len);
}
