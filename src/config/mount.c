/* What may be mounted where (see mount.h), and mounts from the command line. */
#include "config/mount.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"

char *mount_real_path(const char *path) {
        NB_AUTO_FREE char *head = nb_strdup(path);
        for (;;) {
                NB_AUTO_FREE char *real = realpath(head, NULL);
                const char *rest = path + strlen(head);
                if (real)
                        return *rest ? nb_path_join(real, rest + (*rest == '/')) : nb_steal(&real);
                char *slash = strrchr(head, '/');
                if (!slash || slash == head)
                        return nb_strdup(path);
                *slash = 0;
        }
}

bool mount_is_own(const char *path, char **ret_own) {
        static char *(*const dirs[])(void) = { nb_state_dir, nb_data_dir, nb_cache_dir, nb_runtime_dir };
        for (size_t i = 0; i < NB_ARRAY_LEN(dirs); i++) {
                NB_AUTO_FREE char *dir = dirs[i]();
                NB_AUTO_FREE char *real = mount_real_path(dir);
                if (!nb_path_below(path, real) && !nb_path_below(real, path))
                        continue;
                *ret_own = nb_steal(&real);
                return true;
        }
        return false;
}

const char *mount_target_problem(const char *target) {
        static const char *const taken[] = { "/proc", "/sys", "/dev", "/run/nixbox" };
        if (strcmp(target, "/") == 0)
                return "is the root of the box";
        for (size_t i = 0; i < NB_ARRAY_LEN(taken); i++)
                if (nb_path_below(target, taken[i]) || strcmp(target, "/run") == 0)
                        return "belongs to the box's own system";
        return NULL;
}

static int source_fail(const struct config_mount *m, struct nb_error *err, int code, const char *what) {
        if (m->pos.line)
                return nb_fail(err, code, "%s:%u:%u: %s %s", m->pos.file, m->pos.line, m->pos.column, m->source, what);
        return nb_fail(err, code, "%s %s", m->source, what);
}

int mount_check_source(struct config_mount *m, struct nb_error *err) {
        static const char *const kernel[] = { "/proc", "/sys", "/dev" };
        struct stat st;
        if (stat(m->source, &st) < 0) {
                int code = errno;
                if (code != ENOENT && code != ENOTDIR)
                        return source_fail(m, err, code, strerror(code));
                source_fail(m, err, ENOENT, "does not exist, so it cannot be mounted");
                return nb_hint(err, "make it (mkdir -p %s), or remove the mount", m->source);
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(kernel); i++)
                if (nb_path_below(m->source, kernel[i]))
                        return source_fail(m, err, EPERM, "belongs to the host's kernel and is never mounted");
        if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
                return source_fail(m, err, EINVAL, "is neither a folder nor an ordinary file");
        m->is_file = S_ISREG(st.st_mode);
        NB_AUTO_FREE char *own = NULL;
        if (mount_is_own(m->source, &own)) {
                NB_AUTO_FREE char *what = nb_asprintf("would show the box nixbox's own folder %s", own);
                source_fail(m, err, EPERM, what);
                return nb_hint(err, "mount the folders that the work needs one by one");
        }
        return 0;
}

char *config_volume_path(const char *name) {
        NB_AUTO_FREE char *state = nb_state_dir();
        NB_AUTO_FREE char *real = mount_real_path(state);
        return name ? nb_asprintf("%s/volumes/%s", real, name) : nb_path_join(real, "volumes");
}

/* Cuts a trailing ":rw" or ":ro" off. */
static bool take_mode(char *spec) {
        size_t len = strlen(spec);
        bool rw = len > 3 && strcmp(spec + len - 3, ":rw") == 0;
        if (rw || (len > 3 && strcmp(spec + len - 3, ":ro") == 0))
                spec[len - 3] = 0;
        return rw;
}

static char *expand(const char *path, const char *dir) {
        NB_AUTO_FREE char *home = nb_home_dir();
        NB_AUTO_FREE char *full =
            path[0] == '~' && (path[1] == '/' || !path[1]) ? nb_asprintf("%s/%s", home, path + 1) : nb_path_join(dir, path);
        return nb_path_normalize(full);
}

int config_parse_mount(const char *spec, const char *dir, struct config_mount *ret, struct nb_error *err) {
        NB_AUTO_FREE char *source = nb_strdup(spec);
        bool write = take_mode(source);
        char *target = strchr(source, ':');
        if (target)
                *target++ = 0;
        if (!*source || (target && target[0] != '/' && target[0] != '~')) {
                nb_fail(err, EINVAL, "'%s' is not a mount", spec);
                return nb_hint(err, "write SOURCE[:TARGET][:rw], with TARGET beginning with / or ~/");
        }
        NB_AUTO_FREE char *given = expand(source, dir);
        struct config_mount m = { .source = mount_real_path(given), .write = write, .pos = { .file = "command line" } };
        m.target = target ? expand(target, dir) : nb_steal(&given);
        const char *problem = mount_target_problem(m.target);
        int r = mount_check_source(&m, err);
        if (r == 0 && problem)
                r = nb_fail(err, EINVAL, "the target %s %s", m.target, problem);
        if (r < 0) {
                config_mount_clear(&m);
                return r;
        }
        *ret = m;
        return 0;
}

void config_mount_clear(struct config_mount *m) {
        free(m->source);
        free(m->target);
        m->source = m->target = NULL;
}
