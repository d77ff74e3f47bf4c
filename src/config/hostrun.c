/* Host commands and the files they name (see hostrun.h). A file that stands where the shell looks for a program is run from
 * a sealed copy in memory, so that what was approved is what runs. Files that stand elsewhere on the line are read by the
 * program itself: they are compared with what was approved just before. What those files read in turn is out of reach. */
#include "config/hostrun.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "base/text.h"
#include "config/approval.h"
#include "config/mount.h"

#define FILE_MAX (32u << 20) /* bytes in one file */
#define FILES_MAX 64         /* files named by one config */
#define FD_FIRST 50          /* copies get descriptors from here on, out of the way of shell scripts */

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static const char separators[] = ";|&()<>\n";

/* One word from *at on; quotes and backslashes taken off. */
static void take_word(const char *command, size_t *at, struct hostrun_word *w) {
        const char *p = command + *at;
        char *out = w->text = nb_calloc(strlen(p) + 1, 1);
        char quote = 0;
        w->start = *at;
        w->plain = true;
        for (; *p; p++) {
                if (quote) {
                        if (*p == quote) {
                                quote = 0;
                                continue;
                        }
                } else if (strchr(" \t", *p) || strchr(separators, *p)) {
                        break;
                } else if (*p == '\'' || *p == '"') {
                        quote = *p;
                        continue;
                }
                if (*p == '\\' && quote != '\'' && p[1])
                        p++;
                else if (quote != '\'' && (*p == '$' || *p == '`' || (!quote && strchr("*?[", *p))))
                        w->plain = false;
                *out++ = *p;
        }
        *at = w->end = (size_t)(p - command);
}

