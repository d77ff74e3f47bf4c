/* Checks on a whole config: that its parts agree, and that this host can start it now. Private to src/config. */
#pragma once
#include "config/config.h"

/** What the merged document alone can tell: two mounts on one target, a variable given twice. */
int start_check_whole(const struct config *c, struct nb_error *err);
/** Reads the files that host commands name into c->files. With `must`, the programs among them must be there. */
int start_collect(struct config *c, bool must, struct nb_error *err);
/** What only a start needs: sources exist, secrets are there, nothing is asked for that is not supported yet. */
int start_check_host(struct config *c, struct nb_error *err);
