/* nixbox why: would the box reach a host, by which rule, and if not, what would allow it. A running box is asked; otherwise
 * the config is, with the same code. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "policy/why.h"

#define WHY_DENIED 1

struct why {
        struct cli *cli;
        char *host;
        uint16_t port; /* 0: not given */
        bool running;
        json_t *answer;
};

static void why_clear(struct why *w) {
        free(w->host);
        json_decref(w->answer);
}

/* HOST, HOST:PORT, ADDRESS, [ADDRESS]:PORT; an IPv6 address alone needs no brackets. A URL is what people have at hand. */
static int take_host(const char *arg, struct why *w, struct nb_error *err) {
        const char *scheme = strstr(arg, "://");
        if (scheme) {
                nb_fail(err, EINVAL, "'%s' is a URL", arg);
                return nb_hint(err, "ask about its host: nixbox why %.*s", (int)strcspn(scheme + 3, "/?#"), scheme + 3);
        }
        const char *end = arg[0] == '[' ? strchr(arg, ']') : NULL;
        const char *begin = end ? arg + 1 : arg, *colon = end ? end + 1 : strchr(arg, ':');
        if (!end && colon && strchr(colon + 1, ':'))
                colon = NULL;
        uint64_t port = 0;
        if (colon && *colon && (*colon != ':' || nb_parse_uint(colon + 1, UINT16_MAX, &port) < 0 || port == 0)) {
                nb_fail(err, EINVAL, "'%s' does not end with a port", arg);
                return nb_hint(err, "write HOST:PORT with a number from 1 to 65535, such as example.com:443");
        }
        w->host = nb_strndup(begin, end ? (size_t)(end - begin) : colon ? (size_t)(colon - begin) : strlen(begin));
        w->port = (uint16_t)port;
        return 0;
}

static int ask_box(struct why *w, struct nb_error *err) {
        json_t *request = json_pack("{s:s, s:s}", "op", "why", "host", w->host);
        if (!request)
                return nb_fail(err, EINVAL, "the host's name is not a name");
        if (w->port)
                (void)json_object_set_new(request, "port", json_integer(w->port));
        int r = cli_call(w->cli, request, NULL, 0, &w->answer, err);
        json_decref(request);
        (void)json_object_del(w->answer, "ok");
        return r;
}

static int ask_config(struct why *w, struct nb_error *err) {
        NB_AUTO_FREE char *file = NULL;
        __attribute__((cleanup(config_freep))) struct config *c = NULL;
        int r = cli_config_file(w->cli, &file, err);
        if (r == 0)
                r = config_load(file, false, &c, err);
        return r < 0 || !c ? r : policy_why(c->policy, w->host, w->port, &w->answer, err);
}

static const char *text_of(const json_t *doc, const char *key) {
        const char *text = json_string_value(json_object_get(doc, key));
        return text ? text : "";
}

static void add_note(json_t *notes, const char *text) {
        (void)json_array_append_new(notes, json_string(text));
}

/* A rule would not help: the box itself is at this address, or has no way to speak to it. */
static const char *never_reached(const struct why *w) {
        struct addr a;
        if (addr_parse(text_of(w->answer, "host"), &a) < 0)
                return NULL;
        if (addr_kind(&a) == ADDR_LOOPBACK)
                return "inside, this is the box itself; a service of this host is reached as " POLICY_HOST
                       ", by a rule with its port";
        return a.family == AF_INET6 ? "a box has no IPv6: it reaches such an address by the name that leads to it" : NULL;
}

/* Which addresses an allowed name may lead to. */
static const char *about_addresses(const struct why *w) {
        if (strcmp(text_of(w->answer, "host"), POLICY_HOST) == 0)
                return "this is a service on the loopback of this host";
        if (json_is_true(json_object_get(w->answer, "private")))
                return "its addresses are checked with each connection: private ones are allowed too";
        if (json_is_true(json_object_get(w->answer, "proxy")))
                return "this host's proxy is asked to connect to it: its addresses cannot be checked";
        return "its addresses are checked with each connection: one that is private, or this host's own, is refused";
}

/* What the verdict alone does not say. */
static json_t *make_notes(const struct why *w) {
        json_t *notes = json_array();
        struct addr a;
        bool name = addr_parse(w->host, &a) < 0, allow = json_is_true(json_object_get(w->answer, "allow"));
        json_int_t limit = json_integer_value(json_object_get(w->answer, "limit"));
        if (allow && name)
                add_note(notes, about_addresses(w));
        if (never_reached(w))
                add_note(notes, never_reached(w));
        if (allow && limit > 0) {
                NB_AUTO_FREE char *size = nb_format_size((uint64_t)limit);
                NB_AUTO_FREE char *text = nb_asprintf("at most %s may be sent to what the rule allows", size);
                add_note(notes, text);
        }
        if (!w->running)
                add_note(notes, "the box does not run: this is what its config says");
        return notes;
}

