/* nixbox allow and deny: network rules for the running box, for its config, or for both. What a rule means is decided by
 * src/policy, in the box by the supervisor and its gateway. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "config/approval.h"

#define RULES_MAX 256u /* on one command line */

struct change {
        struct cli *cli;
        const char *verb;
        bool deny, save, running;
        struct policy_rule *rules;
        char **words; /* the same in their canonical spelling */
        size_t n;
        char *file;          /* the config they are saved in */
        json_int_t in_force; /* rules of the running box */
        bool changed;        /* the config was */
        bool off;            /* it says that there is no network */
};

static void change_clear(struct change *c) {
        for (size_t i = 0; i < c->n; i++)
                policy_rule_clear(&c->rules[i]);
        free(c->rules);
        nb_strv_free(c->words);
        free(c->file);
}

static int take_rules(struct change *c, char **args, size_t n, struct nb_error *err) {
        if (n == 0) {
                nb_fail(err, EINVAL, "%s which host?", c->verb);
                return nb_hint(err, "nixbox %s api.example.com, or *.example.com, or example.com:22,443", c->verb);
        }
        if (n > RULES_MAX) {
                nb_fail(err, E2BIG, "more than %u rules at once", RULES_MAX);
                return nb_hint(err, "write them to network.%s in nixbox.yaml", c->verb);
        }
        c->rules = nb_calloc(n, sizeof *c->rules);
        for (size_t i = 0; i < n; i++) {
                int r = policy_rule_parse(args[i], c->deny, &c->rules[i], err);
                if (r < 0)
                        return r;
                c->n++;
                NB_AUTO_FREE char *word = policy_rule_text(&c->rules[i]);
                nb_strv_add(&c->words, word);
        }
        return 0;
}

static json_t *words_json(const struct change *c) {
        json_t *list = json_array();
        for (size_t i = 0; i < c->n; i++)
                (void)json_array_append_new(list, json_string(c->words[i]));
        return list;
}

/* Which config the running box is of; a box without a network cannot be given one. */
static int ask_box(struct change *c, struct nb_error *err) {
        json_t *answer = NULL, *request = json_pack("{s:s}", "op", "status");
        int r = cli_call(c->cli, request, NULL, 0, &answer, err);
        json_decref(request);
        const char *file = json_string_value(json_object_get(answer, "config"));
        const char *mode = json_string_value(json_object_get(answer, "network"));
        if (r == 0 && mode && strcmp(mode, policy_mode_name(POLICY_OFF)) == 0 && !c->save) {
                nb_fail(err, ENETDOWN, "the box was started without a network (mode off)");
                r = nb_hint(err, "set network.mode to filtered in %s, then nixbox up --recreate", file ? file : "nixbox.yaml");
        }
        c->running = c->running && mode && strcmp(mode, policy_mode_name(POLICY_OFF)) != 0;
        if (r == 0 && file && !c->cli->file)
                c->file = nb_strdup(file);
        json_decref(answer);
        return r;
}

static int apply(struct change *c, struct nb_error *err) {
        json_t *answer = NULL, *request = json_pack("{s:s, s:o}", "op", "policy", c->verb, words_json(c));
        int r = cli_call(c->cli, request, NULL, 0, &answer, err);
        c->in_force = json_integer_value(json_object_get(answer, "rules"));
        json_decref(answer);
        json_decref(request);
        return r;
}

/* So that `nixbox up` does not take what is in force already for a change that needs another start. */
static void tell_box(const struct change *c, const struct config *before, const struct config *after) {
        char was[65], now[65];
        config_hash(before, was);
        config_hash(after, now);
        json_t *request = json_pack("{s:s, s:s, s:s}", "op", "saved", "was", was, "now", now);
        (void)cli_call(c->cli, request, NULL, 0, NULL, NULL);
        json_decref(request);
}

