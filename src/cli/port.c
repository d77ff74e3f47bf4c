/* nixbox port: ports of the running box that are published on this host. The socket is made here, with the caller's own
 * rights; the box only gets it. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "box/port.h"
#include "cli/cli.h"

/* "127.0.0.1:8080", "[::1]:8080". New string. */
static char *host_side(const char *address, unsigned port) {
        return nb_asprintf(strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, port);
}

static int list(struct cli *cli, struct nb_error *err) {
        json_t *answer = NULL, *request = json_pack("{s:s}", "op", "status");
        int r = cli_call(cli, request, NULL, 0, &answer, err);
        json_t *ports = json_object_get(answer, "ports"), *one;
        size_t i;
        if (r == 0 && cli->json)
                r = cli_print_json(json_is_array(ports) ? json_incref(ports) : json_array(), err);
        else if (r == 0)
                json_array_foreach(ports, i, one) {
                        const char *address = json_string_value(json_object_get(one, "address"));
                        NB_AUTO_FREE char *clean = nb_text_clean(address ? address : "?", 0);
                        NB_AUTO_FREE char *here =
                            host_side(clean, (unsigned)json_integer_value(json_object_get(one, "host_port")));
                        printf("%s -> %lld\n", here, (long long)json_integer_value(json_object_get(one, "guest_port")));
                }
        if (r == 0 && !cli->json && !cli->quiet && json_array_size(ports) == 0)
                fprintf(stderr, "nixbox: no port is published\n  nixbox port 3000 publishes one on 127.0.0.1\n");
        json_decref(answer);
        json_decref(request);
        return r;
}

static bool is_local(const char *address) {
        struct addr a;
        return addr_parse(address, &a) == 0 && addr_kind(&a) == ADDR_LOOPBACK;
}

static int change(struct cli *cli, const struct config_port *p, bool remove, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = -1;
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        bool running = false;
        /* before anything listens here: whoever connects must find the box behind it */
        int r = cli_running(cli, &paths, &running, err);
        if (r == 0 && !running) {
                nb_fail(err, ENOENT, "the box '%s' is not running", paths->name);
                return nb_hint(err, "nixbox up starts it; `ports` in nixbox.yaml publishes with each start");
        }
        if (r == 0 && !remove)
                r = port_listen(p->address, p->host_port, &fd, err);
        if (r < 0)
                return r;
        json_t *request = json_pack("{s:s, s:s, s:i, s:i}", "op", "port", "address", p->address, "host_port", (int)p->host_port,
                                    "guest_port", (int)p->guest_port);
        if (remove)
                (void)json_object_set_new(request, "remove", json_true());
        r = cli_call(cli, request, &fd, remove ? 0 : 1, NULL, err);
        (void)json_object_del(request, "op");
        NB_AUTO_FREE char *here = host_side(p->address, p->host_port);
        if (r == 0 && cli->json)
                r = cli_print_json(json_incref(request), err);
        else if (r == 0 && !cli->quiet && remove)
                fprintf(stderr, "%s is not published any more\n", here);
        else if (r == 0 && !cli->quiet)
                fprintf(stderr, "%s leads to port %u of the box%s\n", here, p->guest_port,
                        is_local(p->address) ? "" : "; others on the network can use it too");
        json_decref(request);
        return r;
}

/* "0.0.0.0:3000" and "[::1]:3000" on a command line mean the same port inside. New string. */
static char *complete(const char *spec) {
        const char *address_end = spec[0] == '[' ? strchr(spec, ']') : strchr(spec, ':');
        const char *port = address_end ? address_end + strspn(address_end, "]:") : NULL;
        bool has_address = port && memchr(spec, spec[0] == '[' ? ']' : '.', (size_t)(port - spec));
        return has_address && !strchr(port, ':') ? nb_asprintf("%s:%s", spec, port) : nb_strdup(spec);
}

int verb_port(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "remove", no_argument, NULL, 'R' }, { 0 } };
        bool remove = false;
        for (int opt; (opt = cli_getopt(cli, argc, argv, "", longs)) != -1;) {
                if (opt != 'R')
                        return CLI_FAILED;
                remove = true;
        }
        NB_AUTO_ERROR err = { 0 };
        if (optind == argc && !remove)
                return list(cli, &err) < 0 ? cli_fail(&err) : 0;
        if (optind + 1 != argc) {
                nb_fail(&err, EINVAL, "nixbox port takes one [ADDRESS:]HOSTPORT[:PORT]");
                nb_hint(&err, remove ? "nixbox port lists what is published" : "nixbox port --help shows how");
                return cli_fail(&err);
        }
        __attribute__((cleanup(config_port_clear))) struct config_port p = { 0 };
        NB_AUTO_FREE char *spec = complete(argv[optind]);
        int r = config_parse_port(spec, &p, &err);
        if (r == 0)
                r = change(cli, &p, remove, &err);
        return r < 0 ? cli_fail(&err) : 0;
}
