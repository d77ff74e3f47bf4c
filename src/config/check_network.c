/* network: and host names. Only shapes are checked here; what a rule means is the gateway's. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "config/check.h"

#define HOST_MAX 253
#define LABEL_MAX 63

static const char *host_problem(const char *host) {
        size_t len = strlen(host), labels = 0;
        const char *last = host;
        if (len > HOST_MAX)
                return "is longer than 253 characters";
        for (const char *p = host;;) {
                size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789-_");
                if (n == 0 || n > LABEL_MAX || p[0] == '-' || p[n - 1] == '-' || (p[n] && p[n] != '.'))
                        return "is not a host name";
                labels++;
                last = p;
                if (!p[n])
                        break;
                p += n + 1;
        }
        /* 127.1, 0x7f.1 and 2130706433 are addresses to many programs */
        if (last[strspn(last, "0123456789")] == 0 ||
            (nb_starts_with(last, "0x") && last[2 + strspn(last + 2, "0123456789abcdef")] == 0))
                return "is an address, not a name";
        return labels < 2 ? "has no dot" : NULL;
}

static int bad_host(struct check *c, const struct doc_node *n, const char *problem) {
        doc_fail(n, c->err, EINVAL, "'%s' %s", n->text, problem);
        if (strstr(n->text, "://") || strchr(n->text, '/'))
                return nb_hint(c->err, "write the host's name alone; methods and paths have keys of their own");
        if (strchr(n->text, ':'))
                return nb_hint(c->err, "ports have a key of their own: {host: NAME, ports: [PORT]}");
        if (strcmp(problem, "is an address, not a name") == 0)
                return nb_hint(c->err, "addresses are allowed as {cidr: ADDRESS/BITS, ports: [PORT]}");
        for (const char *p = n->text; *p; p++)
                if ((unsigned char)*p >= 0x80)
                        return nb_hint(c->err, "write an international name in its xn-- form");
        return nb_hint(c->err, "write a full name such as api.example.com, or *.example.com for all names below it");
}

int check_host(struct check *c, struct doc_node *n, const char *what, bool suffix) {
        int r = check_text(c, n, what);
        if (r < 0)
                return r;
        for (char *p = n->text; *p; p++)
                *p = (char)tolower((unsigned char)*p);
        bool star = nb_starts_with(n->text, "*.");
        if (star && !suffix)
                return bad_host(c, n, "is a pattern, but here only whole names are possible");
        const char *problem = host_problem(n->text + (star ? 2 : 0));
        if (problem && star && strcmp(problem, "has no dot") == 0)
                problem = "covers a whole top-level domain";
        return problem ? bad_host(c, n, problem) : 0;
}

static int rule_host(struct check *c, struct doc_node *n) {
        return check_host(c, n, "host", true);
}

static bool host_bits_clear(const unsigned char *addr, unsigned bits, unsigned total) {
        for (unsigned i = bits; i < total; i++)
                if (addr[i / 8] & (0x80u >> (i % 8)))
                        return false;
        return true;
}

static int rule_cidr(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "cidr");
        if (r < 0)
                return r;
        const char *slash = strchr(n->text, '/');
        NB_AUTO_FREE char *addr = nb_strndup(n->text, slash ? (size_t)(slash - n->text) : 0);
        unsigned char bytes[16];
        uint64_t bits = 0;
        unsigned total = 0;
        if (inet_pton(AF_INET, addr, bytes) == 1)
                total = 32;
        else if (inet_pton(AF_INET6, addr, bytes) == 1)
                total = 128;
        if (total == 0 || nb_parse_uint(slash + 1, total, &bits) < 0) {
                doc_fail(n, c->err, EINVAL, "'%s' is not a range of addresses", n->text);
                return nb_hint(c->err, "write ADDRESS/BITS, such as 10.1.2.0/24 or 10.1.2.3/32");
        }
        if (!host_bits_clear(bytes, (unsigned)bits, total)) {
                doc_fail(n, c->err, EINVAL, "'%s' has bits set beyond its first %u", n->text, (unsigned)bits);
                return nb_hint(c->err, "write the first address of the range, or /%u for this address alone", total);
        }
        return 0;
}

static int port(struct check *c, struct doc_node *n) {
        return check_int(c, n, "a port", 1, 65535);
}

static int rule_ports(struct check *c, struct doc_node *n) {
        int r = check_list(c, n, "ports", port);
        if (r == 0 && n->n_kids == 0) {
                doc_fail(n, c->err, EINVAL, "ports is empty: the rule would allow nothing");
                return nb_hint(c->err, "name the ports, or remove the key (443 and 80)");
        }
        return r;
}

static int method(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "a method");
        if (r == 0 && n->text[strspn(n->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-")]) {
                doc_fail(n, c->err, EINVAL, "'%s' is not an HTTP method", n->text);
                return nb_hint(c->err, "write it in capitals: GET, POST, …");
        }
        return r;
}

static int rule_methods(struct check *c, struct doc_node *n) {
        return check_list(c, n, "methods", method);
}

static int path(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "a path");
        if (r == 0 && (n->text[0] != '/' || strpbrk(n->text, " \n\t?#"))) {
                doc_fail(n, c->err, EINVAL, "'%s' is not a path pattern", n->text);
                return nb_hint(c->err, "begin with /; * stands for one part, ** for any number; no query, no spaces");
        }
        return r;
}

static int rule_paths(struct check *c, struct doc_node *n) {
        return check_list(c, n, "paths", path);
}

static int rule_private(struct check *c, struct doc_node *n) {
        return check_bool(c, n, "private");
}

static int rule(struct check *c, struct doc_node *n) {
        static const struct check_key keys[] = {
                { "host", rule_host },       { "cidr", rule_cidr },   { "ports", rule_ports },
                { "methods", rule_methods }, { "paths", rule_paths }, { "private", rule_private },
        };
        if (n->kind != DOC_MAP)
                return check_host(c, n, "an item of network.allow", true);
        int r = check_map(c, n, "a rule", keys, NB_ARRAY_LEN(keys));
        if (r < 0)
                return r;
        bool host = doc_get(n, "host"), cidr = doc_get(n, "cidr");
        if (host == cidr)
                return doc_fail(n, c->err, EINVAL, "a rule needs either host or cidr%s", host ? ", not both" : "");
        const struct doc_node *only_host = doc_get(n, "methods");
        if (!only_host)
                only_host = doc_get(n, "paths");
        if (!only_host)
                only_host = doc_get(n, "private");
        if (cidr && only_host)
                return doc_fail(only_host, c->err, EINVAL, "'%s' goes with host, not with cidr", only_host->key);
        return 0;
}

static int network_mode(struct check *c, struct doc_node *n) {
        static const char *const modes[] = { "off", "filtered", "open" };
        int r = check_text(c, n, "network.mode");
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(modes); i++)
                if (strcmp(n->text, modes[i]) == 0)
                        return 0;
        if (r < 0)
                return r;
        doc_fail(n, c->err, EINVAL, "there is no network mode '%s'", n->text);
        return nb_hint(c->err, "use off, filtered or open");
}

static int network_allow(struct check *c, struct doc_node *n) {
        return check_list(c, n, "network.allow", rule);
}

int check_network(struct check *c, struct doc_node *n) {
        static const struct check_key keys[] = {
                { "mode", network_mode }, { "allow", network_allow }, { "deny", NULL }, { "limit", NULL }
        };
        return check_map(c, n, "network", keys, NB_ARRAY_LEN(keys));
}
