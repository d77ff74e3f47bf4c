/* A strict reader of git's config format (see gitconfig.h): what it does not understand, it refuses. */
#include "policy/gitconfig.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

#define NAME_MAX_LEN 128u

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char key_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-";
static const char word_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/";
static const char ref_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/*:+^@";
static const char host_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._@";

/* ---- values */

static bool all_of(const char *text, const char *set) {
        return *text && *text != '-' && text[strspn(text, set)] == 0;
}

static bool is_bool(const char *v) {
        static const char *const words[] = { "true", "false", "yes", "no", "on", "off", "1", "0" };
        for (size_t i = 0; i < NB_ARRAY_LEN(words); i++)
                if (strcasecmp(v, words[i]) == 0)
                        return true;
        return false;
}

static bool is_number(const char *v) {
        return all_of(v, "0123456789");
}

static bool is_word(const char *v) {
        return all_of(v, word_letters);
}

static bool is_text(const char *v) {
        return *v && *v != '-';
}

static bool is_ref(const char *v) {
        return nb_starts_with(v, "refs/");
}

static bool is_refspec(const char *v) {
        return all_of(v, ref_letters);
}

static bool is_tag_option(const char *v) {
        return strcmp(v, "--tags") == 0 || strcmp(v, "--no-tags") == 0;
}

/* "user@-oProxyCommand" is an option for ssh. */
static bool is_host(const char *text, size_t len) {
        const char *at = memchr(text, '@', len);
        return len > 0 && strspn(text, host_letters) >= len && text[0] != '-' && (!at || (at[1] && at[1] != '-'));
}

/* Another machine. Not a folder (file: or a path): its hooks, which the guest may have written, run when the owner pushes
 * there. Not "helper::" or a scheme of others, which name a program. */
static bool is_url(const char *v) {
        static const char *const schemes[] = { "https://", "http://", "ssh://", "git://" };
        for (const char *p = v; *p; p++)
                if (*p == ' ')
                        return false;
        for (size_t i = 0; i < NB_ARRAY_LEN(schemes); i++) {
                if (!nb_starts_with(v, schemes[i]))
                        continue;
                const char *rest = v + strlen(schemes[i]), *at = strchr(rest, '@'), *slash = strchr(rest, '/');
                if (at && (!slash || at < slash))
                        rest = at + 1;
                return strchr(letters, *rest) != NULL ? *rest != 0 : *rest == '[' || (*rest >= '0' && *rest <= '9');
        }
        const char *colon = strchr(v, ':');
        if (!colon || colon[1] == 0 || colon[1] == ':' || colon[1] == '-' || nb_starts_with(colon, "://"))
                return false;
        return is_host(v, (size_t)(colon - v));
}

/* A remote of the same file, see dangling(). */
static bool is_remote(const char *v) {
        return strcmp(v, ".") == 0 || is_word(v);
}

static const struct safe {
        const char *section;
        bool sub; /* [section "…"] */
        const char *key;
        bool (*valid)(const char *value);
} safe[] = {
        { "core", false, "repositoryformatversion", is_number },
        { "core", false, "filemode", is_bool },
        { "core", false, "bare", is_bool },
        { "core", false, "logallrefupdates", is_word },
        { "core", false, "ignorecase", is_bool },
        { "core", false, "precomposeunicode", is_bool },
        { "core", false, "symlinks", is_bool },
        { "core", false, "autocrlf", is_word },
        { "core", false, "eol", is_word },
        { "core", false, "safecrlf", is_word },
        { "core", false, "quotepath", is_bool },
        { "core", false, "sparsecheckout", is_bool },
        { "core", false, "sparsecheckoutcone", is_bool },
        { "extensions", false, "objectformat", is_word },
        { "extensions", false, "refstorage", is_word },
        { "extensions", false, "partialclone", is_remote },
        { "user", false, "name", is_text },
        { "user", false, "email", is_text },
        { "remote", true, "url", is_url },
        { "remote", true, "pushurl", is_url },
        { "remote", true, "fetch", is_refspec },
        { "remote", true, "push", is_refspec },
        { "remote", true, "tagopt", is_tag_option },
        { "remote", true, "prune", is_bool },
        { "remote", true, "promisor", is_bool },
        { "remote", true, "partialclonefilter", is_text },
        { "remote", true, "gh-resolved", is_word },
        { "remote", false, "pushdefault", is_remote },
        { "branch", true, "remote", is_remote },
        { "branch", true, "pushremote", is_remote },
        { "branch", true, "merge", is_ref },
        { "branch", true, "rebase", is_word },
        { "branch", true, "description", is_text },
        { "branch", true, "vscode-merge-base", is_word },
        { "branch", true, "gh-merge-base", is_word },
        { "branch", false, "autosetupmerge", is_word },
        { "branch", false, "autosetuprebase", is_word },
        { "init", false, "defaultbranch", is_word },
        { "pull", false, "rebase", is_word },
        { "pull", false, "ff", is_word },
        { "push", false, "default", is_word },
        { "push", false, "autosetupremote", is_bool },
        { "fetch", false, "prune", is_bool },
        { "merge", false, "conflictstyle", is_word },
        { "rebase", false, "autostash", is_bool },
        { "rerere", false, "enabled", is_bool },
        { "gc", false, "auto", is_number },
        { "submodule", false, "active", is_text },
        { "submodule", true, "active", is_bool },
        { "submodule", true, "url", is_url },
        { "lfs", false, "repositoryformatversion", is_number },
};

