/* Rows about the box's processes as the host's kernel sees them: what each still may. Of a process that is not dumpable an
 * ordinary user is told less; what cannot be seen is said so and not counted as good. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attack/looks.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#define DEPTH_MAX 6        /* of the tree of processes below the supervisor */
#define CAPS_SHARE 0xcbull /* chown, dac_override, fowner, setgid, setuid: what serving files needs */
#define CAPS_GUARD 0xaull  /* dac_override, fowner */
#define PROC_FILE_MAX 65536u
#define WORDS_LOOKED_AT 3u

struct jail {
        const char *word; /* how the process is found */
        unsigned long long caps;
        bool own_network; /* else it is the host's, which the process is there for */
        bool may_bound;   /* its bounding set need not be empty */
};

char *look_file(pid_t pid, const char *name) {
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/%s", (int)pid, name);
        char *text = NULL;
        if (pid <= 0 || nb_read_file(path, PROC_FILE_MAX, &text, NULL) < 0)
                return nb_strdup("");
        return text;
}

/* A line of /proc/PID/status. New string, "" if it is not there. */
static char *field_of(const char *status, const char *name) {
        NB_AUTO_FREE char *begin = nb_asprintf("\n%s:\t", name);
        const char *at = strstr(status, begin);
        return at ? nb_strndup(at + strlen(begin), strcspn(at + strlen(begin), "\n")) : nb_strdup("");
}

static pid_t parent_of(pid_t pid) {
        NB_AUTO_FREE char *status = look_file(pid, "status"), *parent = field_of(status, "PPid");
        return (pid_t)atoi(parent);
}

static bool is_below(pid_t pid, pid_t top) {
        for (int i = 0; i < DEPTH_MAX && pid > 1; i++, pid = parent_of(pid))
                if (pid == top)
                        return true;
        return false;
}

/* Is one of the first words of the command line this one, folders apart? */
static bool is_called(pid_t pid, const char *word) {
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/cmdline", (int)pid);
        char *line = NULL;
        size_t len = 0;
        bool found = false;
        if (nb_read_file(path, PROC_FILE_MAX, &line, &len) < 0)
                return false;
        const char *at = line;
        for (unsigned i = 0; i < WORDS_LOOKED_AT && at < line + len && !found; i++, at += strlen(at) + 1) {
                const char *slash = strrchr(at, '/');
                found = strcmp(slash ? slash + 1 : at, word) == 0;
        }
        free(line);
        return found;
}

pid_t look_child(const struct look *l, const char *word) {
        DIR *d = opendir("/proc");
        pid_t found = 0;
        for (const struct dirent *e; d && (e = readdir(d));) {
                pid_t pid = (pid_t)atoi(e->d_name);
                /* of two the later one: a process that waits for the one in the jail may have its name, too */
                if (pid > found && pid != l->supervisor && is_called(pid, word) && is_below(pid, l->supervisor))
                        found = pid;
        }
        if (d)
                closedir(d);
        return found;
}

static void need(struct attack_row *row, bool good, const char *what, const char *value) {
        if (!good)
                attack_row_see(row, FAR_OPEN, "%s: %s", what, value);
}

static void look_at_privileges(struct attack_row *row, const char *status, const struct jail *j) {
        static const char *const sets[] = { "CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd" };
        NB_AUTO_FREE char *filter = field_of(status, "Seccomp"), *privs = field_of(status, "NoNewPrivs");
        need(row, strcmp(filter, "2") == 0, "system call filter", filter);
        need(row, strcmp(privs, "1") == 0, "no new privileges", privs);
        for (size_t i = 0; i < NB_ARRAY_LEN(sets) - j->may_bound; i++) {
                NB_AUTO_FREE char *set = field_of(status, sets[i]);
                need(row, *set && (strtoull(set, NULL, 16) & ~j->caps) == 0, sets[i], set);
        }
}

static void look_at_core(struct attack_row *row, pid_t pid) {
        NB_AUTO_FREE char *limits = look_file(pid, "limits");
        const char *line = strstr(limits, "Max core file size");
        unsigned soft = 0, hard = 0;
        bool small = line && sscanf(line, "Max core file size %u %u", &soft, &hard) == 2 && soft <= 1 && hard <= 1;
        need(row, small, "core dumps", "not forbidden");
}

