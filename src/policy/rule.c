/* How one rule is written: the word on a command line, its parts, its checks (see policy.h). What a rule means is in decide.c.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "policy/policy.h"
#include "policy/suffix.h"

#define TEXT_MAX 1024 /* of a rule on a command line */

static int bad_rule(struct nb_error *err, const char *text, const char *problem) {
        NB_AUTO_FREE char *shown = nb_text_clean(text, 0);
        nb_fail(err, EINVAL, "'%s' %s", shown, problem);
        if (strchr(text, '/'))
                return nb_hint(err, "write the host's name alone; methods and paths have keys of their own");
        if (strcmp(problem, "is an address, not a name") == 0)
                return nb_hint(err, "write a range of addresses, such as 10.1.2.0/24 or 10.1.2.3/32");
        for (const char *p = text; *p; p++)
                if ((unsigned char)*p >= 0x80)
                        return nb_hint(err, "write an international name in its xn-- form");
        return nb_hint(err, "write a full name such as api.example.com, or *.example.com for all names below it");
}

static int bad_range(struct nb_error *err, const char *text) {
        NB_AUTO_FREE char *shown = nb_text_clean(text, 0);
        nb_fail(err, EINVAL, "'%s' is not a range of addresses, or has bits set beyond its length", shown);
        return nb_hint(err, "write ADDRESS/BITS with the first address of the range, such as 10.1.2.0/24 or 10.1.2.3/32");
}

/* "22,443" */
static int parse_ports(const char *text, struct policy_rule *r, struct nb_error *err) {
        for (const char *p = text;;) {
                size_t len = strcspn(p, ",");
                NB_AUTO_FREE char *one = nb_strndup(p, len);
                uint64_t port;
                if (nb_parse_uint(one, 65535, &port) < 0 || port == 0) {
                        NB_AUTO_FREE char *shown = nb_text_clean(one, 0);
                        nb_fail(err, EINVAL, "'%s' is not a port", shown);
                        return nb_hint(err, "write ports as numbers from 1 to 65535: example.com:22,443");
                }
                if (r->n_ports >= POLICY_PORTS_MAX)
                        return nb_fail(err, EINVAL, "a rule has at most %d ports", POLICY_PORTS_MAX);
                r->ports[r->n_ports++] = (uint16_t)port;
                if (!p[len])
                        return 0;
                p += len + 1;
        }
}

/* Address ranges: "10.0.0.0/8:5432", "fd00::/8", "[fd00::/8]:443". */
static int parse_range(const char *text, struct policy_rule *r, struct nb_error *err) {
        bool brackets = text[0] == '[';
        const char *begin = text + (brackets ? 1 : 0), *slash = strchr(begin, '/');
        const char *end = brackets ? strchr(begin, ']') : begin + strcspn(begin, "/");
        if (!brackets && slash) /* of IPv4 only: in IPv6 a colon may be a part of the address */
                end = memchr(begin, ':', (size_t)(slash - begin)) ? strchr(begin, 0) : slash + strcspn(slash, ":");
        if (!slash || !end || slash > end)
                return bad_range(err, text);
        NB_AUTO_FREE char *range = nb_strndup(begin, (size_t)(end - begin));
        if (addr_range_parse(range, &r->range) < 0)
                return bad_range(err, text);
        end += brackets ? 1 : 0;
        if (*end == 0)
                return 0;
        return *end == ':' ? parse_ports(end + 1, r, err) : bad_range(err, text);
}

static int parse_host(const char *text, struct policy_rule *r, struct nb_error *err) {
        const char *host = text;
        if (nb_starts_with(host, "*.")) {
                r->below = true;
                host += 2;
        }
        size_t len = strcspn(host, ":");
        char name[NAME_MAX_LEN + 1];
        if (host[len] == ':' && strchr(host + len + 1, ':')) /* two colons: an IPv6 address */
                return bad_rule(err, text, "is an address, not a name");
        if (name_canonical(host, len, name) < 0)
                return bad_rule(err, text, name_problem(host, len));
        r->host = nb_strdup(name);
        return host[len] ? parse_ports(host + len + 1, r, err) : 0;
}

