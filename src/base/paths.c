/* Folders and installed files (see paths.h). */
#include "paths.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "mem.h"
#include "text.h"

#ifndef NB_DATADIR
#define NB_DATADIR "/usr/local/share/nixbox"
#endif
#ifndef NB_LIBEXECDIR
#define NB_LIBEXECDIR "/usr/local/libexec/nixbox"
#endif

char *nb_home_dir(void) {
        const char *home = getenv("HOME");
        if (home && home[0] == '/')
                return nb_path_normalize(home);
        struct passwd *pw = getpwuid(getuid());
        return nb_strdup(pw && pw->pw_dir[0] == '/' ? pw->pw_dir : "/");
}

static char *xdg_dir(const char *variable, const char *fallback) {
        const char *value = getenv(variable);
        NB_AUTO_FREE char *base = NULL;
        if (value && value[0] == '/') {
                base = nb_strdup(value);
        } else {
                NB_AUTO_FREE char *home = nb_home_dir();
                base = nb_path_join(home, fallback);
        }
        return nb_path_join(base, "nixbox");
}

char *nb_runtime_dir(void) {
        const char *dir = getenv("XDG_RUNTIME_DIR");
        struct stat st;
        if (dir && dir[0] == '/' && stat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == getuid())
                return nb_path_join(dir, "nixbox");
        return nb_asprintf("/tmp/nixbox-%u", getuid());
}

char *nb_state_dir(void) {
        return xdg_dir("XDG_STATE_HOME", ".local/state");
}

char *nb_data_dir(void) {
        return xdg_dir("XDG_DATA_HOME", ".local/share");
}

char *nb_cache_dir(void) {
        return xdg_dir("XDG_CACHE_HOME", ".cache");
}

int nb_private_dir(const char *path, struct nb_error *err) {
        int r = nb_mkdirs(path, 0700);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot make the folder %s", path);
        struct stat st;
        if (lstat(path, &st) < 0)
                return nb_fail_errno(err, errno, "cannot look at the folder %s", path);
        if (!S_ISDIR(st.st_mode) || st.st_uid != getuid()) {
                nb_fail(err, EPERM, "the folder %s is not a folder of yours", path);
                return nb_hint(err, "remove it, or set XDG_RUNTIME_DIR to a private folder");
        }
        if ((st.st_mode & 077) != 0 && chmod(path, 0700) < 0)
                return nb_fail_errno(err, errno, "cannot make the folder %s private", path);
        return 0;
}

/* Beside the running binary, in `shared` seen from there, or in the installed folder. */
static char *installed(const char *name, const char *shared, const char *folder) {
        const char *const beside[] = { "", shared };
        char exe[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
        exe[n > 0 ? n : 0] = 0;
        char *slash = strrchr(exe, '/');
        for (size_t i = 0; slash && i < NB_ARRAY_LEN(beside); i++) {
                char *path = nb_asprintf("%.*s/%s%s", (int)(slash - exe), exe, beside[i], name);
                if (access(path, F_OK) == 0)
                        return path;
                free(path);
        }
        return nb_path_join(folder, name);
}

char *nb_installed_file(const char *name) {
        return installed(name, "../share/nixbox/", NB_DATADIR);
}

char *nb_installed_program(const char *name) {
        return installed(name, "../libexec/nixbox/", NB_LIBEXECDIR);
}

char *nb_path_join(const char *dir, const char *name) {
        if (name[0] == '/')
                return nb_strdup(name);
        size_t len = strlen(dir);
        return nb_asprintf("%s%s%s", dir, len > 0 && dir[len - 1] == '/' ? "" : "/", name);
}

char *nb_path_normalize(const char *absolute) {
        char *out = nb_calloc(strlen(absolute) + 2, 1);
        size_t len = 0;
        for (const char *p = absolute; *p;) {
                p += strspn(p, "/");
                size_t n = strcspn(p, "/");
                if (n == 2 && p[0] == '.' && p[1] == '.') {
                        while (len > 0 && out[--len] != '/')
                                ;
                } else if (n > 0 && !(n == 1 && p[0] == '.')) {
                        out[len++] = '/';
                        memcpy(out + len, p, n);
                        len += n;
                }
                p += n;
        }
        if (len == 0)
                out[len++] = '/';
        out[len] = 0;
        return out;
}

bool nb_path_below(const char *path, const char *dir) {
        size_t len = strlen(dir);
        if (len == 1 && dir[0] == '/')
                return path[0] == '/';
        return strncmp(path, dir, len) == 0 && (path[len] == 0 || path[len] == '/');
}
