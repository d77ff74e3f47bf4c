/* What the two files of the network namespace share: netns_rules.c makes the text, netns.c carries it out. */
#pragma once
#include "box/netns.h"

#define NETNS_DEVICE "net0" /* the TAP, inside the namespace */

/** The part of netns_nft() that follows from the policy: replaces itself in one step when it is loaded again. New string. */
char *netns_nft_policy(const struct policy *p);
