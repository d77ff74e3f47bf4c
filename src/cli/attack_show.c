/* The table of nixbox attack, for people and for programs. Whatever came from the guest was neutralised when it was read; what
 * came from elsewhere is here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "cli/attack_parts.h"

static const char *const classes[] = { "where it may go",
                                       "how it may speak",
                                       "whether that lasts",
                                       "files and the machine",
                                       "secrets and the host's name",
                                       "the host's side",
                                       "the box's own processes" };
static const char *const controls[] = { [CONTROL_NONE] = "none", [CONTROL_OK] = "ok", [CONTROL_FAILED] = "failed" };

/* What it came to, in one line: as seen from here; else by the guest's word. New string. */
static char *seen_of(const struct attack_row *r) {
        const char *text = r->skipped ? r->skipped : r->allowed ? r->allowed : r->seen ? r->seen : r->said ? r->said : "";
        NB_AUTO_FREE char *whole = r->far != FAR_NONE && r->said && !r->skipped && !r->allowed && *r->said
                                       ? nb_asprintf("%s; inside: %s", text, r->said)
                                       : nb_strdup(text);
        return nb_text_clean(whole, 0);
}

static const char *expected_of(const struct attack_row *r) {
        return r->skipped ? "-" : r->allowed ? "allowed" : "refused";
}

static const char *control_of(const struct attack_row *r) {
        return r->skipped || r->allowed ? "-" : controls[r->control];
}

static const char *color_of(enum attack_verdict verdict) {
        switch (verdict) {
        case VERDICT_OPEN: return "\033[1;31m";
        case VERDICT_UNPROVEN: return "\033[33m";
        case VERDICT_HELD: return "\033[32m";
        default: return "\033[2m";
        }
}

static void show_row(const struct attack_row *r, bool color) {
        NB_AUTO_FREE char *seen = seen_of(r);
        const char *verdict = attack_verdict_name(r->verdict);
        printf("  %-30s %s%-17s%s  %-8s  %-7s  %s\n", r->probe->name, color ? color_of(r->verdict) : "", verdict,
               color ? "\033[0m" : "", expected_of(r), control_of(r), seen);
}

static void show_text(struct cli *cli, const struct attack_rows *rows) {
        bool color = cli->color && isatty(STDOUT_FILENO);
        char class = 0;
        printf("  %-30s %-17s  %-8s  %-7s  %s\n", "probe", "verdict", "expected", "control", "seen");
        for (size_t i = 0; i < rows->n; i++) {
                const struct attack_row *r = &rows->rows[i];
                if (cli->quiet && r->verdict != VERDICT_OPEN && r->verdict != VERDICT_UNPROVEN)
                        continue;
                if (r->probe->class != class)
                        printf("%c: %s\n", r->probe->class, classes[r->probe->class - 'A']);
                class = r->probe->class;
                show_row(r, color);
        }
        NB_AUTO_FREE char *summary = attack_summary(rows);
        printf("%s\n", summary);
}

char *attack_summary(const struct attack_rows *rows) {
        unsigned skipped = attack_count(rows, VERDICT_SKIPPED), unproven = attack_count(rows, VERDICT_UNPROVEN);
        unsigned uncontrolled = attack_count(rows, VERDICT_UNCONTROLLED);
        NB_AUTO_FREE char *without = uncontrolled ? nb_asprintf(" (%u without a control)", uncontrolled) : nb_strdup("");
        NB_AUTO_FREE char *proved = unproven ? nb_asprintf(", %u unproven", unproven) : nb_strdup("");
        NB_AUTO_FREE char *rest = skipped ? nb_asprintf("; %u not applicable", skipped) : nb_strdup("");
        return nb_asprintf("%zu probes: %u held%s, %u allowed by your config, %u open%s%s", rows->n - skipped,
                           attack_count(rows, VERDICT_HELD) + uncontrolled, without, attack_count(rows, VERDICT_ALLOWED),
                           attack_count(rows, VERDICT_OPEN), proved, rest);
}

static json_t *row_json(const struct attack_row *r) {
        const char class[] = { r->probe->class, 0 };
        NB_AUTO_FREE char *seen = seen_of(r);
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "class", class, "name", r->probe->name, "description",
                         r->probe->description, "expected", expected_of(r), "seen", seen, "control", control_of(r), "verdict",
                         attack_verdict_key(r->verdict));
}

static int show_json(const char *box, const struct attack_rows *rows, struct nb_error *err) {
        json_t *list = json_array();
        for (size_t i = 0; i < rows->n; i++)
                (void)json_array_append_new(list, row_json(&rows->rows[i]));
        json_t *doc = json_pack("{s:s, s:o}", "box", box, "probes", list);
        for (enum attack_verdict v = VERDICT_HELD; v <= VERDICT_SKIPPED; v++)
                (void)json_object_set_new(doc, attack_verdict_key(v), json_integer(attack_count(rows, v)));
        return cli_print_json(doc, err);
}

int attack_show(struct cli *cli, const char *box, const struct attack_rows *rows, struct nb_error *err) {
        if (cli->json)
                return show_json(box, rows, err);
        show_text(cli, rows);
        return fflush(stdout) != 0 ? nb_fail_errno(err, errno, "cannot write to stdout") : 0;
}

int attack_show_list(struct cli *cli, struct nb_error *err) {
        struct attack_rows rows = { 0 };
        int r = attack_rows_new(NULL, &rows, err);
        json_t *list = json_array();
        for (size_t i = 0; r == 0 && i < rows.n; i++) {
                const struct attack_probe *p = rows.rows[i].probe;
                const char class[] = { p->class, 0 };
                if (cli->json)
                        (void)json_array_append_new(
                            list, json_pack("{s:s, s:s, s:s}", "class", class, "name", p->name, "description", p->description));
                else
                        printf("%c  %-30s %s\n", p->class, p->name, p->description);
        }
        attack_rows_clear(&rows);
        if (cli->json)
                return cli_print_json(list, err);
        json_decref(list);
        return fflush(stdout) != 0 ? nb_fail_errno(err, errno, "cannot write to stdout") : r;
}