static bool is_assignment(const struct hostrun_word *w) {
        size_t name = strspn(w->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
        return name > 0 && w->text[name] == '=';
}

size_t hostrun_words(const char *command, struct hostrun_word *words, size_t max) {
        size_t n = 0;
        bool program = true;
        for (size_t at = 0; command[at] && n < max;) {
                if (strchr(" \t", command[at])) {
                        at++;
                } else if (strchr(separators, command[at])) {
                        program = command[at] != '<' && command[at] != '>' && command[at] != ')';
                        at++;
                } else {
                        take_word(command, &at, &words[n]);
                        words[n].command = program;
                        program = program && is_assignment(&words[n]);
                        n++;
                }
        }
        return n;
}

void hostrun_words_clear(struct hostrun_word *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                free(words[i].text);
}

/* The file a word means, as a real path; NULL if it means none, or one of the system's that no guest can write. */
static char *word_file(const struct config *c, const struct hostrun_word *w, const char *dir) {
        static const char *const system[] = { "/usr", "/bin", "/sbin", "/lib", "/dev", "/proc", "/sys" };
        struct stat st;
        const char *equals = w->command ? NULL : strchr(w->text, '=');
        const char *text = equals && (w->text[0] == '-' || is_assignment(w)) ? equals + 1 : w->text;
        if (!w->plain || !*text || (w->command && !strchr(text, '/')))
                return NULL;
        NB_AUTO_FREE char *home = nb_home_dir();
        NB_AUTO_FREE char *path = nb_starts_with(text, "~/") ? nb_path_join(home, text + 2) : nb_path_join(dir, text);
        NB_AUTO_FREE char *real = realpath(path, NULL);
        if (!real || stat(real, &st) < 0 || !S_ISREG(st.st_mode))
                return NULL;
        for (size_t i = 0; i < c->n_mounts; i++)
                if (c->mounts[i].write && nb_path_below(real, c->mounts[i].source))
                        return nb_steal(&real);
        for (size_t i = 0; i < NB_ARRAY_LEN(system); i++)
                if (nb_path_below(real, system[i]))
                        return NULL;
        return nb_steal(&real);
}

static const struct config_file *known_file(const struct config *c, const char *path) {
        for (size_t i = 0; i < c->n_files; i++)
                if (strcmp(c->files[i].path, path) == 0)
                        return &c->files[i];
        return NULL;
}

static int add_file(struct config *c, const char *path, const struct doc_node *at, struct nb_error *err) {
        if (known_file(c, path))
                return 0;
        if (c->n_files == FILES_MAX)
                return doc_fail(at, err, E2BIG, "the commands name more than %d files", FILES_MAX);
        struct config_file f = { .executable = access(path, X_OK) == 0 };
        int r = nb_read_regular(path, FILE_MAX, &f.bytes, &f.len);
        if (r < 0)
                return doc_fail(at, err, -r, "the command names %s, which cannot be read: %s", path, strerror(-r));
        f.path = nb_strdup(path);
        nb_sha256(f.bytes, f.len, f.sha256);
        c->files = nb_realloc(c->files, c->n_files + 1, sizeof *c->files);
        c->files[c->n_files++] = f;
        return 0;
}

int hostrun_add_file(struct config *c, const char *path, const struct doc_node *at, struct nb_error *err) {
        struct stat st;
        NB_AUTO_FREE char *real = realpath(path, NULL);
        return real && stat(real, &st) == 0 && S_ISREG(st.st_mode) ? add_file(c, real, at, err) : 0;
}

static int check_program(const struct hostrun_word *w, const char *file, const char *dir, const struct doc_node *at,
                         struct nb_error *err) {
        if (!w->command || !w->plain || !strchr(w->text, '/') || nb_starts_with(w->text, "/proc/"))
                return 0;
        NB_AUTO_FREE char *path = nb_starts_with(w->text, "~/") ? nb_strdup(file) : nb_path_join(dir, w->text);
        if (path && access(path, X_OK) == 0)
                return 0;
        int code = path ? errno : ENOENT;
        doc_fail(at, err, code, "the command's program %s cannot be run: %s", w->text, strerror(code));
        if (code == EACCES)
                return nb_hint(err, "chmod +x %s", path);
        return nb_hint(err, "make the file, or correct the path (it is relative to %s)", dir);
}

int hostrun_collect(struct config *c, const char *command, const char *dir, bool must, const struct doc_node *at,
                    struct nb_error *err) {
        struct hostrun_word words[HOSTRUN_WORDS_MAX];
        size_t n = hostrun_words(command, words, NB_ARRAY_LEN(words));
        int r = n == NB_ARRAY_LEN(words) ? doc_fail(at, err, E2BIG, "the command has too many words") : 0;
        for (size_t i = 0; i < n && r == 0; i++) {
                NB_AUTO_FREE char *file = word_file(c, &words[i], dir);
                if (must)
                        r = check_program(&words[i], file, dir, at, err);
                if (r == 0 && file)
                        r = add_file(c, file, at, err);
        }
        hostrun_words_clear(words, n);
        return r;
}

/* A copy in memory that nothing can change any more. The descriptor survives exec: the command's shell needs it. */
static int sealed_copy(const struct config_file *f, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = memfd_create("nixbox-approved", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
        if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
                fd = memfd_create("nixbox-approved", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int r = fd < 0 ? -errno : nb_write_all(fd, f->bytes, f->len);
        if (r == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
                r = -errno;
        int copy = r == 0 ? fcntl(fd, F_DUPFD, FD_FIRST) : -1;
        if (r == 0 && copy < 0)
                r = -errno;
        return r < 0 ? nb_fail_errno(err, -r, "cannot keep a copy of %s in memory", f->path) : copy;
}

static int still_same(const struct config_file *f, struct nb_error *err) {
        NB_AUTO_FREE char *bytes = NULL;
        size_t len = 0;
        int r = nb_read_regular(f->path, FILE_MAX, &bytes, &len);
        if (r == 0 && len == f->len && memcmp(bytes, f->bytes, len) == 0)
                return 0;
        nb_fail(err, EPERM, "%s has changed since it was approved", f->path);
        return nb_hint(err, "look at the change, then start again: nixbox up");
}

static int use_word(const struct config *c, const struct hostrun_word *w, const char *dir, struct approval_command *ret,
                    bool *ret_replace, struct nb_error *err) {
        NB_AUTO_FREE char *path = word_file(c, w, dir);
        if (!path)
                return 0;
        const struct config_file *f = known_file(c, path);
        if (!f) {
                nb_fail(err, EPERM, "%s was not there when the config was read", path);
                return nb_hint(err, "look at it, then start again: nixbox up");
        }
        if (!w->command)
                return still_same(f, err);
        if (ret->n_fds == APPROVAL_FDS_MAX)
                return nb_fail(err, E2BIG, "the command runs more than %d files", APPROVAL_FDS_MAX);
        int fd = sealed_copy(f, err);
        if (fd < 0)
                return fd;
        ret->fds[ret->n_fds++] = fd;
        *ret_replace = true;
        return 0;
}

int approval_command(const struct config *c, const char *command, const char *dir, struct approval_command *ret,
                     struct nb_error *err) {
        struct hostrun_word words[HOSTRUN_WORDS_MAX];
        size_t n = hostrun_words(command, words, NB_ARRAY_LEN(words)), done = 0;
        struct approval_command cmd = { 0 };
        NB_AUTO_FREE char *text = nb_strdup("");
        int r = n == NB_ARRAY_LEN(words) ? nb_fail(err, E2BIG, "the command has too many words") : 0;
        for (size_t i = 0; i < n && r == 0; i++) {
                bool replace = false;
                r = use_word(c, &words[i], dir, &cmd, &replace, err);
                if (r < 0 || !replace)
                        continue;
                char *longer = nb_asprintf("%s%.*s/proc/self/fd/%d", text, (int)(words[i].start - done), command + done,
                                           cmd.fds[cmd.n_fds - 1]);
                free(text);
                text = longer;
                done = words[i].end;
        }
        hostrun_words_clear(words, n);
        if (r < 0) {
                approval_command_clear(&cmd);
                return r;
        }
        NB_AUTO_FREE char *whole = nb_asprintf("%s%s", text, command + done);
        nb_strv_add(&cmd.argv, "/bin/sh");
        nb_strv_add(&cmd.argv, "-c");
        nb_strv_add(&cmd.argv, whole);
        cmd.dir = nb_strdup(dir);
        *ret = cmd;
        return 0;
}

void approval_command_clear(struct approval_command *cmd) {
        nb_strv_free(cmd->argv);
        free(cmd->dir);
        for (size_t i = 0; i < cmd->n_fds; i++)
                nb_close(cmd->fds[i]);
        *cmd = (struct approval_command){ 0 };
}