static void print_one(const struct why *w, const json_t *one) {
        const char *verdict = json_is_true(json_object_get(one, "allow")) ? "allowed" : "denied";
        NB_AUTO_FREE char *host = nb_text_clean(text_of(w->answer, "host"), 0);
        NB_AUTO_FREE char *reason = nb_text_clean(text_of(one, "reason"), 0);
        bool repeats = nb_starts_with(reason, verdict); /* "denied by …" needs no second "denied" */
        printf(strchr(host, ':') ? "%-7s  [%s]:%u%s%s\n" : "%-7s  %s:%u%s%s\n", verdict, host,
               (unsigned)json_integer_value(json_object_get(one, "port")), repeats ? "" : ": ",
               reason + (repeats ? strlen(verdict) : 0));
}

/* The same as a word for `nixbox allow`; "" if the line says more than a word can. New string. */
static char *command_word(const struct why *w) {
        const char *host = text_of(w->answer, "host");
        unsigned port = (unsigned)json_integer_value(json_object_get(w->answer, "port"));
        struct addr a;
        if (strstr(text_of(w->answer, "suggest"), "private:"))
                return nb_strdup("");
        if (addr_parse(host, &a) == 0)
                return nb_asprintf(a.family == AF_INET ? "%s/32:%u" : "[%s/128]:%u", host, port);
        if ((port == 443 || port == 80) && strcmp(host, POLICY_HOST) != 0)
                return nb_strdup(host);
        return nb_asprintf("%s:%u", host, port);
}

static void print_way_out(const struct why *w) {
        NB_AUTO_FREE char *line = nb_text_clean(text_of(w->answer, "suggest"), 0), *word = command_word(w);
        NB_AUTO_FREE char *clean = nb_text_clean(word, 0);
        if (!*line || never_reached(w))
                return;
        printf("to allow it, add to network.allow of the config:\n  %s\n", line);
        if (*clean)
                printf("or let nixbox do it:\n  nixbox allow %s%s\n", w->running ? "" : "--save ", clean);
}

static void print_text(const struct why *w, const json_t *notes) {
        const json_t *ports = json_object_get(w->answer, "ports"), *one, *note;
        size_t i;
        json_array_foreach((json_t *)ports, i, one) {
                print_one(w, one);
        }
        if (!json_is_true(json_object_get(w->answer, "allow")))
                print_way_out(w);
        json_array_foreach((json_t *)notes, i, note) {
                NB_AUTO_FREE char *clean = nb_text_clean(json_string_value(note), 0);
                printf("note: %s\n", clean);
        }
}

static int explain(struct why *w, struct nb_error *err) {
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        int r = cli_running(w->cli, &paths, &w->running, err);
        if (r == 0)
                r = w->running ? ask_box(w, err) : ask_config(w, err);
        if (r < 0)
                return r;
        json_t *notes = make_notes(w);
        if (w->cli->json) {
                json_t *doc = json_copy(w->answer);
                (void)json_object_set(doc, "notes", notes);
                (void)json_object_set_new(doc, "running", json_boolean(w->running));
                r = cli_print_json(doc, err);
        } else if (!w->cli->quiet) {
                print_text(w, notes);
                r = fflush(stdout) != 0 ? nb_fail_errno(err, errno, "cannot write to stdout") : 0;
        }
        json_decref(notes);
        return r;
}

int verb_why(struct cli *cli, int argc, char **argv) {
        if (cli_getopt(cli, argc, argv, "", NULL) != -1)
                return CLI_FAILED;
        NB_AUTO_ERROR err = { 0 };
        if (optind + 1 != argc) {
                nb_fail(&err, EINVAL, "nixbox why takes one HOST[:PORT]");
                nb_hint(&err, "nixbox why --help shows how");
                return cli_fail(&err);
        }
        __attribute__((cleanup(why_clear))) struct why w = { .cli = cli };
        int r = take_host(argv[optind], &w, &err);
        if (r == 0)
                r = explain(&w, &err);
        if (r < 0)
                return cli_fail(&err);
        return json_is_true(json_object_get(w.answer, "allow")) ? 0 : WHY_DENIED;
}
