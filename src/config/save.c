/* Saving rules to a config's file (see config_save_rules() in config.h): which file, what to put there (save_edit.c), and
 * replacing it in one step. */
#include "config/save.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"

#define SAVE_RULES_MAX 256 /* in one step */

/* The file to edit. A symbolic link stays one and its target is edited, but only within the config's own folder: whoever can
 * make links there, a box maybe, must not choose a file elsewhere. */
static int file_to_edit(const char *file, char **ret, struct nb_error *err) {
        NB_AUTO_FREE char *path = NULL;
        struct stat st;
        int r = doc_file_path(file, &path, err);
        if (r < 0)
                return r;
        if (lstat(path, &st) < 0) {
                nb_fail_errno(err, errno, "cannot read %s", path);
                return nb_hint(err, "nixbox init writes a config");
        }
        if (!S_ISLNK(st.st_mode)) {
                *ret = nb_steal(&path);
                return 0;
        }
        NB_AUTO_FREE char *real = realpath(path, NULL);
        if (!real)
                return nb_fail_errno(err, errno, "cannot follow the symbolic link %s", path);
        NB_AUTO_FREE char *dir = nb_strndup(path, (size_t)(strrchr(path, '/') - path));
        if (!nb_path_below(real, *dir ? dir : "/")) {
                nb_fail(err, EXDEV, "%s is a symbolic link to a file outside its folder, %s", path, real);
                return nb_hint(err, "add the rule to that file yourself");
        }
        *ret = nb_steal(&real);
        return 0;
}

static int parse_rules(char *const *texts, bool deny, struct policy_rule *ret, size_t *ret_n, struct nb_error *err) {
        for (; texts && *texts; texts++) {
                if (*ret_n == SAVE_RULES_MAX)
                        return nb_fail(err, E2BIG, "more than %d rules at once", SAVE_RULES_MAX);
                int r = policy_rule_parse(*texts, deny, &ret[*ret_n], err);
                if (r < 0)
                        return r;
                (*ret_n)++;
        }
        return 0;
}

/* An editor may have written it in the meantime, and a box that can write there may have put a link to another folder in the
 * way: what is looked at once more and what is replaced are in one folder, whatever leads there then. */
static int replace(const struct config_source *src, const char *text, struct nb_error *err) {
        NB_AUTO_FREE char *bytes = NULL;
        const char *slash = strrchr(src->path, '/'), *name = slash ? slash + 1 : src->path;
        NB_AUTO_FREE char *dir = slash ? nb_strndup(src->path, (size_t)(name - src->path)) : nb_strdup(".");
        NB_AUTO_CLOSE int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return nb_fail_errno(err, errno, "cannot open the folder of %s", src->path);
        NB_AUTO_FREE char *path = nb_asprintf("/proc/self/fd/%d/%s", fd, name);
        size_t len = 0;
        int r = nb_read_regular(path, src->len, &bytes, &len);
        if (r == -EFBIG || (r == 0 && (len != src->len || memcmp(bytes, src->bytes, len) != 0))) {
                nb_fail(err, EBUSY, "%s has changed in this moment", src->label);
                return nb_hint(err, "do it again");
        }
        if (r == 0)
                r = nb_replace_file(path, text, strlen(text));
        return r < 0 ? nb_fail_errno(err, -r, "cannot write %s", src->path) : 0;
}

static int save(const char *path, const struct policy_rule *rules, size_t n, char **ret_text, struct nb_error *err) {
        struct config_tree *tree = config_tree_new();
        struct config_source *src = NULL;
        NB_AUTO_FREE char *home = nb_home_dir();
        int r = doc_source(tree, path, NULL, &src, err);
        if (r == 0)
                r = save_edit(src, home, rules, n, ret_text, err);
        if (r == 0 && *ret_text)
                r = replace(src, *ret_text, err);
        config_tree_free(tree);
        return r;
}

int config_save_rules(const char *file, char *const *rules, bool deny, bool *ret_changed, struct nb_error *err) {
        NB_AUTO_FREE struct policy_rule *parsed = nb_calloc(SAVE_RULES_MAX, sizeof *parsed);
        NB_AUTO_FREE char *path = NULL;
        NB_AUTO_FREE char *text = NULL;
        size_t n = 0;
        int r = parse_rules(rules, deny, parsed, &n, err);
        if (r == 0)
                r = file_to_edit(file, &path, err);
        if (r == 0)
                r = save(path, parsed, n, &text, err);
        if (r == 0)
                *ret_changed = text;
        for (size_t i = 0; i < n; i++)
                policy_rule_clear(&parsed[i]);
        if (r < 0 && err && !err->hint)
                nb_hint(err, "correct it there; docs/config.md explains every key");
        return r;
}
