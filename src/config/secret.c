/* Reading secrets (see config.h). A value never gets into an error, a log or another process's arguments; memory that held
 * one is overwritten. */
#include "config/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/proc.h"
#include "config/approval.h"

#define SECRET_MAX (64u << 10)

static int fail_at(const struct config_secret *s, struct nb_error *err, int code, const char *what) {
        return nb_fail(err, code, "%s:%u:%u: the secret %s: %s", s->pos.file, s->pos.line, s->pos.column, s->name, what);
}

static int missing_variable(const struct config_secret *s, struct nb_error *err) {
        NB_AUTO_FREE char *what = nb_asprintf("the variable %s is not set", s->arg);
        fail_at(s, err, ENOENT, what);
        return nb_hint(err, "export %s=…, or remove the secret", s->arg);
}

/* The path was made real when the config was loaded (and that is what was approved): a symbolic link that has come up in it
 * since then is not followed. */
static int open_file(const struct config_secret *s, struct nb_error *err) {
        struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, .resolve = RESOLVE_NO_SYMLINKS };
        struct stat st;
        NB_AUTO_CLOSE int fd = (int)syscall(SYS_openat2, AT_FDCWD, s->arg, &how, sizeof how);
        if (fd < 0 || fstat(fd, &st) < 0) {
                int code = errno;
                NB_AUTO_FREE char *what = nb_asprintf("cannot read %s: %s", s->arg, strerror(code));
                fail_at(s, err, code, what);
                return nb_hint(err, "make the file readable, or remove the secret");
        }
        if (!S_ISREG(st.st_mode) || st.st_size > SECRET_MAX) {
                NB_AUTO_FREE char *what = nb_asprintf("%s is no file of at most %u KiB", s->arg, SECRET_MAX >> 10);
                return fail_at(s, err, EINVAL, what);
        }
        return nb_steal_fd(&fd);
}

int secret_check(const struct config_secret *s, struct nb_error *err) {
        if (s->from == CONFIG_SECRET_ENV && !getenv(s->arg))
                return missing_variable(s, err);
        if (s->from == CONFIG_SECRET_FILE) {
                NB_AUTO_CLOSE int fd = open_file(s, err);
                return fd < 0 ? fd : 0;
        }
        return 0;
}

static int read_file(const struct config_secret *s, char **ret, size_t *ret_len, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open_file(s, err);
        if (fd < 0)
                return fd;
        char *value = nb_calloc(SECRET_MAX + 2, 1);
        ssize_t n = nb_read_full(fd, value, SECRET_MAX + 1);
        if (n < 0 || n > (ssize_t)SECRET_MAX) {
                explicit_bzero(value, SECRET_MAX + 2);
                free(value);
                return fail_at(s, err, n < 0 ? (int)-n : EFBIG, n < 0 ? strerror((int)-n) : "the file is too large");
        }
        *ret = value;
        *ret_len = (size_t)n;
        return 0;
}

static int run_command(const struct config_secret *s, const struct config *c, char **ret, size_t *ret_len,
                       struct nb_error *err) {
        struct approval_command cmd = { 0 };
        int r = approval_command(c, s->arg, s->dir, &cmd, err);
        if (r == 0) {
                /* its stderr is the person's to see, and not ours to keep: it may show the value */
                struct proc_spec spec = {
                        .argv = cmd.argv, .dir = cmd.dir, .output_max = SECRET_MAX, .stdout_fd = -1, .stderr_fd = STDERR_FILENO
                };
                r = proc_run(&spec, ret, ret_len, err);
        }
        approval_command_clear(&cmd);
        if (r < 0) {
                nb_context(err, "%s:%u:%u: the secret %s", s->pos.file, s->pos.line, s->pos.column, s->name);
                if (err && !err->hint)
                        nb_hint(err, "run the command yourself to see what it does: %s", s->arg);
        }
        return r;
}

int config_secret_read(const struct config_secret *s, const struct config *c, char **ret, size_t *ret_len,
                       struct nb_error *err) {
        char *value = NULL;
        size_t len = 0;
        int r = 0;
        if (s->from == CONFIG_SECRET_ENV) {
                const char *text = getenv(s->arg);
                if (!text)
                        return missing_variable(s, err);
                value = nb_strdup(text);
                len = strlen(text);
        } else if (s->from == CONFIG_SECRET_FILE) {
                r = read_file(s, &value, &len, err);
        } else {
                r = run_command(s, c, &value, &len, err);
        }
        if (r < 0 || !value)
                return r;
        if (s->from != CONFIG_SECRET_ENV && len > 0 && value[len - 1] == '\n')
                value[--len] = 0;
        if (memchr(value, 0, len)) {
                explicit_bzero(value, len);
                free(value);
                fail_at(s, err, EINVAL, "the value holds a NUL byte, which no variable can");
                return nb_hint(err, "encode it, with base64 for example");
        }
        *ret = value;
        *ret_len = len;
        return 0;
}
