/* What `nixbox why` answers, found by the functions that decide. Pure. */
#pragma once
#include "policy/policy.h"

/** May the box connect to `host`, a name or an address as a person writes it? `port` 0 asks about 443, 80 and the ports that
 *  the rule for this host names. *ret is new:
 *    {"host", "mode", "allow", "port", "reason", "rule", "origin", "suggest", "private", "limit", "ports": [one for each]}
 *  where each of ports has "port", "allow", "reason", "rule", "origin", "suggest", and the outer ones repeat the first that is
 *  allowed, else the first. "rule" and "origin" are absent where no rule is involved, "suggest" where no line would help.
 *  -EINVAL if the host is neither a name nor an address. */
int policy_why(const struct policy *p, const char *host, uint16_t port, json_t **ret, struct nb_error *err);