static const struct safe *find_safe(const char *section, const char *sub, const char *key) {
        for (size_t i = 0; i < NB_ARRAY_LEN(safe); i++)
                if (safe[i].sub == (sub != NULL) && strcasecmp(safe[i].section, section) == 0 &&
                    strcasecmp(safe[i].key, key) == 0)
                        return &safe[i];
        return NULL;
}

/* ---- lines */

/* What a file says, as far as it matters. */
struct reading {
        unsigned line;
        char *section, *sub; /* of the lines that follow; sub as written, between its quotes */
        char **unsafe;       /* "section.sub.key=value" as written, in order */
        char **keys;         /* the same without the values, for messages */
        char **remotes;      /* that have a url */
        char **named;        /* remotes that other lines name, each followed by the key that does */
};

static void reading_clear(struct reading *rd) {
        free(rd->section);
        free(rd->sub);
        nb_strv_free(rd->unsafe);
        nb_strv_free(rd->keys);
        nb_strv_free(rd->remotes);
        nb_strv_free(rd->named);
}

/* [name] or [name "sub"], and nothing after it: what git takes for more there, it does not write. */
static bool read_header(struct reading *rd, const char *text) {
        size_t len = strcspn(text, " ]");
        NB_AUTO_FREE char *name = nb_strndup(text, len);
        NB_AUTO_FREE char *sub = NULL;
        if (len == 0 || len > NAME_MAX_LEN || name[strspn(name, word_letters)] != 0)
                return false;
        text += len;
        if (*text == ' ') {
                if (*++text != '"')
                        return false;
                const char *start = ++text;
                while (*text && *text != '"')
                        text += *text == '\\' && text[1] ? 2 : 1;
                if (*text != '"')
                        return false;
                sub = nb_strndup(start, (size_t)(text++ - start));
        }
        if (strcmp(text, "]") != 0)
                return false;
        free(rd->section);
        free(rd->sub);
        rd->section = nb_steal(&name);
        rd->sub = nb_steal(&sub);
        return true;
}

static void add_unsafe(struct reading *rd, const char *key, const char *text) {
        nb_strv_addf(&rd->unsafe, "%s\n%s\n%s", rd->section, rd->sub ? rd->sub : "\n", text);
        nb_strv_addf(&rd->keys, "%s.%s", rd->section, key);
}

static void note_remote(struct reading *rd, const struct safe *s, const char *key, const char *value) {
        if (s->valid == is_url && strcmp(s->section, "remote") == 0 && strcasecmp(key, "url") == 0)
                nb_strv_add(&rd->remotes, rd->sub);
        if (s->valid == is_remote && strcmp(value, ".") != 0) {
                nb_strv_add(&rd->named, value);
                nb_strv_addf(&rd->named, "%s.%s", rd->section, key);
        }
}

