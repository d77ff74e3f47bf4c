/* nixbox status (ps): the boxes that are there, and what each has. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "box/control.h"
#include "box/supervisor.h"
#include "cli/cli.h"

#define DESTINATIONS_SHOWN 5u

/* What a box says of itself; while it starts and cannot answer yet, its state alone. */
static json_t *ask(const struct box_paths *paths) {
        enum box_state state;
        NB_AUTO_CLOSE int fd = -1;
        json_t *answer = NULL;
        if (box_probe(paths, &state, NULL) < 0 || state == BOX_NONE)
                return NULL;
        if (state != BOX_STARTING && box_connect(paths, &fd, NULL) == 0) {
                json_t *request = json_pack("{s:s}", "op", "status");
                (void)control_call(fd, request, NULL, 0, &answer, NULL);
                json_decref(request);
        }
        if (answer)
                (void)json_object_del(answer, "ok");
        else
                answer = json_pack("{s:s, s:s}", "box", paths->name, "state", box_state_name(state));
        return answer;
}

static const char *text_of(const json_t *box, const char *key) {
        const char *text = json_string_value(json_object_get(box, key));
        return text ? text : "-";
}

static char *duration(double seconds) {
        unsigned long s = (unsigned long)seconds;
        if (s < 60)
                return nb_asprintf("%lus", s);
        if (s < 3600)
                return nb_asprintf("%lum%02lus", s / 60, s % 60);
        return nb_asprintf("%luh%02lum", s / 3600, s / 60 % 60);
}

static char *size_of(const json_t *memory, const char *key) {
        json_int_t bytes = json_integer_value(json_object_get(memory, key));
        return nb_format_size(bytes > 0 ? (uint64_t)bytes : 0);
}

static void print_network(const json_t *box) {
        json_int_t rules = json_integer_value(json_object_get(box, "rules"));
        printf("  network   %s", text_of(box, "network"));
        if (rules > 0)
                printf(", %lld rule%s", (long long)rules, rules == 1 ? "" : "s");
        const json_t *gateway = json_object_get(box, "gateway");
        json_int_t restarts = json_integer_value(json_object_get(gateway, "restarts"));
        if (gateway && !json_is_true(json_object_get(gateway, "up")))
                printf("; cut, the gateway is being started again");
        else if (restarts > 0)
                printf("; the gateway was started again %lld time%s", (long long)restarts, restarts == 1 ? "" : "s");
        printf("\n");
        size_t i;
        json_t *one;
        json_array_foreach(json_object_get(box, "ports"), i, one) {
                NB_AUTO_FREE char *address = nb_text_clean(text_of(one, "address"), 0);
                printf(strchr(address, ':') ? "  port      [%s]:%lld -> %lld\n" : "  port      %s:%lld -> %lld\n", address,
                       (long long)json_integer_value(json_object_get(one, "host_port")),
                       (long long)json_integer_value(json_object_get(one, "guest_port")));
        }
        const json_t *reached = json_object_get(box, "destinations");
        json_array_foreach((json_t *)reached, i, one) {
                if (i == DESTINATIONS_SHOWN)
                        break;
                NB_AUTO_FREE char *host = nb_text_clean(text_of(one, "host"), 0);
                NB_AUTO_FREE char *up = size_of(one, "up"), *down = size_of(one, "down");
                printf("  traffic   %s: sent %s, received %s\n", host, up, down);
        }
        if (json_array_size(reached) > DESTINATIONS_SHOWN)
                printf("  traffic   and %zu other destinations; --json shows all\n",
                       json_array_size(reached) - DESTINATIONS_SHOWN);
}

static void print_box(const json_t *box) {
        const json_t *memory = json_object_get(box, "memory");
        NB_AUTO_FREE char *name = nb_text_clean(text_of(box, "box"), 0);
        if (!memory) {
                printf("%s  %s\n", name, text_of(box, "state"));
                return;
        }
        NB_AUTO_FREE char *uptime = duration(json_number_value(json_object_get(box, "uptime")));
        NB_AUTO_FREE char *limit = size_of(memory, "limit");
        NB_AUTO_FREE char *used = size_of(memory, "used");
        NB_AUTO_FREE char *returned = size_of(memory, "returned");
        printf("%s  %s for %s\n", name, text_of(box, "state"), uptime);
        if (json_object_get(box, "paused")) {
                NB_AUTO_FREE char *paused = nb_text_clean(text_of(box, "paused"), 0);
                printf("  paused    %s\n", paused);
        }
        printf("  machine   %lld CPUs, %s; %lld commands running\n",
               (long long)json_integer_value(json_object_get(box, "cpus")), text_of(box, "accelerator"),
               (long long)json_integer_value(json_object_get(box, "sessions")));
        printf("  memory    limit %s, used %s, returned %s\n", limit, used, returned);
        print_network(box);
        size_t i;
        json_t *m;
        size_t protect = json_array_size(json_object_get(box, "protect"));
        if (protect > 0)
                printf("  protect   %zu patterns of files that this host runs; nixbox review lists attempts\n", protect);
        else
                printf("  protect   nothing: the box may change files that programs of this host run\n");
        json_array_foreach(json_object_get(box, "mounts"), i, m) {
                NB_AUTO_FREE char *source = nb_text_clean(text_of(m, "source"), 0);
                NB_AUTO_FREE char *target = nb_text_clean(text_of(m, "target"), 0);
                const char *volume = json_string_value(json_object_get(m, "volume"));
                if (volume) {
                        printf("  volume    %s on %s\n", volume, target);
                        continue;
                }
                printf("  mount     %s%s%s%s\n", source, strcmp(source, target) == 0 ? "" : " on ",
                       strcmp(source, target) == 0 ? "" : target,
                       json_is_true(json_object_get(m, "write")) ? " (writable)" : " (read-only)");
        }
}

static int collect(struct cli *cli, json_t *boxes, struct nb_error *err) {
        NB_AUTO_STRV char **names = NULL;
        int r = 0;
        if (cli->name)
                nb_strv_add(&names, cli->name);
        else
                r = box_list(&names, err);
        for (size_t i = 0; r == 0 && names[i]; i++) {
                __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
                r = box_paths_new(names[i], &paths, err);
                json_t *box = r == 0 ? ask(paths) : NULL;
                if (box)
                        (void)json_array_append_new(boxes, box);
        }
        return r;
}

int verb_status(struct cli *cli, int argc, char **argv) {
        if (cli_getopt(cli, argc, argv, "", NULL) != -1)
                return CLI_FAILED;
        NB_AUTO_ERROR err = { 0 };
        json_t *boxes = json_array();
        if (collect(cli, boxes, &err) < 0) {
                json_decref(boxes);
                return cli_fail(&err);
        }
        if (cli->json) {
                (void)json_dumpf(boxes, stdout, JSON_INDENT(2));
                printf("\n");
        } else {
                size_t i;
                json_t *box;
                json_array_foreach(boxes, i, box) {
                        print_box(box);
                }
                if (json_array_size(boxes) == 0) {
                        NB_AUTO_FREE char *which =
                            cli->name ? nb_asprintf("the box '%s' is not running", cli->name) : nb_strdup("no box is running");
                        fprintf(stderr, "nixbox: %s\n  nixbox up starts the one of the nearest nixbox.yaml\n", which);
                }
        }
        json_decref(boxes);
        return 0;
}
