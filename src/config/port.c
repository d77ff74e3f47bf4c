/* Published ports (see port.h): "GUEST", "HOST:GUEST" and "ADDRESS:HOST:GUEST". Pure: nothing is bound here. */
#include "config/port.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

#define PORT_MAX 65535
#define LOOPBACK "127.0.0.1"

static int port_number(const char *text, uint16_t *ret) {
        uint64_t v = 0;
        if (nb_parse_uint(text, PORT_MAX, &v) < 0 || v == 0)
                return -EINVAL;
        *ret = (uint16_t)v;
        return 0;
}

/* Cuts the address, with its colon, off the front of *rest; the default where there is none. */
static int cut_address(char **rest, struct addr *ret) {
        char *text = *rest, *end = NULL;
        if (*text == '[') {
                end = strstr(++text, "]:");
                *rest = end ? end + 2 : text;
        } else {
                char *colon = strchr(text, ':');
                end = colon && strchr(colon + 1, ':') ? colon : NULL;
                if (!end)
                        return addr_parse(LOOPBACK, ret);
                *rest = end + 1;
        }
        if (!end)
                return -EINVAL;
        bool bracket = *end == ']';
        *end = 0;
        int r = addr_parse(text, ret);
        return r == 0 && bracket != (ret->family == AF_INET6) ? -EINVAL : r;
}

int config_parse_port(const char *spec, struct config_port *ret, struct nb_error *err) {
        NB_AUTO_FREE char *copy = nb_strdup(spec);
        struct config_port p = { 0 };
        struct addr address;
        char text[ADDR_TEXT], *rest = copy;
        int r = cut_address(&rest, &address);
        char *colon = strchr(rest, ':');
        if (colon)
                *colon = 0;
        if (r == 0 && (colon || rest == copy))
                r = port_number(rest, &p.host_port);
        else if (r == 0)
                r = -EINVAL; /* an address needs both ports: "127.0.0.1:80" does not say which of them it is */
        p.guest_port = p.host_port;
        if (r == 0 && colon)
                r = port_number(colon + 1, &p.guest_port);
        if (r < 0) {
                nb_fail(err, -r, "'%s' is not a port to publish", spec);
                return nb_hint(err, "write PORT, HOST-PORT:BOX-PORT or ADDRESS:HOST-PORT:BOX-PORT, such as \"8080:80\"");
        }
        addr_format(&address, text);
        p.address = nb_strdup(text);
        *ret = p;
        return 0;
}

void config_port_clear(struct config_port *p) {
        free(p->address);
        *p = (struct config_port){ 0 };
}

char *port_text(const struct config_port *p) {
        bool v6 = strchr(p->address, ':');
        return nb_asprintf("%s%s%s:%u:%u", v6 ? "[" : "", p->address, v6 ? "]" : "", p->host_port, p->guest_port);
}

static enum addr_kind kind_of(const struct config_port *p, uint8_t *ret_family) {
        struct addr a = { 0 };
        (void)addr_parse(p->address, &a); /* it is what addr_format() wrote */
        *ret_family = a.family;
        return addr_kind(&a);
}

bool port_conflict(const struct config_port *a, const struct config_port *b) {
        uint8_t family_a = 0, family_b = 0;
        bool any = kind_of(a, &family_a) == ADDR_UNSPECIFIED;
        any = kind_of(b, &family_b) == ADDR_UNSPECIFIED || any;
        return a->host_port == b->host_port && (strcmp(a->address, b->address) == 0 || (any && family_a == family_b));
}

bool port_is_local(const struct config_port *p) {
        uint8_t family = 0;
        return kind_of(p, &family) == ADDR_LOOPBACK;
}
