/* nixbox attack: tries to get out of this box, from inside as root and by looking at it from here, and says what held. What is
 * expected follows from the config and the rules in force; what happened is judged from the far side wherever there is one. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "attack/scene.h"
#include "base/io.h"
#include "base/mem.h"
#include "cli/attack_parts.h"

#define OPENED 1
#define SECRET_MIN 8u
#define SETTLE_MS 500 /* for what the gateway tells to reach the event log */
#define TOLD_MS 5000  /* for all of it: what it has told lately, it tells again only after a while */

struct attack {
        struct cli *cli;
        struct box_paths *paths;
        struct attack_rows rows;
        struct attack_scene scene;
        struct progress *progress;
        char *allowed, *allowed443, *allowed80;
};

static void attack_clear(struct attack *a) {
        attack_rows_clear(&a->rows);
        box_paths_free(a->paths);
        progress_free(a->progress);
        free(a->allowed);
        free(a->allowed443);
        free(a->allowed80);
}

static void on_signal(int number) {
        attack_signal = attack_signal ? attack_signal : number;
}

static void take_signals(void) {
        static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
        const struct sigaction action = { .sa_handler = on_signal };
        for (size_t i = 0; i < NB_ARRAY_LEN(numbers); i++)
                (void)sigaction(numbers[i], &action, NULL);
}

/* ---- asking the box */

static int ask_status(struct attack *a, json_t **ret, struct nb_error *err) {
        json_t *request = json_pack("{s:s}", "op", "status");
        int r = cli_call(a->cli, request, NULL, 0, ret, err);
        json_decref(request);
        return r;
}

/* As nixbox why does. */
static json_t *ask_policy(void *user, const char *host, unsigned port) {
        struct attack *a = user;
        json_t *answer = NULL, *request = json_pack("{s:s, s:s}", "op", "why", "host", host);
        if (request && port > 0)
                (void)json_object_set_new(request, "port", json_integer(port));
        if (request)
                (void)cli_call(a->cli, request, NULL, 0, &answer, NULL);
        json_decref(request);
        return answer;
}

static bool is_allowed(struct attack *a, const char *host, unsigned port) {
        json_t *answer = ask_policy(a, host, port);
        bool allow = json_is_true(json_object_get(answer, "allow"));
        json_decref(answer);
        return allow;
}

/* A name to try things with, if this rule of the config is in force. */
static void take_rule(struct attack *a, const struct policy_rule *rule) {
        if (rule->deny || !rule->host || strcmp(rule->host, POLICY_HOST) == 0)
                return;
        NB_AUTO_FREE char *host = rule->below ? nb_asprintf("nixbox-attack.%s", rule->host) : nb_strdup(rule->host);
        if (!a->allowed && is_allowed(a, host, 0))
                a->allowed = nb_strdup(host);
        if (!a->allowed443 && !rule->below && is_allowed(a, host, 443))
                a->allowed443 = nb_strdup(host);
        if (!a->allowed80 && !rule->below && is_allowed(a, host, 80))
                a->allowed80 = nb_strdup(host);
}

/* A value that is here without running anything, and long enough to be found by. */
static void take_secret(struct attack *a, const struct config *c, const struct config_secret *secret) {
        char *value = NULL;
        size_t len = 0;
        if (secret->from == CONFIG_SECRET_COMMAND || config_secret_read(secret, c, &value, &len, NULL) < 0)
                return;
        if (len >= SECRET_MIN)
                nb_strv_add(&a->scene.secrets, value);
        explicit_bzero(value, len);
        free(value);
}

/* Where there is no config (the box was named by -n), there are no names and no secrets to try things with. */
static void take_config(struct attack *a) {
        NB_AUTO_FREE char *file = NULL;
        __attribute__((cleanup(config_freep))) struct config *c = NULL;
        if (cli_config_file(a->cli, &file, NULL) < 0 || config_load(file, false, &c, NULL) < 0)
                return;
        for (size_t i = 0; i < c->policy->n_rules; i++)
                take_rule(a, &c->policy->rules[i]);
        for (size_t i = 0; i < c->n_secrets; i++)
                take_secret(a, c, &c->secrets[i]);
}

