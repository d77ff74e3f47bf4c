/* Asking the host: its resolver, whatever that is made of (NSS, /etc/hosts, DNS), and its interfaces. Used by the resolver
 * process only, from any of its threads. */
#pragma once
#include "gateway/resolver_wire.h"

/** The addresses of a name, or with a `type` its records of that type, whose bytes go to `space`. Takes as long as it takes. */
void resolver_host_ask(const char *name, uint16_t type, struct nb_buf *space, struct resolver_answer *ret);
/** The networks of all interfaces, point-to-point ones too. */
void resolver_host_links(struct resolver_links *ret);
