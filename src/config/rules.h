/* Items of network.allow and network.deny as rules of src/policy, and back as YAML. Private to src/config. */
#pragma once
#include "config/doc.h"

/** The rule that an item (of checked shape, in normal form) stands for, with its place as origin. What src/policy has against
 *  it is reported with the item's position. */
int rules_make(const struct doc_node *item, bool deny, struct policy_rule *ret, struct nb_error *err);
/** Does the item only allow some requests? Rules of src/policy cannot say that. */
bool rules_some_requests(const struct doc_node *item);
/** All rules of a merged document's network. A rule for some requests is left out: nothing enforces it yet, and without it
 *  its host is not reached at all. */
int rules_load(const struct doc_node *network, struct policy **ret, struct nb_error *err);
/** The rule as an item of such a list, in one line. New string. */
char *rules_yaml(const struct policy_rule *r);
