/* Deciding whether a config may start, and the records of what its owner has seen (see approval.h). One record a config
 * file: the last form that was approved, or used where nothing needed approval. Going back to an older form is a change like
 * any other, since a guest that can write the file could do that too. */
#include "config/approval.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "base/text.h"
#include "config/doc.h"
#include "config/mount.h"
#include "config/reach.h"
#include "config/render.h"

#define RECORD_MAX (4u << 20)
#define RECORDS_MAX 4096 /* records of other configs that are looked at */
#define SHOWN_MAX 200    /* lines of a list or a diff */
#define ANSWER_MAX 64

struct question {
        const struct config *c;
        json_t *now, *record;           /* canonical form; the record or NULL */
        struct reach_list reach, wider; /* all of it; what was not approved before */
        bool writable;                  /* a box can write the config or a file it makes the host use */
        bool damaged;                   /* there is a record, but it cannot be read */
};

static int record_path(const char *file, char **ret, struct nb_error *err) {
        NB_AUTO_FREE char *state = nb_state_dir();
        NB_AUTO_FREE char *dir = nb_path_join(state, "approvals");
        char hash[NB_SHA256_HEX];
        int r = nb_private_dir(state, err);
        if (r == 0)
                r = nb_private_dir(dir, err);
        if (r < 0)
                return r;
        nb_sha256(file, strlen(file), hash);
        *ret = nb_asprintf("%s/%.40s.json", dir, hash);
        return 0;
}

/* A record as JSON, NULL if it is not there or not whole. */
static json_t *read_record(const char *path, bool *ret_there) {
        NB_AUTO_FREE char *text = NULL;
        size_t len = 0;
        int r = nb_read_regular(path, RECORD_MAX, &text, &len);
        *ret_there = r != -ENOENT;
        json_t *record = r == 0 ? json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
        if (json_is_string(json_object_get(record, "hash")) && json_is_object(json_object_get(record, "canonical")) &&
            json_is_array(json_object_get(record, "writable")))
                return record;
        json_decref(record);
        return NULL;
}

static json_t *writable_sources(const struct config *c) {
        json_t *list = json_array();
        for (size_t i = 0; i < c->n_mounts; i++)
                if (c->mounts[i].write)
                        json_array_append_new(list, json_string(c->mounts[i].source));
        for (size_t i = 0; i < c->n_volumes; i++) {
                NB_AUTO_FREE char *path = config_volume_path(c->volumes[i].name);
                json_array_append_new(list, json_string(path));
        }
        return list;
}

static int save_record(const char *path, json_t *record, struct nb_error *err) {
        char *text = json_dumps(record, JSON_INDENT(1) | JSON_SORT_KEYS);
        int r = text ? nb_write_file_atomic(path, text, strlen(text), 0600) : -ENOMEM;
        free(text);
        return r < 0 ? nb_fail_errno(err, -r, "cannot keep the approval in %s", path) : 0;
}

/* Adds the folders of `from` that are not in `list` yet. */
static void add_folders(json_t *list, json_t *from) {
        size_t i, k;
        json_t *one, *other;
        json_array_foreach(from, i, one) {
                bool known = !json_is_string(one);
                json_array_foreach(list, k, other) {
                        known = known || json_equal(one, other);
                }
                if (!known)
                        json_array_append(list, one);
        }
}

/* Replaces the record. What a box could write once stays on it: a box may still run with that mount, and what it changed
 * there may be looked at only later. */
static int write_record(const struct config *c, json_t *now, const char *by, struct nb_error *err) {
        NB_AUTO_FREE char *path = NULL;
        char hash[NB_SHA256_HEX];
        bool there = false;
        int r = record_path(c->file, &path, err);
        if (r < 0)
                return r;
        json_t *old = read_record(path, &there), *writable = writable_sources(c);
        add_folders(writable, json_object_get(old, "writable"));
        json_decref(old);
        config_hash(c, hash);
        json_t *record = json_pack("{s:s, s:s, s:O, s:o, s:s, s:I}", "file", c->file, "hash", hash, "canonical", now,
                                   "writable", writable, "by", by, "time", (json_int_t)time(NULL));
        r = save_record(path, record, err);
        json_decref(record);
        return r;
}

static bool below_any(json_t *dirs, const char *path) {
        size_t i;
        json_t *dir;
        json_array_foreach(dirs, i, dir) {
                if (json_is_string(dir) && nb_path_below(path, json_string_value(dir)))
                        return true;
        }
        return false;
}