/* Into the box's event log: that the probes were ours, and what they came to. */
static int record(struct attack *a, const char *action, struct nb_error *err) {
        json_t *request = json_pack("{s:s, s:s, s:i}", "op", "attack", "action", action, "probes", (int)a->rows.n);
        for (enum attack_verdict v = VERDICT_HELD; v <= VERDICT_SKIPPED && strcmp(action, "end") == 0; v++)
                (void)json_object_set_new(request, attack_verdict_key(v), json_integer(attack_count(&a->rows, v)));
        int r = cli_call(a->cli, request, NULL, 0, NULL, err);
        json_decref(request);
        return r;
}

/* ---- a run */

static int prepare(struct attack *a, struct nb_error *err) {
        json_t *status = NULL;
        int r = ask_status(a, &status, err);
        if (r == 0)
                r = attack_scene_make(&a->scene, a->paths, status, err);
        json_decref(status);
        if (r < 0)
                return r;
        take_config(a);
        a->scene.facts.allowed = a->allowed;
        a->scene.facts.allowed443 = a->allowed443;
        a->scene.facts.allowed80 = a->allowed80;
        attack_fill(&a->rows, &a->scene.facts);
        if (!a->scene.sealed)
                attack_ask_policy(&a->rows, ask_policy, a);
        return record(a, "start", err);
}

/* Everything that can be seen from here, once the probes are over. */
static int look(struct attack *a, struct nb_error *err) {
        json_t *status = NULL;
        bool whole = false;
        for (uint64_t end = nb_now_ms() + TOLD_MS; !whole && nb_now_ms() < end;) {
                (void)poll(NULL, 0, SETTLE_MS);
                whole = attack_trace(&a->scene, &a->rows);
        }
        int r = ask_status(a, &status, err);
        if (r < 0)
                return nb_context(err, "after the probes");
        attack_scene_look(&a->scene, &a->rows);
        attack_trace_end(&a->rows, whole);
        attack_looks(&a->scene, status, &a->rows);
        json_decref(status);
        attack_judge(&a->rows);
        return record(a, "end", err);
}

static int run(struct attack *a, struct nb_error *err) {
        int r = attack_scene_begin(&a->scene, err);
        if (r == 0)
                r = cli_ensure_up(a->cli, err);
        if (r == 0)
                r = cli_box(a->cli, &a->paths, err);
        take_signals();
        if (r == 0)
                r = prepare(a, err);
        a->progress = progress_new(a->cli->quiet, a->cli->color);
        if (r == 0)
                r = attack_run_inside(a->cli, &a->rows, &a->scene.facts, a->progress, err);
        if (r == 0)
                r = look(a, err);
        NB_AUTO_ERROR late = { 0 };
        if (attack_scene_end(&a->scene, &late) < 0 && r == 0) {
                *err = late;
                late = (struct nb_error){ 0 };
                r = -err->code;
        }
        return r;
}

static int conclude(struct attack *a, struct nb_error *err) {
        int r = attack_show(a->cli, a->paths->name, &a->rows, err);
        unsigned unproven = attack_count(&a->rows, VERDICT_UNPROVEN);
        if (r < 0)
                return r;
        if (attack_count(&a->rows, VERDICT_OPEN) > 0)
                return OPENED;
        if (unproven > 0) {
                nb_fail(err, EPROTO, "%u probe%s proved nothing", unproven, unproven == 1 ? "" : "s");
                return nb_hint(err, "a control that must succeed did not, or the far side could not be seen: see the table");
        }
        return 0;
}

int verb_attack(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "list", no_argument, NULL, 'L' },
                                               { "sealed", no_argument, NULL, 'S' },
                                               { 0 } };
        __attribute__((cleanup(attack_clear))) struct attack a = { .cli = cli };
        NB_AUTO_ERROR err = { 0 };
        bool list = false;
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                switch (opt) {
                case 'L': list = true; break;
                case 'S': a.scene.sealed = true; break;
                default: return CLI_FAILED;
                }
        }
        if (list)
                return attack_show_list(cli, &err) < 0 ? cli_fail(&err) : 0;
        int r = attack_rows_new(argv + optind, &a.rows, &err);
        if (r == 0)
                r = run(&a, &err);
        if (r == 0)
                r = conclude(&a, &err);
        if (r >= 0)
                return r;
        (void)cli_fail(&err);
        return attack_signal ? 128 + attack_signal : CLI_FAILED;
}
