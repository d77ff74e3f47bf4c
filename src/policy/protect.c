/* Patterns of files that the host runs, and matching paths with them (see protect.h). */
#include "policy/protect.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

#define PARTS_MAX 32    /* names of a pattern */
#define NAMES_MAX 2048u /* names of a path: PATH_MAX / 2 */
#define PATTERN_MAX 4096u
#define SAMPLE ".sample"
#define LOCK ".lock"

static const char *const defaults[] = {
        /* git: what it runs, and what leads it to another place that says what to run; also for submodules and worktrees */
        ".git",
        ".git/hooks/**",
        ".git/config",
        ".git/config.worktree",
        ".git/commondir",
        ".git/remotes/**",
        ".git/branches/**",
        ".git/modules/**/hooks/**",
        ".git/modules/**/config",
        ".git/modules/**/config.worktree",
        ".git/modules/**/commondir",
        ".git/worktrees/*/config.worktree",
        ".git/worktrees/*/commondir",
        ".gitmodules",
        ".husky/**",
        /* shells and editors */
        ".envrc",
        ".vscode/**",
        ".idea/**",
        ".zed/**",
        ".devcontainer/**",
        ".devcontainer.json",
        /* other agents, run on the host */
        ".mcp.json",
        ".claude/settings.json",
        ".claude/settings.local.json",
        ".claude/hooks/**",
        ".claude/commands/**",
        ".claude/agents/**",
        ".claude/skills/**",
        ".cursor/mcp.json",
        ".cursor/hooks.json",
        ".cursor/hooks/**",
        ".codex/config.toml",
        ".codex/hooks.json",
        ".gemini/settings.json",
        /* nixbox itself */
        "nixbox.yaml",
        "nixbox.lock",
        NULL,
};
static const char *const vetted[] = { ".git/config", ".git/modules/**/config" };

struct pattern {
        char *text;
        char *copy; /* cut into parts */
        const char *part[PARTS_MAX];
        size_t n;
        bool anchored, vetted;
};

struct protect {
        struct pattern *patterns;
        size_t n;
};

const char *const *protect_defaults(void) {
        return defaults;
}

/* Cuts a path at its slashes; empty names do not count. Returns the number of names, or max + 1 if there are more. */
static size_t cut(char *text, const char **names, size_t max) {
        size_t n = 0;
        char *rest = NULL;
        for (char *name = strtok_r(text, "/", &rest); name; name = strtok_r(NULL, "/", &rest)) {
                if (n == max)
                        return max + 1;
                names[n++] = name;
        }
        return n;
}

static bool is_any(const char *part) {
        return strcmp(part, "**") == 0;
}