int policy_rule_parse(const char *text, bool deny, struct policy_rule *ret, struct nb_error *err) {
        *ret = (struct policy_rule){ 0 };
        if (strlen(text) > TEXT_MAX)
                return nb_fail(err, EINVAL, "a network rule is longer than %d characters", TEXT_MAX);
        if (strcmp(text, "*") == 0 || strcmp(text, "*.") == 0)
                return bad_rule(err, text, "is every name there is, which is what mode: open is for");
        size_t before = strcspn(text, "/");
        if (strstr(text, "://") || (text[before] && !name_problem(text, before)))
                return bad_rule(err, text, "is a URL, not a name");
        struct policy_rule r = { .deny = deny };
        int code = text[0] == '[' || text[before] ? parse_range(text, &r, err) : parse_host(text, &r, err);
        if (code == 0)
                code = policy_rule_check(&r, err);
        if (code < 0)
                policy_rule_clear(&r);
        else
                *ret = r;
        return code;
}

/* Ascending, each once. */
static void sort_ports(struct policy_rule *r) {
        size_t n = 0;
        for (size_t i = 0; i < r->n_ports; i++) {
                uint16_t port = r->ports[i];
                size_t at = n;
                while (at > 0 && r->ports[at - 1] > port)
                        at--;
                if (at > 0 && r->ports[at - 1] == port)
                        continue;
                memmove(r->ports + at + 1, r->ports + at, (n - at) * sizeof port);
                r->ports[at] = port;
                n++;
        }
        memset(r->ports + n, 0, (POLICY_PORTS_MAX - n) * sizeof r->ports[0]);
        r->n_ports = n;
}

static int check_host(struct policy_rule *r, struct nb_error *err) {
        char name[NAME_MAX_LEN + 1];
        const char *problem = name_problem(r->host, strlen(r->host));
        if (problem)
                return bad_rule(err, r->host, problem);
        name_canonical(r->host, strlen(r->host), name);
        memcpy(r->host, name, strlen(name) + 1); /* never longer */
        bool host_itself = strcmp(name, POLICY_HOST) == 0;
        if (r->deny)
                return 0;
        if (host_itself && r->below)
                return nb_fail(err, EINVAL, "there is no name below %s", POLICY_HOST);
        if (host_itself && r->n_ports == 0) {
                nb_fail(err, EINVAL, "%s is the host itself and needs the ports that the box may reach", POLICY_HOST);
                return nb_hint(err, "name them: {host: %s, ports: [11434]}, or %s:11434 on a command line", POLICY_HOST,
                               POLICY_HOST);
        }
        if (!strchr(name, '.') && !r->below)
                return bad_rule(err, name, "has no dot");
        if (r->below && policy_public_suffix(name)) {
                nb_fail(err, EINVAL, "'*.%s' covers a whole %s", name,
                        strchr(name, '.') ? "public suffix, below which anybody can have a name" : "top-level domain");
                return nb_hint(err, "name the hosts, or a pattern for one owner's names, such as *.example.%s", name);
        }
        return 0;
}

int policy_rule_check(struct policy_rule *r, struct nb_error *err) {
        for (size_t i = 0; i < r->n_ports; i++)
                if (r->ports[i] == 0)
                        return nb_fail(err, EINVAL, "0 is not a port");
        sort_ports(r);
        if (r->host) {
                int code = check_host(r, err);
                if (code < 0)
                        return code;
        } else if (r->below || r->private) {
                return nb_fail(err, EINVAL, "'%s' goes with host, not with cidr", r->private ? "private" : "*.");
        }
        if (r->limit > INT64_MAX)
                return nb_fail(err, EINVAL, "limit is too large");
        if (r->deny && (r->private || r->limit))
                return nb_fail(err, EINVAL, "a rule that denies has neither private nor limit");
        if (!r->deny && r->n_ports == 0) {
                r->ports[0] = 80;
                r->ports[1] = 443;
                r->n_ports = 2;
        }
        return 0;
}