/* How many namespaces are its own; -1 if it cannot be seen. */
static int own_namespaces(struct attack_row *row, pid_t pid, bool own_network) {
        static const char *const kinds[] = { "user", "mnt", "ipc", "uts", "net" };
        int n = 0;
        for (size_t i = 0; i < NB_ARRAY_LEN(kinds); i++) {
                char here[64] = "", there[64] = "";
                NB_AUTO_FREE char *own = nb_asprintf("/proc/self/ns/%s", kinds[i]);
                NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/ns/%s", (int)pid, kinds[i]);
                if (readlink(path, there, sizeof there - 1) < 0 || readlink(own, here, sizeof here - 1) < 0)
                        return -1;
                bool same = strcmp(here, there) == 0;
                n += !same;
                if (same && (own_network || strcmp(kinds[i], "net") != 0))
                        attack_row_see(row, FAR_OPEN, "the %s namespace is this host's", kinds[i]);
        }
        return n;
}

/* The control: of this process, which is in no jail, the same reading must not say that it is. (Where nixbox itself was started
 * with as little as a jail leaves, there is none.) */
static bool would_be_seen(void) {
        struct attack_row ours = { 0 };
        NB_AUTO_FREE char *status = look_file(getpid(), "status");
        look_at_privileges(&ours, status, &(struct jail){ 0 });
        free(ours.seen);
        return ours.far == FAR_OPEN;
}

static void look_at_jail(const struct look *l, struct attack_row *row, const struct jail *j) {
        pid_t pid = look_child(l, j->word);
        NB_AUTO_FREE char *status = look_file(pid, "status");
        if (!*status) {
                attack_row_see(row, FAR_UNCLEAR, "the process was not found");
                return;
        }
        look_at_privileges(row, status, j);
        look_at_core(row, pid);
        int n = j->may_bound ? 0 : own_namespaces(row, pid, j->own_network);
        row->control = would_be_seen() ? CONTROL_OK : CONTROL_NONE;
        const char *privileges = j->caps ? "privileges over its own users only" : "no privileges";
        const char *spaces = n < 0 ? "; its namespaces are not shown to this user" : n > 0 ? ", namespaces of its own" : "";
        attack_row_see(row, FAR_HELD, "%s, filter, no core dumps%s", privileges, spaces);
}

void look_jail_qemu(const struct look *l, struct attack_row *row) {
        look_at_jail(l, row, &(struct jail){ .word = "qemu-system-x86_64", .own_network = true });
}

void look_jail_virtiofsd(const struct look *l, struct attack_row *row) {
        look_at_jail(l, row, &(struct jail){ .word = "virtiofsd", .caps = CAPS_SHARE, .own_network = true });
}

/* How many namespaces for process ids it is in, seen from here; 0 if that is not told. */
static unsigned depth_of(pid_t pid) {
        NB_AUTO_FREE char *status = look_file(pid, "status"), *ids = field_of(status, "NSpid");
        unsigned n = *ids != 0;
        for (const char *at = ids; (at = strchr(at, '\t')); at++)
                n++;
        return n;
}

void look_jail_guard(const struct look *l, struct attack_row *row) {
        const struct jail guard = { .word = "@guard", .caps = CAPS_GUARD, .own_network = true };
        if (json_array_size(json_object_get(l->after, "protect")) == 0) {
                look_skip(row, "nothing is protected");
                return;
        }
        look_at_jail(l, row, &guard);
        unsigned depth = depth_of(look_child(l, guard.word));
        if (depth > 0) /* else it was not found, which is said */
                need(row, depth > depth_of(getpid()) && depth == depth_of(look_child(l, "virtiofsd")), "processes in sight",
                     "not those of virtiofsd only");
}

void look_jail_conduit(const struct look *l, struct attack_row *row) {
        look_at_jail(l, row, &(struct jail){ .word = "@conduit", .own_network = true });
}

static bool has_network(const struct look *l, struct attack_row *row) {
        const char *mode = json_string_value(json_object_get(l->after, "network"));
        bool has = mode && strcmp(mode, "off") != 0;
        if (!has)
                look_skip(row, "no network");
        return has;
}

void look_jail_gateway(const struct look *l, struct attack_row *row) {
        if (has_network(l, row))
                look_at_jail(l, row, &(struct jail){ .word = "gateway" });
}

void look_jail_resolver(const struct look *l, struct attack_row *row) {
        if (has_network(l, row))
                look_at_jail(l, row, &(struct jail){ .word = "resolver", .may_bound = true });
}
