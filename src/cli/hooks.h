/* Hooks: commands of an approved config that run on the host. */
#pragma once
#include "config/config.h"

/** Runs them in order, their output to stderr. Stops at the first that fails, with its place in the config. */
int hooks_run(const struct config *c, const char *kind, const struct config_hook *hooks, size_t n, struct nb_error *err);
