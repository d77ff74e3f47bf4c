/* Rows that the host looks at by itself: the box's processes, folders, ports and logs (see scene.h). */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "attack/looks.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/events.h"
#include "policy/addr.h"

#define LOG_MAX (64u << 20)
#define FDS_SHARE 0.9 /* of a hard limit: beyond it something else would soon fail */

#define ROW(class, name, function, description) { name, look_##function },
static const struct {
        const char *name;
        look_fn *run;
} table[] = { ATTACK_LOOKS(ROW) };

static json_int_t number_of(const json_t *doc, const char *key) {
        return json_integer_value(json_object_get(doc, key));
}

static const char *text_of(const json_t *doc, const char *key) {
        const char *text = json_string_value(json_object_get(doc, key));
        return text ? text : "";
}

/* ---- C */

void look_rules(const struct look *l, struct attack_row *row) {
        bool same = number_of(l->before, "rules") == number_of(l->after, "rules") &&
                    strcmp(text_of(l->before, "network"), text_of(l->after, "network")) == 0 &&
                    json_equal(json_object_get(l->before, "ports"), json_object_get(l->after, "ports")) &&
                    json_equal(json_object_get(l->before, "mounts"), json_object_get(l->after, "mounts"));
        row->control = CONTROL_OK; /* the box was asked twice and answered */
        attack_row_see(row, same ? FAR_HELD : FAR_UNCLEAR,
                       same ? "mode %s, %lld rules" : "they changed meanwhile: mode %s, %lld rules",
                       text_of(l->after, "network"), (long long)number_of(l->after, "rules"));
}

void look_box(const struct look *l, struct attack_row *row) {
        const json_t *gateway = json_object_get(l->before, "gateway"); /* NULL: no network */
        bool same = number_of(l->before, "pid") == number_of(l->after, "pid") &&
                    (!gateway || json_equal(gateway, json_object_get(l->after, "gateway")));
        row->control = CONTROL_OK;
        attack_row_see(row, same ? FAR_HELD : FAR_OPEN,
                       same ? "it answers, nothing was started again" : "something was started again");
}

/* ---- D */

void look_descriptors(const struct look *l, struct attack_row *row) {
        unsigned limit = 0, n = 0;
        pid_t pid = look_child(l, "virtiofsd");
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/fd", (int)pid), *limits = look_file(pid, "limits");
        const char *line = strstr(limits, "Max open files");
        DIR *d = pid > 0 ? opendir(path) : NULL;
        while (d && readdir(d))
                n++;
        if (line)
                (void)sscanf(line, "Max open files %*u %u", &limit);
        if (d)
                closedir(d);
        if (pid == 0)
                look_skip(row, "no folder is shared");
        else if (!limit)
                attack_row_see(row, FAR_UNCLEAR, "virtiofsd cannot be looked at");
        else if (!d)
                attack_row_see(row, FAR_HELD, "at most %u, by the kernel's limit", limit);
        else
                attack_row_see(row, n < FDS_SHARE * limit ? FAR_HELD : FAR_OPEN, "%u of at most %u", n, limit);
        row->control = limit ? CONTROL_OK : CONTROL_NONE;
}

/* ---- E */

/* 1: the text is in the file, 0: it is not, -1: the file cannot be read. */
static int is_in(const char *path, const char *text) {
        char *bytes = NULL;
        size_t len = 0;
        int r = nb_read_regular(path, LOG_MAX, &bytes, &len);
        bool found = r == 0 && memmem(bytes, len, text, strlen(text));
        free(bytes);
        return r == -ENOENT ? 0 : r < 0 ? -1 : found;
}

void look_logs(const struct look *l, struct attack_row *row) {
        static const char *const files[] = { EVENTS_FILE, "box.log", "console.log" };
        int known = 0;
        for (size_t i = 0; i < NB_ARRAY_LEN(files); i++) {
                NB_AUTO_FREE char *path = nb_path_join(l->scene->paths->state, files[i]);
                for (size_t k = 0; l->texts && l->texts[k]; k++) {
                        int in = is_in(path, l->texts[k]);
                        if (in != 0)
                                attack_row_see(row, in > 0 ? FAR_OPEN : FAR_UNCLEAR,
                                               in > 0 ? "%s has one of them" : "%s cannot be read", files[i]);
                }
                if (i == 0)
                        known = is_in(path, l->scene->paths->name);
        }
        row->control = known == 1 ? CONTROL_OK : CONTROL_FAILED;
        attack_row_see(row, FAR_HELD, "none of %zu texts in %zu files", nb_strv_len(l->texts), NB_ARRAY_LEN(files));
}

/* ---- F */

