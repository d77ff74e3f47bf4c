/* Names below which anybody can have one. */
#pragma once
#include <stdbool.h>

/** Is the canonical name on the public suffix list ("com", "co.uk", "github.io"), or without a dot? Also true if there is no
 * list to ask. */
bool policy_public_suffix(const char *name);