/* An approval is carried over only where there was one: whoever could not start the config cannot make it fit to start. */
static int save(struct change *c, struct nb_error *err) {
        __attribute__((cleanup(config_freep))) struct config *before = NULL, *after = NULL;
        NB_AUTO_ERROR not_approved = { 0 };
        int r = c->file ? 0 : cli_config_file(c->cli, &c->file, err);
        if (r == 0)
                r = config_load(c->file, false, &before, err);
        if (r < 0 || !before)
                return r;
        c->off = before->policy->mode == POLICY_OFF;
        bool approved = approval_check(before, APPROVAL_REFUSE, &not_approved) == 0;
        r = config_save_rules(c->file, c->words, c->deny, &c->changed, err);
        if (r < 0 || !c->changed || !approved)
                return r;
        r = config_load(c->file, false, &after, err);
        if (r == 0)
                r = approval_follow(before, after, c->rules, c->n, err);
        if (r == 1 && c->running)
                tell_box(c, before, after);
        return r < 0 ? r : 0;
}

/* A rule that denies wins: says so where it makes what was allowed of no use. */
static void note_denied(const struct change *c, const struct policy_rule *rule, const char *word) {
        if (!rule->host || rule->below)
                return;
        json_t *answer = NULL;
        json_t *request = json_pack("{s:s, s:s, s:i}", "op", "why", "host", rule->host, "port", (int)rule->ports[0]);
        if (cli_call(c->cli, request, NULL, 0, &answer, NULL) == 0 && !json_is_true(json_object_get(answer, "allow"))) {
                const char *reason = json_string_value(json_object_get(answer, "reason"));
                NB_AUTO_FREE char *clean = nb_text_clean(reason ? reason : "a rule denies it", 0);
                fprintf(stderr, "nixbox: %s still cannot be reached: %s\n", word, clean);
        }
        json_decref(answer);
        json_decref(request);
}

static int print_json(const struct change *c, struct nb_error *err) {
        json_t *doc = json_pack("{s:o, s:b, s:b}", c->verb, words_json(c), "running", c->running, "changed", c->changed);
        if (c->running)
                (void)json_object_set_new(doc, "rules", json_integer(c->in_force));
        if (c->save)
                (void)json_object_set_new(doc, "file", json_string(c->file));
        return cli_print_json(doc, err);
}

static void print_done(const struct change *c) {
        for (size_t i = 0; i < c->n; i++) {
                if (c->running)
                        fprintf(stderr, "%s is %s from now on\n", c->words[i], c->deny ? "denied" : "allowed");
                if (c->running && !c->deny)
                        note_denied(c, &c->rules[i], c->words[i]);
        }
        if (!c->save) {
                fprintf(stderr, "  until the box ends; --save keeps it in the config\n");
                return;
        }
        NB_AUTO_FREE char *file = nb_text_clean(c->file, 0);
        fprintf(stderr, "%s network.%s of %s\n", c->changed ? "written to" : "it was already in", c->verb, file);
        if (c->off)
                fprintf(stderr, "  network.mode is off there; the rule counts with mode: filtered\n");
        else if (!c->running)
                fprintf(stderr, "  the box does not run; this counts from its next start on\n");
}

static int change(struct change *c, struct nb_error *err) {
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        int r = cli_running(c->cli, &paths, &c->running, err);
        if (r == 0 && c->running)
                r = ask_box(c, err);
        if (r < 0)
                return r;
        if (!c->running && !c->save) {
                nb_fail(err, ENOENT, "the box '%s' is not running", paths->name);
                return nb_hint(err, "nixbox up starts it; nixbox %s --save %s writes the rule to its config", c->verb,
                               c->words[0]);
        }
        if (c->running)
                r = apply(c, err);
        if (r == 0 && c->save)
                r = save(c, err);
        return r;
}

static int verb(struct cli *cli, int argc, char **argv, bool deny) {
        static const struct option longs[] = { { "save", no_argument, NULL, 'S' }, { 0 } };
        __attribute__((cleanup(change_clear))) struct change c = { .cli = cli, .verb = deny ? "deny" : "allow", .deny = deny };
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                if (opt != 'S')
                        return CLI_FAILED;
                c.save = true;
        }
        NB_AUTO_ERROR err = { 0 };
        int r = take_rules(&c, argv + optind, (size_t)(argc - optind), &err);
        if (r == 0)
                r = change(&c, &err);
        if (r == 0 && cli->json)
                r = print_json(&c, &err);
        else if (r == 0 && !cli->quiet)
                print_done(&c);
        return r < 0 ? cli_fail(&err) : 0;
}

int verb_allow(struct cli *cli, int argc, char **argv) {
        return verb(cli, argc, argv, false);
}

int verb_deny(struct cli *cli, int argc, char **argv) {
        return verb(cli, argc, argv, true);
}