static int compile(const char *text, struct pattern *p, struct nb_error *err) {
        *p = (struct pattern){ .text = nb_strdup(text), .copy = nb_strdup(text), .anchored = text[0] == '/' };
        size_t stars = 0;
        p->n = strlen(text) <= PATTERN_MAX ? cut(p->copy, p->part, PARTS_MAX) : PARTS_MAX + 1;
        if (p->n > PARTS_MAX)
                return nb_fail(err, E2BIG, "the pattern '%.60s…' is too long", text);
        for (size_t i = 0; i < p->n; i++) {
                const char *part = p->part[i];
                if (strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
                        return nb_fail(err, EINVAL, "the pattern '%s' holds the name '%s'", text, part);
                if (!is_any(part) && strstr(part, "**"))
                        return nb_fail(err, EINVAL, "in the pattern '%s' ** does not stand alone between slashes", text);
                stars += is_any(part) && i + 1 < p->n;
        }
        if (p->n == 0 || is_any(p->part[0]) || stars > 1) {
                nb_fail(err, EINVAL, "'%s' is no pattern of protected files", text);
                return nb_hint(err,
                               "write a name or a path such as .envrc, .vscode/** or tools/*.sh; it counts in every folder");
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(vetted); i++)
                p->vetted = p->vetted || strcasecmp(text, vetted[i]) == 0;
        return 0;
}

static void pattern_clear(struct pattern *p) {
        free(p->text);
        free(p->copy);
}

int protect_check(const char *text, struct nb_error *err) {
        struct pattern p;
        int r = compile(text, &p, err);
        pattern_clear(&p);
        return r;
}

static void add_once(char ***list, const char *text) {
        for (char **l = *list; l && *l; l++)
                if (strcasecmp(*l, text) == 0)
                        return;
        nb_strv_add(list, text);
}

static bool take_out(char **list, const char *text) {
        for (; list && *list; list++) {
                if (strcasecmp(*list, text) != 0)
                        continue;
                free(*list);
                for (; *list; list++)
                        list[0] = list[1];
                return true;
        }
        return false;
}

int protect_resolve(char *const *words, char ***ret, struct nb_error *err) {
        NB_AUTO_STRV char **list = NULL;
        for (; words && *words; words++) {
                if (strcmp(*words, PROTECT_DEFAULT) == 0) {
                        for (const char *const *d = defaults; *d; d++)
                                add_once(&list, *d);
                } else if (**words == '!') {
                        if (!take_out(list, *words + 1)) {
                                nb_fail(err, ENOENT, "protect: there is no '%s' to take out", *words + 1);
                                return nb_hint(err, "write an entry of the default list exactly, after the entry 'default'; "
                                                    "docs/protect.md lists them");
                        }
                } else {
                        add_once(&list, *words);
                }
        }
        *ret = nb_steal(&list);
        return 0;
}

int protect_new(char *const *patterns, struct protect **ret, struct nb_error *err) {
        __attribute__((cleanup(protect_freep))) struct protect *p = nb_calloc(1, sizeof *p);
        size_t n = nb_strv_len(patterns);
        if (n > PROTECT_MAX)
                return nb_fail(err, E2BIG, "%zu patterns of protected files are more than %d", n, PROTECT_MAX);
        p->patterns = nb_calloc(n, sizeof *p->patterns);
        for (size_t i = 0; i < n; i++) {
                p->n++;
                int r = compile(patterns[i], &p->patterns[i], err);
                if (r < 0)
                        return r;
        }
        *ret = nb_steal(&p);
        return 0;
}

void protect_free(struct protect *p) {
        if (!p)
                return;
        for (size_t i = 0; i < p->n; i++)
                pattern_clear(&p->patterns[i]);
        free(p->patterns);
        free(p);
}

static int fold(char c) {
        return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : (unsigned char)c;
}

/* One name; the last star takes what is left, so that no pattern costs more than its length times the name's. */
static bool name_matches(const char *glob, const char *name) {
        const char *star = NULL, *from = NULL;
        while (*name) {
                if (*glob == '*') {
                        star = ++glob;
                        from = name;
                } else if (*glob && (*glob == '?' || fold(*glob) == fold(*name))) {
                        glob++;
                        name++;
                } else if (star) {
                        glob = star;
                        name = ++from;
                } else {
                        return false;
                }
        }
        while (*glob == '*')
                glob++;
        return *glob == 0;
}

/* The rest of a pattern, from part `at` on, and the rest of a path. */
static unsigned match_rest(const struct pattern *p, size_t at, const char *const *names, size_t n) {
        for (; n > 0; at++, names++, n--) {
                if (at == p->n)
                        return 0;
                if (is_any(p->part[at])) {
                        if (at + 1 == p->n)
                                return PROTECT_IS | PROTECT_LEADS;
                        unsigned found = PROTECT_LEADS;
                        for (size_t skip = 0; skip <= n; skip++) /* no second one in the middle: compile() */
                                found |= match_rest(p, at + 1, names + skip, n - skip);
                        return found;
                }
                if (!name_matches(p->part[at], *names))
                        return 0;
        }
        return at == p->n ? PROTECT_IS : at > 0 ? PROTECT_LEADS : 0;
}

static unsigned match_pattern(const struct pattern *p, const char *const *names, size_t n) {
        unsigned found = 0;
        for (size_t start = 0; start < n && (start == 0 || !p->anchored); start++)
                found |= match_rest(p, 0, names + start, n - start);
        return found;
}

static bool ends_in(const char *name, const char *end) {
        size_t a = strlen(name), b = strlen(end);
        return a > b && strcasecmp(name + a - b, end) == 0;
}

static unsigned match_names(const struct protect *p, const char *const *names, size_t n, const char **ret_pattern) {
        unsigned all = 0;
        bool plain = false; /* protected by a pattern that knows no vetting */
        bool sample = ends_in(names[n - 1], SAMPLE);
        for (size_t i = 0; i < p->n; i++) {
                unsigned found = match_pattern(&p->patterns[i], names, n) & ~(sample ? PROTECT_IS : 0u);
                plain = plain || (found & PROTECT_IS && !p->patterns[i].vetted);
                if (found & ~all && ret_pattern && !(all & PROTECT_IS))
                        *ret_pattern = p->patterns[i].text;
                all |= found;
        }
        return all & PROTECT_IS && !plain ? all | PROTECT_VETTED : all;
}

unsigned protect_match(const struct protect *p, const char *path, const char **ret_pattern) {
        NB_AUTO_FREE char *copy = nb_strdup(path);
        const char *names[NAMES_MAX];
        if (ret_pattern)
                *ret_pattern = NULL;
        size_t n = cut(copy, names, NAMES_MAX);
        if (n > NAMES_MAX) /* the kernel makes no such path: not to be decided here */
                return PROTECT_IS | PROTECT_LEADS;
        if (n == 0)
                return 0;
        unsigned found = match_names(p, names, n, ret_pattern);
        if (found & PROTECT_IS || !ends_in(names[n - 1], LOCK))
                return found;
        char *last = copy + (names[n - 1] - copy);
        last[strlen(last) - strlen(LOCK)] = 0;
        return match_names(p, names, n, NULL) & PROTECT_VETTED ? found | PROTECT_LOCK : found;
}
