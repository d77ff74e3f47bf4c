/* Where secrets come from. Private to src/config; reading is config_secret_read(). */
#pragma once
#include "config/config.h"

/** Can it be read, as far as that can be told without running a command? */
int secret_check(const struct config_secret *s, struct nb_error *err);
