/* Filling in and writing the plan (see plan.h). */
#include "attack/plan.h"

#include <string.h>

#include "base/mem.h"
#include "base/text.h"

char *attack_encode(const char *text) {
        char *out = nb_calloc(strlen(text) * 3 + 1, 1), *to = out;
        for (const unsigned char *c = (const unsigned char *)text; *c; c++)
                if (*c > ' ' && *c < 0x7f && *c != '%')
                        *to++ = (char)*c;
                else
                        to += sprintf(to, "%%%02x", *c);
        return out;
}

/* The name with its dots inside one label. New string. */
static char *one_label(const char *name) {
        char *out = nb_calloc(strlen(name) * 3 + 1, 1), *to = out;
        for (; *name; name++)
                to += sprintf(to, *name == '.' ? "%%2e" : "%c", *name);
        return out;
}

/* 253 characters, as many as a name can have. New string. */
static char *long_name(const char *token) {
        char label[61];
        memset(label, 'a', sizeof label - 1);
        label[sizeof label - 1] = 0;
        size_t rest = 253 - 3 * sizeof label - strlen(token) - strlen("..invalid");
        return nb_asprintf("%s.%s.%s.%.*s.%s.invalid", label, label, label, (int)rest, label, token);
}

struct word {
        const char *name;
        char *value;         /* NULL: there is none; owned */
        const char *missing; /* then the row is not applicable for this reason */
};

static char *number(unsigned n) {
        return n ? nb_asprintf("%u", n) : NULL;
}

static char *path_word(const char *path) {
        return path ? attack_encode(path) : NULL;
}

#define WORDS 16

static void make_words(const struct attack_facts *f, struct word ret[WORDS]) {
        static const char no_name[] = "no name that is allowed", no_ro[] = "no read-only mount",
                          no_file[] = "no read-only file", no_rw[] = "no writable mount",
                          no_port[] = "nobody could listen on this host";
        /* longer names first: the first that fits is taken */
        const struct word words[WORDS] = {
                { "@token", nb_strdup(f->token), "" },
                { "@router", nb_strdup(f->router), "no network" },
                { "@host", nb_strdup(f->host), "this host has no address but its loopback" },
                { "@port", number(f->port), no_port },
                { "@loopport", number(f->loopport), no_port },
                { "@allowed443", nb_strdup(f->allowed443), "no name that is allowed on port 443" },
                { "@allowed80", nb_strdup(f->allowed80), "no name that is allowed on port 80" },
                { "@allowed", nb_strdup(f->allowed), no_name },
                { "@one-label", f->allowed ? one_label(f->allowed) : NULL, no_name },
                { "@name", nb_strdup(f->allowed ? f->allowed : "-"), "" },
                { "@ro", path_word(f->ro), no_ro },
                { "@witness", path_word(f->witness), no_file },
                { "@rw", path_word(f->rw), no_rw },
                { "@canary", path_word(f->canary), "no file of nixbox's own" },
                { "@long-name", long_name(f->token), "" },
                { "@memory", nb_asprintf("%llu", (unsigned long long)f->memory), "" },
        };
        memcpy(ret, words, sizeof words);
}

static const struct word *find_word(const struct word *words, const char *at) {
        for (size_t i = 0; i < WORDS; i++)
                if (nb_starts_with(at, words[i].name))
                        return &words[i];
        return NULL;
}

static void fill_row(struct attack_row *row, const struct word *words) {
        NB_AUTO_BUF out = { 0 };
        for (const char *c = row->probe->args; *c;) {
                const struct word *w = *c == '@' ? find_word(words, c) : NULL;
                if (!w) {
                        nb_buf_add(&out, c++, 1);
                        continue;
                }
                if (!w->value) {
                        row->skipped = nb_strdup(w->missing);
                        return;
                }
                nb_buf_add(&out, w->value, strlen(w->value));
                c += strlen(w->name);
        }
        nb_buf_add(&out, "", 1);
        row->args = nb_strdup((const char *)nb_buf_bytes(&out));
}

void attack_fill(struct attack_rows *rows, const struct attack_facts *f) {
        struct word words[WORDS];
        make_words(f, words);
        for (size_t i = 0; i < rows->n; i++) {
                struct attack_row *row = &rows->rows[i];
                if (row->probe->judge != JUDGE_LOOK)
                        fill_row(row, words);
        }
        for (size_t i = 0; i < WORDS; i++)
                free(words[i].value);
}

static void say_needles(struct nb_buf *out, char *const *needles) {
        for (size_t i = 0; needles && needles[i] && needles[i + 1]; i += 2) {
                NB_AUTO_FREE char *backwards = nb_strdup(needles[i + 1]);
                for (size_t k = 0, n = strlen(backwards); k < n; k++)
                        backwards[k] = needles[i + 1][n - 1 - k];
                NB_AUTO_FREE char *name = attack_encode(needles[i]), *text = attack_encode(backwards);
                nb_buf_printf(out, "needle %s %s\n", name, text);
        }
}

void attack_plan(struct nb_buf *out, const struct attack_rows *rows, const struct attack_facts *f) {
        size_t before = out->len;
        say_needles(out, f->needles);
        for (size_t i = 0; f->mounts && f->mounts[i]; i++) {
                NB_AUTO_FREE char *target = attack_encode(f->mounts[i]);
                nb_buf_printf(out, "mount %s\n", target);
        }
        NB_AUTO_FREE char *rw = path_word(f->rw);
        if (rw)
                nb_buf_printf(out, "rw %s\n", rw);
        /* what must still hold after everything else comes last */
        for (int last = 0; last < 2; last++)
                for (size_t i = 0; i < rows->n; i++) {
                        const struct attack_row *row = &rows->rows[i];
                        if (row->args && !row->allowed && (row->probe->class == 'C') == last)
                                nb_buf_printf(out, "probe %s %s\n", row->probe->name, row->args);
                }
        nb_buf_printf(out, ATTACK_PLAN_MARK "%08zx\n", out->len - before);
}