void look_event_escapes(const struct look *l, struct attack_row *row) {
        NB_AUTO_FREE char *path = nb_path_join(l->scene->paths->state, EVENTS_FILE), *bytes = NULL;
        size_t len = 0;
        unsigned n = 0;
        if (nb_read_regular(path, LOG_MAX, &bytes, &len) < 0) {
                attack_row_see(row, FAR_UNCLEAR, "the event log cannot be read");
                return;
        }
        for (char *line = bytes, *end; (end = memchr(line, '\n', len - (size_t)(line - bytes))); line = end + 1) {
                json_t *event = events_parse(line, (size_t)(end - line));
                NB_AUTO_FREE char *text = event ? events_describe(event) : NULL;
                n += text != NULL;
                for (const char *c = text; c && *c; c++)
                        if ((unsigned char)*c < ' ' || *c == 0x7f)
                                attack_row_see(row, FAR_OPEN, "nixbox events shows a control byte as it is");
                json_decref(event);
        }
        row->control = n > 0 ? CONTROL_OK : CONTROL_FAILED;
        attack_row_see(row, FAR_HELD, "none in %u events", n);
}

static bool is_private(const char *path, mode_t mode, struct attack_row *row) {
        struct stat st;
        if (lstat(path, &st) < 0 && errno == ENOENT)
                return false;
        if (lstat(path, &st) < 0 || st.st_uid != getuid() || (st.st_mode & 07777 & ~mode) != 0) {
                attack_row_see(row, FAR_OPEN, "%s has mode %o, owner %u", path, st.st_mode & 07777, st.st_uid);
                return false;
        }
        return true;
}

void look_private_files(const struct look *l, struct attack_row *row) {
        const struct box_paths *p = l->scene->paths;
        NB_AUTO_FREE char *runtime = nb_runtime_dir(), *state = nb_state_dir(), *events = nb_path_join(p->state, EVENTS_FILE);
        NB_AUTO_FREE char *log = nb_path_join(p->state, "box.log"), *console = nb_path_join(p->state, "console.log");
        const struct {
                const char *path;
                mode_t mode;
        } all[] = { { runtime, 0700 },    { state, 0700 },  { p->runtime, 0700 }, { p->state, 0700 },
                    { p->control, 0600 }, { events, 0600 }, { log, 0600 },        { console, 0600 } };
        unsigned n = 0;
        for (size_t i = 0; i < NB_ARRAY_LEN(all); i++)
                n += is_private(all[i].path, all[i].mode, row);
        row->control = n >= 6 ? CONTROL_OK : CONTROL_FAILED;
        attack_row_see(row, FAR_HELD, "%u folders and files, 0700 and 0600", n);
}

void look_ports(const struct look *l, struct attack_row *row) {
        const json_t *ports = json_object_get(l->after, "ports"), *one;
        size_t i, open = 0;
        json_array_foreach((json_t *)ports, i, one) {
                struct addr a;
                const char *address = text_of(one, "address");
                if (addr_parse(address, &a) < 0 || addr_kind(&a) != ADDR_LOOPBACK)
                        open++;
        }
        if (json_array_size(ports) == 0) {
                look_skip(row, "no port is published");
        } else if (open > 0 && !l->scene->sealed) {
                free(row->allowed);
                row->allowed = nb_asprintf("%zu of %zu are published on another address", open, json_array_size(ports));
        } else {
                row->control = CONTROL_OK;
                attack_row_see(row, open ? FAR_OPEN : FAR_HELD, "%zu of %zu on the loopback", json_array_size(ports) - open,
                               json_array_size(ports));
        }
}

void look_skip(struct attack_row *row, const char *why) {
        free(row->skipped);
        row->skipped = nb_strdup(why);
}

void attack_looks(const struct attack_scene *s, const json_t *after, struct attack_rows *rows) {
        NB_AUTO_STRV char **texts = NULL;
        nb_strv_add(&texts, s->marker);
        nb_strv_add(&texts, s->canary_text);
        for (size_t i = 0; s->secrets && s->secrets[i]; i++)
                nb_strv_add(&texts, s->secrets[i]);
        const struct look look = { .scene = s,
                                   .before = s->status,
                                   .after = after,
                                   .texts = texts,
                                   .supervisor = (pid_t)number_of(s->status, "pid") };
        for (size_t i = 0; i < NB_ARRAY_LEN(table); i++) {
                struct attack_row *row = attack_row_find(rows, table[i].name);
                if (row)
                        table[i].run(&look, row);
        }
        for (size_t i = 0; texts[i]; i++)
                explicit_bzero(texts[i], strlen(texts[i]));
}