/* Does a file that decides what the host does lie below one of these folders? Checked by the name it is found under and by
 * where that leads. */
static bool touches(const struct config *c, json_t *dirs) {
        for (size_t i = 0; i < c->tree->n_sources; i++) {
                NB_AUTO_FREE char *real = mount_real_path(c->tree->sources[i]->path);
                if (below_any(dirs, c->tree->sources[i]->path) || below_any(dirs, real))
                        return true;
        }
        for (size_t i = 0; i < c->n_files; i++)
                if (below_any(dirs, c->files[i].path))
                        return true;
        return c->lock.path && below_any(dirs, c->lock.path);
}

/* Writable mounts of this config now, and all that this and every other config on record ever had. */
static bool in_writable_mount(const struct config *c) {
        NB_AUTO_FREE char *state = nb_state_dir();
        NB_AUTO_FREE char *dir = nb_path_join(state, "approvals");
        json_t *own = writable_sources(c);
        bool found = touches(c, own);
        json_decref(own);
        DIR *d = found ? NULL : opendir(dir);
        size_t seen = 0;
        for (struct dirent *e; d && !found && seen < RECORDS_MAX && (e = readdir(d));) {
                NB_AUTO_FREE char *path = nb_path_join(dir, e->d_name);
                bool there = false;
                json_t *record = e->d_name[0] == '.' ? NULL : read_record(path, &there);
                found = record && touches(c, json_object_get(record, "writable"));
                json_decref(record);
                seen += there;
        }
        if (d)
                closedir(d);
        return found || seen == RECORDS_MAX;
}

static void show(FILE *out, const char *lead, const char *text) {
        NB_AUTO_FREE char *clean = nb_text_clean(text, 0);
        fprintf(out, "%s%s\n", lead, clean);
}

/* What an approval cannot cover is said where it is given. */
static void show_limits(const struct question *q, FILE *out) {
        const struct config *c = q->c;
        const struct config_hook *hooks[] = { c->pre_up, c->post_up, c->pre_down, c->post_down };
        const size_t counts[] = { c->n_pre_up, c->n_post_up, c->n_pre_down, c->n_post_down };
        json_t *writable = writable_sources(c);
        for (size_t i = 0; i < NB_ARRAY_LEN(hooks); i++)
                for (size_t k = 0; k < counts[i]; k++)
                        if (below_any(writable, hooks[i][k].dir)) {
                                show(out, "The box can write where this runs on the host, and change what it reads there: ",
                                     hooks[i][k].command);
                        }
        json_decref(writable);
}

static void show_reach(const struct question *q, FILE *out) {
        size_t shown = 0;
        show(out, "", q->c->file);
        fputs("asks for a box that reaches beyond its own folder. The box may:\n", out);
        for (size_t i = 0; i < q->reach.n && shown < SHOWN_MAX; i++, shown++)
                show(out, q->reach.items[i].beyond ? "  * " : "    ", q->reach.items[i].text);
        if (shown < q->reach.n)
                fprintf(out, "    and %zu more: nixbox config shows all\n", q->reach.n - shown);
        show_limits(q, out);
}

static void show_change(const struct question *q, FILE *out) {
        NB_AUTO_STRV char **diff = reach_diff(json_object_get(q->record, "canonical"), q->now);
        show(out, "", q->c->file);
        fprintf(out, "is not what was last %s:\n",
                strcmp(json_string_value(json_object_get(q->record, "by")) ?: "", "use") == 0 ? "used" : "approved");
        for (size_t i = 0; diff && diff[i] && i < SHOWN_MAX; i++)
                show(out, "  ", diff[i]);
        if (nb_strv_len(diff) > SHOWN_MAX)
                fprintf(out, "  and %zu more lines: nixbox config shows all\n", nb_strv_len(diff) - SHOWN_MAX);
        if (!diff)
                fputs("  the order of entries has changed\n", out);
        if (q->wider.n > 0)
                fputs("With this the box may also:\n", out);
        for (size_t i = 0; i < q->wider.n; i++)
                show(out, q->wider.items[i].beyond ? "  * " : "    ", q->wider.items[i].text);
        show_limits(q, out);
        if (q->writable)
                fputs("A box can write one of these files: the change may be its doing, not yours.\n", out);
}

