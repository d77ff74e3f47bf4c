/* See cgroup.h. Of the two places for a new group, beside and below the caller's own, the first is the usual one: a group with
 * processes cannot have groups with limits below it, unless it is the root of all. */
#include "box/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#define FILE_MAX (256u * 1024u) /* bytes of a file of /proc or of the tree */

char *cgroup_parse_own(const char *text) {
        for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
                if (nb_starts_with(line, "0::/"))
                        return nb_strndup(line + 3, strcspn(line + 3, "\n"));
        return NULL;
}

/* The word of a line after so many others. New string. */
static char *word_at(const char *line, unsigned n) {
        for (; n > 0; n--) {
                line += strcspn(line, " ");
                line += strspn(line, " ");
        }
        return nb_strndup(line, strcspn(line, " "));
}

/* "36 25 0:31 /root /mount/point rw,nosuid shared:9 - cgroup2 cgroup2 rw" */
char *cgroup_parse_mount(const char *mountinfo, char **ret_root) {
        NB_AUTO_FREE char *copy = nb_strdup(mountinfo);
        char *save = NULL;
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                const char *kind = strstr(line, " - cgroup2 ");
                NB_AUTO_FREE char *root = word_at(line, 3);
                NB_AUTO_FREE char *point = word_at(line, 4);
                if (!kind || root[0] != '/' || point[0] != '/' || strchr(root, '\\') || strchr(point, '\\'))
                        continue;
                *ret_root = nb_steal(&root);
                return nb_steal(&point);
        }
        return NULL;
}

/* A word in a line of words. */
static bool has_word(const char *dir, const char *file, const char *word) {
        NB_AUTO_FREE char *path = nb_asprintf("%s/%s", dir, file);
        NB_AUTO_FREE char *text = NULL;
        if (nb_read_file(path, FILE_MAX, &text, NULL) < 0)
                return false;
        size_t len = strlen(word);
        for (const char *at = text; (at = strstr(at, word)); at += len)
                if ((at == text || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\n' || at[len] == 0))
                        return true;
        return false;
}

/* Can a group with limits be made there, and can we move children of ours into it? */
static bool usable(const char *dir, const char **ret_why) {
        NB_AUTO_FREE char *procs = nb_asprintf("%s/%s", dir, "cgroup.procs");
        if (access(dir, W_OK) < 0 || access(procs, W_OK) < 0) {
                *ret_why = "is not this user's to divide";
                return false;
        }
        if (has_word(dir, "cgroup.subtree_control", "memory"))
                return true;
        *ret_why = "does not hand on the limit of memory";
        return false;
}

char *cgroup_find(char **ret_why) {
        NB_AUTO_FREE char *own_text = NULL;
        NB_AUTO_FREE char *mounts = NULL;
        NB_AUTO_FREE char *root = NULL;
        (void)nb_read_file("/proc/self/cgroup", FILE_MAX, &own_text, NULL);
        (void)nb_read_file("/proc/self/mountinfo", FILE_MAX, &mounts, NULL);
        NB_AUTO_FREE char *own = own_text ? cgroup_parse_own(own_text) : NULL;
        NB_AUTO_FREE char *point = mounts ? cgroup_parse_mount(mounts, &root) : NULL;
        if (!own || !point || (strcmp(root, "/") != 0 && !nb_starts_with(own, root))) {
                *ret_why = nb_strdup("there is no unified cgroup tree");
                return NULL;
        }
        NB_AUTO_FREE char *below = nb_asprintf("%s%s", point, own + (strcmp(root, "/") == 0 ? 0 : strlen(root)));
        while (strlen(below) > strlen(point) && below[strlen(below) - 1] == '/')
                below[strlen(below) - 1] = 0;
        NB_AUTO_FREE char *beside = strlen(below) > strlen(point) ? nb_strdup(below) : NULL;
        if (beside)
                *strrchr(beside, '/') = 0;
        const char *why = "";
        if (beside && usable(beside, &why))
                return nb_steal(&beside);
        if (!beside && usable(below, &why))
                return nb_steal(&below);
        *ret_why = nb_asprintf("%s %s", beside ? beside : below, why);
        return NULL;
}

static int set(int dir, const char *file, const char *value, struct nb_error *err) {
        int r = nb_write_string_at(dir, file, value);
        return r < 0 ? nb_fail_errno(err, -r, "cannot set %s of the box's cgroup to %s", file, value) : 0;
}

static int set_number(int dir, const char *file, uint64_t value, struct nb_error *err) {
        NB_AUTO_FREE char *text = nb_asprintf("%llu", (unsigned long long)value);
        return set(dir, file, text, err);
}

/* Memory must have a limit; of the others those are set that the tree above hands on. */
static int set_all(int dir, const struct cgroup_limits *l, struct nb_error *err) {
        int r = set_number(dir, "memory.max", l->memory, err);
        if (r == 0 && faccessat(dir, "memory.swap.max", F_OK, 0) == 0) /* a kernel may count no swap */
                r = set_number(dir, "memory.swap.max", l->swap, err);
        if (r == 0)
                r = set(dir, "memory.oom.group", "1", err);
        if (r == 0 && faccessat(dir, "pids.max", F_OK, 0) == 0)
                r = set_number(dir, "pids.max", l->tasks, err);
        if (r == 0 && faccessat(dir, "cpu.weight", F_OK, 0) == 0)
                r = set_number(dir, "cpu.weight", l->weight, err);
        return r;
}

int cgroup_make(const char *parent, const char *name, const struct cgroup_limits *limits, struct cgroup *ret,
                struct nb_error *err) {
        struct cgroup c = { .path = nb_asprintf("%s/nixbox-%s", parent, name), .fd = -1 };
        (void)rmdir(c.path);
        int r = mkdir(c.path, 0755) < 0 ? nb_fail_errno(err, errno, "cannot make the cgroup %s", c.path) : 0;
        if (r == 0 && (c.fd = open(c.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
                r = nb_fail_errno(err, errno, "cannot open the cgroup %s", c.path);
        if (r == 0)
                r = set_all(c.fd, limits, err);
        if (r < 0) {
                cgroup_remove(&c);
                return r;
        }
        *ret = c;
        return 0;
}

void cgroup_remove(struct cgroup *c) {
        c->fd = nb_close(c->fd);
        if (c->path)
                (void)rmdir(c->path);
        free(c->path);
        c->path = NULL;
}
