/* Users and groups as text (see accounts.h). */
#include "accounts.h"

#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"

#define FIELDS_MAX 8u

/* One line and its fields separated by ':'; pointers into the text. */
struct line {
        const char *at;
        size_t len;
        struct {
                const char *at;
                size_t len;
        } field[FIELDS_MAX];
        size_t n_fields;
};

static bool next_line(const char **text, struct line *ret) {
        if (!*text || !**text)
                return false;
        *ret = (struct line){ .at = *text, .len = strcspn(*text, "\n") };
        *text += ret->len + ((*text)[ret->len] == '\n');
        const char *p = ret->at, *end = ret->at + ret->len;
        while (ret->n_fields < FIELDS_MAX) {
                const char *colon = memchr(p, ':', (size_t)(end - p));
                const char *stop = colon ? colon : end;
                ret->field[ret->n_fields].at = p;
                ret->field[ret->n_fields++].len = (size_t)(stop - p);
                if (!colon)
                        break;
                p = colon + 1;
        }
        return true;
}

static bool field_is(const struct line *l, size_t i, const char *text) {
        return i < l->n_fields && strlen(text) == l->field[i].len && memcmp(l->field[i].at, text, l->field[i].len) == 0;
}

static char *field_str(const struct line *l, size_t i) {
        return i < l->n_fields ? nb_strndup(l->field[i].at, l->field[i].len) : nb_strdup("");
}

static bool field_id(const struct line *l, size_t i, uint32_t *ret) {
        NB_AUTO_FREE char *text = field_str(l, i);
        uint64_t v;
        if (nb_parse_uint(text, UINT32_MAX - 1u, &v) < 0)
                return false;
        *ret = (uint32_t)v;
        return true;
}

static bool field_id_is(const struct line *l, size_t i, uint32_t id) {
        uint32_t v;
        return field_id(l, i, &v) && v == id;
}

static void add_text(struct nb_buf *out, const char *text) {
        nb_buf_add(out, text, strlen(text));
}

static void add_line(struct nb_buf *out, const struct line *l) {
        nb_buf_add(out, l->at, l->len);
        nb_buf_add(out, "\n", 1);
}

static char *finish(struct nb_buf *out) {
        char *text = nb_calloc(out->len + 1, 1);
        if (out->len > 0)
                memcpy(text, nb_buf_bytes(out), out->len);
        nb_buf_clear(out);
        return text;
}

static bool account_from(const struct line *l, struct account *ret) {
        uint32_t uid, gid;
        if (l->n_fields < 7 || !field_id(l, 2, &uid) || !field_id(l, 3, &gid))
                return false;
        *ret = (struct account){
                .name = field_str(l, 0), .home = field_str(l, 5), .shell = field_str(l, 6), .uid = uid, .gid = gid
        };
        return true;
}

bool account_find(const char *passwd, const char *name_or_number, struct account *ret) {
        struct line l;
        for (const char *p = passwd; next_line(&p, &l);)
                if (field_is(&l, 0, name_or_number) && account_from(&l, ret))
                        return true;
        uint64_t number;
        if (nb_parse_uint(name_or_number, UINT32_MAX - 1u, &number) < 0)
                return false;
        for (const char *p = passwd; next_line(&p, &l);)
                if (field_id_is(&l, 2, (uint32_t)number) && account_from(&l, ret))
                        return true;
        return false;
}

static void add_group(struct account *a, gid_t gid) {
        for (size_t i = 0; i < a->n_groups; i++)
                if (a->groups[i] == gid)
                        return;
        if (a->n_groups < ACCOUNT_GROUPS_MAX)
                a->groups[a->n_groups++] = gid;
}

static bool lists_member(const struct line *l, const char *name) {
        size_t len = strlen(name);
        const char *p = l->field[3].at, *end = p + l->field[3].len;
        while (p < end) {
                const char *comma = memchr(p, ',', (size_t)(end - p));
                const char *stop = comma ? comma : end;
                if ((size_t)(stop - p) == len && memcmp(p, name, len) == 0)
                        return true;
                p = stop + 1;
        }
        return false;
}

