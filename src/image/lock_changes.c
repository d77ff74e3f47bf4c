/* What changed from one lock to another, for people (see lock.h). */
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "image/lock.h"

/* One thing that a lock pins. */
struct pin {
        const char *name, *version, *content;
        bool security;
};
struct pins {
        struct pin *list;
        size_t n;
};

static void add_pin(struct pins *p, struct pin pin) {
        p->list = nb_realloc(p->list, p->n + 1, sizeof *p->list);
        p->list[p->n++] = pin;
}

static void add_set(struct pins *p, const struct lock_set *s) {
        for (size_t i = 0; i < s->n; i++) {
                const struct lock_package *one = &s->packages[i];
                add_pin(p, (struct pin){ one->name, one->version, one->sha256, strcmp(one->archive, "debian-security") == 0 });
        }
}

static int by_name(const void *a, const void *b) {
        return strcmp(((const struct pin *)a)->name, ((const struct pin *)b)->name);
}

static void sort(struct pins *p) {
        if (p->n > 0)
                qsort(p->list, p->n, sizeof *p->list, by_name);
}

/* One line for what is called the same in both locks, or is in one of them only (the other is NULL). */
static void compare(struct nb_buf *out, const char *part, const struct pin *was, const struct pin *is) {
        NB_AUTO_FREE char *line = NULL;
        if (is && !was)
                line = nb_asprintf("%s%s %s (new)\n", part, is->name, is->version);
        else if (was && !is)
                line = nb_asprintf("%s%s %s (removed)\n", part, was->name, was->version);
        else if (!was || !is)
                return;
        else if (strcmp(was->version, is->version) != 0)
                line = nb_asprintf("%s%s %s -> %s%s\n", part, is->name, was->version, is->version,
                                   is->security ? " (security)" : "");
        else if (strcmp(was->content, is->content) != 0)
                line = nb_asprintf("%s%s %s (other content)\n", part, is->name, is->version);
        if (line)
                nb_buf_add(out, line, strlen(line));
}

/* Walks both lists side by side and forgets them. */
static void diff(struct nb_buf *out, const char *part, struct pins *was, struct pins *is) {
        sort(was);
        sort(is);
        for (size_t i = 0, k = 0; i < was->n || k < is->n;) {
                int order = i == was->n ? 1 : k == is->n ? -1 : strcmp(was->list[i].name, is->list[k].name);
                compare(out, part, order <= 0 ? &was->list[i] : NULL, order >= 0 ? &is->list[k] : NULL);
                i += order <= 0;
                k += order >= 0;
        }
        free(was->list);
        free(is->list);
        *was = *is = (struct pins){ 0 };
}

static void add_npm(struct pins *p, const struct lock_npm *npm) {
        for (; npm; npm = npm->next)
                add_pin(p, (struct pin){ .name = npm->path, .version = npm->version, .content = npm->integrity });
}

static void add_source(struct pins *p, const struct lock *l) {
        if (l->source)
                add_pin(p, (struct pin){ .name = "manifest", .version = l->source, .content = "" });
}

char *lock_changes(const struct lock *before, const struct lock *after) {
        struct pins was = { 0 }, is = { 0 };
        NB_AUTO_BUF out = { 0 };
        add_set(&was, &before->base);
        add_set(&was, &before->packages);
        add_set(&is, &after->base);
        add_set(&is, &after->packages);
        diff(&out, "", &was, &is);
        add_npm(&was, before->npm);
        add_npm(&is, after->npm);
        diff(&out, "npm: ", &was, &is);
        add_source(&was, before);
        add_source(&is, after);
        diff(&out, "oci: ", &was, &is);
        add_set(&was, &before->kernel);
        add_set(&is, &after->kernel);
        diff(&out, "kernel: ", &was, &is);
        add_set(&was, &before->runtime);
        add_set(&is, &after->runtime);
        diff(&out, "runtime: ", &was, &is);
        return nb_strndup(out.len ? (const char *)nb_buf_bytes(&out) : "", out.len);
}