/* The line has neither blanks at its ends nor a backslash at the last place. */
static bool read_key(struct reading *rd, const char *text) {
        size_t len = strspn(text, key_letters);
        NB_AUTO_FREE char *key = nb_strndup(text, len);
        if (!rd->section || len == 0 || len > NAME_MAX_LEN || !strchr(letters, text[0]))
                return false;
        const char *value = text + len + strspn(text + len, " \t");
        if (*value != '=' && *value != 0)
                return false;
        bool given = *value == '=';
        value += given;
        value += strspn(value, " \t");
        const struct safe *s = find_safe(rd->section, rd->sub, key);
        if (s && given && !strpbrk(value, "\"\\#;\t") && s->valid(value))
                note_remote(rd, s, key, value);
        else
                add_unsafe(rd, key, text);
        return true;
}

static bool read_line(struct reading *rd, char *line) {
        size_t len = strlen(line);
        if (len > 0 && line[len - 1] == '\\')
                return false; /* goes on in the next line */
        while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
                line[--len] = 0;
        line += strspn(line, " \t");
        if (*line == 0 || *line == '#' || *line == ';')
                return true;
        return *line == '[' ? read_header(rd, line + 1) : read_key(rd, line);
}

static bool is_plain(const char *text, size_t len) {
        for (size_t i = 0; i < len; i++)
                if (((unsigned char)text[i] < ' ' && text[i] != '\n' && text[i] != '\t') || text[i] == 127)
                        return false;
        return len <= GITCONFIG_MAX;
}

/* A name that no remote has means a folder of that name: another repository, whose hooks would run. */
static void find_dangling(struct reading *rd) {
        for (char **n = rd->named; n && n[0]; n += 2) {
                if (nb_strv_has(rd->remotes, n[0]))
                        continue;
                nb_strv_addf(&rd->unsafe, "\n%s\n%s", n[1], n[0]);
                nb_strv_add(&rd->keys, n[1]);
        }
}

static bool read_all(const char *text, size_t len, struct reading *rd) {
        if (!is_plain(text, len))
                return false;
        NB_AUTO_FREE char *copy = nb_strndup(text, len);
        for (char *line = copy, *end; line; line = end) {
                end = strchr(line, '\n');
                if (end)
                        *end++ = 0;
                rd->line++;
                if (!read_line(rd, line))
                        return false;
        }
        find_dangling(rd);
        return true;
}

/* ---- answers */

static bool same(char *const *a, char *const *b) {
        size_t n = nb_strv_len(a);
        if (n != nb_strv_len(b))
                return false;
        for (size_t i = 0; i < n; i++)
                if (strcmp(a[i], b[i]) != 0)
                        return false;
        return true;
}

/* The first line of one that the other does not have, for a message; NULL where only their order differs. */
static const char *odd_one(const struct reading *a, const struct reading *b) {
        for (size_t i = 0; a->unsafe && a->unsafe[i]; i++)
                if (!nb_strv_has(b->unsafe, a->unsafe[i]))
                        return a->keys[i];
        return NULL;
}

static bool compare(const struct reading *was, const struct reading *now, char **ret_why) {
        if (same(was->unsafe, now->unsafe))
                return true;
        const char *key = odd_one(now, was);
        if (key)
                *ret_why = nb_asprintf("it would set %s", key);
        else if ((key = odd_one(was, now)))
                *ret_why = nb_asprintf("it would lose %s", key);
        else
                *ret_why = nb_strdup("it would change the order of the owner's settings");
        return false;
}

bool gitconfig_may_replace(const char *old, size_t old_len, const char *fresh, size_t fresh_len, char **ret_why) {
        struct reading was = { 0 }, now = { 0 };
        bool ok = false;
        *ret_why = NULL;
        if (old_len == fresh_len && (old_len == 0 || memcmp(old, fresh, old_len) == 0))
                return true;
        if (!read_all(old, old_len, &was))
                *ret_why = nb_asprintf("line %u of the config as it is was not understood", was.line);
        else if (!read_all(fresh, fresh_len, &now))
                *ret_why = nb_asprintf("line %u of the new config was not understood", now.line);
        else
                ok = compare(&was, &now, ret_why);
        reading_clear(&was);
        reading_clear(&now);
        return ok;
}

bool gitconfig_harmless(const char *text, size_t len) {
        struct reading rd = { 0 };
        bool ok = read_all(text, len, &rd) && !rd.unsafe;
        reading_clear(&rd);
        return ok;
}