static bool answer_is_yes(void) {
        char answer[ANSWER_MAX];
        size_t len = 0;
        while (len < sizeof answer - 1 && read(STDIN_FILENO, answer + len, 1) == 1 && answer[len] != '\n')
                len++;
        answer[len] = 0;
        return strcmp(answer, "y") == 0 || strcmp(answer, "yes") == 0;
}

static int refuse(const struct question *q, struct nb_error *err) {
        if (q->record)
                nb_fail(err, EPERM, "%s has changed since it was approved", q->c->file);
        else
                nb_fail(err, EPERM, "%s reaches beyond its own folder and is not approved", q->c->file);
        return nb_hint(err, "look at it with nixbox config; to approve it: nixbox up --accept");
}

static int ask_owner(const struct question *q, enum approval_ask ask, struct nb_error *err) {
        if (ask == APPROVAL_REFUSE)
                return refuse(q, err);
        if (q->record)
                show_change(q, stderr);
        else
                show_reach(q, stderr);
        if (ask == APPROVAL_ACCEPT)
                return write_record(q->c, q->now, "accept", err);
        if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
                return refuse(q, err);
        fputs("Approve this? [y/N] ", stderr);
        (void)fflush(stderr);
        if (!answer_is_yes()) {
                nb_fail(err, EPERM, "%s was not approved", q->c->file);
                return nb_hint(err, "change it, or approve it when asked again");
        }
        return write_record(q->c, q->now, "owner", err);
}

static bool any_beyond(const struct reach_list *l) {
        for (size_t i = 0; i < l->n; i++)
                if (l->items[i].beyond)
                        return true;
        return false;
}

static int decide(const struct question *q, enum approval_ask ask, struct nb_error *err) {
        char hash[NB_SHA256_HEX];
        config_hash(q->c, hash);
        if (q->record && strcmp(json_string_value(json_object_get(q->record, "hash")), hash) == 0)
                return 0;
        if (q->damaged || (q->record && q->writable))
                return ask_owner(q, ask, err);
        if (any_beyond(&q->reach) && (!q->record || q->wider.n > 0))
                return ask_owner(q, ask, err);
        return write_record(q->c, q->now, "use", err);
}

int approval_check(const struct config *c, enum approval_ask ask, struct nb_error *err) {
        NB_AUTO_FREE char *path = NULL;
        bool there = false;
        int r = record_path(c->file, &path, err);
        if (r < 0)
                return r;
        struct question q = { .c = c, .now = render_canonical(c), .record = read_record(path, &there) };
        q.damaged = there && !q.record;
        q.writable = in_writable_mount(c);
        reach_of(q.now, c->dir, &q.reach);
        struct reach_list granted = { 0 };
        reach_of(json_object_get(q.record, "canonical"), c->dir, &granted);
        reach_widening(&q.reach, &granted, &q.wider);
        r = decide(&q, ask, err);
        reach_clear(&q.reach);
        reach_clear(&q.wider);
        reach_clear(&granted);
        json_decref(q.now);
        json_decref(q.record);
        return r;
}

int approval_grant(const struct config *c, struct nb_error *err) {
        json_t *now = render_canonical(c);
        int r = write_record(c, now, "owner", err);
        json_decref(now);
        return r;
}

int approval_note_writable(const char *file, const char *source, struct nb_error *err) {
        NB_AUTO_FREE char *path = NULL;
        bool there = false;
        int r = record_path(file, &path, err);
        if (r < 0)
                return r;
        json_t *record = read_record(path, &there);
        if (!record)
                return nb_fail(err, ENOENT, "there is no record of %s having been used", file);
        if (!below_any(json_object_get(record, "writable"), source)) {
                json_array_append_new(json_object_get(record, "writable"), json_string(source));
                r = save_record(path, record, err);
        }
        json_decref(record);
        return r;
}

int approval_follow_lock(const struct config *c, const char *before, struct nb_error *err) {
        NB_AUTO_FREE char *path = NULL;
        bool there = false;
        int r = record_path(c->file, &path, err);
        json_t *record = r == 0 ? read_record(path, &there) : NULL;
        if (record && strcmp(json_string_value(json_object_get(record, "hash")), before) == 0) {
                json_t *now = render_canonical(c);
                const char *by = json_string_value(json_object_get(record, "by"));
                r = write_record(c, now, by ? by : "use", err);
                json_decref(now);
        }
        json_decref(record);
        return r;
}
