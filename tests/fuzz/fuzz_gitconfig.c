/* Fuzz target: two configs of git's. Whatever may stand where nothing stood is read again by a second reader, which knows only
 * lines and a flat list of keys. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/gitconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const keys[] = { "repositoryformatversion",
                                    "filemode",
                                    "bare",
                                    "logallrefupdates",
                                    "ignorecase",
                                    "precomposeunicode",
                                    "symlinks",
                                    "autocrlf",
                                    "eol",
                                    "safecrlf",
                                    "quotepath",
                                    "sparsecheckout",
                                    "sparsecheckoutcone",
                                    "objectformat",
                                    "refstorage",
                                    "partialclone",
                                    "name",
                                    "email",
                                    "url",
                                    "pushurl",
                                    "fetch",
                                    "push",
                                    "tagopt",
                                    "prune",
                                    "promisor",
                                    "partialclonefilter",
                                    "gh-resolved",
                                    "pushdefault",
                                    "remote",
                                    "pushremote",
                                    "merge",
                                    "rebase",
                                    "description",
                                    "vscode-merge-base",
                                    "gh-merge-base",
                                    "autosetupmerge",
                                    "autosetuprebase",
                                    "defaultbranch",
                                    "ff",
                                    "default",
                                    "autosetupremote",
                                    "conflictstyle",
                                    "autostash",
                                    "enabled",
                                    "auto",
                                    "active",
                                    NULL };

static bool is_known(const char *line) {
        size_t len = strcspn(line, " \t=");
        for (size_t i = 0; keys[i]; i++)
                if (strlen(keys[i]) == len && strncasecmp(keys[i], line, len) == 0)
                        return true;
        return false;
}

/* "helper::…", by which git finds a program. */
static bool names_helper(const char *value) {
        size_t len = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-.");
        return strncmp(value + len, "::", 2) == 0;
}

static void check_lines(char *text) {
        char *rest = NULL;
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                line += strspn(line, " \t");
                size_t len = strlen(line);
                if (len > 0 && line[len - 1] == '\\')
                        abort();
                if (*line == 0 || *line == '#' || *line == ';')
                        continue;
                if (*line == '[' ? line[strcspn(line, "\n") - 1] != ']' && line[len - 1] != ' ' && line[len - 1] != '\t'
                                 : !is_known(line))
                        abort();
                const char *value = line[0] == '[' ? NULL : strchr(line, '=');
                if (value && strncasecmp(line, "url", 3) == 0 && names_helper(value + 1 + strspn(value + 1, " \t")))
                        abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *text = (const char *)data;
        const uint8_t *cut = memchr(data, 0, size);
        size_t old_len = cut ? (size_t)(cut - data) : 0, at = cut ? old_len + 1 : 0;
        char *why = NULL;
        bool replaces = gitconfig_may_replace(text, old_len, text + at, size - at, &why);
        if (replaces == (why != NULL))
                abort();
        free(why);
        bool fresh = gitconfig_may_replace("", 0, text + at, size - at, &why);
        free(why);
        if (fresh != (gitconfig_harmless(text + at, size - at)))
                abort();
        if (fresh && !replaces && gitconfig_harmless(text, old_len))
                abort();
        if (!gitconfig_may_replace(text, old_len, text, old_len, &why))
                abort();
        if (fresh) {
                NB_AUTO_FREE char *copy = nb_strndup(text + at, size - at);
                check_lines(copy);
        }
        return 0;
}
