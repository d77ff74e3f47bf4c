/* Adding rules to the text of a config. Private to src/config; the public way is config_save_rules(). */
#pragma once
#include "config/doc.h"

/** The source's text with the rules added to network.allow (or network.deny) and equal ones taken out of the other list; all
 *  else stays as it is, byte for byte. *ret is NULL if nothing is to be done. What comes out was parsed again and differs by
 *  exactly these rules. -ENOTSUP, with the lines to write by hand, where the text has a shape that cannot be edited safely. */
int save_edit(const struct config_source *src, const char *home, const struct policy_rule *rules, size_t n_rules, char **ret,
              struct nb_error *err);