void account_find_groups(const char *group, struct account *a) {
        struct line l;
        uint32_t gid;
        a->n_groups = 0;
        add_group(a, a->gid);
        for (const char *p = group; next_line(&p, &l);)
                if (l.n_fields >= 4 && lists_member(&l, a->name) && field_id(&l, 2, &gid))
                        add_group(a, gid);
}

void account_clear(struct account *a) {
        free(a->name);
        free(a->home);
        free(a->shell);
        *a = (struct account){ 0 };
}

static void add_account(struct nb_buf *out, const struct account *a) {
        NB_AUTO_FREE char *line =
            nb_asprintf("%s:x:%u:%u::%s:%s\n", a->name, (unsigned)a->uid, (unsigned)a->gid, a->home, a->shell);
        add_text(out, line);
}

char *passwd_with(const char *passwd, const struct account *a) {
        struct nb_buf out = { 0 };
        struct line l;
        bool done = false;
        for (const char *p = passwd; next_line(&p, &l);) {
                bool same_name = field_is(&l, 0, a->name), same_uid = field_id_is(&l, 2, a->uid);
                /* the first line with a number names it: the caller's comes first, but nobody takes root's place */
                if (!done && (same_name || (same_uid && a->uid != 0))) {
                        add_account(&out, a);
                        done = true;
                }
                if (!same_name)
                        add_line(&out, &l);
        }
        if (!done)
                add_account(&out, a);
        return finish(&out);
}

char *shadow_with(const char *shadow, const char *name) {
        struct nb_buf out = { 0 };
        struct line l;
        bool found = false;
        for (const char *p = shadow; next_line(&p, &l);) {
                found = found || field_is(&l, 0, name);
                add_line(&out, &l);
        }
        if (!found) { /* no password fits; the account itself does not expire */
                add_text(&out, name);
                add_text(&out, ":*:19000:0:99999:7:::\n");
        }
        return finish(&out);
}

char *group_with(const char *group, const char *user, gid_t gid) {
        struct nb_buf out = { 0 };
        struct line l;
        bool found = false, name_taken = false;
        for (const char *p = group; next_line(&p, &l);) {
                found = found || field_id_is(&l, 2, gid);
                name_taken = name_taken || field_is(&l, 0, user);
                add_line(&out, &l);
        }
        if (!found) {
                NB_AUTO_FREE char *line = name_taken ? nb_asprintf("%s-%u:x:%u:\n", user, (unsigned)gid, (unsigned)gid)
                                                     : nb_asprintf("%s:x:%u:\n", user, (unsigned)gid);
                add_text(&out, line);
        }
        return finish(&out);
}

/* True if the line names the host: any word after the address. */
static bool line_names(const struct line *l, const char *hostname) {
        size_t len = strlen(hostname);
        const char *p = l->at, *end = l->at + l->len;
        for (bool first = true; p < end; first = false) {
                while (p < end && (*p == ' ' || *p == '\t'))
                        p++;
                const char *word = p;
                while (p < end && *p != ' ' && *p != '\t' && *p != '#')
                        p++;
                if (!first && (size_t)(p - word) == len && memcmp(word, hostname, len) == 0)
                        return true;
                if (p < end && *p == '#')
                        return false;
        }
        return false;
}

/* True for a line of an IPv6 address: there is none in a box, and programs that try it first would fail or lose time. */
static bool line_is_ipv6(const struct line *l) {
        size_t lead = strspn(l->at, " \t");
        if (lead > l->len)
                return false;
        size_t word = strcspn(l->at + lead, " \t#\n");
        return word > 0 && memchr(l->at + lead, ':', word) != NULL;
}

char *hosts_with(const char *hosts, const char *hostname) {
        struct nb_buf out = { 0 };
        struct line l;
        bool named = false, localhost = false;
        for (const char *p = hosts; next_line(&p, &l);) {
                if (line_is_ipv6(&l))
                        continue;
                named = named || line_names(&l, hostname);
                localhost = localhost || line_names(&l, "localhost");
                add_line(&out, &l);
        }
        if (!localhost)
                add_text(&out, "127.0.0.1\tlocalhost\n");
        if (!named) {
                add_text(&out, "127.0.1.1\t");
                add_text(&out, hostname);
                add_text(&out, "\n");
        }
        return finish(&out);
}
